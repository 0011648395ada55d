"""Max-pooling by itself, over any axes.

Twin of the maximum of :mod:`tinyconv.ops.pool` and :mod:`tinyconv.ops.pool_global`. A max-pool
whose windows do not overlap, right behind a convolution, is done by :mod:`conv` instead; the
other poolings are done by :mod:`resample`.
"""

from typing import Any

import numpy as np
from numba import literally

from tinyconv.kernels.cpu.kernel import images, kernel, njit, record
from tinyconv.kernels.cpu.places import contenders, contest, store_half, where_place
from tinyconv.kernels.cpu.simd import (
    ints_pointer,
    load,
    pointer,
    splat,
    store_first,
    words_pointer,
)
from tinyconv.kernels.terms import FIELDS

#: ``x`` and ``y`` stand for dx and dy in the backward pass; dx is laid out as x. (D, H, W): size
#: of x, (OD, OH, OW): of y. ``winners`` (N, OD, OH, OW, C) int32: how far from the first number of
#: its sample of x each maximum lies; -1 for a window that sees nothing. The tables (:mod:`terms`)
#: name the elements of each window. (KD, KH, KW): window, for :func:`max_backward_of_grid` alone.
ARGS = record(
    *images("x", "y"), *("winners", "C", "D", "H", "W", "OD", "OH", "OW", "KD", "KH", "KW", *FIELDS)
)

ZERO, LOWEST = np.float32(0), np.float32(-np.inf)


def max_(L: int, V: int) -> Any:
    """Make the kernel of the maximum over V vectors of L channels at a time."""
    VL = V * L

    @kernel(ARGS)
    def max_pool(a, thread, first, last):  # type: ignore[no-untyped-def]
        x, y = pointer(a.x), pointer(a.y)
        winners, no_winners = pointer(a.winners), ints_pointer(a.winners)
        d_starts, d_places = words_pointer(a.d_starts), words_pointer(a.d_places)
        h_starts, h_places = words_pointer(a.h_starts), words_pointer(a.h_places)
        w_starts, w_places = words_pointer(a.w_starts), words_pointer(a.w_places)
        C, OD, OH, OW, x_plane, x_row = a.C, a.OD, a.OH, a.OW, a.x_plane, a.x_row
        for n in range(first, last):
            x0 = n * a.x_sample
            for p in range(OD):
                for q in range(OH):
                    d0, d1, h0, h1 = d_starts[p], d_starts[p + 1], h_starts[q], h_starts[q + 1]
                    j = n * a.y_sample + p * a.y_plane + q * a.y_row
                    k = ((n * OD + p) * OH + q) * OW * C
                    for r in range(OW):
                        w0, w1 = w_starts[r], w_starts[r + 1]
                        if d0 == d1 or h0 == h1 or w0 == w1:
                            for c in range(C):
                                y[j + c], no_winners[k + c] = LOWEST, -1
                        else:
                            d, h, w = d_places[d0], h_places[h0], w_places[w0]
                            for c in range(0, C, VL):
                                place = d * x_plane + h * x_row + w * C + c
                                best = contenders(x, x0, place, V, L)
                                for s in range(d0, d1):
                                    for t in range(h0, h1):
                                        row = d_places[s] * x_plane + h_places[t] * x_row + c
                                        for u in range(w0, w1):
                                            best = contest(best, x, x0, row + w_places[u] * C)
                                store_half(y, j + c, best, 0, C - c)
                                store_half(winners, k + c, best, 1, C - c)
                        j += C
                        k += C

    return max_pool


@njit()
def clear(a, n, L):  # type: ignore[no-untyped-def]
    """Write zeros to a sample of dx."""
    dx = pointer(a.x)
    for d in range(a.D):
        for h in range(a.H):
            i = n * a.x_sample + d * a.x_plane + h * a.x_row
            for k in range(0, a.W * a.C, L):
                store_first(dx, i + k, splat(ZERO, literally(L)), a.W * a.C - k)


def max_backward(L: int) -> Any:
    """Make the backward kernel of the maximum: each dy is added where its window found it."""

    @kernel(ARGS)
    def max_pool_backward(a, thread, first, last):  # type: ignore[no-untyped-def]
        dx, dy, winners = pointer(a.x), pointer(a.y), ints_pointer(a.winners)
        count = a.OW * a.C
        for n in range(first, last):
            clear(a, n, L)
            for p in range(a.OD):
                for q in range(a.OH):
                    j = n * a.y_sample + p * a.y_plane + q * a.y_row
                    k = ((n * a.OD + p) * a.OH + q) * count
                    for c in range(count):
                        place = winners[k + c]
                        if place >= 0:
                            dx[n * a.x_sample + place] += dy[j + c]

    return max_pool_backward


def max_backward_of_grid(L: int) -> Any:
    """Make the backward kernel for windows side by side, which write dy or 0 to each element."""

    @kernel(ARGS)
    def max_pool_backward_of_grid(a, thread, first, last):  # type: ignore[no-untyped-def]
        dx, dy, winners = pointer(a.x), pointer(a.y), pointer(a.winners)
        C, lines = a.C, a.OD * a.OH
        is_whole = a.OD * a.KD == a.D and a.OH * a.KH == a.H and a.OW * a.KW == a.W
        for n in range(first, last):
            if not is_whole:
                clear(a, n, L)
            for line in range(lines):
                p, q = line // a.OH, line % a.OH
                j = n * a.y_sample + p * a.y_plane + q * a.y_row
                k = (n * lines + line) * a.OW * C
                corner = p * a.KD * a.x_plane + q * a.KH * a.x_row
                for c in range(0, C, L):
                    for r in range(a.OW):
                        g = load(dy, j + r * C + c, L)
                        for row in range(a.KD * a.KH):
                            i = corner + row // a.KH * a.x_plane + row % a.KH * a.x_row
                            i += r * a.KW * C + c
                            for _ in range(a.KW):
                                own = where_place(winners, k + r * C + c, i, g)
                                store_first(dx, n * a.x_sample + i, own, C - c)
                                i += C

    return max_pool_backward_of_grid
