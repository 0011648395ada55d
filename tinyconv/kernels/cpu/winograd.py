"""Convolution with windows of 3 x 3 or more, one apart, with half the products or less.

Twin of :func:`tinyconv.ops.conv.conv2d` and, in the forward pass, of a max-pool of 2 x 2 behind it.
Source: A. Lavin, S. Gray, Fast Algorithms for Convolutional Neural Networks (2016), section 4.1,
F(2 x 2, 3 x 3), up to signs: 16 products for 4 results instead of 36. A tile of 4 x 4 numbers d of
a channel of x and the window g of a channel of w become 4 x 4 numbers each,

    u = B d B'    v = G g G'    m[o] = sum over channels of u * v[o]    y[o] = A m[o] A'

where y is the 2 x 2 results, and backward, with the gradient e of those results,

    z[o] = A' e[o] A    s[o] = sum over tiles of u * z[o]    dg[o] = G' s[o] G

So the sums over channels, or tiles, are 16 matrix products. A larger window is cut into *parts* of
3 or 2 rows and columns, whose m are summed. Of a part of 2 rows v has a last row of zeros, whose
products are left out: 49 instead of 100 for 5 x 5. (Backward, the s of so many parts take more
time to add up than the products do, so dw is made by the kernel of :mod:`conv`.)

A result depends on its own window alone, as it should; but where a window holds an infinity, it is
NaN here. So a forward pass with a result that is not finite is done again by the kernel of
:mod:`conv`.
"""

from collections.abc import Callable
from itertools import product
from math import isqrt
from typing import Any

import numpy as np
from llvmlite import ir
from numba import carray, literally, types

from tinyconv.kernels.cpu.kernel import kernel, njit, record, record_at
from tinyconv.kernels.cpu.scattered import store_at, window_best
from tinyconv.kernels.cpu.simd import (
    INT,
    POINTER,
    bytes_pointer,
    emit_masked_load,
    emit_plus,
    emit_splat,
    emit_store_first,
    emit_tile,
    emit_times,
    emit_vectors,
    instruction,
    invoke,
    literal,
    load,
    pointer,
    splat,
    store,
    total,
    void_pointer,
)
from tinyconv.kernels.cpu.tiles import (
    at_least,
    gated,
    load_tile,
    outer,
    plus,
    store_tile,
    tile_type,
    zeros,
)

__all__ = ["FORWARD", "PART", "WEIGHTS", "WEIGHT_GRADIENT", "forward", "weight_gradient", "weights"]

# Small matrices of vectors. A grid is a tile whose vectors count row by row.


@instruction
def load_grid(
    typing: Any,
    p: types.Type,
    i: types.Type,
    down: types.Type,
    along: types.Type,
    size: types.Type,
    rows: types.Type,
    columns: types.Type,
    lanes: types.Type,
) -> Any:
    """The grid whose vector (r, c) is what begins at ``p[i + r * down + c * along]``.

    It is zeros beyond so many rows and columns.
    """
    S, L = literal(size), literal(lanes)

    def emit(context: Any, builder: ir.IRBuilder, signature: Any, args: Any) -> ir.Value:
        p, i, down, along, _, rows, columns, _ = args
        vectors = []
        for r, c in product(range(S), range(S)):
            mask = emit_splat(builder, _is_inside(builder, r, c, rows, columns), L)
            place = emit_plus(
                builder, i, emit_times(builder, down, r), emit_times(builder, along, c)
            )
            vectors.append(emit_masked_load(builder, p, place, mask))
        return emit_tile(context, builder, tile_type(S * S, L), vectors)

    return tile_type(S * S, L)(POINTER, INT, INT, INT, size, INT, INT, lanes), emit


def _is_inside(
    builder: ir.IRBuilder, r: int, c: int, rows: ir.Value, columns: ir.Value
) -> ir.Value:
    return builder.and_(
        builder.icmp_signed(">", rows, ir.Constant(rows.type, r)),
        builder.icmp_signed(">", columns, ir.Constant(columns.type, c)),
    )


@instruction
def store_grid(
    typing: Any,
    p: types.Type,
    i: types.Type,
    down: types.Type,
    along: types.Type,
    grid: types.Type,
    rows: types.Type,
    columns: types.Type,
    count: types.Type,
) -> Any:
    """Write a grid to where :func:`load_grid` finds it: so many rows, columns and lanes of it."""
    S = isqrt(grid.count)

    def emit(context: Any, builder: ir.IRBuilder, signature: Any, args: Any) -> ir.Value:
        p, i, down, along, value, rows, columns, count = args
        for n, vector in enumerate(emit_vectors(builder, value, grid)):
            r, c = divmod(n, S)
            with builder.if_then(_is_inside(builder, r, c, rows, columns)):
                place = emit_plus(
                    builder, i, emit_times(builder, down, r), emit_times(builder, along, c)
                )
                emit_store_first(builder, p, place, vector, count)
        return context.get_dummy_value()

    return types.void(POINTER, INT, INT, INT, grid, INT, INT, INT), emit


Vectors = list[ir.Value]


def _two_sided(side: Callable[[ir.IRBuilder, Vectors], Vectors]) -> Any:
    """Return the function of a grid that does ``side`` with its columns, then with its rows."""

    @instruction
    def transform(typing: Any, grid: types.Type) -> Any:
        S = isqrt(grid.count)

        def apply(builder: ir.IRBuilder, vectors: Vectors) -> Vectors:
            columns = [side(builder, vectors[c::S]) for c in range(S)]
            rows = [side(builder, list(row)) for row in zip(*columns, strict=True)]
            return [vector for row in rows for vector in row]

        # how many vectors there will be shows a dry run
        trial = ir.Function(ir.Module(), ir.FunctionType(ir.VoidType(), []), "trial")
        vector = ir.VectorType(ir.FloatType(), grid.dtype.lanes)
        none = [ir.Constant(vector, ir.Undefined)] * grid.count
        size = len(apply(ir.IRBuilder(trial.append_basic_block()), none))
        result = tile_type(size, grid.dtype.lanes)

        def emit(context: Any, builder: ir.IRBuilder, signature: Any, args: Any) -> ir.Value:
            vectors = apply(builder, emit_vectors(builder, args[0], grid))
            return emit_tile(context, builder, result, vectors)

        return result(grid), emit

    return transform


def _half(builder: ir.IRBuilder, v: ir.Value) -> ir.Value:
    return builder.fmul(v, ir.Constant(v.type, [0.5] * v.type.count))


def _of_input(b: ir.IRBuilder, d: Vectors) -> Vectors:
    return [b.fsub(d[0], d[2]), b.fadd(d[1], d[2]), b.fsub(d[2], d[1]), b.fsub(d[1], d[3])]


def _of_weight(b: ir.IRBuilder, g: Vectors) -> Vectors:
    ends, middle = _half(b, b.fadd(g[0], g[2])), _half(b, g[1])
    return [g[0], b.fadd(ends, middle), b.fsub(ends, middle), g[2]]


def _to_output(b: ir.IRBuilder, m: Vectors) -> Vectors:
    return [b.fadd(m[0], b.fadd(m[1], m[2])), b.fsub(b.fsub(m[1], m[2]), m[3])]


def _of_gradient(b: ir.IRBuilder, e: Vectors) -> Vectors:
    return [e[0], b.fadd(e[0], e[1]), b.fsub(e[0], e[1]), b.fneg(e[1])]


def _to_weight(b: ir.IRBuilder, s: Vectors) -> Vectors:
    both = _half(b, b.fadd(s[1], s[2]))
    return [b.fadd(s[0], both), _half(b, b.fsub(s[1], s[2])), b.fadd(both, s[3])]


of_input, of_weight, to_output = map(_two_sided, (_of_input, _of_weight, _to_output))
of_gradient, to_weight = map(_two_sided, (_of_gradient, _to_weight))

ZERO = np.float32(0)

#: A part of a window: of so many rows and columns, of which the first is ``tap`` of the window and
#: lies ``x`` numbers behind the window's beginning.
PART = record("rows", "columns", "tap", "x")

#: ``w``: as :data:`conv.FORWARD` has it, for ``C`` channels in ``blocks`` of ``width`` outputs, of
#: a window of ``taps``, ``KW`` to a row; ``v``: (parts, 16, blocks, C, width).
WEIGHTS = record("w", "v", "C", "blocks", "width", "taps", "KW", "parts", "part_at")


def weights(L: int) -> Any:
    """Make the kernel that transforms the weights of channels ``first`` to ``last``."""

    @kernel
    def winograd_weights(args, thread, first, last):  # type: ignore[no-untyped-def]
        a = record_at(args, WEIGHTS)
        w, v, row = pointer(a.w), pointer(a.v), a.C * a.width
        parts, step = carray(void_pointer(a.part_at), a.parts, PART), a.blocks * row
        for q in range(a.parts):
            part = parts[q]
            for block in range(a.blocks):
                for c in range(first, last):
                    for k in range(c * a.width, (c + 1) * a.width, L):
                        i = (block * a.taps + part.tap) * row + k
                        g = load_grid(w, i, a.KW * row, row, 3, part.rows, part.columns, L)
                        i = 16 * q * step + block * row + k
                        store_grid(v, i, 4 * step, step, of_weight(g), 4, 4, L)

    return winograd_weights


#: The tiles of an image: ``H`` x ``W`` results, ``x`` where the first window begins. ``chunk``
#: tiles are treated at a time, in the thread's piece of ``room``: u (parts, 16, C / L, chunk, L),
#: then m or z (16, O / (V * L), chunk, V * L), so that the next tile of a matrix is always as far
#: away. There ``C_all`` and ``O_all`` are C and O in whole vectors and tiles, and one of the
#: matrices begins ``u_step`` or ``m_step`` behind the one before.
_TILES = (
    *("x", "x_sample", "x_row", "x_step", "H", "W", "C", "O", "chunk", "C_all", "O_all"),
    *("parts", "part_at"),
)
_ROOM = ("room", "room_thread", "u_step", "m_step")

#: ``winners``, ``adds`` and ``gate`` are those of :data:`conv.FORWARD`. ``direct``,
#: ``direct_args``: 0, or the kernel that is asked if a result is not finite.
FORWARD = record(
    *(*_TILES, *_ROOM, "v", "b", "y", "y_sample", "y_row", "y_step", "winners", "adds", "gate"),
    *("direct", "direct_args"),
    floats=("floor",),
)


@njit()
def place_of(t, H, W):  # type: ignore[no-untyped-def]
    """The sample, the row and the column of tile t of a batch."""
    high, wide = (H + 1) // 2, (W + 1) // 2
    return t // (high * wide), t // wide % high * 2, t % wide * 2


@njit()
def next_place(n, h, w, H, W):  # type: ignore[no-untyped-def]
    """The place behind a place, without the divisions."""
    w += 2
    if w >= W:
        w, h = 0, h + 2
        if h >= H:
            h, n = 0, n + 1
    return n, h, w


@njit()
def transform_input(a, u, start, count, L):  # type: ignore[no-untyped-def]
    """Write u of ``count`` tiles from ``start`` on."""
    x, step = pointer(a.x), a.u_step
    parts = carray(void_pointer(a.part_at), a.parts, PART)
    n, h, w = place_of(start, a.H, a.W)
    for t in range(count):
        for q in range(a.parts):
            i = n * a.x_sample + h * a.x_row + w * a.x_step + parts[q].x
            j = 16 * q * step + t * L
            for c in range(0, a.C, L):
                d = load_grid(x, i + c, a.x_row, a.x_step, 4, 4, 4, literally(L))
                store_grid(u, j + c * a.chunk, 4 * step, step, of_input(d), 4, 4, L)
        n, h, w = next_place(n, h, w, a.H, a.W)


def forward(L: int, V: int, N: int, P: int) -> Any:
    """Make the kernel y = max(floor, max_pool(conv(x, w) + b)), with tiles of N rows by V vectors.

    A window of the pooling has P = 4 positions, the results of one tile, or is a single result.
    """
    VL = V * L

    @kernel
    def winograd_forward(args, thread, first, last):  # type: ignore[no-untyped-def]
        a = record_at(args, FORWARD)
        room = a.room + 4 * thread * a.room_thread
        u, m = pointer(room), pointer(room + 4 * 16 * a.parts * a.u_step)
        v, b, y, gate = pointer(a.v), pointer(a.b), pointer(a.y), pointer(a.gate)
        winners, parts = bytes_pointer(a.winners), carray(void_pointer(a.part_at), a.parts, PART)
        C, O, chunk, down, along = a.C, a.O, a.chunk, a.y_row, a.y_step
        tiles = (a.H + 1) // 2 * ((a.W + 1) // 2)
        u_step, m_step, v_step = a.u_step, a.m_step, C * a.O_all
        doubt = splat(ZERO, L)
        for start in range(first * tiles, last * tiles, chunk):
            count = min(chunk, last * tiles - start)
            transform_input(a, u, start, count, L)
            for element in range(16):
                for o in range(0, O, VL):
                    for t in range(0, count, N):
                        acc = zeros(N, V, L)
                        for q in range(a.parts):
                            if element // 4 > parts[q].rows or element % 4 > parts[q].columns:
                                continue
                            matrix = 16 * q + element
                            j = matrix * v_step + o * C
                            for panel in range(0, C, L):
                                i = matrix * u_step + panel * chunk + t * L
                                for c in range(i, i + min(L, C - panel)):
                                    acc = outer(acc, N, u, (c,), 0, L, v, j)
                                    j += VL
                        store_tile(m, element * m_step + o * chunk + t * VL, N, VL, acc, VL)
            n, h, w = place_of(start, a.H, a.W)
            for t in range(count):
                place = n * a.y_sample + h * down + w * along
                if P == 4:
                    place = n * a.y_sample + h // 2 * down + w // 2 * along
                for o in range(0, O, L):
                    k = o // VL * VL * chunk + t * VL + o % VL
                    result = to_output(load_grid(m, k, 4 * m_step, m_step, 4, 4, 4, L))
                    result = plus(result, load_tile(b, o, 4, 0, 1, L))
                    doubt = doubt + (result[0] + result[1] + result[2] + result[3]) * splat(ZERO, L)
                    if P == 4:
                        best = window_best(winners, (place + o,), result, P, O - o)
                        store_at(y, (place + o,), at_least(best, a.floor), O - o)
                        continue
                    result = at_least(result, a.floor)
                    if a.adds:
                        old = load_grid(y, place + o, down, along, 2, 2, 2, L)
                        result = plus(result, old)
                    if a.gate:
                        result = gated(result, load_grid(gate, place + o, down, along, 2, 2, 2, L))
                    store_grid(y, place + o, down, along, result, a.H - h, a.W - w, O - o)
                n, h, w = next_place(n, h, w, a.H, a.W)
        if a.direct != 0 and total(doubt) != ZERO:  # NaN
            invoke(a.direct, a.direct_args, thread, first, last)

    return winograd_forward


#: ``dz`` has at least a border of one behind its rows and columns where their number is odd.
#: For windows of one part. Behind u and z is s: (16, C_all, O_all). The threads' ``dw`` and ``db``
#: and ``run_padded`` are those of :data:`conv.WEIGHT_GRADIENT`, ``width`` outputs to a block.
WEIGHT_GRADIENT = record(
    *(*_TILES, *_ROOM, "dz", "dz_sample", "dz_row", "dz_step"),
    *("dw", "dw_thread", "db", "db_thread", "run_padded", "width"),
)


def weight_gradient(L: int, V: int, R: int) -> Any:
    """Make the kernel of dw and db, with tiles of R channels of x, which divide L, by V vectors."""
    VL = V * L

    @kernel
    def winograd_weight_gradient(args, thread, first, last):  # type: ignore[no-untyped-def]
        a = record_at(args, WEIGHT_GRADIENT)
        C, O, O_all, chunk = a.C, a.O, a.O_all, a.chunk
        room = a.room + 4 * thread * a.room_thread
        u, z = pointer(room), pointer(room + 4 * 16 * a.u_step)
        s, dz = pointer(room + 4 * 16 * (a.u_step + a.m_step)), pointer(a.dz)
        dw, db = pointer(a.dw + 4 * thread * a.dw_thread), pointer(a.db + 4 * thread * a.db_thread)
        tiles = (a.H + 1) // 2 * ((a.W + 1) // 2)
        u_step, z_step, s_step = a.u_step, a.m_step, a.C_all * O_all
        for k in range(0, 16 * s_step, L):
            store(s, k, splat(ZERO, L))
        for start in range(first * tiles, last * tiles, chunk):
            count = min(chunk, last * tiles - start)
            transform_input(a, u, start, count, L)
            for o in range(0, O, L):
                bias, k = load(db, o, L), o // VL * VL * chunk + o % VL
                n, h, w = place_of(start, a.H, a.W)
                for _ in range(count):
                    i = n * a.dz_sample + h * a.dz_row + w * a.dz_step + o
                    e = load_grid(dz, i, a.dz_row, a.dz_step, 2, 2, 2, L)
                    bias = bias + (e[0] + e[1] + e[2] + e[3])
                    store_grid(z, k, 4 * z_step, z_step, of_gradient(e), 4, 4, L)
                    k += VL
                    n, h, w = next_place(n, h, w, a.H, a.W)
                store(db, o, bias)
            for element in range(16):
                for o in range(0, O, VL):
                    for c in range(0, C, R):
                        place = element * s_step + c * O_all + o
                        acc = load_tile(s, place, R, O_all, V, L)
                        i = element * u_step + c // L * L * chunk + c % L
                        j = element * z_step + o * chunk
                        for _ in range(count):
                            acc = outer(acc, R, u, (i,), 0, 1, z, j)
                            i, j = i + L, j + VL
                        store_tile(s, place, R, O_all, acc, VL)
        for o in range(0, O, L):
            block, row = o // a.width, a.run_padded * a.width
            for c in range(C):
                g = to_weight(load_grid(s, c * O_all + o, 4 * s_step, s_step, 4, 4, 4, L))
                place = block * 3 * row + c * a.width + o % a.width
                g = plus(g, load_grid(dw, place, row, C * a.width, 3, 3, 3, L))
                store_grid(dw, place, row, C * a.width, g, 3, 3, L)

    return winograd_weight_gradient
