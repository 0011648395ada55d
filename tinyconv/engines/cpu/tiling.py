"""Compiled kernels by the constants they are made for, and the choice of those constants.

The shape of a tile follows from the registers of the machine: a kernel that keeps R x V vectors
of sums needs R * V registers for them, V for one factor and one for the other.
"""

from collections.abc import Callable
from functools import cache
from typing import Any

from tinyconv.kernels.cpu.simd import LANES, REGISTERS

#: Samples that pass by many weights at a time, at least; a number that leaves few tiles part empty.
FEW = 6


@cache
def compiled(maker: Callable[..., Any], *constants: int) -> Any:
    """Return a kernel, made the first time that its maker is asked for these constants."""
    kernel = maker(*constants)
    kernel.origin = maker, constants
    return kernel


def lanes_for(count: int, most: int = LANES) -> int:
    """Return the length of vector for runs of ``count`` numbers: a power of two.

    A run shorter than a vector of the machine gets the next power of two above it, or below it
    where reading further than the run is not possible (see the callers).
    """
    lanes = 4
    while lanes < min(count, most):
        lanes *= 2
    return min(lanes, most)


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
