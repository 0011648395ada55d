"""Tiles whose rows lie at places that a table lists; :mod:`tiles` has those in equal distances.

A *table* is an array of int32. The places of a tile's rows are a tuple of whole numbers, which
:func:`entries` reads and the other functions add to their pointer.
"""

from collections.abc import Iterator

from llvmlite import ir
from numba import types

from tinyconv.kernels.cpu import emit
from tinyconv.kernels.cpu.instruction import (
    INT8,
    INT32,
    Builder,
    Bytes,
    Constant,
    Int,
    Places,
    Pointer,
    Table,
    Tile,
    instruction,
    tile_type,
)
from tinyconv.kernels.cpu.tiles import emit_spread, emit_store_rows


@instruction(result=lambda count, group: types.UniTuple(types.int64, count * group))
def entries(
    builder: Builder, table: Table, i: Int, last: Int, count: Constant, group: Constant
) -> Places:
    """The entries of ``count`` groups from group ``i`` on; group ``last`` stands for all beyond.

    A tile at the end of a table thus does its last rows several times, and needs no special case.
    """
    places = []
    for n in range(count):
        number = emit.plus(builder, i, n)
        is_inside = builder.icmp_signed("<", number, last)
        first = emit.times(builder, builder.select(is_inside, number, last), group)
        for g in range(group):
            entry = builder.load(builder.gep(table, [emit.plus(builder, first, g)]))
            places.append(builder.sext(entry, ir.IntType(64)))
    return places


@instruction()
def outer_at(
    builder: Builder,
    tile: Tile,
    a: Pointer,
    places: Places,
    i: Int,
    b: Pointer,
    j: Int,
    steps: Constant,
) -> Tile:
    """Add ``steps`` outer products: ``tile[r, v] += a[places[r] + i + s] * b[s, v]``.

    Row s of b begins at ``b[j + s * columns * lanes]``: one follows the other. Several steps at a
    time need each place once, and there are fewer registers for places than for sums.
    """
    V, L = len(tile) // len(places), tile[0].type.count
    columns = [emit.load(builder, b, emit.plus(builder, j, n * L), L) for n in range(steps * V)]
    for r, place in enumerate(places):
        row = builder.gep(builder.gep(a, [place]), [i])
        for s in range(steps):
            factor = builder.load(builder.gep(row, [ir.Constant(i.type, s)]))
            factor = emit.splat(builder, factor, L)
            for v in range(V):
                n = r * V + v
                tile[n] = emit.fma(builder, factor, columns[s * V + v], tile[n])
    return tile


@instruction()
def products_at(
    builder: Builder,
    tile: Tile,
    a: Pointer,
    places: Places,
    i: Int,
    b: Pointer,
    j: Int,
    inputs: Constant,
    outputs: Constant,
) -> Tile:
    """Add products lane by lane: ``tile[r, v] += a[places[r] + i + v * lanes] * b[j + ...]``.

    Every row of ``a`` meets the one row of ``b``, or as many as a group has inputs, one behind the
    other: see :func:`tiles.emit_spread`.
    """
    V, L = len(tile) // len(places), tile[0].type.count
    columns = [emit.load(builder, b, emit.plus(builder, j, n * L), L) for n in range(inputs * V)]
    for r, place in enumerate(places):
        row = builder.gep(a, [place])
        for v in range(V):
            start = emit.plus(builder, i, v * L * inputs // outputs)
            for k, factor in enumerate(emit_spread(builder, row, start, L, inputs, outputs)):
                n = r * V + v
                tile[n] = emit.fma(builder, factor, columns[k * V + v], tile[n])
    return tile


def _load_at(builder: Builder, tile: Tile, a: Pointer, places: Places) -> Iterator[ir.Value]:
    """Yield the vectors of a tile like this one, whose row r is ``a[places[r]]`` and on."""
    V, L = len(tile) // len(places), tile[0].type.count
    for n in range(len(tile)):
        yield emit.load(builder, a, emit.plus(builder, places[n // V], n % V * L), L)


@instruction()
def add_at(builder: Builder, tile: Tile, a: Pointer, places: Places) -> Tile:
    """Add memory: ``tile[r, v] += a[places[r] + v * lanes]``."""
    others = _load_at(builder, tile, a, places)
    return [builder.fadd(vector, other) for vector, other in zip(tile, others, strict=True)]


@instruction()
def add_in_turn(
    builder: Builder, p: Pointer, i: Int, places: Places, tile: Tile, rows: Int
) -> None:
    """Add row r of the tile to ``p[places[r] + i]``, one row after the other, for they may overlap.

    Only the first ``rows`` of them are added.
    """
    V, L = len(tile) // len(places), tile[0].type.count
    for r, place in enumerate(places):
        with emit.if_above(builder, rows, r):
            first = builder.add(place, i)
            for v in range(V):
                start = emit.plus(builder, first, v * L)
                total = builder.fadd(emit.load(builder, p, start, L), tile[r * V + v])
                emit.store(builder, p, start, total)


@instruction()
def gated_at(builder: Builder, tile: Tile, a: Pointer, places: Places) -> Tile:
    """The tile with 0 where ``a[places[r] + v * lanes]`` is 0 or less: the slope of a ReLU."""
    gates = _load_at(builder, tile, a, places)
    return [emit.gated(builder, vector, gate) for vector, gate in zip(tile, gates, strict=True)]


@instruction()
def store_at(builder: Builder, p: Pointer, places: Places, tile: Tile, count: Int) -> None:
    """Write row r of the tile to ``p[places[r]]``; of each row the first ``count`` numbers."""
    emit_store_rows(builder, p, places, tile, count)


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
