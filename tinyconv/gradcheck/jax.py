"""Functions of JAX: of pytrees, with ``custom_vjp`` and ``custom_jvp`` or plain.

JAX computes in float32 unless told otherwise; here it is told to use float64 while it is checked.
"""

from collections.abc import Sequence
from typing import Any

import numpy as np

from tinyconv.gradcheck.check import check_derivatives
from tinyconv.gradcheck.report import Report


def check(function: Any, inputs: Sequence[Any], **settings: Any) -> Report:
    """Check what ``jax.vjp`` returns for a function.

    Args:
        function: of pytrees of arrays and numbers, returning one.
        inputs: pytrees; their floating-point and complex leaves are checked.
        settings: ``forward_mode=True`` to check ``jax.jvp`` as well, ``second_order=True`` for the
            gradient of the gradient, and more arguments of :func:`tinyconv.gradcheck.check`.
    """
    import jax

    asarray, conj, trees = jax.numpy.asarray, jax.numpy.conj, jax.tree_util
    paths, tree = trees.tree_flatten_with_path(tuple(inputs))
    top = settings.pop("names", None) or [f"inputs[{k}]" for k in range(len(inputs))]
    names = [top[path[0].idx] + trees.keystr(path[1:]) for path, _ in paths]

    def run(*leaves: Any) -> Any:
        return function(*trees.tree_unflatten(tree, leaves))

    def of_numbers(of: Any, nests: Any) -> tuple[dict[int, Any], Any, Any]:
        """Return the leaves that have a derivative, their function, and what rebuilds nests.

        What it returns are numbers too: of JAX's integers the derivative would be float0.
        """
        leaves, nest = trees.tree_flatten(nests)
        every = dict(enumerate(leaves))
        numbers = {k: asarray(a) for k, a in every.items() if asarray(a).dtype.kind in "fc"}

        def inner(*some: Any) -> Any:
            given = every | dict(zip(numbers, some, strict=True))
            y = map(asarray, trees.tree_leaves(of(*trees.tree_unflatten(nest, given.values()))))
            return [a for a in y if a.dtype.kind in "fc"]

        return numbers, inner, lambda found: trees.tree_unflatten(nest, map(found.get, every))

    def vjp(of: Any, nests: Any, dy: Any) -> Any:
        """Return the gradients; JAX's of complex numbers are the conjugates of PyTorch's."""
        numbers, inner, rebuild = of_numbers(of, nests)
        pull = jax.vjp(inner, *numbers.values())[1]
        found = pull([conj(d) for d in trees.tree_leaves(dy)])
        return rebuild(dict(zip(numbers, map(conj, found), strict=True)))

    def jvp(of: Any, nests: Any, tangents: Any) -> Any:
        numbers, inner, _ = of_numbers(of, nests)
        directions = [asarray(t) for t in trees.tree_leaves(tangents)]
        return jax.jvp(inner, list(numbers.values()), directions)[1]

    def in_float64(of: Any) -> Any:
        def inside(*arguments: Any) -> Any:
            with jax.enable_x64(True):
                return trees.tree_map(np.asarray, of(*arguments))

        return inside

    leaves = [np.asarray(a) for _, a in paths]
    return check_derivatives(in_float64, run, vjp, jvp, leaves, names=names, **settings)
