"""How many threads train and predict on the CPU; apart from the kernels so that Numba can wait."""

import os

import numpy as np

from tinyconv.errors import ShapeError

__all__ = ["get_num_threads", "set_num_threads"]

_wanted: int | None = None


def available() -> int:
    """Return the number of cores that this process may use."""
    if hasattr(os, "sched_getaffinity"):
        return len(os.sched_getaffinity(0))
    return os.cpu_count() or 1


def get_num_threads() -> int:
    """Return the number of threads that train and predict on the CPU: all cores unless set.

    >>> import tinyconv as tc
    >>> tc.get_num_threads() >= 1
    True
    """
    return _wanted or available()


def set_num_threads(n: int | None) -> None:
    """Set the number of threads that train and predict on the CPU, in this process.

    Results differ in rounding from one number to another, and not from run to run. More threads
    than cores take turns.

    Args:
        n: at least 1; None for all cores.

    Raises:
        ShapeError: n is no such number.

    >>> import tinyconv as tc
    >>> tc.set_num_threads(1)
    >>> tc.get_num_threads()
    1
    >>> tc.set_num_threads(None)
    >>> tc.set_num_threads(0)
    Traceback (most recent call last):
    tinyconv.errors.ShapeError: set_num_threads: n is 0, expected a positive integer or None
    """
    global _wanted
    if n is not None and (isinstance(n, bool) or not isinstance(n, int | np.integer) or n < 1):
        raise ShapeError(f"set_num_threads: n is {n!r}, expected a positive integer or None")
    _wanted = None if n is None else int(n)
