"""Concatenations of images, and copies of parts of them.

Twin of ``concat`` in :mod:`tinyconv.layers.container`.
"""

from typing import Any

from tinyconv.kernels.cpu.kernel import images, kernel, record
from tinyconv.kernels.cpu.simd import load, pointer, store_first

#: ``planes`` times ``rows`` runs; in each, ``positions`` of ``count`` numbers, ``x_step`` and
#: ``y_step`` apart.
ARGS = record(
    *images("x"), "x_step", *images("y"), *("y_step", "planes", "rows", "positions", "count")
)


def copy(L: int) -> Any:
    """Make the kernel y = x."""

    @kernel(ARGS)
    def join_copy(a, thread, first, last):  # type: ignore[no-untyped-def]
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
