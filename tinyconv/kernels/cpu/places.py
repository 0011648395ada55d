"""The largest of several vectors, and the place of each lane's winner.

A tile of *contenders* holds V vectors of the largest numbers so far and V of the places where
they were found: 32-bit integers in lanes that count as float32, which only moves their bits.
"""

from llvmlite import ir

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
