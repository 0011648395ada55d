"""Tiles of vectors, and where their rows lie in memory.

A *tile* is a tuple of ``rows * columns`` vectors of :mod:`simd`, row after row, which LLVM keeps
in registers as long as there are enough of them (``REGISTERS``). ``rows``, ``columns`` and
``lanes`` are compile-time constants.

The *places* of its rows are a tuple of whole numbers: row r is what begins at ``p[i + places[r]]``.
They are constants, or a stride :func:`apart`, or the entries of a *table*, an array of int32. At
the end of a matrix or a table the last place stands for those beyond (:func:`multiples`,
:func:`entries`): such a tile does its last row several times, and needs no special case.

What accumulates into tiles is in :mod:`products`.
"""

from functools import reduce

from llvmlite import ir
from numba import types

from tinyconv.kernels.cpu import emit
from tinyconv.kernels.cpu.instruction import (
    INT8,
    INT32,
    Builder,
    Bytes,
    Constant,
    Float,
    Int,
    Places,
    Pointer,
    Table,
    Tile,
    instruction,
    tile_type,
)


def _numbers(count: int) -> types.UniTuple:
    return types.UniTuple(types.int64, count)


@instruction(result=lambda places, count: _numbers(places.count * count))
def apart(builder: Builder, places: Places, stride: Int, count: Constant) -> Places:
    """Each place, and behind it ``count - 1`` more that are ``stride`` apart."""
    steps = [emit.times(builder, stride, n) for n in range(count)]
    return [emit.plus(builder, place, step) for place in places for step in steps]


@instruction(result=lambda rows: _numbers(rows))
def multiples(builder: Builder, stride: Int, rows: Constant, count: Int) -> Places:
    """The multiples of a stride from 0 on; the last of ``count`` stands for all beyond."""
    last, places = emit.plus(builder, count, -1), []
    for r in range(rows):
        number = ir.Constant(count.type, r)
        number = builder.select(builder.icmp_signed("<", number, last), number, last)
        places.append(builder.mul(stride, number))
    return places


@instruction(result=lambda count, group: _numbers(count * group))
def entries(
    builder: Builder, table: Table, i: Int, last: Int, count: Constant, group: Constant
) -> Places:
    """The entries of ``count`` groups from group ``i`` on; group ``last`` stands for all beyond."""
    places = []
    for n in range(count):
        number = emit.plus(builder, i, n)
        is_inside = builder.icmp_signed("<", number, last)
        first = emit.times(builder, builder.select(is_inside, number, last), group)
        for g in range(group):
            entry = builder.load(builder.gep(table, [emit.plus(builder, first, g)]))
            places.append(builder.sext(entry, ir.IntType(64)))
    return places


@instruction(result=lambda rows, columns, lanes: tile_type(rows * columns, lanes))
def zeros(builder: Builder, rows: Constant, columns: Constant, lanes: Constant) -> Tile:
    """A tile of zeros."""
    return [emit.zeros(ir.VectorType(ir.FloatType(), lanes))] * (rows * columns)


@instruction(result=lambda places, columns, lanes: tile_type(places.count * columns, lanes))
def load_tile(
    builder: Builder, p: Pointer, i: Int, places: Places, columns: Constant, lanes: Constant
) -> Tile:
    """The tile whose row r is ``p[i + places[r]]`` and what follows."""
    return [
        emit.load(builder, p, emit.plus(builder, i, place, v * lanes), lanes)
        for place in places
        for v in range(columns)
    ]


@instruction()
def store_tile(
    builder: Builder, p: Pointer, i: Int, places: Places, tile: Tile, count: Int
) -> None:
    """Write row r of the tile to ``p[i + places[r]]``; of each row the first ``count`` numbers."""
    V, L = len(tile) // len(places), tile[0].type.count
    places = [emit.plus(builder, i, place) for place in places]
    whole = builder.icmp_signed(">=", count, ir.Constant(count.type, V * L))
    with builder.if_else(whole) as (then, otherwise):
        with then:
            for n, vector in enumerate(tile):
                emit.store(builder, p, emit.plus(builder, places[n // V], n % V * L), vector)
        with otherwise:
            for v in range(V):
                rest = emit.plus(builder, count, -v * L)
                for r, start in enumerate(places):
                    place = emit.plus(builder, start, v * L)
                    emit.store_first(builder, p, place, tile[r * V + v], rest)


@instruction()
def add_in_turn(
    builder: Builder, p: Pointer, i: Int, places: Places, tile: Tile, rows: Int
) -> None:
    """Add row r of the tile to ``p[i + places[r]]``, one row after the other, for they may overlap.

    Only the first ``rows`` of them are added.
    """
    V, L = len(tile) // len(places), tile[0].type.count
    for r, place in enumerate(places):
        with emit.if_above(builder, rows, r):
            for v in range(V):
                start = emit.plus(builder, i, place, v * L)
                total = builder.fadd(emit.load(builder, p, start, L), tile[r * V + v])
                emit.store(builder, p, start, total)


@instruction()
def at_least(builder: Builder, tile: Tile, floor: Float) -> Tile:
    """The tile with ``floor`` in the place of what is less; NaN stays."""
    least = emit.splat(builder, floor, tile[0].type.count)
    return [emit.maximum(builder, least, vector) for vector in tile]


@instruction()
def sum_of(builder: Builder, tile: Tile) -> Float:
    """The sum of all numbers of a tile."""
    lanes = reduce(builder.fadd, tile)
    return builder.extract_element(emit.totals(builder, [lanes], 1), INT32(0))


@instruction()
def plus(builder: Builder, tile: Tile, other: Tile) -> Tile:
    """The sum of two tiles."""
    return [builder.fadd(a, b) for a, b in zip(tile, other, strict=True)]


@instruction()
def gated(builder: Builder, tile: Tile, gate: Tile) -> Tile:
    """The tile with 0 where the other one is 0 or less: the slope of a ReLU."""
    return [emit.gated(builder, a, b) for a, b in zip(tile, gate, strict=True)]


@instruction(
    result=lambda tile, positions: tile_type(tile.count // positions, tile.dtype.lanes),
)
def window_best(
    builder: Builder, winners: Bytes, places: Places, tile: Tile, positions: Constant, count: Int
) -> Tile:
    """The maximum over each pooling window, a tile of as many rows as there are places.

    The rows of the tile are the ``positions`` of one window, then those of the next. Which
    position won, counted from 0, is written to the bytes from ``winners[places[n]]`` on, for the
    first ``count`` numbers of window n. A tie goes to the first position, and NaN is greater than
    every number. Windows of one position have no winners, and the tile is the result.
    """
    N, P, L = len(places), positions, tile[0].type.count
    if P == 1:
        return tile
    V = len(tile) // (N * P)
    small = ir.VectorType(INT8, L)
    maxima = []
    for n in range(N):
        for v in range(V):
            best = tile[n * P * V + v]
            winner = ir.Constant(ir.VectorType(INT32, L), [0] * L)
            for position in range(1, P):
                candidate = tile[(n * P + position) * V + v]
                index = ir.Constant(winner.type, [position] * L)
                is_better = emit.better(builder, candidate, best)
                best = builder.select(is_better, candidate, best)
                winner = builder.select(is_better, index, winner)
            maxima.append(best)
            place = emit.plus(builder, places[n], v * L)
            rest = emit.plus(builder, count, -v * L)
            emit.store_first(builder, winners, place, builder.trunc(winner, small), rest)
    return maxima


@instruction()
def transpose(
    builder: Builder,
    x: Pointer,
    i: Int,
    x_row: Int,
    rows: Int,
    y: Pointer,
    j: Int,
    y_row: Int,
    columns: Int,
    lanes: Constant,
) -> None:
    """Write a square of ``lanes`` rows and columns transposed: y[j + c * y_row + r] = x[r, c].

    Row r of x begins at ``x[i + r * x_row]``. Of the square, the first ``rows`` rows and the
    first ``columns`` columns exist.
    """
    in_row = emit.first_lanes(builder, columns, lanes)
    vectors = []
    for r in range(lanes):
        exists = builder.icmp_signed(">", rows, ir.Constant(rows.type, r))
        mask = builder.select(exists, in_row, ir.Constant(in_row.type, [0] * lanes))
        place = emit.plus(builder, i, emit.times(builder, x_row, r))
        vectors.append(emit.masked_load(builder, x, place, mask))
    # After step s, vector r holds, in blocks of 2s lanes, what belongs together: exchange
    # the off-diagonal blocks of size s between the vectors r and r + s.
    step = 1
    while step < lanes:
        low, high = [], []
        for lane in range(lanes):
            block = lane // step % 2
            low.append(lane if block == 0 else lanes + lane - step)
            high.append(lane + step if block == 0 else lanes + lane)
        for r in range(lanes):
            if r // step % 2 == 0:
                a, b = vectors[r], vectors[r + step]
                vectors[r] = emit.shuffle(builder, a, b, low)
                vectors[r + step] = emit.shuffle(builder, a, b, high)
        step *= 2
    for c, vector in enumerate(vectors):
        with emit.if_above(builder, columns, c):
            place = emit.plus(builder, j, emit.times(builder, y_row, c))
            emit.store_first(builder, y, place, vector, rows)
