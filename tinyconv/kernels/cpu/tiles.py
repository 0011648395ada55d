"""Tiles of vectors, and what accumulates into them.

A *tile* is a tuple of ``rows * columns`` vectors of :mod:`simd`, row after row, which LLVM keeps
in registers as long as there are enough of them (``REGISTERS``). All the time of training is
spent in :func:`outer`, :func:`add_scaled` and :func:`.ragged.dots`. ``rows``, ``columns`` and
``lanes`` are compile-time constants.
"""

from functools import reduce

from llvmlite import ir
from numba import types

from tinyconv.kernels.cpu import emit
from tinyconv.kernels.cpu.instruction import (
    INT32,
    Builder,
    Constant,
    Float,
    Int,
    Places,
    Pointer,
    Tile,
    instruction,
    tile_type,
)


def _type_of(rows: int, columns: int, lanes: int) -> types.UniTuple:
    return tile_type(rows * columns, lanes)


@instruction(result=_type_of)
def zeros(builder: Builder, rows: Constant, columns: Constant, lanes: Constant) -> Tile:
    """A tile of zeros."""
    return [emit.zeros(ir.VectorType(ir.FloatType(), lanes))] * (rows * columns)


@instruction(result=_type_of)
def load_tile(
    builder: Builder,
    p: Pointer,
    i: Int,
    rows: Constant,
    stride: Int,
    columns: Constant,
    lanes: Constant,
) -> Tile:
    """The tile whose row r is ``p[i + r * stride]`` and what follows; stride 0 repeats a row."""
    return [
        emit.load(
            builder, p, emit.plus(builder, i, emit.times(builder, stride, r), v * lanes), lanes
        )
        for r in range(rows)
        for v in range(columns)
    ]


def emit_store_rows(builder: Builder, p: ir.Value, places: Places, tile: Tile, count: Int) -> None:
    """Write row r of the tile to ``p[places[r]]``; of each row the first ``count`` numbers."""
    V, L = len(tile) // len(places), tile[0].type.count
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
def store_tile(
    builder: Builder, p: Pointer, i: Int, rows: Constant, stride: Int, tile: Tile, count: Int
) -> None:
    """Write row r of the tile to ``p[i + r * stride]``; of each row the first ``count`` numbers."""
    places = [emit.plus(builder, i, emit.times(builder, stride, r)) for r in range(rows)]
    emit_store_rows(builder, p, places, tile, count)


def add_row(builder: Builder, tile: Tile, row: int, factor: ir.Value, columns: Tile) -> None:
    """Add a multiple of the vectors ``columns`` to a row of a tile."""
    scale = emit.splat(builder, factor, columns[0].type.count)
    for n, column in enumerate(columns, row * len(columns)):
        tile[n] = emit.fma(builder, scale, column, tile[n])


def load_row(builder: Builder, p: ir.Value, i: ir.Value, tile: Tile, rows: int) -> Tile:
    """A row, as long as those of a tile."""
    L = tile[0].type.count
    return [
        emit.load(builder, p, emit.plus(builder, i, v * L), L) for v in range(len(tile) // rows)
    ]


@instruction()
def outer(
    builder: Builder,
    tile: Tile,
    rows: Constant,
    a: Pointer,
    places: Places,
    i: Int,
    stride: Int,
    b: Pointer,
    j: Int,
) -> Tile:
    """Add an outer product: ``tile[r, v] += a[... + i] * b[j + v * lanes]``.

    As many rows as there are for each of the ``places`` lie ``stride`` apart from there on.
    """
    within, columns = rows // len(places), load_row(builder, b, j, tile, rows)
    for r in range(rows):
        place = places[r // within]
        row = builder.gep(builder.gep(a, [place]), [emit.times(builder, stride, r % within)])
        add_row(builder, tile, r, builder.load(builder.gep(row, [i])), columns)
    return tile


@instruction()
def add_scaled(
    builder: Builder, tile: Tile, rows: Constant, factor: Float, a: Pointer, i: Int, stride: Int
) -> Tile:
    """Add a multiple of memory: ``tile[r, v] += factor * a[i + r * stride + v * lanes]``."""
    V, L = len(tile) // rows, tile[0].type.count
    scale = emit.splat(builder, factor, L)
    for n, vector in enumerate(tile):
        down = emit.times(builder, stride, n // V)
        term = emit.load(builder, a, emit.plus(builder, i, down, n % V * L), L)
        tile[n] = emit.fma(builder, scale, term, vector)
    return tile


def emit_spread(
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
    rows: Constant,
    a: Pointer,
    i: Int,
    row_stride: Int,
    within: Constant,
    stride: Int,
    b: Pointer,
    j: Int,
    inputs: Constant,
    outputs: Constant,
) -> Tile:
    """Add products lane by lane: ``tile[r, v] += a[i + ...r... + v * lanes] * b[j + v * lanes]``.

    Rows come in groups of ``within``: row r reads ``a`` at
    ``i + (r // within) * row_stride + (r % within) * stride``. All meet the same row of ``b``.
    Where channels have groups, each is as many rows as there are inputs: see :func:`emit_spread`.
    """
    V, L = len(tile) // rows, tile[0].type.count
    columns = load_row(builder, b, j, tile, rows)
    for r in range(rows // inputs):
        down = emit.times(builder, row_stride, r // within)
        along = emit.times(builder, stride, r % within)
        row = builder.gep(a, [builder.add(down, along)])  # the same in every round of a loop
        for v in range(V):
            place = emit.plus(builder, i, v * L * inputs // outputs)
            for k, factor in enumerate(emit_spread(builder, row, place, L, inputs, outputs)):
                n = (r * inputs + k) * V + v
                tile[n] = emit.fma(builder, factor, columns[v], tile[n])
    return tile


@instruction()
def add_rows(
    builder: Builder, p: Pointer, i: Int, rows: Constant, stride: Int, tile: Tile, count: Int
) -> None:
    """Add row r of the tile to ``p[i + r * stride]``, for the first ``count`` rows.

    The places may overlap: one row is written before the next is read.
    """
    V, L = len(tile) // rows, tile[0].type.count
    for r in range(rows):
        with emit.if_above(builder, count, r):
            row = emit.plus(builder, i, emit.times(builder, stride, r))
            places = [emit.plus(builder, row, v * L) for v in range(V)]
            sums = [
                builder.fadd(emit.load(builder, p, place, L), tile[r * V + v])
                for v, place in enumerate(places)
            ]
            for place, vector in zip(places, sums, strict=True):
                emit.store(builder, p, place, vector)


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
