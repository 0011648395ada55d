"""Slopes that are measured, with which the lessons check their equations."""

from collections.abc import Callable
from typing import Any

import numpy as np


def slopes(
    cost: Callable[[], float], values: np.ndarray[Any, Any], h: float = 1e-5
) -> np.ndarray[Any, Any]:
    """Return how a cost changes with each of the values, by moving one at a time.

    Args:
        cost: reads ``values`` and returns a number.
        values: of any shape, floating-point; as before when the function returns.
        h: how far each is moved to both sides.

    Returns:
        The slopes, of the shape of ``values``.

    >>> x = np.array([1.0, 3.0])
    >>> slopes(lambda: float(np.sum(x**2)), x).round(6)
    array([2., 6.])
    """
    result = np.empty_like(values)
    for at in np.ndindex(values.shape):
        was = values[at]
        values[at] = was + h
        above = cost()
        values[at] = was - h
        below = cost()
        values[at] = was
        result[at] = (above - below) / (2 * h)
    return result
