"""Sums and concatenations of images, and copies of parts of them.

Twin of the sums and of ``concat`` in :mod:`tinyconv.layers.container`.
"""

from typing import Any

from numba import carray

from tinyconv.kernels.cpu.kernel import kernel, record
from tinyconv.kernels.cpu.simd import load, pointer, store_first

__all__ = ["ARGS", "add", "copy"]

#: ``planes`` times ``rows`` runs; in each, ``positions`` of ``count`` numbers, ``x_step`` and
#: ``y_step`` apart.
ARGS = record(
    *("x", "x_sample", "x_plane", "x_row", "x_step", "y", "y_sample", "y_plane", "y_row", "y_step"),
    *("planes", "rows", "positions", "count"),
)


def add(L: int) -> Any:
    """Make the kernel y = y + x."""

    @kernel
    def join_add(args, thread, first, last):  # type: ignore[no-untyped-def]
        a = carray(args, 1, ARGS)[0]
        x, y = pointer(a.x), pointer(a.y)
        for n in range(first, last):
            for line in range(a.planes * a.rows):
                plane, row = line // a.rows, line % a.rows
                i = n * a.x_sample + plane * a.x_plane + row * a.x_row
                j = n * a.y_sample + plane * a.y_plane + row * a.y_row
                for _ in range(a.positions):
                    for k in range(0, a.count, L):
                        total = load(y, j + k, L) + load(x, i + k, L)
                        store_first(y, j + k, total, a.count - k)
                    i, j = i + a.x_step, j + a.y_step

    return join_add


def copy(L: int) -> Any:
    """Make the kernel y = x."""

    @kernel
    def join_copy(args, thread, first, last):  # type: ignore[no-untyped-def]
        a = carray(args, 1, ARGS)[0]
        x, y = pointer(a.x), pointer(a.y)
        for n in range(first, last):
            for line in range(a.planes * a.rows):
                plane, row = line // a.rows, line % a.rows
                i = n * a.x_sample + plane * a.x_plane + row * a.x_row
                j = n * a.y_sample + plane * a.y_plane + row * a.y_row
                for _ in range(a.positions):
                    for k in range(0, a.count, L):
                        store_first(y, j + k, load(x, i + k, L), a.count - k)
                    i, j = i + a.x_step, j + a.y_step

    return join_copy
