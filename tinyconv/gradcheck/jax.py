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
    asarray, conj = jax.numpy.asarray, jax.numpy.conj

    def in_float64(run: Callable[..., Any]) -> Callable[..., Any]:
        def inside(*arguments: Any) -> Any:
            with jax.enable_x64(True):
                return jax.tree_util.tree_map(np.asarray, run(*arguments))

        return inside

    def at(every: Sequence[Any]) -> tuple[Callable[..., Any], list[Any]]:
        """Return the function of the checked leaves alone, which returns a list, and these."""

        def run(*checked: Any) -> Any:
            moved = list(every)
            for k, a in zip(where, checked, strict=True):
                moved[k] = a
            return jax.tree_util.tree_leaves(function(*jax.tree_util.tree_unflatten(tree, moved)))

        return run, [asarray(every[k]) for k in where]

    def put(checked: Sequence[Any]) -> list[Any]:
        found = iter(checked)
        return [next(found) if k in where else None for k in range(len(leaves))]

    def vjp(dy: Any, run: Callable[..., Any], checked: Sequence[Any]) -> Any:
        kinds = [asarray(a).dtype.kind in "fc" for a in run(*checked)]  # integers have no gradient
        # JAX's gradients of complex numbers are the conjugates of PyTorch's.
        dys = [conj(asarray(d)) for d in dy if d is not None]
        pull = jax.vjp(
            lambda *xs: [a for a, keep in zip(run(*xs), kinds, strict=True) if keep], *checked
        )[1]
        return [conj(g) for g in pull(dys)]

    def forward(*every: Any) -> Any:
        run, checked = at(every)
        return run(*checked)

    def backward(dy: Any, *every: Any) -> Any:
        return put(vjp(dy, *at(every)))

    def double_backward(dg: Any, dy: Any, *every: Any) -> Any:
        run, checked = at(every)
        dys = [None if d is None else asarray(d) for d in dy]
        _, pull = jax.vjp(lambda dys, *checked: vjp(dys, run, checked), dys, *checked)
        second, *rest = jax.tree_util.tree_map(conj, pull([conj(asarray(dg[k])) for k in where]))
        return [second, *put(rest)]

    def jvp(tangents: Any, *every: Any) -> Any:
        run, checked = at(every)
        return jax.jvp(run, checked, [asarray(tangents[k]) for k in where])[1]

    return check_functions(
        in_float64(forward),
        in_float64(backward),
        leaves,
        names=names,
        jvp=in_float64(jvp) if forward_mode else None,
        double_backward=in_float64(double_backward) if second_order else None,
        **settings,
    )
