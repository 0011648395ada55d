"""Tiles whose rows lie at places that a table lists; :mod:`tiles` has those in equal distances.

A *table* is an array of int32. The places of a tile's rows are a tuple of whole numbers, which
:func:`entries` reads and the other functions add to their pointer.
"""

from typing import Any

from llvmlite import ir
from numba import types

from tinyconv.kernels.cpu.simd import (
    INT,
    INT8,
    INT32,
    POINTER,
    emit_better,
    emit_fma,
    emit_load,
    emit_plus,
    emit_splat,
    emit_store,
    emit_store_first,
    emit_tile,
    emit_times,
    emit_vectors,
    instruction,
    literal,
)
from tinyconv.kernels.cpu.tiles import emit_gated, tile_type

TABLE = types.CPointer(types.int32)
BYTES = types.CPointer(types.uint8)


@instruction
def entries(
    typing: Any,
    table: types.Type,
    i: types.Type,
    last: types.Type,
    count: types.Type,
    group: types.Type,
) -> Any:
    """The entries of ``count`` groups from group ``i`` on; group ``last`` stands for all beyond.

    A tile at the end of a table thus does its last rows several times, and needs no special case.
    """
    N, G = literal(count), literal(group)
    result = types.UniTuple(INT, N * G)

    def emit(context: Any, builder: ir.IRBuilder, signature: Any, args: Any) -> ir.Value:
        table, i, last, _, _ = args
        places = []
        for n in range(N):
            group = emit_plus(builder, i, n)
            is_inside = builder.icmp_signed("<", group, last)
            first = emit_times(builder, builder.select(is_inside, group, last), G)
            for g in range(G):
                entry = builder.load(builder.gep(table, [emit_plus(builder, first, g)]))
                places.append(builder.sext(entry, ir.IntType(64)))
        return context.make_tuple(builder, result, places)

    return result(TABLE, INT, INT, count, group), emit


@instruction
def outer_at(
    typing: Any,
    tile: types.Type,
    a: types.Type,
    places: types.Type,
    i: types.Type,
    b: types.Type,
    j: types.Type,
    steps: types.Type,
) -> Any:
    """Add ``steps`` outer products: ``tile[r, v] += a[places[r] + i + s] * b[s, v]``.

    Row s of b begins at ``b[j + s * columns * lanes]``: one follows the other. Several steps at a
    time need each place once, and there are fewer registers for places than for sums.
    """
    R, S, L = places.count, literal(steps), tile.dtype.lanes
    V = tile.count // R

    def emit(context: Any, builder: ir.IRBuilder, signature: Any, args: Any) -> ir.Value:
        value, a, rows, i, b, j, _ = args
        vectors = emit_vectors(builder, value, tile)
        columns = [emit_load(builder, b, emit_plus(builder, j, n * L), L) for n in range(S * V)]
        for r in range(R):
            row = builder.gep(builder.gep(a, [builder.extract_value(rows, r)]), [i])
            for s in range(S):
                factor = builder.load(builder.gep(row, [ir.Constant(i.type, s)]))
                factor = emit_splat(builder, factor, L)
                for v in range(V):
                    n = r * V + v
                    vectors[n] = emit_fma(builder, factor, columns[s * V + v], vectors[n])
        return emit_tile(context, builder, tile, vectors)

    return tile(tile, POINTER, places, INT, POINTER, INT, steps), emit


@instruction
def products_at(
    typing: Any,
    tile: types.Type,
    a: types.Type,
    places: types.Type,
    i: types.Type,
    b: types.Type,
    j: types.Type,
) -> Any:
    """Add products lane by lane: ``tile[r, v] += a[places[r] + i + v * lanes] * b[j + ...]``.

    Every row of ``a`` meets the one row of ``b``.
    """
    R, L = places.count, tile.dtype.lanes
    V = tile.count // R

    def emit(context: Any, builder: ir.IRBuilder, signature: Any, args: Any) -> ir.Value:
        value, a, rows, i, b, j = args
        vectors = emit_vectors(builder, value, tile)
        columns = [emit_load(builder, b, emit_plus(builder, j, v * L), L) for v in range(V)]
        for r in range(R):
            row = builder.gep(a, [builder.extract_value(rows, r)])
            for v in range(V):
                factor = emit_load(builder, row, emit_plus(builder, i, v * L), L)
                vectors[r * V + v] = emit_fma(builder, factor, columns[v], vectors[r * V + v])
        return emit_tile(context, builder, tile, vectors)

    return tile(tile, POINTER, places, INT, POINTER, INT), emit


@instruction
def add_at(typing: Any, tile: types.Type, a: types.Type, places: types.Type) -> Any:
    """Add memory: ``tile[r, v] += a[places[r] + v * lanes]``."""
    R, L = places.count, tile.dtype.lanes
    V = tile.count // R

    def emit(context: Any, builder: ir.IRBuilder, signature: Any, args: Any) -> ir.Value:
        value, a, rows = args
        vectors = emit_vectors(builder, value, tile)
        for n, vector in enumerate(vectors):
            place = emit_plus(builder, builder.extract_value(rows, n // V), n % V * L)
            vectors[n] = builder.fadd(vector, emit_load(builder, a, place, L))
        return emit_tile(context, builder, tile, vectors)

    return tile(tile, POINTER, places), emit


@instruction
def add_in_turn(
    typing: Any,
    p: types.Type,
    i: types.Type,
    places: types.Type,
    tile: types.Type,
    rows: types.Type,
) -> Any:
    """Add row r of the tile to ``p[places[r] + i]``, one row after the other, for they may overlap.

    Only the first ``rows`` of them are added.
    """
    R, L = places.count, tile.dtype.lanes
    V = tile.count // R

    def emit(context: Any, builder: ir.IRBuilder, signature: Any, args: Any) -> ir.Value:
        p, i, at, value, rows = args
        vectors = emit_vectors(builder, value, tile)
        for r in range(R):
            with builder.if_then(builder.icmp_signed(">", rows, ir.Constant(rows.type, r))):
                first = builder.add(builder.extract_value(at, r), i)
                for v in range(V):
                    place = emit_plus(builder, first, v * L)
                    total = builder.fadd(emit_load(builder, p, place, L), vectors[r * V + v])
                    emit_store(builder, p, place, total)
        return context.get_dummy_value()

    return types.void(POINTER, INT, places, tile, INT), emit


@instruction
def gated_at(typing: Any, tile: types.Type, a: types.Type, places: types.Type) -> Any:
    """The tile with 0 where ``a[places[r] + v * lanes]`` is 0 or less: the slope of a ReLU."""
    R, L = places.count, tile.dtype.lanes
    V = tile.count // R

    def emit(context: Any, builder: ir.IRBuilder, signature: Any, args: Any) -> ir.Value:
        value, a, rows = args
        vectors = emit_vectors(builder, value, tile)
        for n, vector in enumerate(vectors):
            place = emit_plus(builder, builder.extract_value(rows, n // V), n % V * L)
            vectors[n] = emit_gated(builder, vector, emit_load(builder, a, place, L))
        return emit_tile(context, builder, tile, vectors)

    return tile(tile, POINTER, places), emit


@instruction
def store_at(
    typing: Any, p: types.Type, places: types.Type, tile: types.Type, count: types.Type
) -> Any:
    """Write row r of the tile to ``p[places[r]]``; of each row the first ``count`` numbers."""
    R, L = places.count, tile.dtype.lanes
    V = tile.count // R

    def emit(context: Any, builder: ir.IRBuilder, signature: Any, args: Any) -> ir.Value:
        p, rows, value, count = args
        vectors = emit_vectors(builder, value, tile)
        places = [builder.extract_value(rows, r) for r in range(R)]
        whole = builder.icmp_signed(">=", count, ir.Constant(count.type, V * L))
        with builder.if_else(whole) as (then, otherwise):
            with then:
                for n, vector in enumerate(vectors):
                    emit_store(builder, p, emit_plus(builder, places[n // V], n % V * L), vector)
            with otherwise:
                for v in range(V):
                    rest = emit_plus(builder, count, -v * L)
                    for r in range(R):
                        place = emit_plus(builder, places[r], v * L)
                        emit_store_first(builder, p, place, vectors[r * V + v], rest)
        return context.get_dummy_value()

    return types.void(POINTER, places, tile, INT), emit


@instruction
def window_best(
    typing: Any,
    winners: types.Type,
    places: types.Type,
    tile: types.Type,
    positions: types.Type,
    count: types.Type,
) -> Any:
    """The maximum over each pooling window, a tile of as many rows as there are places.

    The rows of the tile are the ``positions`` of one window, then those of the next. Which
    position won, counted from 0, is written to the bytes from ``winners[places[n]]`` on, for the
    first ``count`` numbers of window n. A tie goes to the first position, and NaN is greater than
    every number. Windows of one position have no winners, and the tile is the result.
    """
    N, P, L = places.count, literal(positions), tile.dtype.lanes
    V = tile.count // (N * P)
    result = tile_type(N * V, L)

    def emit(context: Any, builder: ir.IRBuilder, signature: Any, args: Any) -> ir.Value:
        winners, rows, value, _, count = args
        if P == 1:
            return value
        vectors = emit_vectors(builder, value, tile)
        small = ir.VectorType(INT8, L)
        maxima = []
        for n in range(N):
            for v in range(V):
                best = vectors[n * P * V + v]
                winner = ir.Constant(ir.VectorType(INT32, L), [0] * L)
                for position in range(1, P):
                    candidate = vectors[(n * P + position) * V + v]
                    index = ir.Constant(winner.type, [position] * L)
                    is_better = emit_better(builder, candidate, best)
                    best = builder.select(is_better, candidate, best)
                    winner = builder.select(is_better, index, winner)
                maxima.append(best)
                place = emit_plus(builder, builder.extract_value(rows, n), v * L)
                rest = emit_plus(builder, count, -v * L)
                emit_store_first(builder, winners, place, builder.trunc(winner, small), rest)
        return emit_tile(context, builder, result, maxima)

    return result(BYTES, places, tile, positions, INT), emit
