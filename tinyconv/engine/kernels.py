"""The kernels by the constants they are compiled for, and the choice of those constants.

The shape of a tile follows from the registers of the machine: a kernel that keeps R x V vectors
of sums needs R * V registers for them, V for one factor and one for the other.
"""

from collections.abc import Callable
from functools import cache
from typing import Any

from tinyconv.kernels.cpu import activation, batch, conv, linear, pool, update
from tinyconv.kernels.cpu.simd import LANES, REGISTERS

__all__ = ["even", "get", "lanes_for", "rows_for", "split"]

FAMILIES: dict[str, Callable[..., Any]] = {
    f"{module.__name__.rpartition('.')[2]}.{name}": getattr(module, name)
    for module, names in (
        (activation, ("forward", "backward")),
        (
            batch,
            (
                "gather",
                "flatten",
                "flatten_backward",
                "dropout",
                "multiply",
                "softmax_log_likelihood",
            ),
        ),
        (
            conv,
            ("forward", "max_backward", "small_max_backward", "dense_backward", "pack", "update"),
        ),
        (linear, ("forward", "backward", "update")),
        (pool, ("avg", "avg_backward", "box", "l2", "l2_backward", "max_", "max_backward")),
        (update, ("sgd", "adam", "adagrad", "rmsprop", "keep", "flat")),
    )
    for name in names
}


@cache
def get(name: str, *constants: int) -> Any:
    """Return a kernel, compiled the first time that these constants are asked for."""
    return FAMILIES[name](*constants)


def lanes_for(count: int, most: int = LANES) -> int:
    """Return the length of vector for runs of ``count`` numbers: a power of two.

    A run shorter than a vector of the machine gets the next power of two above it, or below it
    where reading further than the run is not possible (see the callers).
    """
    lanes = 4
    while lanes < min(count, most):
        lanes *= 2
    return min(lanes, most)


def split(vectors: int, most: int) -> int:
    """Return how many vectors a tile holds so that tiles of at most ``most`` waste the least."""
    return even(vectors, most)


def even(count: int, most: int) -> int:
    """Return the size of parts of ``count`` that are at most ``most`` and as equal as can be.

    >>> even(10, 4), even(8, 4), even(3, 4)
    (4, 4, 3)
    """
    parts = -(-count // most)
    return -(-count // parts)


def rows_for(vectors: int, most: int = 1000) -> int:
    """Return how many rows of ``vectors`` sums the registers hold, at least 1."""
    return max(1, min(most, (REGISTERS - 1 - vectors) // vectors))
