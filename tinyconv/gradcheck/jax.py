"""Functions of JAX: of pytrees, with ``custom_vjp`` and ``custom_jvp`` or plain.

JAX computes in float32 unless told otherwise; here it is told to use float64 while it is checked.
"""

from collections.abc import Callable, Sequence
from typing import Any

import numpy as np

from tinyconv.gradcheck.check import check as check_functions
from tinyconv.gradcheck.report import Report

__all__ = ["check"]


def check(
    function: Callable[..., Any],
    inputs: Sequence[Any],
    *,
    forward_mode: bool = False,
    second_order: bool = False,
    **settings: Any,
) -> Report:
    """Check what ``jax.vjp`` returns for a function.

    Args:
        function: of pytrees of arrays and numbers, returning one.
        inputs: pytrees; their floating-point and complex leaves are checked.
        forward_mode: whether to check ``jax.jvp`` as well.
        second_order: whether to check the gradient of the gradient as well.
        settings: more arguments of :func:`tinyconv.gradcheck.check`.
    """
    import jax

    paths, tree = jax.tree_util.tree_flatten_with_path(tuple(inputs))
    top = settings.pop("names", None) or [f"inputs[{k}]" for k in range(len(inputs))]
    names = [top[path[0].idx] + jax.tree_util.keystr(path[1:]) for path, _ in paths]
    leaves = [np.asarray(a) for _, a in paths]
    where = [k for k, a in enumerate(leaves) if a.dtype.kind in "fc"]

    def of_checked(others: Sequence[Any]) -> Callable[..., Any]:
        """Return the function of the checked leaves alone, with a list of leaves as its result."""

        def run(*checked: Any) -> Any:
            every = list(others)
            for k, a in zip(where, checked, strict=True):
                every[k] = a
            return jax.tree_util.tree_leaves(function(*jax.tree_util.tree_unflatten(tree, every)))

        return run

    def pick(every: Sequence[Any]) -> list[Any]:
        return [jax.numpy.asarray(every[k]) for k in where]

    def differentiated(run: Callable[..., Any], checked: list[Any]) -> Callable[..., Any]:
        """Leave out the outputs that are integers, which have no gradient."""
        kinds = [jax.numpy.asarray(a).dtype.kind in "fc" for a in run(*checked)]
        return lambda *xs: [a for a, keep in zip(run(*xs), kinds, strict=True) if keep]

    def forward(*every: Any) -> Any:
        with jax.enable_x64(True):
            return [np.asarray(a) for a in of_checked(every)(*pick(every))]

    def vjp(dy: Any, every: Sequence[Any]) -> Any:
        run = differentiated(of_checked(every), pick(every))
        # JAX's gradients of complex numbers are the conjugates of PyTorch's.
        dys = [jax.numpy.conj(jax.numpy.asarray(d)) for d in dy if d is not None]
        return [jax.numpy.conj(g) for g in jax.vjp(run, *pick(every))[1](dys)]

    def backward(dy: Any, *every: Any) -> Any:
        with jax.enable_x64(True):
            found = iter(vjp(dy, every))
            return [np.asarray(next(found)) if k in where else None for k in range(len(every))]

    def double_backward(dg: Any, dy: Any, *every: Any) -> Any:
        with jax.enable_x64(True):

            def gradients(dys: Any, *checked: Any) -> Any:
                moved = list(every)
                for k, a in zip(where, checked, strict=True):
                    moved[k] = a
                return vjp(dys, moved)

            dys = [None if d is None else jax.numpy.asarray(d) for d in dy]
            conjugated = [jax.numpy.conj(jax.numpy.asarray(dg[k])) for k in where]
            _, pull = jax.vjp(gradients, dys, *pick(every))
            second, *rest = jax.tree_util.tree_map(
                lambda g: np.asarray(jax.numpy.conj(g)), pull(conjugated)
            )
            found = iter(rest)
            return [second, *(next(found) if k in where else None for k in range(len(every)))]

    def jvp(tangents: Any, *every: Any) -> Any:
        with jax.enable_x64(True):
            run = of_checked(every)
            given = [jax.numpy.asarray(tangents[k]) for k in where]
            return [np.asarray(t) for t in jax.jvp(run, pick(every), given)[1]]

    return check_functions(
        forward,
        backward,
        leaves,
        names=names,
        jvp=jvp if forward_mode else None,
        double_backward=double_backward if second_order else None,
        **settings,
    )
