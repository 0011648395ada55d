"""Convolution with windows of 3 x 3 or 5 x 5, one apart, with half the products or less.

Twin of :func:`tinyconv.ops.conv.conv2d` and, in the forward pass, of a max-pool of 2 x 2 behind it.
Source: A. Lavin, S. Gray, Fast Algorithms for Convolutional Neural Networks (2016), section 4:
F(R x R, K x K) with R = 2 or 4 results and windows of K = 3 or 5, where S = R + K - 1 is 4 or 6. A
tile of S x S numbers d of a channel of x and the window g of a channel of w become S x S numbers
each,

    u = B d B'    v = G g G'    m[o] = sum over channels of u * v[o]    y[o] = A m[o] A'

where y is the R x R results, and backward, with the gradient e of those results,

    z[o] = A' e[o] A    s[o] = sum over tiles of u * z[o]    dg[o] = G' s[o] G

So the sums over channels, or tiles, are S * S matrix products: with windows of 3 x 3, 16 products
for 4 results instead of 36, or 36 for 16 instead of 144. The matrices follow from points p[j]:
polynomials that agree there are the same. With M(x) = product over l of (x - p[l]), row j of B
holds the coefficients of M(x) / (x - p[j]), row j of G the powers of p[j] divided by its value
there, and column j of A those powers; the last ones stand for the point infinity.

Where the results end within a tile, what a tile reads beyond is a copy of its last row or column:
numbers that no result needs, as large as those that it does. Where a window holds an infinity, all
of its tile is NaN here. So a forward pass with a result that is not finite is done again by the
kernel of :mod:`conv`.

With R = 2 the results of a window of zeros are exactly 0. With more they are rounding errors of
what is beside it, on either side of 0, and a ReLU lets through what it has to stop. Where channels
have biases, that does not matter; so while all of these are 0, as training begins, that kernel does
the forward pass again, too.
"""

from functools import cache
from math import isqrt, prod
from typing import Any

import numpy as np
from llvmlite import ir
from numba import literally

from tinyconv.backend import Values
from tinyconv.kernels.cpu import emit
from tinyconv.kernels.cpu.grids import inside, load_grid, store_grid, sum_of_grid
from tinyconv.kernels.cpu.instruction import Builder, Constant, Tile, instruction, tile_type
from tinyconv.kernels.cpu.kernel import kernel, njit, record
from tinyconv.kernels.cpu.products import outer
from tinyconv.kernels.cpu.simd import (
    absolute,
    bytes_pointer,
    invoke,
    load,
    pointer,
    splat,
    store,
    total,
)
from tinyconv.kernels.cpu.tiles import (
    apart,
    at_least,
    gated,
    load_tile,
    plus,
    store_tile,
    window_best,
    zeros,
)

#: The points for tiles of S. A transformation multiplies rounding errors; these of 6 do it least:
#: the largest error is about that of a direct sum of so many terms.
POINTS = {4: (0.0, 1.0, -1.0), 6: (0.0, 0.75, -0.75, 1.5, -1.5)}


@cache
def matrices(R: int, K: int) -> tuple[Values, Values, Values]:
    """Return A (R, S), G (S, K) and B (S, S) for R results of windows of K.

    >>> A, G, B = matrices(2, 3)
    >>> d, g = np.array([5.0, 6.0, 7.0, 9.0]), np.array([1.0, 2.0, 3.0])
    >>> (A @ ((G @ g) * (B @ d))).tolist()  # 5 + 12 + 21 and 6 + 14 + 27
    [38.0, 47.0]
    """
    S = R + K - 1
    points, A, G, B = POINTS[S], np.zeros((R, S)), np.zeros((S, K)), np.zeros((S, S))
    for j, p in enumerate(points):
        others = [q for q in points if q != p]
        A[:, j] = p ** np.arange(R)
        G[j] = p ** np.arange(K) / prod(p - q for q in others)
        B[j, : S - 1] = np.poly(others)[::-1]
    A[-1, -1] = G[-1, -1] = 1
    B[-1] = np.poly(points)[::-1]
    return A, G, B


def _times(builder: Builder, matrix: Values, vectors: Tile) -> Tile:
    """The products of the matrix's rows with a column of vectors."""
    results = []
    for row in matrix:
        terms = [(f, v) for f, v in zip(row, vectors, strict=True) if f != 0]
        terms.sort(key=lambda term: term[0] != 1)  # one that is 1 begins the sum as it is
        total = None
        for factor, vector in terms:
            scale = ir.Constant(vector.type, [float(factor)] * vector.type.count)
            if total is not None:
                total = emit.fma(builder, scale, vector, total)
            else:
                total = vector if factor == 1 else builder.fmul(scale, vector)
        results.append(total)
    return results


def _both_sides(which: int, is_transposed: bool = False) -> Any:
    """Return the function X d X' of a grid d, R and K, where X is one of the matrices."""

    def matrix_of(R: int, K: int) -> Values:
        matrix = matrices(R, K)[which]
        return matrix.T if is_transposed else matrix

    @instruction(result=lambda grid, R, K: tile_type(len(matrix_of(R, K)) ** 2, grid.dtype.lanes))
    def transform(builder: Builder, grid: Tile, R: Constant, K: Constant) -> Tile:
        matrix = matrix_of(R, K)
        S = matrix.shape[1]
        columns = [_times(builder, matrix, grid[c::S]) for c in range(S)]
        rows = [_times(builder, matrix, list(row)) for row in zip(*columns, strict=True)]
        return [vector for row in rows for vector in row]

    return transform


to_output, of_weight, of_input = map(_both_sides, range(3))
of_gradient, to_weight = _both_sides(0, True), _both_sides(1, True)

ZERO = np.float32(0)

#: ``w``: as :data:`conv.FORWARD` has it, for ``C`` channels in ``blocks`` of ``width`` outputs;
#: ``v``: S * S matrices (blocks, C, width), each ``v_step`` behind the one before.
WEIGHTS = record("w", "v", "v_step", "C", "blocks", "width")


def weights(L: int, R: int, K: int) -> Any:
    """Make the kernel that transforms the weights of channels ``first`` to ``last``."""
    S = R + K - 1

    @kernel(WEIGHTS)
    def winograd_weights(a, thread, first, last):  # type: ignore[no-untyped-def]
        w, v, row, step = pointer(a.w), pointer(a.v), a.C * a.width, a.v_step
        for block in range(a.blocks):
            for k in range(first * a.width, last * a.width, L):
                g = load_grid(w, block * K * K * row + k, K * row, row, K, K, K, L)
                store_grid(v, block * row + k, S * step, step, of_weight(g, R, K), S, S, L)

    return winograd_weights


#: The tiles of an image: ``H`` x ``W`` results, ``x`` where the first window begins. ``chunk``
#: tiles are treated at a time, in the thread's piece of ``room``: u (C / L, S * S, chunk, L), then
#: from ``m_start`` on m or z (O / (V * L), S * S, chunk, V * L), so that the next tile of a matrix
#: is always as far away, and the matrices that a transformation writes to are near each other: one
#: begins ``u_step`` or ``m_step`` behind the one before.
_TILES = ("x", "x_sample", "x_row", "x_step", "H", "W", "C", "O", "chunk")
_ROOM = ("room", "room_thread", "u_step", "m_start", "m_step")

#: ``winners``, ``adds`` and ``gate`` are those of :data:`conv.FORWARD`. ``direct``,
#: ``direct_args``: 0, or the kernel that is asked if a result is not finite or,
#: where it has to be ``exact``, R > 2 and all biases are 0.
FORWARD = record(
    *(*_TILES, *_ROOM, "v", "v_step", "b", "y", "y_sample", "y_row", "y_step"),
    *("winners", "adds", "gate", "direct", "direct_args", "exact"),
    floats=("floor",),
)


@njit()
def place_of(t, H, W, R):  # type: ignore[no-untyped-def]
    """The sample, the row and the column of tile t of a batch."""
    high, wide = (H + R - 1) // R, (W + R - 1) // R
    return t // (high * wide), t // wide % high * R, t % wide * R


@njit()
def next_place(n, h, w, H, W, R):  # type: ignore[no-untyped-def]
    """The place behind a place, without the divisions."""
    w += R
    if w >= W:
        w, h = 0, h + R
        if h >= H:
            h, n = 0, n + 1
    return n, h, w


@njit()
def transform_input(a, u, start, count, R, K, S, L):  # type: ignore[no-untyped-def]
    """Write u of ``count`` tiles from ``start`` on."""
    x, step = pointer(a.x), a.u_step
    n, h, w = place_of(start, a.H, a.W, R)
    for t in range(count):
        i = n * a.x_sample + h * a.x_row + w * a.x_step
        for c in range(0, a.C, L):
            rows, columns = a.H - h + K - 1, a.W - w + K - 1
            d = load_grid(x, i + c, a.x_row, a.x_step, rows, columns, literally(S), literally(L))
            u_at = c // L * (S * S * step) + t * L
            store_grid(u, u_at, S * step, step, of_input(d, literally(R), literally(K)), S, S, L)
        n, h, w = next_place(n, h, w, a.H, a.W, R)


@njit()
def store_best(a, window, place, count):  # type: ignore[no-untyped-def]
    """Write the maximum of a window of 2 x 2 and which of them it is, of ``count`` channels."""
    best = window_best(bytes_pointer(a.winners), (place,), window, 4, count)
    store_tile(pointer(a.y), place, (0,), at_least(best, a.floor), count)


@njit()
def are_zero(p, count, L):  # type: ignore[no-untyped-def]
    """Whether all numbers are 0."""
    sizes = splat(ZERO, L)
    for k in range(0, count, L):
        sizes = sizes + absolute(load(p, k, L))
    return total(sizes) == ZERO


def forward(L: int, V: int, N: int, G: int, P: int, R: int, K: int) -> Any:
    """Make the kernel y = max(floor, max_pool(conv(x, w) + b)), with tiles of N rows by V vectors.

    It takes G channels of x at a time. A window of the pooling has P = 4 positions, or is a single
    result.
    """
    VL, S, same, side = V * L, R + K - 1, (0,) * (R * R), isqrt(P)
    rows, own = tuple(range(0, N * L, L)), tuple(range(0, N * VL, VL))

    @kernel(FORWARD)
    def winograd_forward(a, thread, first, last):  # type: ignore[no-untyped-def]
        room = a.room + 4 * thread * a.room_thread
        u, m = pointer(room), pointer(room + 4 * a.m_start)
        v, b, y, gate = pointer(a.v), pointer(a.b), pointer(a.y), pointer(a.gate)
        C, O, chunk, down, along = a.C, a.O, a.chunk, a.y_row, a.y_step
        tiles = (a.H + R - 1) // R * ((a.W + R - 1) // R)
        u_step, m_step, v_step = a.u_step, a.m_step, a.v_step
        u_panel, m_panel = S * S * u_step, S * S * m_step
        doubt = splat(ZERO, L)
        for start in range(first * tiles, last * tiles, chunk):
            count = min(chunk, last * tiles - start)
            transform_input(a, u, start, count, R, K, S, L)
            for element in range(S * S):
                for o in range(0, O, VL):
                    for t in range(0, count, N):
                        acc, j = zeros(N, V, L), element * v_step + o * C
                        row = element * u_step + t * L
                        for c in range(0, C, G):
                            i = row + c // L * u_panel + c % L
                            acc = outer(acc, u, i, rows, v, j, G)
                            j += G * VL
                        k = o // VL * m_panel + element * m_step + t * VL
                        store_tile(m, k, own, acc, VL)
            n, h, w = place_of(start, a.H, a.W, R)
            for t in range(count):
                for o in range(0, O, L):
                    k = o // VL * m_panel + t * VL + o % VL
                    high, wide = a.H - h, a.W - w
                    grid = load_grid(m, k, S * m_step, m_step, S, S, S, L)
                    result = plus(to_output(grid, R, K), load_tile(b, o, same, 1, L))
                    doubt = doubt + sum_of_grid(result) * splat(ZERO, L)
                    place = n * a.y_sample + h // side * down + w // side * along + o
                    if P == 4 and R == 2:
                        store_best(a, result, place, O - o)
                        continue
                    if P == 4:  # a tile has several windows, which memory takes apart
                        store_grid(m, k, S * m_step, m_step, result, R, R, L)
                        for r in range(0, min(R, high), 2):
                            for c in range(0, min(R, wide), 2):
                                i = k + (r * S + c) * m_step
                                window = load_grid(m, i, S * m_step, m_step, 2, 2, 2, L)
                                offset = r // 2 * down + c // 2 * along
                                store_best(a, window, place + offset, O - o)
                        continue
                    result = at_least(result, a.floor)
                    if a.adds:
                        result = plus(result, load_grid(y, place, down, along, high, wide, R, L))
                    if a.gate:
                        gates = load_grid(gate, place, down, along, high, wide, R, L)
                        result = gated(result, gates)
                    store_grid(y, place, down, along, result, high, wide, O - o)
                n, h, w = next_place(n, h, w, a.H, a.W, R)
        is_nan, may_be_zero = total(doubt) != ZERO, R > 2 and a.exact != 0
        if a.direct != 0 and (is_nan or (may_be_zero and are_zero(b, O, L))):
            invoke(a.direct, a.direct_args, thread, first, last)

    return winograd_forward


#: Behind u and z, from ``s_start`` on, is s: S * S matrices (C, O) in rows of ``O_all``, each
#: ``s_step`` behind the one before.
#: ``run_padded`` and the threads' ``dw`` and ``db``, of ``width`` outputs to a block, are those of
#: :data:`conv.WEIGHT_GRADIENT`.
WEIGHT_GRADIENT = record(
    *(*_TILES, *_ROOM, "s_start", "s_step", "O_all", "dz", "dz_sample", "dz_row", "dz_step"),
    *("dw", "dw_thread", "db", "db_thread", "run_padded", "width"),
)


def weight_gradient(L: int, V: int, N: int, R: int, K: int) -> Any:
    """Make the kernel of dw and db, with tiles of N channels of x, which divide L, by V vectors."""
    VL, S, side = V * L, R + K - 1, tuple(range(N))

    @kernel(WEIGHT_GRADIENT)
    def winograd_weight_gradient(a, thread, first, last):  # type: ignore[no-untyped-def]
        C, O, O_all, chunk = a.C, a.O, a.O_all, a.chunk
        room = a.room + 4 * thread * a.room_thread
        u, z, s = pointer(room), pointer(room + 4 * a.m_start), pointer(room + 4 * a.s_start)
        dz = pointer(a.dz)
        dw, db = pointer(a.dw + 4 * thread * a.dw_thread), pointer(a.db + 4 * thread * a.db_thread)
        tiles = (a.H + R - 1) // R * ((a.W + R - 1) // R)
        u_step, z_step, s_step, own = a.u_step, a.m_step, a.s_step, apart((0,), O_all, N)
        u_panel, z_panel = S * S * u_step, S * S * z_step
        for k in range(0, S * S * s_step, L):
            store(s, k, splat(ZERO, L))
        for start in range(first * tiles, last * tiles, chunk):
            count = min(chunk, last * tiles - start)
            transform_input(a, u, start, count, R, K, S, L)
            for o in range(0, O, L):
                bias, k = load(db, o, L), o // VL * z_panel + o % VL
                n, h, w = place_of(start, a.H, a.W, R)
                for _ in range(count):
                    i = n * a.dz_sample + h * a.dz_row + w * a.dz_step + o
                    rows, columns = a.H - h, a.W - w
                    e = load_grid(dz, i, a.dz_row, a.dz_step, rows, columns, R, L)
                    e = inside(e, rows, columns)
                    bias = bias + sum_of_grid(e)
                    store_grid(z, k, S * z_step, z_step, of_gradient(e, R, K), S, S, L)
                    k += VL
                    n, h, w = next_place(n, h, w, a.H, a.W, R)
                store(db, o, bias)
            for element in range(S * S):
                for o in range(0, O, VL):
                    for c in range(0, C, N):
                        place = element * s_step + c * O_all + o
                        acc = load_tile(s, place, own, V, L)
                        i = element * u_step + c // L * u_panel + c % L
                        j = element * z_step + o // VL * z_panel
                        for _ in range(count):
                            acc = outer(acc, u, i, side, z, j, 1)
                            i, j = i + L, j + VL
                        store_tile(s, place, own, acc, VL)
        for o in range(0, O, L):
            block, row = o // a.width, a.run_padded * a.width
            for c in range(C):
                grid = load_grid(s, c * O_all + o, S * s_step, s_step, S, S, S, L)
                place = block * K * row + c * a.width + o % a.width
                old = load_grid(dw, place, row, C * a.width, K, K, K, L)
                g = plus(to_weight(grid, R, K), old)
                store_grid(dw, place, row, C * a.width, g, K, K, L)

    return winograd_weight_gradient
