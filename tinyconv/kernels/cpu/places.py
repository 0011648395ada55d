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
    emit_first_lanes,
    emit_load,
    emit_masked_store,
    emit_plus,
    emit_splat,
    emit_tile,
    emit_vectors,
    instruction,
    literal,
)
from tinyconv.kernels.cpu.tiles import tile_type

__all__ = ["add_where_won", "contenders", "contest", "store_half"]


def _place_bits(builder: ir.IRBuilder, place: ir.Value, lanes: int) -> ir.Value:
    """The place in every lane, as a vector of float32."""
    places = emit_splat(builder, builder.trunc(place, INT32), lanes)
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
    """The numbers from ``p[i]`` on, which were found at ``place``."""
    V, L = literal(columns), literal(lanes)
    result = tile_type(2 * V, L)

    def emit(context: Any, builder: ir.IRBuilder, signature: Any, args: Any) -> ir.Value:
        p, i, place = args[:3]
        numbers = [emit_load(builder, p, emit_plus(builder, i, v * L), L) for v in range(V)]
        return emit_tile(context, builder, result, numbers + [_place_bits(builder, place, L)] * V)

    return result(POINTER, INT, INT, columns, lanes), emit


@instruction
def contest(typing: Any, tile: types.Type, p: types.Type, i: types.Type, place: types.Type) -> Any:
    """Let the numbers from ``p[i]`` on, found at ``place``, contend with those of the tile.

    The first of equal numbers stays. A NaN beats every number, and the first NaN stays.
    """
    V, L = tile.count // 2, tile.dtype.lanes

    def emit(context: Any, builder: ir.IRBuilder, signature: Any, args: Any) -> ir.Value:
        value, p, i, place = args
        vectors = emit_vectors(builder, value, tile)
        bits = _place_bits(builder, place, L)
        for v in range(V):
            best = vectors[v]
            number = emit_load(builder, p, emit_plus(builder, i, v * L), L)
            # "unordered or greater" is true where either is NaN: so ask that best is none
            wins = builder.and_(
                builder.fcmp_unordered(">", number, best), builder.fcmp_ordered("ord", best, best)
            )
            vectors[v] = builder.select(wins, number, best)
            vectors[V + v] = builder.select(wins, bits, vectors[V + v])
        return emit_tile(context, builder, tile, vectors)

    return tile(tile, POINTER, INT, INT), emit


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
            mask = emit_first_lanes(builder, emit_plus(builder, count, -v * L), L)
            emit_masked_store(builder, p, emit_plus(builder, i, v * L), vector, mask)
        return context.get_dummy_value()

    return types.void(POINTER, INT, tile, half, INT), emit


@instruction
def add_where_won(
    typing: Any,
    tile: types.Type,
    places: types.Type,
    i: types.Type,
    place: types.Type,
    a: types.Type,
    j: types.Type,
) -> Any:
    """Add the numbers from ``a[j]`` on in the lanes where ``places``, from i on, is ``place``."""
    L = tile.dtype.lanes

    def emit(context: Any, builder: ir.IRBuilder, signature: Any, args: Any) -> ir.Value:
        value, places, i, place, a, j = args
        vectors = emit_vectors(builder, value, tile)
        whole = ir.VectorType(INT32, L)
        here = emit_splat(builder, builder.trunc(place, INT32), L)
        zero = ir.Constant(ir.VectorType(FLOAT, L), [0.0] * L)
        for v, vector in enumerate(vectors):
            winners = emit_load(builder, places, emit_plus(builder, i, v * L), L)
            won = builder.icmp_signed("==", builder.bitcast(winners, whole), here)
            number = emit_load(builder, a, emit_plus(builder, j, v * L), L)
            vectors[v] = builder.fadd(vector, builder.select(won, number, zero))
        return emit_tile(context, builder, tile, vectors)

    return tile(tile, POINTER, INT, INT, POINTER, INT), emit
