"""Vectors and tiles of vectors for Numba kernels, as LLVM vector instructions.

Numba leaves vectorisation to LLVM, which finds no register accumulators in a convolution. Here a
kernel says what it wants. Three kinds of value:

- a *pointer*: ``pointer(address)`` is a float32 pointer; ``p[i]`` reads one number, and every
  function below that takes ``p, i`` means the numbers from ``p[i]`` on;
- a *vector* of ``lanes`` float32 numbers, written with ``+ - * /`` and the functions below;
- a *tile*: a tuple of ``rows * columns`` vectors, row after row, which LLVM keeps in registers
  as long as there are enough of them (``REGISTERS``). All the time of training is spent in
  :func:`outer`, :func:`dots` and :func:`add_scaled`, which accumulate into a tile.

``lanes``, ``rows`` and ``columns`` are compile-time constants: literals, globals or variables of
the closure around the kernel. LLVM splits vectors that are longer than those of the machine, so
any choice is right everywhere; ``LANES`` is the one that is fast here.

Nothing here checks a bound.
"""

import math
import operator
from collections.abc import Callable
from typing import Any, Final

import llvmlite.binding
import numba
import numpy as np
from llvmlite import ir
from numba import types
from numba.core import cgutils
from numba.core.errors import RequireLiteralValue
from numba.core.typing import signature
from numba.core.typing.templates import AbstractTemplate, infer_global
from numba.extending import intrinsic, lower_builtin, models, register_model

__all__ = [
    "LANES",
    "REGISTERS",
    "absolute",
    "add_rows",
    "add_scaled",
    "all_lanes",
    "bytes_pointer",
    "dots",
    "dots_first",
    "doubles_pointer",
    "exp",
    "first_bit",
    "fma",
    "ints_pointer",
    "invoke",
    "load",
    "load_first",
    "load_tile",
    "maximum",
    "minimum",
    "nonzero_lanes",
    "outer",
    "pointer",
    "rectified",
    "sigmoid",
    "splat",
    "sqrt",
    "store",
    "store_first",
    "store_rows",
    "store_tile",
    "store_totals",
    "tanh",
    "total",
    "transpose",
    "where_positive",
    "window_best",
    "words_pointer",
    "zeros",
]


def _has_avx512() -> bool:
    try:
        features = llvmlite.binding.get_host_cpu_features()
    except RuntimeError:  # LLVM does not know this machine
        return False
    return bool(features.get("avx512f", False))


#: float32 numbers in one vector of this machine, and vector registers it has.
LANES: Final = 16 if _has_avx512() else 8
REGISTERS: Final = 32 if _has_avx512() else 16

FLOAT = ir.FloatType()
INT32 = ir.IntType(32)
INT8 = ir.IntType(8)


class Vector(types.Type):
    """The Numba type of a vector of ``lanes`` float32 numbers."""

    def __init__(self, lanes: int) -> None:
        self.lanes = lanes
        super().__init__(name=f"Vector({lanes})")

    @property
    def key(self) -> int:
        return self.lanes


@register_model(Vector)
class VectorModel(models.PrimitiveModel):
    """A vector is what LLVM calls one."""

    def __init__(self, dmm: Any, fe_type: Vector) -> None:
        super().__init__(dmm, fe_type, ir.VectorType(FLOAT, fe_type.lanes))


def literal(value: types.Type) -> int:
    """Return the compile-time constant behind a Numba type, or ask Numba to type it as one."""
    if not isinstance(value, types.IntegerLiteral):
        raise RequireLiteralValue("lanes, rows and columns are compile-time constants")
    return int(value.literal_value)


def instruction(function: Callable[..., Any]) -> Any:
    """Let Numba call ``function`` to emit instructions; it sees constants as literal types."""
    return intrinsic(prefer_literal=True)(function)


# Emitting LLVM instructions -------------------------------------------------------------------


def _splat(builder: ir.IRBuilder, scalar: ir.Value, lanes: int) -> ir.Value:
    """Every lane is ``scalar``."""
    vector = ir.VectorType(scalar.type, lanes)
    first = builder.insert_element(ir.Constant(vector, ir.Undefined), scalar, INT32(0))
    mask = ir.Constant(ir.VectorType(INT32, lanes), [0] * lanes)
    return builder.shuffle_vector(first, ir.Constant(vector, ir.Undefined), mask)


def _call(builder: ir.IRBuilder, name: str, result: ir.Type, *args: ir.Value) -> ir.Value:
    """Call an LLVM intrinsic, e.g. ``llvm.fma.v16f32``."""
    signature = ir.FunctionType(result, [arg.type for arg in args])
    return builder.call(cgutils.get_or_insert_function(builder.module, signature, name), args)


def _fma(builder: ir.IRBuilder, a: ir.Value, b: ir.Value, c: ir.Value) -> ir.Value:
    return _call(builder, f"llvm.fma.v{a.type.count}f32", a.type, a, b, c)


def _load(builder: ir.IRBuilder, p: ir.Value, i: ir.Value, lanes: int) -> ir.Value:
    place = builder.bitcast(builder.gep(p, [i]), ir.VectorType(FLOAT, lanes).as_pointer())
    return builder.load(place, align=4, typ=ir.VectorType(FLOAT, lanes))


def _store(builder: ir.IRBuilder, p: ir.Value, i: ir.Value, value: ir.Value) -> None:
    place = builder.bitcast(builder.gep(p, [i]), value.type.as_pointer())
    builder.store(value, place, align=4)


def _first_lanes(builder: ir.IRBuilder, count: ir.Value, lanes: int) -> ir.Value:
    """A mask that is true in the first ``count`` lanes."""
    index = ir.Constant(ir.VectorType(INT32, lanes), list(range(lanes)))
    return builder.icmp_signed("<", index, _splat(builder, builder.trunc(count, INT32), lanes))


def _masked_store(
    builder: ir.IRBuilder, p: ir.Value, i: ir.Value, value: ir.Value, mask: ir.Value
) -> None:
    place = builder.bitcast(builder.gep(p, [i]), value.type.as_pointer())
    lanes = value.type.count
    name = f"llvm.masked.store.v{lanes}f32.p0"
    _call(builder, name, ir.VoidType(), value, place, INT32(4), mask)


def _masked_load(builder: ir.IRBuilder, p: ir.Value, i: ir.Value, mask: ir.Value) -> ir.Value:
    lanes = mask.type.count
    vector = ir.VectorType(FLOAT, lanes)
    place = builder.bitcast(builder.gep(p, [i]), vector.as_pointer())
    zero = ir.Constant(vector, [0.0] * lanes)
    name = f"llvm.masked.load.v{lanes}f32.p0"
    return _call(builder, name, vector, place, INT32(4), mask, zero)


def _plus(builder: ir.IRBuilder, i: ir.Value, *terms: ir.Value | int) -> ir.Value:
    """The index ``i`` plus each term."""
    for term in terms:
        if isinstance(term, int):
            term = ir.Constant(i.type, term)
        i = builder.add(i, term)
    return i


def _times(builder: ir.IRBuilder, stride: ir.Value, factor: int) -> ir.Value:
    return builder.mul(stride, ir.Constant(stride.type, factor))


def _tile(context: Any, builder: ir.IRBuilder, tile_type: types.Type, vectors: list[Any]) -> Any:
    return context.make_tuple(builder, tile_type, vectors)


def _vectors(builder: ir.IRBuilder, tile: ir.Value, tile_type: types.UniTuple) -> list[ir.Value]:
    return [builder.extract_value(tile, n) for n in range(tile_type.count)]


POINTER = types.CPointer(types.float32)
INT = types.int64

# Pointers -------------------------------------------------------------------------------------


def _pointer_to(result: types.Type, element: ir.Type) -> Any:
    @instruction
    def convert(typing: Any, address: types.Type) -> Any:
        def emit(context: Any, builder: ir.IRBuilder, signature: Any, args: Any) -> ir.Value:
            return builder.inttoptr(args[0], element.as_pointer())

        return result(INT), emit

    return convert


#: ``pointer(address)``: the address as a pointer to float32; the others to what they are named for.
pointer = _pointer_to(POINTER, FLOAT)
ints_pointer = _pointer_to(types.CPointer(types.int32), INT32)
bytes_pointer = _pointer_to(types.CPointer(types.uint8), INT8)
doubles_pointer = _pointer_to(types.CPointer(types.float64), ir.DoubleType())
words_pointer = _pointer_to(types.CPointer(types.int64), ir.IntType(64))


@instruction
def invoke(
    typing: Any,
    function: types.Type,
    args: types.Type,
    thread: types.Type,
    first: types.Type,
    last: types.Type,
) -> Any:
    """Call the kernel at the address ``function``: ``kernel(args, thread, first, last)``."""

    def emit(context: Any, builder: ir.IRBuilder, signature: Any, values: Any) -> ir.Value:
        word = ir.IntType(64)
        address = INT8.as_pointer()
        kernel = ir.FunctionType(ir.VoidType(), [address, word, word, word])
        target = builder.inttoptr(values[0], kernel.as_pointer())
        builder.call(target, [builder.inttoptr(values[1], address), *values[2:]])
        return context.get_dummy_value()

    return types.void(INT, INT, INT, INT, INT), emit


# Vectors --------------------------------------------------------------------------------------


@instruction
def splat(typing: Any, x: types.Type, lanes: types.Type) -> Any:
    """A vector of ``lanes`` times ``x``."""
    count = literal(lanes)

    def emit(context: Any, builder: ir.IRBuilder, signature: Any, args: Any) -> ir.Value:
        return _splat(builder, args[0], count)

    return Vector(count)(types.float32, lanes), emit


@instruction
def all_lanes(typing: Any, x: types.Type, vector: types.Type) -> Any:
    """A vector of the length of ``vector`` whose lanes are all ``x``."""
    lanes = vector.lanes if isinstance(vector, Vector) else 1

    def emit(context: Any, builder: ir.IRBuilder, signature: Any, args: Any) -> ir.Value:
        return _splat(builder, args[0], lanes)

    return vector(types.float32, vector), emit


@instruction
def load(typing: Any, p: types.Type, i: types.Type, lanes: types.Type) -> Any:
    """The ``lanes`` numbers from ``p[i]`` on; any alignment."""
    count = literal(lanes)

    def emit(context: Any, builder: ir.IRBuilder, signature: Any, args: Any) -> ir.Value:
        return _load(builder, args[0], args[1], count)

    return Vector(count)(POINTER, INT, lanes), emit


@instruction
def load_first(
    typing: Any, p: types.Type, i: types.Type, count: types.Type, lanes: types.Type
) -> Any:
    """The first ``count`` numbers from ``p[i]`` on, then zeros; what follows is not touched."""
    L = literal(lanes)

    def emit(context: Any, builder: ir.IRBuilder, signature: Any, args: Any) -> ir.Value:
        p, i, count, _ = args
        return _masked_load(builder, p, i, _first_lanes(builder, count, L))

    return Vector(L)(POINTER, INT, INT, lanes), emit


@instruction
def store(typing: Any, p: types.Type, i: types.Type, value: types.Type) -> Any:
    """Write all lanes of ``value`` to ``p[i]`` and what follows."""

    def emit(context: Any, builder: ir.IRBuilder, signature: Any, args: Any) -> ir.Value:
        _store(builder, *args)
        return context.get_dummy_value()

    return types.void(POINTER, INT, value), emit


@instruction
def store_first(
    typing: Any, p: types.Type, i: types.Type, value: types.Type, count: types.Type
) -> Any:
    """Write the first ``count`` lanes of ``value``; all of them if ``count`` is larger."""
    lanes = value.lanes if isinstance(value, Vector) else 0

    def emit(context: Any, builder: ir.IRBuilder, signature: Any, args: Any) -> ir.Value:
        p, i, value, count = args
        _masked_store(builder, p, i, value, _first_lanes(builder, count, lanes))
        return context.get_dummy_value()

    return types.void(POINTER, INT, value, INT), emit


@instruction
def total(typing: Any, value: types.Type) -> Any:
    """The sum of all lanes, added in halves."""

    def emit(context: Any, builder: ir.IRBuilder, signature: Any, args: Any) -> ir.Value:
        sum_of_lanes = _totals(builder, [args[0]], 1)
        return builder.extract_element(sum_of_lanes, INT32(0))

    return types.float32(value), emit


def _shuffle(builder: ir.IRBuilder, a: ir.Value, b: ir.Value, lanes: list[int]) -> ir.Value:
    """The vector of the given lanes of a and, counting on, of b."""
    return builder.shuffle_vector(a, b, ir.Constant(ir.VectorType(INT32, len(lanes)), lanes))


def _totals(builder: ir.IRBuilder, vectors: list[ir.Value], lanes: int) -> ir.Value:
    """A vector of ``lanes`` (a power of two) whose lane q is the sum of the lanes of vector q.

    A vector consists of groups of ``width`` lanes; a group is one sum in the making. Each round
    adds the second halves of all groups of two vectors to the first halves, which fill one
    vector. So V sums take V - 1 additions and a few, not V times log2(lanes).
    """
    L = vectors[0].type.count
    zero = ir.Constant(vectors[0].type, [0.0] * L)
    vectors = vectors + [zero] * (lanes - len(vectors))
    width = L
    while width > 1:
        half = width // 2
        firsts = [lane for lane in range(len(vectors[:2]) * L) if lane % width < half]
        seconds = [lane + half for lane in firsts]
        if len(vectors) == 1:
            vectors = [vectors[0], vectors[0]]
        vectors = [
            builder.fadd(_shuffle(builder, a, b, firsts), _shuffle(builder, a, b, seconds))
            for a, b in zip(vectors[0::2], vectors[1::2], strict=True)
        ]
        L, width = len(firsts), half
    while len(vectors) > 1:
        L = vectors[0].type.count
        vectors = [
            _shuffle(builder, a, b, list(range(2 * L)))
            for a, b in zip(vectors[0::2], vectors[1::2], strict=True)
        ]
    return vectors[0]


def _lane_by_lane(emit_vector: Callable[..., ir.Value], arity: int) -> Any:
    """An intrinsic from vectors of one length to a vector of that length."""

    def emit(context: Any, builder: ir.IRBuilder, signature: Any, args: Any) -> ir.Value:
        return emit_vector(builder, *args)

    @instruction
    def unary(typing: Any, a: types.Type) -> Any:
        return a(a), emit

    @instruction
    def binary(typing: Any, a: types.Type, b: types.Type) -> Any:
        return a(a, a), emit

    @instruction
    def ternary(typing: Any, a: types.Type, b: types.Type, c: types.Type) -> Any:
        return a(a, a, a), emit

    return (unary, binary, ternary)[arity - 1]


def _llvm(name: str) -> Callable[..., ir.Value]:
    return lambda builder, *args: _call(
        builder, f"llvm.{name}.v{args[0].type.count}f32", args[0].type, *args
    )


def _select_positive(builder: ir.IRBuilder, a: ir.Value, b: ir.Value, c: ir.Value) -> ir.Value:
    zero = ir.Constant(a.type, [0.0] * a.type.count)
    return builder.select(builder.fcmp_ordered(">", a, zero), b, c)


def _scale_by_power(builder: ir.IRBuilder, a: ir.Value, n: ir.Value) -> ir.Value:
    """a * 2**n for whole n, by adding n to the exponent's bits."""
    lanes = a.type.count
    whole = ir.VectorType(INT32, lanes)
    shift = ir.Constant(whole, [23] * lanes)
    exponent = builder.shl(builder.fptosi(n, whole), shift)
    return builder.bitcast(builder.add(builder.bitcast(a, whole), exponent), a.type)


def _add(builder: ir.IRBuilder, a: ir.Value, b: ir.Value) -> ir.Value:
    return builder.fadd(a, b)


def _subtract(builder: ir.IRBuilder, a: ir.Value, b: ir.Value) -> ir.Value:
    return builder.fsub(a, b)


def _multiply(builder: ir.IRBuilder, a: ir.Value, b: ir.Value) -> ir.Value:
    return builder.fmul(a, b)


def _divide(builder: ir.IRBuilder, a: ir.Value, b: ir.Value) -> ir.Value:
    return builder.fdiv(a, b)


# Where a is no larger, or one of the two is NaN, b is the result.
def _maximum(builder: ir.IRBuilder, a: ir.Value, b: ir.Value) -> ir.Value:
    return builder.select(builder.fcmp_ordered(">", a, b), a, b)


def _minimum(builder: ir.IRBuilder, a: ir.Value, b: ir.Value) -> ir.Value:
    return builder.select(builder.fcmp_ordered("<", a, b), a, b)


fma = _lane_by_lane(_fma, 3)  #: a * b + c, rounded once
maximum = _lane_by_lane(_maximum, 2)
minimum = _lane_by_lane(_minimum, 2)
nearest = _lane_by_lane(_llvm("rint"), 1)  #: the nearest whole number
sqrt = _lane_by_lane(_llvm("sqrt"), 1)
with_sign_of = _lane_by_lane(_llvm("copysign"), 2)  #: the size of a with the sign of b
absolute = _lane_by_lane(_llvm("fabs"), 1)
where_positive = _lane_by_lane(_select_positive, 3)  #: b where a > 0, else c
scale_by_power = _lane_by_lane(_scale_by_power, 2)  #: a * 2**b for whole b


def _operator(symbol: Callable[..., Any], emit_vector: Callable[..., ir.Value]) -> None:
    """Let two vectors be joined by a Python operator."""

    @infer_global(symbol)
    class Typing(AbstractTemplate):
        def generic(self, args: Any, kws: Any) -> Any:
            a, b = args
            return signature(a, a, b) if isinstance(a, Vector) and a == b else None

    @lower_builtin(symbol, Vector, Vector)
    def lower(context: Any, builder: ir.IRBuilder, signature: Any, args: Any) -> ir.Value:
        return emit_vector(builder, *args)


_operator(operator.add, _add)
_operator(operator.sub, _subtract)
_operator(operator.mul, _multiply)
_operator(operator.truediv, _divide)

# Tiles ----------------------------------------------------------------------------------------


def tile_type(vectors: int, lanes: int) -> types.UniTuple:
    """The Numba type of a tile."""
    return types.UniTuple(Vector(lanes), vectors)


@instruction
def zeros(typing: Any, rows: types.Type, columns: types.Type, lanes: types.Type) -> Any:
    """A tile of zeros."""
    result = tile_type(literal(rows) * literal(columns), literal(lanes))

    def emit(context: Any, builder: ir.IRBuilder, signature: Any, args: Any) -> ir.Value:
        zero = ir.Constant(ir.VectorType(FLOAT, result.dtype.lanes), [0.0] * result.dtype.lanes)
        return _tile(context, builder, result, [zero] * result.count)

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
            _load(builder, p, _plus(builder, i, _times(builder, stride, r), v * L), L)
            for r in range(R)
            for v in range(V)
        ]
        return _tile(context, builder, result, vectors)

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
        vectors = _vectors(builder, value, tile)
        whole = builder.icmp_signed(">=", count, ir.Constant(count.type, V * L))
        places = [_plus(builder, i, _times(builder, stride, r)) for r in range(R)]
        with builder.if_else(whole) as (then, otherwise):
            with then:
                for n, vector in enumerate(vectors):
                    _store(builder, p, _plus(builder, places[n // V], n % V * L), vector)
            with otherwise:
                for v in range(V):
                    mask = _first_lanes(builder, _plus(builder, count, -v * L), L)
                    for r in range(R):
                        place = _plus(builder, places[r], v * L)
                        _masked_store(builder, p, place, vectors[r * V + v], mask)
        return context.get_dummy_value()

    return types.void(POINTER, INT, rows, INT, tile, INT), emit


@instruction
def outer(
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
    """Add an outer product: ``tile[r, v] += a[i + ...r...] * b[j + v * lanes]``.

    Rows come in groups of ``within``: row r reads ``a`` at
    ``i + (r // within) * row_stride + (r % within) * stride``, which reaches the positions of a
    pooling window as easily as the rows of a matrix.
    """
    R, inner, L = literal(rows), literal(within), tile.dtype.lanes
    V = tile.count // R

    def emit(context: Any, builder: ir.IRBuilder, signature: Any, args: Any) -> ir.Value:
        value, _, a, i, row_stride, _, stride, b, j = args
        vectors = _vectors(builder, value, tile)
        columns = [_load(builder, b, _plus(builder, j, v * L), L) for v in range(V)]
        for r in range(R):
            down, along = (
                _times(builder, row_stride, r // inner),
                _times(builder, stride, r % inner),
            )
            row = builder.gep(a, [builder.add(down, along)])  # the same in every round of a loop
            factor = _splat(builder, builder.load(builder.gep(row, [i])), L)
            for v in range(V):
                vectors[r * V + v] = _fma(builder, factor, columns[v], vectors[r * V + v])
        return _tile(context, builder, tile, vectors)

    return tile(tile, rows, POINTER, INT, INT, within, INT, POINTER, INT), emit


def _dots(first_lanes_only: bool) -> Any:
    @instruction
    def accumulate(
        typing: Any,
        tile: types.Type,
        rows: types.Type,
        a: types.Type,
        i: types.Type,
        a_stride: types.Type,
        b: types.Type,
        j: types.Type,
        b_stride: types.Type,
        count: types.Type,
    ) -> Any:
        R, L = literal(rows), tile.dtype.lanes
        V = tile.count // R

        def emit(context: Any, builder: ir.IRBuilder, signature: Any, args: Any) -> ir.Value:
            value, _, a, i, a_stride, b, j, b_stride, count = args
            mask = _first_lanes(builder, count, L) if first_lanes_only else None

            def fetch(p: ir.Value, i: ir.Value, stride: ir.Value, row: int) -> ir.Value:
                start = builder.gep(p, [_times(builder, stride, row)])
                if mask is None:
                    return _load(builder, start, i, L)
                return _masked_load(builder, start, i, mask)

            vectors = _vectors(builder, value, tile)
            columns = [fetch(b, j, b_stride, v) for v in range(V)]
            for r in range(R):
                factor = fetch(a, i, a_stride, r)
                for v in range(V):
                    vectors[r * V + v] = _fma(builder, factor, columns[v], vectors[r * V + v])
            return _tile(context, builder, tile, vectors)

        return tile(tile, rows, POINTER, INT, INT, POINTER, INT, INT, INT), emit

    return accumulate


#: ``dots(tile, rows, a, i, a_stride, b, j, b_stride, count)`` adds products lane by lane:
#: ``tile[r, q] += a[i + r * a_stride] * b[j + q * b_stride]``. Both factors are vectors, and
#: the sum of the lanes of ``tile[r, q]`` is the dot product of row r of ``a`` with row q of
#: ``b`` in the end. ``dots_first`` takes only the first ``count`` lanes and touches no others.
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
        vectors = _vectors(builder, value, tile)
        scale = _splat(builder, factor, L)
        for n, vector in enumerate(vectors):
            down = _times(builder, stride, n // V)
            term = _load(builder, a, _plus(builder, i, down, n % V * L), L)
            vectors[n] = _fma(builder, scale, term, vector)
        return _tile(context, builder, tile, vectors)

    return tile(tile, rows, types.float32, POINTER, INT, INT), emit


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
        vectors = _vectors(builder, value, tile)
        for r in range(R):
            with builder.if_then(builder.icmp_signed(">", count, ir.Constant(count.type, r))):
                row = _plus(builder, i, _times(builder, stride, r))
                places = [_plus(builder, row, v * L) for v in range(V)]
                sums = [
                    builder.fadd(_load(builder, p, place, L), vectors[r * V + v])
                    for v, place in enumerate(places)
                ]
                for place, vector in zip(places, sums, strict=True):
                    _store(builder, p, place, vector)
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
    count: types.Type,
) -> Any:
    """Write row r of the tile to ``p[i + r * stride]``, for the first ``count`` rows."""
    R, L = literal(rows), tile.dtype.lanes
    V = tile.count // R

    def emit(context: Any, builder: ir.IRBuilder, signature: Any, args: Any) -> ir.Value:
        p, i, _, stride, value, count = args
        vectors = _vectors(builder, value, tile)
        for r in range(R):
            with builder.if_then(builder.icmp_signed(">", count, ir.Constant(count.type, r))):
                for v in range(V):
                    place = _plus(builder, i, _times(builder, stride, r), v * L)
                    _store(builder, p, place, vectors[r * V + v])
        return context.get_dummy_value()

    return types.void(POINTER, INT, rows, INT, tile, INT), emit


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
        vectors = _vectors(builder, value, tile)
        lanes = 1 << (V - 1).bit_length()
        mask = _first_lanes(builder, count, lanes)
        old_mask = _first_lanes(builder, builder.mul(count, add), lanes)
        for r in range(R):
            with builder.if_then(builder.icmp_signed(">", row_count, ir.Constant(count.type, r))):
                sums = _totals(builder, vectors[r * V : (r + 1) * V], lanes)
                place = _plus(builder, i, _times(builder, stride, r))
                old = _masked_load(builder, p, place, old_mask)
                _masked_store(builder, p, place, builder.fadd(old, sums), mask)
        return context.get_dummy_value()

    return types.void(POINTER, INT, rows, INT, tile, INT, INT, INT), emit


@instruction
def window_best(
    typing: Any,
    winners: types.Type,
    i: types.Type,
    stride: types.Type,
    height: types.Type,
    width: types.Type,
    windows: types.Type,
    tile: types.Type,
    count: types.Type,
) -> Any:
    """The maximum over each pooling window, a tile of ``windows`` rows.

    The rows of the tile are the ``height * (windows * width)`` positions of windows that lie side
    by side. Which position won, counted row by row from 0, is written to the bytes from
    ``winners[i + n * stride]`` on, for the first ``count`` numbers of window n. A tie goes to the
    first position. Windows of one position have no winners, and the tile is the result.
    """
    PH, PW, N, L = literal(height), literal(width), literal(windows), tile.dtype.lanes
    V = tile.count // (PH * PW * N)
    result = tile_type(N * V, L)

    def emit(context: Any, builder: ir.IRBuilder, signature: Any, args: Any) -> ir.Value:
        winners, i, stride, _, _, _, value, count = args
        if PH * PW == 1:
            return value
        vectors = _vectors(builder, value, tile)
        small = ir.VectorType(INT8, L)
        masks = [_first_lanes(builder, _plus(builder, count, -v * L), L) for v in range(V)]
        maxima = []
        for n in range(N):
            for v in range(V):
                best = winner = None
                for position in range(PH * PW):
                    row = position // PW * (N * PW) + n * PW + position % PW
                    candidate = vectors[row * V + v]
                    index = ir.Constant(ir.VectorType(INT32, L), [position] * L)
                    if best is None:
                        best, winner = candidate, index
                    else:
                        larger = builder.fcmp_ordered(">", candidate, best)
                        best = builder.select(larger, candidate, best)
                        winner = builder.select(larger, index, winner)
                maxima.append(best)
                place = _plus(builder, i, _times(builder, stride, n), v * L)
                target = builder.bitcast(builder.gep(winners, [place]), small.as_pointer())
                name = f"llvm.masked.store.v{L}i8.p0"
                narrow = builder.trunc(winner, small)
                _call(builder, name, ir.VoidType(), narrow, target, INT32(1), masks[v])
        return _tile(context, builder, result, maxima)

    signature = result(types.CPointer(types.uint8), INT, INT, height, width, windows, tile, INT)
    return signature, emit


@instruction
def rectified(typing: Any, tile: types.Type) -> Any:
    """The tile with 0 in the place of what is negative."""

    def emit(context: Any, builder: ir.IRBuilder, signature: Any, args: Any) -> ir.Value:
        vectors = _vectors(builder, args[0], tile)
        zero = ir.Constant(vectors[0].type, [0.0] * tile.dtype.lanes)
        return _tile(context, builder, tile, [_maximum(builder, zero, v) for v in vectors])

    return tile(tile), emit


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
        in_row = _first_lanes(builder, columns, L)
        vectors = []
        for r in range(L):
            exists = builder.icmp_signed(">", rows, ir.Constant(rows.type, r))
            none = ir.Constant(in_row.type, [0] * L)
            mask = builder.select(exists, in_row, none)
            vectors.append(
                _masked_load(builder, x, _plus(builder, i, _times(builder, x_row, r)), mask)
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
                    vectors[r] = _shuffle(builder, a, b, low)
                    vectors[r + step] = _shuffle(builder, a, b, high)
            step *= 2
        in_column = _first_lanes(builder, rows, L)
        for c, vector in enumerate(vectors):
            exists = builder.icmp_signed(">", columns, ir.Constant(columns.type, c))
            with builder.if_then(exists):
                place = _plus(builder, j, _times(builder, y_row, c))
                _masked_store(builder, y, place, vector, in_column)
        return context.get_dummy_value()

    return types.void(POINTER, INT, INT, INT, POINTER, INT, INT, INT, lanes), emit


# Functions of a vector ------------------------------------------------------------------------

LOG2_E = np.float32(1 / math.log(2))
LN2_HIGH = np.float32(0.693359375)  # ln 2 = LN2_HIGH + LN2_LOW; the first has few bits
LN2_LOW = np.float32(-2.12194440e-4)
# exp(r) = 1 + r + r**2 * P(r) on |r| <= ln(2) / 2: Cephes, expf.c (S. L. Moshier)
EXP_5, EXP_4, EXP_3, EXP_2, EXP_1, EXP_0 = (
    np.float32(c)
    for c in (
        1.9875691500e-4,
        1.3981999507e-3,
        8.3334519073e-3,
        4.1665795894e-2,
        1.6666665459e-1,
        5.0000001201e-1,
    )
)
# tanh(x) = x + x**3 * P(x**2) on |x| < 0.625: Cephes, tanhf.c
TANH_4, TANH_3, TANH_2, TANH_1, TANH_0 = (
    np.float32(c)
    for c in (
        -5.70498872745e-3,
        2.06390887954e-2,
        -5.37397155531e-2,
        1.33314422036e-1,
        -3.33332819422e-1,
    )
)
LARGEST, SMALLEST = np.float32(88.0), np.float32(-87.0)  # of exp: beyond, float32 overflows
ONE, TWO, TANH_TURN = np.float32(1.0), np.float32(2.0), np.float32(0.625)


@numba.njit
def exp(x):  # type: ignore[no-untyped-def]
    """e to the power of each lane, to 2 units in the last place; x is cut off at -87 and 88."""
    x = minimum(all_lanes(LARGEST, x), maximum(all_lanes(SMALLEST, x), x))
    n = nearest(x * all_lanes(LOG2_E, x))
    r = fma(n, all_lanes(-LN2_LOW, x), fma(n, all_lanes(-LN2_HIGH, x), x))
    p = fma(all_lanes(EXP_5, x), r, all_lanes(EXP_4, x))
    p = fma(p, r, all_lanes(EXP_3, x))
    p = fma(p, r, all_lanes(EXP_2, x))
    p = fma(p, r, all_lanes(EXP_1, x))
    p = fma(p, r, all_lanes(EXP_0, x))
    return scale_by_power(fma(p, r * r, r + all_lanes(ONE, x)), n)


@numba.njit
def sigmoid(x):  # type: ignore[no-untyped-def]
    """1 / (1 + exp(-x)) of each lane."""
    one = all_lanes(ONE, x)
    return one / (one + exp(x * all_lanes(-ONE, x)))


@numba.njit
def tanh(x):  # type: ignore[no-untyped-def]
    """tanh of each lane: a polynomial near 0, 1 - 2 / (exp(2|x|) + 1) elsewhere."""
    size, one = absolute(x), all_lanes(ONE, x)
    far = with_sign_of(one - all_lanes(TWO, x) / (exp(size + size) + one), x)
    square = x * x
    p = fma(all_lanes(TANH_4, x), square, all_lanes(TANH_3, x))
    p = fma(p, square, all_lanes(TANH_2, x))
    p = fma(p, square, all_lanes(TANH_1, x))
    p = fma(p, square, all_lanes(TANH_0, x))
    near = fma(p * square, x, x)
    return where_positive(size - all_lanes(TANH_TURN, x), far, near)
