"""What accumulates into tiles: products of rows that lie at places; :mod:`tiles` has the rest.

All the time of training is spent in :func:`outer`, :func:`add_scaled` and :func:`dots`.
"""

from llvmlite import ir

from tinyconv.kernels.cpu import emit
from tinyconv.kernels.cpu.instruction import (
    Builder,
    Constant,
    Float,
    Int,
    Places,
    Pointer,
    Tile,
    instruction,
)


def _vectors(builder: Builder, p: ir.Value, i: ir.Value, count: int, lanes: int) -> Tile:
    """So many vectors, one behind the other."""
    return [emit.load(builder, p, emit.plus(builder, i, n * lanes), lanes) for n in range(count)]


@instruction()
def outer(
    builder: Builder,
    tile: Tile,
    a: Pointer,
    i: Int,
    places: Places,
    b: Pointer,
    j: Int,
    steps: Constant,
) -> Tile:
    """Add ``steps`` outer products: ``tile[r, v] += a[i + places[r] + s] * b[s, v]``.

    Row s of b begins at ``b[j + s * columns * lanes]``: one follows the other. Several steps at a
    time need each place once, and there are fewer registers for places than for sums.
    """
    V, L = len(tile) // len(places), tile[0].type.count
    columns = _vectors(builder, b, j, steps * V, L)
    for r, place in enumerate(places):
        row = builder.gep(builder.gep(a, [place]), [i])  # the first is the same in each round
        for s in range(steps):
            factor = builder.load(builder.gep(row, [ir.Constant(i.type, s)]))
            factor = emit.splat(builder, factor, L)
            for v in range(V):
                n = r * V + v
                tile[n] = emit.fma(builder, factor, columns[s * V + v], tile[n])
    return tile


@instruction()
def add_scaled(
    builder: Builder, tile: Tile, factor: Float, a: Pointer, i: Int, places: Places
) -> Tile:
    """Add a multiple of memory: ``tile[r, v] += factor * a[i + places[r] + v * lanes]``."""
    V, L = len(tile) // len(places), tile[0].type.count
    scale = emit.splat(builder, factor, L)
    for n, vector in enumerate(tile):
        term = emit.load(builder, a, emit.plus(builder, i, places[n // V], n % V * L), L)
        tile[n] = emit.fma(builder, scale, term, vector)
    return tile


def _spread(
    builder: Builder, a: ir.Value, i: ir.Value, lanes: int, inputs: int, outputs: int
) -> list[ir.Value]:
    """For each input of a group, a vector with that input for each output of its group.

    Neighbouring lanes are ``outputs`` of a group, neighbouring numbers from ``a[i]`` on ``inputs``
    of one; one of the two divides the other, and both are powers of two. As many vectors as hold
    the inputs of all lanes are loaded or, where shuffles would cross parts of 128 bits, the
    numbers one by one.
    """
    groups = max(1, lanes // outputs)
    if groups <= 2 and max(inputs, outputs) > 4:
        mask = [lane < outputs for lane in range(lanes)]
        in_first = ir.Constant(ir.VectorType(ir.IntType(1), lanes), mask)
        spread = []
        for k in range(inputs):
            places = [emit.plus(builder, i, k + group * inputs) for group in range(groups)]
            numbers = [builder.load(builder.gep(a, [place])) for place in places]
            first, *other = [emit.splat(builder, number, lanes) for number in numbers]
            spread.append(builder.select(in_first, first, *other) if other else first)
        return spread
    loaded = [
        emit.load(builder, a, emit.plus(builder, i, r * lanes), lanes)
        for r in range(max(1, inputs // outputs))
    ]
    if inputs == outputs == 1:
        return loaded
    spread = []
    for k in range(inputs):
        parts = loaded
        chosen = [lane // outputs * inputs + k for lane in range(lanes)]
        while len(parts) > 1:  # of two vectors one, with the lanes that come from either
            own = [n % (2 * lanes) for n in chosen]
            pairs = zip(parts[::2], parts[1::2], strict=True)
            parts = [emit.shuffle(builder, *pair, own) for pair in pairs]
            chosen = [n // (2 * lanes) * lanes + lane for lane, n in enumerate(chosen)]
        spread.append(emit.shuffle(builder, parts[0], parts[0], chosen))
    return spread


@instruction()
def products(
    builder: Builder,
    tile: Tile,
    a: Pointer,
    i: Int,
    places: Places,
    b: Pointer,
    j: Int,
    inputs: Constant,
    outputs: Constant,
    by_input: Constant,
) -> Tile:
    """Add products lane by lane: ``tile[r, v] += a[i + places[r] + v * lanes] * b[j + v * lanes]``.

    Where channels have groups, each place has the ``inputs`` of a group: see :func:`_spread`. These
    meet a row of ``b`` each, one behind the other, or, ``by_input``, one row and make rows of the
    tile each.
    """
    rows_of_b, rows_of_place = (1, inputs) if by_input else (inputs, 1)
    V, L = len(tile) // (len(places) * rows_of_place), tile[0].type.count
    columns = _vectors(builder, b, j, rows_of_b * V, L)
    for r, place in enumerate(places):
        row = builder.gep(a, [place])  # the same in every round of a loop
        for v in range(V):
            start = emit.plus(builder, i, v * L * inputs // outputs)
            for k, factor in enumerate(_spread(builder, row, start, L, inputs, outputs)):
                n, m = ((r * inputs + k) * V + v, v) if by_input else (r * V + v, k * V + v)
                tile[n] = emit.fma(builder, factor, columns[m], tile[n])
    return tile


@instruction()
def dots(
    builder: Builder,
    tile: Tile,
    a: Pointer,
    i: Int,
    rows: Places,
    b: Pointer,
    j: Int,
    columns: Places,
    count: Int,
) -> Tile:
    """Add products lane by lane: ``tile[r, q] += a[i + rows[r]] * b[j + columns[q]]``.

    Both factors are vectors, and the sum of the lanes of ``tile[r, q]`` is the dot product of row
    r of ``a`` with row q of ``b`` in the end. Only the first ``count`` lanes are touched.
    """
    # LLVM drops a mask that it knows to be true everywhere.
    mask = emit.first_lanes(builder, count, tile[0].type.count)

    def fetch(p: ir.Value, i: ir.Value, place: ir.Value) -> ir.Value:
        start = builder.gep(p, [place])  # the same in every round of a loop
        return emit.masked_load(builder, start, i, mask)

    others, V = [fetch(b, j, place) for place in columns], len(columns)
    for r, place in enumerate(rows):
        factor = fetch(a, i, place)
        for v, other in enumerate(others):
            tile[r * V + v] = emit.fma(builder, factor, other, tile[r * V + v])
    return tile


@instruction()
def store_totals(
    builder: Builder, p: Pointer, i: Int, places: Places, tile: Tile, count: Int, add: Int
) -> None:
    """Write the sum of the lanes of ``tile[r, q]`` to ``p[i + places[r] + q]`` for q < ``count``.

    Where ``add`` is 1 and not 0, what was there is added, once to rows at one place.
    """
    V = len(tile) // len(places)
    lanes = 1 << (V - 1).bit_length()
    starts = [emit.plus(builder, i, place) for place in places]
    old_mask = emit.first_lanes(builder, builder.mul(count, add), lanes)
    before = [emit.masked_load(builder, p, start, old_mask) for start in starts]
    for r, (start, old) in enumerate(zip(starts, before, strict=True)):
        sums = emit.totals(builder, tile[r * V : (r + 1) * V], lanes)
        emit.store_first(builder, p, start, builder.fadd(old, sums), count)
