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

    def numbers(arrays: Sequence[Any]) -> list[int]:
        """Return which arrays have a derivative; of JAX's integers it would be float0."""
        return [
            k
            for k, a in enumerate(arrays)
            if a is not None and jax.numpy.asarray(a).dtype.kind in "fc"
        ]

    def run(*every: Any) -> list[Any]:
        y = function(*jax.tree_util.tree_unflatten(tree, every))
        return [jax.numpy.asarray(a) for a in jax.tree_util.tree_leaves(y)]

    def vjp(of: Callable[..., Any], every: Sequence[Any], dy: Sequence[Any]) -> list[Any]:
        """Return the gradients; JAX's of complex numbers are the conjugates of PyTorch's."""
        where, outputs = numbers(every), numbers(dy)

        def some(*checked: Any) -> list[Any]:
            y = of(*_put(checked, where, every))
            return [y[k] for k in outputs]

        pull = jax.vjp(some, *(jax.numpy.asarray(every[k]) for k in where))[1]
        found = pull([jax.numpy.conj(dy[k]) for k in outputs])
        return _put([jax.numpy.conj(g) for g in found], where, [None] * len(every))

    def backward(dy: Any, *every: Any) -> list[Any]:
        return vjp(run, every, dy)

    def double_backward(dg: Any, dy: Any, *every: Any) -> list[Any]:
        def first(*both: Any) -> list[Any]:
            return backward(both[: len(dy)], *both[len(dy) :])

        second = vjp(first, [*dy, *every], dg)
        return [second[: len(dy)], *second[len(dy) :]]

    def jvp(tangents: Any, *every: Any) -> Any:
        where = numbers(every)
        primals, directions = ([jax.numpy.asarray(a[k]) for k in where] for a in (every, tangents))
        return jax.jvp(lambda *checked: run(*_put(checked, where, every)), primals, directions)[1]

    def in_float64(of: Callable[..., Any]) -> Callable[..., Any]:
        def inside(*arguments: Any) -> Any:
            with jax.enable_x64(True):
                return jax.tree_util.tree_map(np.asarray, of(*arguments))

        return inside

    return check_functions(
        in_float64(run),
        in_float64(backward),
        leaves,
        names=names,
        jvp=in_float64(jvp) if forward_mode else None,
        double_backward=in_float64(double_backward) if second_order else None,
        **settings,
    )


def _put(some: Sequence[Any], where: list[int], every: Sequence[Any]) -> list[Any]:
    """Return the list ``every`` with some in the places ``where``."""
    found = dict(zip(where, some, strict=True))
    return [found.get(k, a) for k, a in enumerate(every)]
