"""Tiles of vectors, and what accumulates into them.

A *tile* is a tuple of ``rows * columns`` vectors of :mod:`simd`, row after row, which LLVM keeps
in registers as long as there are enough of them (``REGISTERS``). All the time of training is
spent in :func:`outer`, :data:`dots` and :func:`add_scaled`. ``rows``, ``columns`` and ``lanes``
are compile-time constants.

The file is long because each operation says its types, its equation and its instructions.
"""

from typing import Any

from llvmlite import ir
from numba import types

from tinyconv.kernels.cpu.simd import (
    FLOAT,
    INT,
    POINTER,
    Vector,
    emit_first_lanes,
    emit_fma,
    emit_load,
    emit_masked_load,
    emit_maximum,
    emit_plus,
    emit_shuffle,
    emit_splat,
    emit_store,
    emit_store_first,
    emit_tile,
    emit_times,
    emit_totals,
    emit_vectors,
    instruction,
    literal,
)

__all__ = [
    "add_rows",
    "add_scaled",
    "at_least",
    "dots",
    "dots_first",
    "first_bit",
    "gated",
    "load_tile",
    "nonzero_lanes",
    "outer",
    "outer_rows",
    "plus",
    "products",
    "store_rows",
    "store_tile",
    "store_totals",
    "transpose",
    "zeros",
]


def tile_type(vectors: int, lanes: int) -> types.UniTuple:
    """The Numba type of a tile."""
    return types.UniTuple(Vector(lanes), vectors)


@instruction
def zeros(typing: Any, rows: types.Type, columns: types.Type, lanes: types.Type) -> Any:
    """A tile of zeros."""
    result = tile_type(literal(rows) * literal(columns), literal(lanes))

    def emit(context: Any, builder: ir.IRBuilder, signature: Any, args: Any) -> ir.Value:
        zero = ir.Constant(ir.VectorType(FLOAT, result.dtype.lanes), [0.0] * result.dtype.lanes)
        return emit_tile(context, builder, result, [zero] * result.count)

    return result(rows, columns, lanes), emit


@instruction
def load_tile(
    typing: Any,
    p: types.Type,
    i: types.Type,
    rows: types.Type,
    stride: types.Type,
    columns: types.Type,
    lanes: types.Type,
) -> Any:
    """The tile whose row r is ``p[i + r * stride]`` and what follows; stride 0 repeats a row."""
    R, V, L = literal(rows), literal(columns), literal(lanes)
    result = tile_type(R * V, L)

    def emit(context: Any, builder: ir.IRBuilder, signature: Any, args: Any) -> ir.Value:
        p, i, stride = args[0], args[1], args[3]
        vectors = [
            emit_load(builder, p, emit_plus(builder, i, emit_times(builder, stride, r), v * L), L)
            for r in range(R)
            for v in range(V)
        ]
        return emit_tile(context, builder, result, vectors)

    return result(POINTER, INT, rows, INT, columns, lanes), emit


@instruction
def store_tile(
    typing: Any,
    p: types.Type,
    i: types.Type,
    rows: types.Type,
    stride: types.Type,
    tile: types.Type,
    count: types.Type,
) -> Any:
    """Write row r of the tile to ``p[i + r * stride]``; of each row the first ``count`` numbers."""
    R, L = literal(rows), tile.dtype.lanes
    V = tile.count // R

    def emit(context: Any, builder: ir.IRBuilder, signature: Any, args: Any) -> ir.Value:
        p, i, _, stride, value, count = args
        vectors = emit_vectors(builder, value, tile)
        whole = builder.icmp_signed(">=", count, ir.Constant(count.type, V * L))
        places = [emit_plus(builder, i, emit_times(builder, stride, r)) for r in range(R)]
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

    return types.void(POINTER, INT, rows, INT, tile, INT), emit


def emit_add_row(
    builder: ir.IRBuilder, tile: list[ir.Value], row: int, factor: ir.Value, columns: list[ir.Value]
) -> None:
    """Add a multiple of the vectors ``columns`` to a row of a tile."""
    scale = emit_splat(builder, factor, columns[0].type.count)
    for n, column in enumerate(columns, row * len(columns)):
        tile[n] = emit_fma(builder, scale, column, tile[n])


def emit_row(builder: ir.IRBuilder, stride: ir.Value, row: int, count: ir.Value) -> ir.Value:
    """Where a row begins, or the last of ``count`` rows if there are not as many."""
    last, number = emit_plus(builder, count, -1), ir.Constant(count.type, row)
    number = builder.select(builder.icmp_signed("<", number, last), number, last)
    return builder.mul(stride, number)


@instruction
def outer(
    typing: Any,
    tile: types.Type,
    rows: types.Type,
    a: types.Type,
    places: types.Type,
    i: types.Type,
    stride: types.Type,
    b: types.Type,
    j: types.Type,
) -> Any:
    """Add an outer product: ``tile[r, v] += a[... + i] * b[j + v * lanes]``.

    As many rows as there are for each of the ``places`` lie ``stride`` apart from there on.
    """
    R, L = literal(rows), tile.dtype.lanes
    V, inner = tile.count // R, R // places.count

    def emit(context: Any, builder: ir.IRBuilder, signature: Any, args: Any) -> ir.Value:
        value, _, a, at, i, stride, b, j = args
        vectors = emit_vectors(builder, value, tile)
        columns = [emit_load(builder, b, emit_plus(builder, j, v * L), L) for v in range(V)]
        for r in range(R):
            place = builder.extract_value(at, r // inner)
            row = builder.gep(builder.gep(a, [place]), [emit_times(builder, stride, r % inner)])
            emit_add_row(builder, vectors, r, builder.load(builder.gep(row, [i])), columns)
        return emit_tile(context, builder, tile, vectors)

    return tile(tile, rows, POINTER, places, INT, INT, POINTER, INT), emit


@instruction
def outer_rows(
    typing: Any,
    tile: types.Type,
    rows: types.Type,
    a: types.Type,
    i: types.Type,
    stride: types.Type,
    count: types.Type,
    b: types.Type,
    j: types.Type,
) -> Any:
    """Add an outer product of whose rows the first ``count`` exist; the others repeat the last.

    ``tile[r, v] += a[i + r * stride] * b[j + v * lanes]``
    """
    R, L = literal(rows), tile.dtype.lanes
    V = tile.count // R

    def emit(context: Any, builder: ir.IRBuilder, signature: Any, args: Any) -> ir.Value:
        value, _, a, i, stride, count, b, j = args
        vectors = emit_vectors(builder, value, tile)
        columns = [emit_load(builder, b, emit_plus(builder, j, v * L), L) for v in range(V)]
        for r in range(R):
            offset = emit_row(builder, stride, r, count)
            row = builder.gep(a, [offset])  # the same in every round of a loop
            emit_add_row(builder, vectors, r, builder.load(builder.gep(row, [i])), columns)
        return emit_tile(context, builder, tile, vectors)

    return tile(tile, rows, POINTER, INT, INT, INT, POINTER, INT), emit


def _dots(first_lanes_only: bool) -> Any:
    def emit(context: Any, builder: ir.IRBuilder, signature: Any, args: Any) -> ir.Value:
        tile = signature.args[0]
        R, L = literal(signature.args[1]), tile.dtype.lanes
        V = tile.count // R
        value, _, a, i, a_stride, a_rows, b, j, b_stride, b_rows = args[:10]
        mask = emit_first_lanes(builder, args[10], L) if first_lanes_only else None

        def fetch(p: ir.Value, i: ir.Value, offset: ir.Value) -> ir.Value:
            start = builder.gep(p, [offset])  # the same in every round of a loop
            if mask is None:
                return emit_load(builder, start, i, L)
            return emit_masked_load(builder, start, i, mask)

        vectors = emit_vectors(builder, value, tile)
        columns = [fetch(b, j, emit_row(builder, b_stride, v, b_rows)) for v in range(V)]
        for r in range(R):
            factor = fetch(a, i, emit_row(builder, a_stride, r, a_rows))
            for v in range(V):
                vectors[r * V + v] = emit_fma(builder, factor, columns[v], vectors[r * V + v])
        return emit_tile(context, builder, tile, vectors)

    @instruction
    def dots(
        typing: Any,
        tile: types.Type,
        rows: types.Type,
        a: types.Type,
        i: types.Type,
        a_stride: types.Type,
        a_rows: types.Type,
        b: types.Type,
        j: types.Type,
        b_stride: types.Type,
        b_rows: types.Type,
    ) -> Any:
        return tile(tile, rows, POINTER, INT, INT, INT, POINTER, INT, INT, INT), emit

    @instruction
    def dots_first(
        typing: Any,
        tile: types.Type,
        rows: types.Type,
        a: types.Type,
        i: types.Type,
        a_stride: types.Type,
        a_rows: types.Type,
        b: types.Type,
        j: types.Type,
        b_stride: types.Type,
        b_rows: types.Type,
        count: types.Type,
    ) -> Any:
        return tile(tile, rows, POINTER, INT, INT, INT, POINTER, INT, INT, INT, INT), emit

    return dots_first if first_lanes_only else dots


#: ``dots(tile, rows, a, i, a_stride, a_rows, b, j, b_stride, b_rows)`` adds products lane by lane:
#: ``tile[r, q] += a[i + r * a_stride] * b[j + q * b_stride]``. Both factors are vectors, and
#: the sum of the lanes of ``tile[r, q]`` is the dot product of row r of ``a`` with row q of
#: ``b`` in the end. The first ``a_rows`` and ``b_rows`` exist; the others repeat the last.
#: ``dots_first(..., count)`` takes only the first ``count`` lanes and touches no others.
dots = _dots(first_lanes_only=False)
dots_first = _dots(first_lanes_only=True)


@instruction
def add_scaled(
    typing: Any,
    tile: types.Type,
    rows: types.Type,
    factor: types.Type,
    a: types.Type,
    i: types.Type,
    stride: types.Type,
) -> Any:
    """Add a multiple of memory: ``tile[r, v] += factor * a[i + r * stride + v * lanes]``."""
    R, L = literal(rows), tile.dtype.lanes
    V = tile.count // R

    def emit(context: Any, builder: ir.IRBuilder, signature: Any, args: Any) -> ir.Value:
        value, _, factor, a, i, stride = args
        vectors = emit_vectors(builder, value, tile)
        scale = emit_splat(builder, factor, L)
        for n, vector in enumerate(vectors):
            down = emit_times(builder, stride, n // V)
            term = emit_load(builder, a, emit_plus(builder, i, down, n % V * L), L)
            vectors[n] = emit_fma(builder, scale, term, vector)
        return emit_tile(context, builder, tile, vectors)

    return tile(tile, rows, types.float32, POINTER, INT, INT), emit


@instruction
def products(
    typing: Any,
    tile: types.Type,
    rows: types.Type,
    a: types.Type,
    i: types.Type,
    row_stride: types.Type,
    within: types.Type,
    stride: types.Type,
    b: types.Type,
    j: types.Type,
) -> Any:
    """Add products lane by lane: ``tile[r, v] += a[i + ...r... + v * lanes] * b[j + v * lanes]``.

    Rows come in groups of ``within``: row r reads ``a`` at
    ``i + (r // within) * row_stride + (r % within) * stride``. All meet the same row of ``b``.
    """
    R, inner, L = literal(rows), literal(within), tile.dtype.lanes
    V = tile.count // R

    def emit(context: Any, builder: ir.IRBuilder, signature: Any, args: Any) -> ir.Value:
        value, _, a, i, row_stride, _, stride, b, j = args
        vectors = emit_vectors(builder, value, tile)
        columns = [emit_load(builder, b, emit_plus(builder, j, v * L), L) for v in range(V)]
        for r in range(R):
            down = emit_times(builder, row_stride, r // inner)
            along = emit_times(builder, stride, r % inner)
            row = builder.gep(a, [builder.add(down, along)])  # the same in every round of a loop
            for v in range(V):
                factor = emit_load(builder, row, emit_plus(builder, i, v * L), L)
                vectors[r * V + v] = emit_fma(builder, factor, columns[v], vectors[r * V + v])
        return emit_tile(context, builder, tile, vectors)

    return tile(tile, rows, POINTER, INT, INT, within, INT, POINTER, INT), emit


@instruction
def add_rows(
    typing: Any,
    p: types.Type,
    i: types.Type,
    rows: types.Type,
    stride: types.Type,
    tile: types.Type,
    count: types.Type,
) -> Any:
    """Add row r of the tile to ``p[i + r * stride]``, for the first ``count`` rows.

    The places may overlap: one row is written before the next is read.
    """
    R, L = literal(rows), tile.dtype.lanes
    V = tile.count // R

    def emit(context: Any, builder: ir.IRBuilder, signature: Any, args: Any) -> ir.Value:
        p, i, _, stride, value, count = args
        vectors = emit_vectors(builder, value, tile)
        for r in range(R):
            with builder.if_then(builder.icmp_signed(">", count, ir.Constant(count.type, r))):
                row = emit_plus(builder, i, emit_times(builder, stride, r))
                places = [emit_plus(builder, row, v * L) for v in range(V)]
                sums = [
                    builder.fadd(emit_load(builder, p, place, L), vectors[r * V + v])
                    for v, place in enumerate(places)
                ]
                for place, vector in zip(places, sums, strict=True):
                    emit_store(builder, p, place, vector)
        return context.get_dummy_value()

    return types.void(POINTER, INT, rows, INT, tile, INT), emit


@instruction
def store_rows(
    typing: Any,
    p: types.Type,
    i: types.Type,
    rows: types.Type,
    stride: types.Type,
    tile: types.Type,
    row_count: types.Type,
    count: types.Type,
) -> Any:
    """Write row r of the tile to ``p[i + r * stride]``: the first rows, of each the first numbers.

    There are ``row_count`` rows and ``count`` numbers, or all that the tile has if that is less.
    """
    R, L = literal(rows), tile.dtype.lanes
    V = tile.count // R

    def emit(context: Any, builder: ir.IRBuilder, signature: Any, args: Any) -> ir.Value:
        p, i, _, stride, value, row_count, count = args
        vectors = emit_vectors(builder, value, tile)
        rests = [emit_plus(builder, count, -v * L) for v in range(V)]
        for r in range(R):
            with builder.if_then(builder.icmp_signed(">", row_count, ir.Constant(count.type, r))):
                for v in range(V):
                    place = emit_plus(builder, i, emit_times(builder, stride, r), v * L)
                    emit_store_first(builder, p, place, vectors[r * V + v], rests[v])
        return context.get_dummy_value()

    return types.void(POINTER, INT, rows, INT, tile, INT, INT), emit


@instruction
def store_totals(
    typing: Any,
    p: types.Type,
    i: types.Type,
    rows: types.Type,
    stride: types.Type,
    tile: types.Type,
    row_count: types.Type,
    count: types.Type,
    add: types.Type,
) -> Any:
    """Write the sum of the lanes of ``tile[r, q]`` to ``p[i + r * stride + q]``.

    Only where r < ``row_count`` and q < ``count``. Where ``add`` is 1 and not 0, what is there
    is added.
    """
    R = literal(rows)
    V = tile.count // R

    def emit(context: Any, builder: ir.IRBuilder, signature: Any, args: Any) -> ir.Value:
        p, i, _, stride, value, row_count, count, add = args
        vectors = emit_vectors(builder, value, tile)
        lanes = 1 << (V - 1).bit_length()
        old_mask = emit_first_lanes(builder, builder.mul(count, add), lanes)
        for r in range(R):
            with builder.if_then(builder.icmp_signed(">", row_count, ir.Constant(count.type, r))):
                sums = emit_totals(builder, vectors[r * V : (r + 1) * V], lanes)
                place = emit_plus(builder, i, emit_times(builder, stride, r))
                old = emit_masked_load(builder, p, place, old_mask)
                emit_store_first(builder, p, place, builder.fadd(old, sums), count)
        return context.get_dummy_value()

    return types.void(POINTER, INT, rows, INT, tile, INT, INT, INT), emit


@instruction
def at_least(typing: Any, tile: types.Type, floor: types.Type) -> Any:
    """The tile with ``floor`` in the place of what is less; NaN stays."""

    def emit(context: Any, builder: ir.IRBuilder, signature: Any, args: Any) -> ir.Value:
        value, floor = args
        least = emit_splat(builder, floor, tile.dtype.lanes)
        vectors = emit_vectors(builder, value, tile)
        return emit_tile(context, builder, tile, [emit_maximum(builder, least, v) for v in vectors])

    return tile(tile, types.float32), emit


def emit_gated(builder: ir.IRBuilder, value: ir.Value, gate: ir.Value) -> ir.Value:
    zero = ir.Constant(value.type, [0.0] * value.type.count)
    return builder.select(builder.fcmp_ordered("<=", gate, zero), zero, value)


def _vector_by_vector(emit_vector: Any) -> Any:
    """A function of two tiles of one shape."""

    @instruction
    def of_tiles(typing: Any, tile: types.Type, other: types.Type) -> Any:
        def emit(context: Any, builder: ir.IRBuilder, signature: Any, args: Any) -> ir.Value:
            pairs = zip(*(emit_vectors(builder, value, tile) for value in args), strict=True)
            vectors = [emit_vector(builder, a, b) for a, b in pairs]
            return emit_tile(context, builder, tile, vectors)

        return tile(tile, tile), emit

    return of_tiles


plus = _vector_by_vector(lambda builder, a, b: builder.fadd(a, b))  #: a + b
gated = _vector_by_vector(emit_gated)  #: a, but 0 where b is 0 or less: the slope of a ReLU


@instruction
def nonzero_lanes(typing: Any, value: types.Type) -> Any:
    """A whole number whose bit k is 1 where lane k is not 0."""
    lanes = value.lanes if isinstance(value, Vector) else 1

    def emit(context: Any, builder: ir.IRBuilder, signature: Any, args: Any) -> ir.Value:
        zero = ir.Constant(args[0].type, [0.0] * lanes)
        mask = builder.fcmp_unordered("!=", args[0], zero)
        bits = builder.bitcast(mask, ir.IntType(lanes))
        return builder.zext(bits, ir.IntType(64))

    return INT(value), emit


@instruction
def first_bit(typing: Any, bits: types.Type) -> Any:
    """The place of the lowest bit of a number that is not 0."""

    def emit(context: Any, builder: ir.IRBuilder, signature: Any, args: Any) -> ir.Value:
        return builder.cttz(args[0], ir.Constant(ir.IntType(1), 1))

    return INT(INT), emit


@instruction
def transpose(
    typing: Any,
    x: types.Type,
    i: types.Type,
    x_row: types.Type,
    rows: types.Type,
    y: types.Type,
    j: types.Type,
    y_row: types.Type,
    columns: types.Type,
    lanes: types.Type,
) -> Any:
    """Write a square of ``lanes`` rows and columns transposed: y[j + c * y_row + r] = x[r, c].

    Row r of x begins at ``x[i + r * x_row]``. Of the square, the first ``rows`` rows and the
    first ``columns`` columns exist.
    """
    L = literal(lanes)

    def emit(context: Any, builder: ir.IRBuilder, signature: Any, args: Any) -> ir.Value:
        x, i, x_row, rows, y, j, y_row, columns, _ = args
        in_row = emit_first_lanes(builder, columns, L)
        vectors = []
        for r in range(L):
            exists = builder.icmp_signed(">", rows, ir.Constant(rows.type, r))
            none = ir.Constant(in_row.type, [0] * L)
            mask = builder.select(exists, in_row, none)
            vectors.append(
                emit_masked_load(
                    builder, x, emit_plus(builder, i, emit_times(builder, x_row, r)), mask
                )
            )
        # After step s, vector r holds, in blocks of 2s lanes, what belongs together: exchange
        # the off-diagonal blocks of size s between the vectors r and r + s.
        step = 1
        while step < L:
            low, high = [], []
            for lane in range(L):
                block = lane // step % 2
                low.append(lane if block == 0 else L + lane - step)
                high.append(lane + step if block == 0 else L + lane)
            for r in range(L):
                if r // step % 2 == 0:
                    a, b = vectors[r], vectors[r + step]
                    vectors[r] = emit_shuffle(builder, a, b, low)
                    vectors[r + step] = emit_shuffle(builder, a, b, high)
            step *= 2
        for c, vector in enumerate(vectors):
            exists = builder.icmp_signed(">", columns, ir.Constant(columns.type, c))
            with builder.if_then(exists):
                place = emit_plus(builder, j, emit_times(builder, y_row, c))
                emit_store_first(builder, y, place, vector, rows)
        return context.get_dummy_value()

    return types.void(POINTER, INT, INT, INT, POINTER, INT, INT, INT, lanes), emit
