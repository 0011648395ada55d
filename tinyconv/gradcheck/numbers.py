"""Sizes of arrays, and when two of them are the same but for rounding."""

import itertools
from collections.abc import Iterator
from typing import Any

import numpy as np

__all__ = ["axis_orders", "axis_sets", "blemish", "largest", "rounding_differs", "scale_of"]


def blemish(a: Any) -> str:
    """Return the first element that is not finite, and where it is; "" if all are."""
    bad = np.argwhere(~np.isfinite(a))
    where = tuple(map(int, bad[0])) if len(bad) else ()
    return f"{a[where]} at {where}" if len(bad) else ""


def largest(a: Any) -> float:
    """Return the largest finite absolute value, 0 for no elements."""
    return float(np.max(np.abs(a), where=np.isfinite(a), initial=0.0))


def rounding_differs(a: Any, b: Any, eps: float) -> bool:
    """Tell whether two results differ by more than the order of a parallel sum explains."""
    if a.shape != b.shape or not np.array_equal(np.isfinite(a), np.isfinite(b)):
        return True
    difference = largest(np.where(np.isfinite(a), a, 0) - np.where(np.isfinite(b), b, 0))
    return difference > 1e3 * eps * max(largest(a), largest(b))


def scale_of(x: Any) -> float:
    """Return the size of a tensor's elements, in which steps are measured: their rms, or 1.

    It is 1 as well for numbers so small that steps beside them would be subnormal.
    """
    if not (top := largest(x)) > 1e-280:
        return 1.0
    finite = x[np.isfinite(x)].astype(np.float64)
    return top * float(np.sqrt(np.mean(np.square(finite / top))))


def axis_sets(a: Any) -> Iterator[tuple[int, ...]]:
    """Yield every set of axes, the small ones first."""
    counts = range(1, min(a.ndim, 4) + 1)
    return itertools.chain(*(itertools.combinations(range(a.ndim), n) for n in counts))


def axis_orders(a: Any) -> Iterator[tuple[int, ...]]:
    """Yield every order of axes but their own, of few."""
    orders = itertools.permutations(range(a.ndim)) if a.ndim <= 4 else iter(())
    return (order for order in orders if order != tuple(range(a.ndim)))
