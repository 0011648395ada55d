"""Sums and concatenations of images, and copies of parts of them.

Twin of the sums and of ``concat`` in :mod:`tinyconv.layers.container`.
"""

from typing import Any

import numpy as np

from tinyconv.kernels.cpu.activation import activate, deactivate
from tinyconv.kernels.cpu.kernel import images, kernel, record
from tinyconv.kernels.cpu.simd import load, pointer, splat, store_first

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


#: Runs of ``count`` numbers in images of one size. ``z``: laid out as y, what the activation is of;
#: y itself where nobody wants it afterwards.
ADD = record(*images("x", "other", "y"), *("z", "planes", "rows", "count"), floats=("parameter",))


def add(L: int, A: int) -> Any:
    """Make the kernel y = activation(x + other); y may be either."""

    @kernel(ADD)
    def join_add(a, thread, first, last):  # type: ignore[no-untyped-def]
        x, other, z, y = pointer(a.x), pointer(a.other), pointer(a.z), pointer(a.y)
        count, p = a.count, a.parameter
        for n in range(first, last):
            for line in range(a.planes * a.rows):
                plane, row = line // a.rows, line % a.rows
                i = n * a.x_sample + plane * a.x_plane + row * a.x_row
                t = n * a.other_sample + plane * a.other_plane + row * a.other_row
                j = n * a.y_sample + plane * a.y_plane + row * a.y_row
                for k in range(0, count, L):
                    total = load(x, i + k, L) + load(other, t + k, L)
                    if a.z != a.y:
                        slope = deactivate(splat(np.float32(1), L), total, A, p)
                        store_first(z, j + k, slope, count - k)
                    store_first(y, j + k, activate(total, A, p), count - k)

    return join_add
