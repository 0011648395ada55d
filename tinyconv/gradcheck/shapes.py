"""What makes a gradient of the wrong shape right."""

import itertools
import math
from collections.abc import Callable, Iterator
from typing import Any

import numpy as np

from tinyconv.gradcheck.problem import FloatArray

__all__ = ["axis_sets", "explain_shape"]


def axis_sets(a: FloatArray) -> Iterator[tuple[int, ...]]:
    """Yield every set of axes, the small ones first."""
    for count in range(1, min(a.ndim, 4) + 1):
        yield from itertools.combinations(range(a.ndim), count)


def explain_shape(
    name: str,
    g: np.ndarray[Any, Any],
    shape: tuple[int, ...],
    dy: FloatArray,
    is_right: Callable[[Any], bool],
) -> str:
    """Return what makes a gradient of the wrong shape right, "" if nothing that was tried."""
    for sentence, candidate in _reshaped(g, shape):
        if is_right(candidate):
            return f"{name}: {sentence}"
    for axes in axis_sets(dy):
        if dy.sum(axis=axes).shape == g.shape and np.allclose(dy.sum(axis=axes), g):
            return f"{name}: the gradient is dy summed over axes {axes}, which are the wrong ones"
    return ""


def _reshaped(g: Any, shape: tuple[int, ...]) -> Iterator[tuple[str, Any]]:
    """Yield how a gradient may get its shape, and the gradient after that."""
    for axes in axis_sets(g):
        total = g.sum(axis=axes)
        if total.size == math.prod(shape) and g.size != total.size:
            # Broadcasting aligns the last axes; those in front of them are summed over.
            yield (
                f"right summed over axes {axes}: broadcasting was not undone",
                total.reshape(shape),
            )
    if tuple(n for n in g.shape if n != 1) == tuple(n for n in shape if n != 1):
        reshaped = g.reshape(shape)
        yield "right without its axes of length 1: they are left over or lost", reshaped
    for order in itertools.permutations(range(g.ndim)) if 1 < g.ndim <= 4 else ():
        if tuple(g.shape[k] for k in order) == shape:
            yield f"right with its axes in the order {order}: it is transposed", g.transpose(order)
    if g.ndim == len(shape) and all(n >= m for n, m in zip(g.shape, shape, strict=True)):
        off = [n - m for n, m in zip(g.shape, shape, strict=True)]
        cut = tuple(slice(d // 2, d // 2 + m) for d, m in zip(off, shape, strict=True))
        axes = tuple(k for k, d in enumerate(off) if d)
        yield f"right with the padding along axes {axes} cut off", g[cut]
    if g.size == math.prod(shape):
        yield f"the right elements: reshape it to {shape}", g.reshape(shape)
