"""Tiles at the end of a matrix, of whose rows the first ones exist; :mod:`tiles` has whole ones.

What is no row repeats the last one when it is read, and is not written.
"""

from llvmlite import ir

from tinyconv.kernels.cpu import emit
from tinyconv.kernels.cpu.instruction import Builder, Constant, Int, Pointer, Tile, instruction
from tinyconv.kernels.cpu.tiles import add_row, load_row


def _start_of(builder: Builder, stride: ir.Value, row: int, count: ir.Value) -> ir.Value:
    """Where a row begins, or the last of ``count`` rows if there are not as many."""
    last, number = emit.plus(builder, count, -1), ir.Constant(count.type, row)
    number = builder.select(builder.icmp_signed("<", number, last), number, last)
    return builder.mul(stride, number)


@instruction()
def outer_rows(
    builder: Builder,
    tile: Tile,
    rows: Constant,
    a: Pointer,
    i: Int,
    stride: Int,
    count: Int,
    b: Pointer,
    j: Int,
) -> Tile:
    """Add an outer product of whose rows the first ``count`` exist; the others repeat the last.

    ``tile[r, v] += a[i + r * stride] * b[j + v * lanes]``
    """
    columns = load_row(builder, b, j, tile, rows)
    for r in range(rows):
        offset = _start_of(builder, stride, r, count)
        row = builder.gep(a, [offset])  # the same in every round of a loop
        add_row(builder, tile, r, builder.load(builder.gep(row, [i])), columns)
    return tile


@instruction()
def dots(
    builder: Builder,
    tile: Tile,
    rows: Constant,
    a: Pointer,
    i: Int,
    a_stride: Int,
    a_rows: Int,
    b: Pointer,
    j: Int,
    b_stride: Int,
    b_rows: Int,
    count: Int,
) -> Tile:
    """Add products lane by lane: ``tile[r, q] += a[i + r * a_stride] * b[j + q * b_stride]``.

    Both factors are vectors, and the sum of the lanes of ``tile[r, q]`` is the dot product of row
    r of ``a`` with row q of ``b`` in the end. The first ``a_rows`` and ``b_rows`` exist; the others
    repeat the last. Only the first ``count`` lanes are touched.
    """
    # LLVM drops a mask that it knows to be true everywhere.
    mask = emit.first_lanes(builder, count, tile[0].type.count)

    def fetch(p: ir.Value, i: ir.Value, stride: ir.Value, ends: ir.Value, row: int) -> ir.Value:
        start = builder.gep(p, [_start_of(builder, stride, row, ends)])  # the same in every round
        return emit.masked_load(builder, start, i, mask)

    V = len(tile) // rows
    columns = [fetch(b, j, b_stride, b_rows, v) for v in range(V)]
    for r in range(rows):
        factor = fetch(a, i, a_stride, a_rows, r)
        for v in range(V):
            tile[r * V + v] = emit.fma(builder, factor, columns[v], tile[r * V + v])
    return tile


@instruction()
def store_rows(
    builder: Builder,
    p: Pointer,
    i: Int,
    rows: Constant,
    stride: Int,
    tile: Tile,
    row_count: Int,
    count: Int,
) -> None:
    """Write row r of the tile to ``p[i + r * stride]``: the first rows, of each the first numbers.

    There are ``row_count`` rows and ``count`` numbers, or all that the tile has if that is less.
    """
    V, L = len(tile) // rows, tile[0].type.count
    rests = [emit.plus(builder, count, -v * L) for v in range(V)]
    for r in range(rows):
        with emit.if_above(builder, row_count, r):
            for v in range(V):
                place = emit.plus(builder, i, emit.times(builder, stride, r), v * L)
                emit.store_first(builder, p, place, tile[r * V + v], rests[v])


@instruction()
def store_totals(
    builder: Builder,
    p: Pointer,
    i: Int,
    rows: Constant,
    stride: Int,
    tile: Tile,
    row_count: Int,
    count: Int,
    add: Int,
) -> None:
    """Write the sum of the lanes of ``tile[r, q]`` to ``p[i + r * stride + q]``.

    Only where r < ``row_count`` and q < ``count``. Where ``add`` is 1 and not 0, what is there
    is added.
    """
    V = len(tile) // rows
    lanes = 1 << (V - 1).bit_length()
    old_mask = emit.first_lanes(builder, builder.mul(count, add), lanes)
    for r in range(rows):
        with emit.if_above(builder, row_count, r):
            sums = emit.totals(builder, tile[r * V : (r + 1) * V], lanes)
            place = emit.plus(builder, i, emit.times(builder, stride, r))
            old = emit.masked_load(builder, p, place, old_mask)
            emit.store_first(builder, p, place, builder.fadd(old, sums), count)
