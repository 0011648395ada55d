"""Weighted sums along the axes of an image: mean-pooling, interpolation, padding, cropping.

Twin of the mean of :mod:`tinyconv.ops.pool` and :mod:`tinyconv.ops.pool_global`, of
:mod:`tinyconv.ops.upsample` and of ``pad`` and ``crop`` of :mod:`tinyconv.ops.shape`; each is one
table for each axis (:mod:`terms`), and its backward pass the same kernel with other tables.
"""

from typing import Any

import numpy as np

from tinyconv.kernels.cpu.kernel import images, inner, kernel, record
from tinyconv.kernels.cpu.products import add_scaled
from tinyconv.kernels.cpu.simd import LANES, load, pointer, splat, store_first, words_pointer
from tinyconv.kernels.cpu.tiles import store_tile, zeros
from tinyconv.kernels.terms import FIELDS

#: ``D H W`` belong to y, ``x_count`` is the W * C of x. ``room``: for each thread, one row of x.
#: ``value``: of an element of y that has no terms. ``w_runs``: see :attr:`.terms.Terms.runs`.
ARGS = record(
    *(*images("x"), "x_count", *images("y")),
    *("C", "D", "H", "W", "room", "room_thread", *FIELDS, "w_runs"),
    floats=("value",),
)

ONE = np.float32(1)


@inner
def fill(y, j, count, value, lanes):  # type: ignore[no-untyped-def]
    """Write ``value`` to the ``count`` numbers from ``y[j]`` on."""
    for k in range(0, count, lanes):
        store_first(y, j + k, splat(value, lanes), count - k)


@inner
def copy(x, i, y, j, count, lanes):  # type: ignore[no-untyped-def]
    """Write the ``count`` numbers from ``x[i]`` on to ``y[j]`` and what follows."""
    for k in range(0, count, lanes):
        store_first(y, j + k, load(x, i + k, lanes), count - k)


def resample(L: int, V: int) -> Any:
    """Make the kernel y[p, q, r, c] = sum of d[p, i] h[q, j] w[r, k] x[i, j, k, c].

    First the rows of x that a row of y is made of become one, in full vectors however few the
    channels are; then its elements are added up, V vectors of L channels at a time, and written
    whole: what is too much becomes the next element. A single row of weight 1 needs no sum, and
    one that is made as the row before is a copy of it. Neighbours of x that are so in y are copied.
    """
    VL = V * L

    @kernel(ARGS)
    def image_resample(a, thread, first, last):  # type: ignore[no-untyped-def]
        x, y, room = pointer(a.x), pointer(a.y), pointer(a.room + 4 * thread * a.room_thread)
        d_starts, d_places = words_pointer(a.d_starts), words_pointer(a.d_places)
        h_starts, h_places = words_pointer(a.h_starts), words_pointer(a.h_places)
        w_starts, w_places = words_pointer(a.w_starts), words_pointer(a.w_places)
        d_weights, h_weights = pointer(a.d_weights), pointer(a.h_weights)
        w_weights, w_runs = pointer(a.w_weights), words_pointer(a.w_runs)
        C, W, value = a.C, a.W, a.value
        for n in range(first, last):
            for p in range(a.D):
                for q in range(a.H):
                    j = n * a.y_sample + p * a.y_plane + q * a.y_row
                    d0, d1, h0, h1 = d_starts[p], d_starts[p + 1], h_starts[q], h_starts[q + 1]
                    if d0 == d1 or h0 == h1:
                        fill(y, j, W * C, value, LANES)
                        continue
                    is_single = q > 0 and h1 - h0 == 1 and h0 - h_starts[q - 1] == 1
                    if (
                        is_single
                        and h_places[h0 - 1] == h_places[h0]
                        and h_weights[h0 - 1] == h_weights[h0]
                    ):
                        copy(y, j - a.y_row, y, j, W * C, LANES)
                        continue
                    row = n * a.x_sample + d_places[d0] * a.x_plane + h_places[h0] * a.x_row
                    source = x
                    if d1 - d0 > 1 or h1 - h0 > 1 or d_weights[d0] * h_weights[h0] != ONE:
                        for k in range(0, a.x_count, 4 * L):
                            total = zeros(1, 4, L)
                            for d in range(d0, d1):
                                plane = n * a.x_sample + d_places[d] * a.x_plane + k
                                for h in range(h0, h1):
                                    i = plane + h_places[h] * a.x_row
                                    weight = d_weights[d] * h_weights[h]
                                    total = add_scaled(total, weight, x, i, (0,))
                            store_tile(room, k, (0,), total, 4 * L)
                        source, row = room, 0
                    r = 0
                    while r < W:
                        w0, w1, place = w_starts[r], w_starts[r + 1], j + r * C
                        run = max(1, w_runs[r])
                        if run > 1:
                            copy(source, row + w_places[w0] * C, y, place, run * C, LANES)
                        elif w0 == w1:
                            fill(y, place, C, value, L)
                        else:
                            for c in range(0, C, VL):
                                acc = zeros(1, V, L)
                                for w in range(w0, w1):
                                    i = row + w_places[w] * C + c
                                    acc = add_scaled(acc, w_weights[w], source, i, (0,))
                                store_tile(y, place + c, (0,), acc, (W - r) * C - c)
                        r += run

    return image_resample
