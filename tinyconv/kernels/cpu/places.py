"""The largest of several vectors, and the place of each lane's winner.

A tile of *contenders* holds V vectors of the largest numbers so far and V of the places where
they were found: 32-bit integers in lanes that count as float32, which only moves their bits.
"""

from typing import Any

from llvmlite import ir
from numba import types

from tinyconv.kernels.cpu.simd import (
    FLOAT,
    INT,
    INT32,
    POINTER,
    Vector,
    emit_better,
    emit_load,
    emit_plus,
    emit_splat,
    emit_store_first,
    emit_tile,
    emit_vectors,
    instruction,
    literal,
)
from tinyconv.kernels.cpu.tiles import tile_type


def _places(builder: ir.IRBuilder, place: ir.Value, lanes: int) -> ir.Value:
    """The places from ``place`` on, one a lane, as a vector of float32."""
    ahead = ir.Constant(ir.VectorType(INT32, lanes), list(range(lanes)))
    places = builder.add(emit_splat(builder, builder.trunc(place, INT32), lanes), ahead)
    return builder.bitcast(places, ir.VectorType(FLOAT, lanes))


@instruction
def contenders(
    typing: Any,
    p: types.Type,
    i: types.Type,
    place: types.Type,
    columns: types.Type,
    lanes: types.Type,
) -> Any:
    """The numbers from ``p[i + place]`` on, and their distances from ``p[i]``."""
    V, L = literal(columns), literal(lanes)
    result = tile_type(2 * V, L)

    def emit(context: Any, builder: ir.IRBuilder, signature: Any, args: Any) -> ir.Value:
        p, i, place = args[:3]
        starts = [emit_plus(builder, place, v * L) for v in range(V)]
        numbers = [emit_load(builder, p, builder.add(i, start), L) for start in starts]
        places = [_places(builder, start, L) for start in starts]
        return emit_tile(context, builder, result, numbers + places)

    return result(POINTER, INT, INT, columns, lanes), emit


@instruction
def contest(typing: Any, tile: types.Type, p: types.Type, i: types.Type, place: types.Type) -> Any:
    """Let the numbers from ``p[i + place]`` on contend with those of the tile.

    The first of equal numbers stays. A NaN beats every number, and the first NaN stays.
    """
    V, L = tile.count // 2, tile.dtype.lanes

    def emit(context: Any, builder: ir.IRBuilder, signature: Any, args: Any) -> ir.Value:
        value, p, i, place = args
        vectors = emit_vectors(builder, value, tile)
        for v in range(V):
            best, start = vectors[v], emit_plus(builder, place, v * L)
            number = emit_load(builder, p, builder.add(i, start), L)
            wins = emit_better(builder, number, best)
            vectors[v] = builder.select(wins, number, best)
            vectors[V + v] = builder.select(wins, _places(builder, start, L), vectors[V + v])
        return emit_tile(context, builder, tile, vectors)

    return tile(tile, POINTER, INT, INT), emit


@instruction
def where_place(
    typing: Any, p: types.Type, i: types.Type, place: types.Type, value: types.Type
) -> Any:
    """The vector where the places from ``p[i]`` on are those from ``place`` on, else 0."""
    L = value.lanes if isinstance(value, Vector) else 1

    def emit(context: Any, builder: ir.IRBuilder, signature: Any, args: Any) -> ir.Value:
        p, i, place, vector = args
        whole = ir.VectorType(INT32, L)
        found = builder.bitcast(emit_load(builder, p, i, L), whole)
        asked = builder.bitcast(_places(builder, place, L), whole)
        zero = ir.Constant(vector.type, [0.0] * L)
        return builder.select(builder.icmp_signed("==", found, asked), vector, zero)

    return value(POINTER, INT, INT, value), emit


@instruction
def store_half(
    typing: Any, p: types.Type, i: types.Type, tile: types.Type, half: types.Type, count: types.Type
) -> Any:
    """Write the first ``count`` numbers (half 0) or places (half 1) of a tile of contenders."""
    V, L, start = tile.count // 2, tile.dtype.lanes, literal(half) * (tile.count // 2)

    def emit(context: Any, builder: ir.IRBuilder, signature: Any, args: Any) -> ir.Value:
        p, i, value, _, count = args
        vectors = emit_vectors(builder, value, tile)[start : start + V]
        for v, vector in enumerate(vectors):
            place, rest = emit_plus(builder, i, v * L), emit_plus(builder, count, -v * L)
            emit_store_first(builder, p, place, vector, rest)
        return context.get_dummy_value()

    return types.void(POINTER, INT, tile, half, INT), emit
