"""Max-pooling by itself, over any axes.

Twin of the maximum of :mod:`tinyconv.ops.pool` and :mod:`tinyconv.ops.pool_global`. A max-pool
whose windows do not overlap, right behind a convolution, is done by :mod:`conv` instead; the
other poolings are done by :mod:`resample`.
"""

from typing import Any

import numpy as np
from numba import carray

from tinyconv.kernels.cpu.kernel import kernel, record
from tinyconv.kernels.cpu.places import add_where_won, contenders, contest, store_half
from tinyconv.kernels.cpu.simd import (
    ints_pointer,
    load,
    pointer,
    splat,
    store_first,
    words_pointer,
)
from tinyconv.kernels.cpu.terms import FIELDS
from tinyconv.kernels.cpu.tiles import store_tile, zeros

__all__ = ["ARGS", "BOX", "box", "max_", "max_backward"]

#: ``source`` is read, ``target`` written: x and y or, backward, dy and dx. (D, H, W): size of x,
#: (OD, OH, OW): of y. ``winners`` (N, OD, OH, OW, C) int32: the place of each maximum in its
#: (D, H, W), counted in row-major order; -1 for a window that sees nothing. The tables
#: (:mod:`terms`) name, for each element of the target, those of the source.
ARGS = record(
    *("source", "source_sample", "source_plane", "source_row"),
    *("target", "target_sample", "target_plane", "target_row"),
    *("winners", "C", "D", "H", "W", "OD", "OH", "OW", *FIELDS),
)

ZERO, LOWEST = np.float32(0), np.float32(-np.inf)


def max_(L: int, V: int) -> Any:
    """Make the kernel of the maximum over V vectors of L channels at a time."""
    VL = V * L

    @kernel
    def max_pool(args, thread, first, last):  # type: ignore[no-untyped-def]
        a = carray(args, 1, ARGS)[0]
        x, y = pointer(a.source), pointer(a.target)
        winners, no_winners = pointer(a.winners), ints_pointer(a.winners)
        d_starts, d_places = words_pointer(a.d_starts), words_pointer(a.d_places)
        h_starts, h_places = words_pointer(a.h_starts), words_pointer(a.h_places)
        w_starts, w_places = words_pointer(a.w_starts), words_pointer(a.w_places)
        C, H, W, OD, OH, OW = a.C, a.H, a.W, a.OD, a.OH, a.OW
        x_plane, x_row = a.source_plane, a.source_row
        for n in range(first, last):
            x0 = n * a.source_sample
            for p in range(OD):
                for q in range(OH):
                    d0, d1, h0, h1 = d_starts[p], d_starts[p + 1], h_starts[q], h_starts[q + 1]
                    j = n * a.target_sample + p * a.target_plane + q * a.target_row
                    k = ((n * OD + p) * OH + q) * OW * C
                    for r in range(OW):
                        w0, w1 = w_starts[r], w_starts[r + 1]
                        if d0 == d1 or h0 == h1 or w0 == w1:
                            for c in range(C):
                                y[j + c], no_winners[k + c] = LOWEST, -1
                        else:
                            d, h, w = d_places[d0], h_places[h0], w_places[w0]
                            for c in range(0, C, VL):
                                i = x0 + d * x_plane + h * x_row + w * C + c
                                best = contenders(x, i, (d * H + h) * W + w, V, L)
                                for s in range(d0, d1):
                                    for t in range(h0, h1):
                                        row = x0 + d_places[s] * x_plane + h_places[t] * x_row + c
                                        line = (d_places[s] * H + h_places[t]) * W
                                        for u in range(w0, w1):
                                            place = w_places[u]
                                            best = contest(best, x, row + place * C, line + place)
                                store_half(y, j + c, best, 0, C - c)
                                store_half(winners, k + c, best, 1, C - c)
                        j += C
                        k += C

    return max_pool


def max_backward(L: int, V: int) -> Any:
    """Make the backward kernel of the maximum: dx = sum of dy of the windows that x has won.

    Each element of x asks the windows that see it, so each is written once, those that no window
    sees included.
    """
    VL = V * L

    @kernel
    def max_pool_backward(args, thread, first, last):  # type: ignore[no-untyped-def]
        a = carray(args, 1, ARGS)[0]
        dy, dx, winners = pointer(a.source), pointer(a.target), pointer(a.winners)
        d_starts, d_places = words_pointer(a.d_starts), words_pointer(a.d_places)
        h_starts, h_places = words_pointer(a.h_starts), words_pointer(a.h_places)
        w_starts, w_places = words_pointer(a.w_starts), words_pointer(a.w_places)
        C, D, H, W, OD, OH, OW = a.C, a.D, a.H, a.W, a.OD, a.OH, a.OW
        for n in range(first, last):
            dy0, winner0 = n * a.source_sample, n * OD * OH * OW * C
            for d in range(D):
                for h in range(H):
                    p0, p1, q0, q1 = d_starts[d], d_starts[d + 1], h_starts[h], h_starts[h + 1]
                    j = n * a.target_sample + d * a.target_plane + h * a.target_row
                    for w in range(W):
                        r0, r1, place = w_starts[w], w_starts[w + 1], (d * H + h) * W + w
                        for c in range(0, C, VL):
                            acc = zeros(1, V, L)
                            for s in range(p0, p1):
                                for t in range(q0, q1):
                                    p, q = d_places[s], h_places[t]
                                    i = dy0 + p * a.source_plane + q * a.source_row + c
                                    k = winner0 + (p * OH + q) * OW * C + c
                                    for u in range(r0, r1):
                                        r = w_places[u] * C
                                        acc = add_where_won(acc, winners, k + r, place, dy, i + r)
                            store_tile(dx, j + c, 1, 0, acc, C - c)
                        j += C

    return max_pool_backward


#: ``rows`` runs of ``count`` numbers a sample of y, from windows of KH rows and KW positions.
BOX = record(
    *("x", "x_sample", "x_row", "y", "y_sample", "y_row", "rows", "count", "KH", "KW", "C")
)


def box(L: int) -> Any:
    """Make the kernel of the mean over all windows with stride 1.

    Convolution and mean commute: the mean over PH x PW neighbouring results of a convolution is
    the convolution, with stride (PH, PW), of such means of its input. The kernel makes these
    means, and from a gradient in a border of zeros its own adjoint.
    """

    @kernel
    def box_mean(args, thread, first, last):  # type: ignore[no-untyped-def]
        a = carray(args, 1, BOX)[0]
        x, y, C = pointer(a.x), pointer(a.y), a.C
        share = splat(np.float32(1.0 / (a.KH * a.KW)), L)
        for n in range(first, last):
            for row in range(a.rows):
                i, j = n * a.x_sample + row * a.x_row, n * a.y_sample + row * a.y_row
                for k in range(0, a.count, L):
                    total = splat(ZERO, L)
                    for h in range(a.KH):
                        for w in range(a.KW):
                            total = total + load(x, i + h * a.x_row + w * C + k, L)
                    store_first(y, j + k, total * share, a.count - k)

    return box_mean
