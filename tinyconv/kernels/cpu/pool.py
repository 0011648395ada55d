"""Max-pooling by itself, over any axes.

Twin of the maximum of :mod:`tinyconv.ops.pool` and :mod:`tinyconv.ops.pool_global`. A max-pool
whose windows do not overlap, right behind a convolution, is done by :mod:`conv` instead; the
other poolings are done by :mod:`resample`.

A tile of *contenders* holds V vectors of the largest numbers so far and V of the places where
they were found: 32-bit integers in lanes that count as float32, which only moves their bits.
"""

from typing import Any

import numpy as np
from llvmlite import ir
from numba import literally

from tinyconv.kernels.cpu import emit
from tinyconv.kernels.cpu.instruction import (
    FLOAT,
    INT32,
    Builder,
    Constant,
    Int,
    Pointer,
    Tile,
    Vec,
    instruction,
    tile_type,
)
from tinyconv.kernels.cpu.kernel import images, kernel, njit, record
from tinyconv.kernels.cpu.simd import (
    ints_pointer,
    load,
    pointer,
    splat,
    store_first,
    words_pointer,
)
from tinyconv.kernels.terms import FIELDS


def _places(builder: Builder, place: ir.Value, lanes: int) -> ir.Value:
    """The places from ``place`` on, one a lane, as a vector of float32."""
    ahead = ir.Constant(ir.VectorType(INT32, lanes), list(range(lanes)))
    places = builder.add(emit.splat(builder, builder.trunc(place, INT32), lanes), ahead)
    return builder.bitcast(places, ir.VectorType(FLOAT, lanes))


@instruction(result=lambda columns, lanes: tile_type(2 * columns, lanes))
def contenders(
    builder: Builder, p: Pointer, i: Int, place: Int, columns: Constant, lanes: Constant
) -> Tile:
    """The numbers from ``p[i + place]`` on, and their distances from ``p[i]``."""
    starts = [emit.plus(builder, place, v * lanes) for v in range(columns)]
    numbers = [emit.load(builder, p, builder.add(i, start), lanes) for start in starts]
    return numbers + [_places(builder, start, lanes) for start in starts]


@instruction()
def contest(builder: Builder, tile: Tile, p: Pointer, i: Int, place: Int) -> Tile:
    """Let the numbers from ``p[i + place]`` on contend with those of the tile.

    The first of equal numbers stays. A NaN beats every number, and the first NaN stays.
    """
    V, L = len(tile) // 2, tile[0].type.count
    for v in range(V):
        best, start = tile[v], emit.plus(builder, place, v * L)
        number = emit.load(builder, p, builder.add(i, start), L)
        wins = emit.better(builder, number, best)
        tile[v] = builder.select(wins, number, best)
        tile[V + v] = builder.select(wins, _places(builder, start, L), tile[V + v])
    return tile


@instruction()
def where_place(builder: Builder, p: Pointer, i: Int, place: Int, value: Vec) -> Vec:
    """The vector where the places from ``p[i]`` on are those from ``place`` on, else 0."""
    L = value.type.count
    whole = ir.VectorType(INT32, L)
    found = builder.bitcast(emit.load(builder, p, i, L), whole)
    asked = builder.bitcast(_places(builder, place, L), whole)
    return builder.select(builder.icmp_signed("==", found, asked), value, emit.zeros(value.type))


@instruction()
def store_half(
    builder: Builder, p: Pointer, i: Int, tile: Tile, half: Constant, count: Int
) -> None:
    """Write the first ``count`` numbers (half 0) or places (half 1) of a tile of contenders."""
    V, L = len(tile) // 2, tile[0].type.count
    for v, vector in enumerate(tile[half * V : half * V + V]):
        place, rest = emit.plus(builder, i, v * L), emit.plus(builder, count, -v * L)
        emit.store_first(builder, p, place, vector, rest)


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
