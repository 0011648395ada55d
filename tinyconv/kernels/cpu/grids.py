"""Small matrices of vectors: a *grid* is a tile whose vectors count row by row, as many a row."""

from functools import reduce
from itertools import product
from math import isqrt

from llvmlite import ir

from tinyconv.kernels.cpu import emit
from tinyconv.kernels.cpu.instruction import (
    Builder,
    Constant,
    Int,
    Pointer,
    Tile,
    Vec,
    instruction,
    tile_type,
)


def _places(builder: Builder, stride: Int, count: Int, size: int) -> list[ir.Value]:
    """So many multiples of a stride; the last of ``count`` stands for those beyond."""
    places = [emit.times(builder, stride, 0)]
    for n in range(1, size):
        is_inside = builder.icmp_signed(">", count, ir.Constant(count.type, n))
        places.append(builder.select(is_inside, emit.times(builder, stride, n), places[-1]))
    return places


@instruction(result=lambda size, lanes: tile_type(size * size, lanes))
def load_grid(
    builder: Builder,
    p: Pointer,
    i: Int,
    down: Int,
    along: Int,
    rows: Int,
    columns: Int,
    size: Constant,
    lanes: Constant,
) -> Tile:
    """The grid whose vector (r, c) is what begins at ``p[i + r * down + c * along]``.

    The last of ``rows`` and ``columns`` stand for those beyond.
    """
    both = _places(builder, down, rows, size), _places(builder, along, columns, size)
    return [emit.load(builder, p, emit.plus(builder, i, *place), lanes) for place in product(*both)]


def _exists(builder: Builder, n: int, size: int, rows: Int, columns: Int) -> ir.Value:
    """Whether vector n of a grid lies within so many rows and columns."""
    r, c = divmod(n, size)
    in_rows = builder.icmp_signed(">", rows, ir.Constant(rows.type, r))
    return builder.and_(in_rows, builder.icmp_signed(">", columns, ir.Constant(columns.type, c)))


@instruction()
def inside(builder: Builder, grid: Tile, rows: Int, columns: Int) -> Tile:
    """The grid with 0 beyond so many rows and columns."""
    size, zero = isqrt(len(grid)), emit.zeros(grid[0].type)
    return [
        builder.select(_exists(builder, n, size, rows, columns), vector, zero)
        for n, vector in enumerate(grid)
    ]


@instruction()
def store_grid(
    builder: Builder,
    p: Pointer,
    i: Int,
    down: Int,
    along: Int,
    grid: Tile,
    rows: Int,
    columns: Int,
    count: Int,
) -> None:
    """Write a grid to where :func:`load_grid` finds it: so many rows, columns and lanes of it."""
    size = isqrt(len(grid))
    for n, vector in enumerate(grid):
        with builder.if_then(_exists(builder, n, size, rows, columns)):
            steps = emit.times(builder, down, n // size), emit.times(builder, along, n % size)
            emit.store_first(builder, p, emit.plus(builder, i, *steps), vector, count)


@instruction(result=lambda grid: grid.dtype)
def sum_of_grid(builder: Builder, grid: Tile) -> Vec:
    """The sum of a grid's vectors."""
    return reduce(builder.fadd, grid)
