"""Vectors for Numba kernels, as LLVM vector instructions; :mod:`tiles` is made of them.

Numba leaves vectorisation to LLVM, which finds no register accumulators in a convolution. Here a
kernel says what it wants. Two kinds of value:

- a *pointer*: ``pointer(address)`` is a float32 pointer; ``p[i]`` reads one number, and every
  function that takes ``p, i`` means the numbers from ``p[i]`` on;
- a *vector* of ``lanes`` float32 numbers, written with ``+ - * /`` and the functions below.

``lanes`` is a compile-time constant: a literal, a global or a variable of the closure around the
kernel. LLVM splits vectors that are longer than those of the machine, so any choice is right
everywhere; ``LANES`` is the one that is fast here. Nothing here checks a bound.

A function named ``emit_...`` writes instructions and is for those who define further functions.
"""

import operator
from collections.abc import Callable
from typing import Any, Final

import llvmlite.binding
import numba
from llvmlite import ir
from numba import types
from numba.core import cgutils
from numba.core.errors import RequireLiteralValue
from numba.core.typing import signature
from numba.core.typing.templates import AbstractTemplate, infer_global
from numba.extending import intrinsic, lower_builtin, models, register_model

__all__ = [
    "FLOAT",
    "INT",
    "INT8",
    "INT32",
    "LANES",
    "POINTER",
    "REGISTERS",
    "Vector",
    "absolute",
    "all_lanes",
    "bytes_pointer",
    "doubles_pointer",
    "exponent",
    "first_lanes",
    "fma",
    "instruction",
    "ints_pointer",
    "invoke",
    "literal",
    "load",
    "load_first",
    "maximum",
    "minimum",
    "pointer",
    "prefetch",
    "scale_by_power",
    "splat",
    "sqrt",
    "store",
    "store_bytes",
    "store_first",
    "total",
    "void_pointer",
    "where_at_most_zero",
    "where_better",
    "where_positive",
    "with_exponent",
    "with_sign_of",
    "words_pointer",
]


def _has_avx512() -> bool:
    """Whether kernels may use AVX-512: on a machine chosen by NUMBA_CPU_NAME, if named with it."""
    if numba.config.CPU_NAME not in (None, "host"):
        return "+avx512f" in (numba.config.CPU_FEATURES or "")
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
    def key(self) -> int:  # noqa: D102
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


def emit_splat(builder: ir.IRBuilder, scalar: ir.Value, lanes: int) -> ir.Value:
    """Every lane is ``scalar``."""
    vector = ir.VectorType(scalar.type, lanes)
    first = builder.insert_element(ir.Constant(vector, ir.Undefined), scalar, INT32(0))
    mask = ir.Constant(ir.VectorType(INT32, lanes), [0] * lanes)
    return builder.shuffle_vector(first, ir.Constant(vector, ir.Undefined), mask)


def emit_call(builder: ir.IRBuilder, name: str, result: ir.Type, *args: ir.Value) -> ir.Value:
    """Call an LLVM intrinsic, e.g. ``llvm.fma.v16f32``."""
    signature = ir.FunctionType(result, [arg.type for arg in args])
    return builder.call(cgutils.get_or_insert_function(builder.module, signature, name), args)


def emit_fma(builder: ir.IRBuilder, a: ir.Value, b: ir.Value, c: ir.Value) -> ir.Value:
    return emit_call(builder, f"llvm.fma.v{a.type.count}f32", a.type, a, b, c)


def emit_load(builder: ir.IRBuilder, p: ir.Value, i: ir.Value, lanes: int) -> ir.Value:
    place = builder.bitcast(builder.gep(p, [i]), ir.VectorType(FLOAT, lanes).as_pointer())
    return builder.load(place, align=4, typ=ir.VectorType(FLOAT, lanes))


def emit_store(builder: ir.IRBuilder, p: ir.Value, i: ir.Value, value: ir.Value) -> None:
    place = builder.bitcast(builder.gep(p, [i]), value.type.as_pointer())
    builder.store(value, place, align=4)


def emit_first_lanes(builder: ir.IRBuilder, count: ir.Value, lanes: int) -> ir.Value:
    """A mask that is true in the first ``count`` lanes."""
    index = ir.Constant(ir.VectorType(INT32, lanes), list(range(lanes)))
    return builder.icmp_signed("<", index, emit_splat(builder, builder.trunc(count, INT32), lanes))


def emit_store_first(
    builder: ir.IRBuilder, p: ir.Value, i: ir.Value, value: ir.Value, count: ir.Value
) -> None:
    """Write the first ``count`` lanes of floats or bytes, all of them if ``count`` is larger.

    Only AVX-512 has masks that cost nothing; without it, a whole vector takes a way of its own.
    """
    place, lanes = builder.bitcast(builder.gep(p, [i]), value.type.as_pointer()), value.type.count
    kind, align = ("f32", 4) if value.type.element == FLOAT else ("i8", 1)

    def store_masked() -> None:
        name, mask = f"llvm.masked.store.v{lanes}{kind}.p0", emit_first_lanes(builder, count, lanes)
        emit_call(builder, name, ir.VoidType(), value, place, INT32(align), mask)

    if REGISTERS >= 32:
        store_masked()
        return
    whole = builder.icmp_signed(">=", count, ir.Constant(count.type, lanes))
    with builder.if_else(whole) as (then, otherwise):
        with then:
            builder.store(value, place, align=align)
        with otherwise:
            store_masked()


def emit_masked_load(builder: ir.IRBuilder, p: ir.Value, i: ir.Value, mask: ir.Value) -> ir.Value:
    lanes = mask.type.count
    vector = ir.VectorType(FLOAT, lanes)
    place = builder.bitcast(builder.gep(p, [i]), vector.as_pointer())
    zero = ir.Constant(vector, [0.0] * lanes)
    name = f"llvm.masked.load.v{lanes}f32.p0"
    return emit_call(builder, name, vector, place, INT32(4), mask, zero)


def emit_plus(builder: ir.IRBuilder, i: ir.Value, *terms: ir.Value | int) -> ir.Value:
    """The index ``i`` plus each term."""
    for term in terms:
        if isinstance(term, int):
            term = ir.Constant(i.type, term)
        i = builder.add(i, term)
    return i


def emit_times(builder: ir.IRBuilder, stride: ir.Value, factor: int) -> ir.Value:
    return builder.mul(stride, ir.Constant(stride.type, factor))


def emit_tile(
    context: Any, builder: ir.IRBuilder, tile_type: types.Type, vectors: list[Any]
) -> Any:
    return context.make_tuple(builder, tile_type, vectors)


def emit_vectors(
    builder: ir.IRBuilder, tile: ir.Value, tile_type: types.UniTuple
) -> list[ir.Value]:
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
void_pointer = _pointer_to(types.voidptr, INT8)


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
        return emit_splat(builder, args[0], count)

    return Vector(count)(types.float32, lanes), emit


@instruction
def all_lanes(typing: Any, x: types.Type, vector: types.Type) -> Any:
    """A vector of the length of ``vector`` whose lanes are all ``x``."""
    lanes = vector.lanes if isinstance(vector, Vector) else 1

    def emit(context: Any, builder: ir.IRBuilder, signature: Any, args: Any) -> ir.Value:
        return emit_splat(builder, args[0], lanes)

    return vector(types.float32, vector), emit


@instruction
def load(typing: Any, p: types.Type, i: types.Type, lanes: types.Type) -> Any:
    """The ``lanes`` numbers from ``p[i]`` on; any alignment."""
    count = literal(lanes)

    def emit(context: Any, builder: ir.IRBuilder, signature: Any, args: Any) -> ir.Value:
        return emit_load(builder, args[0], args[1], count)

    return Vector(count)(POINTER, INT, lanes), emit


@instruction
def load_first(
    typing: Any, p: types.Type, i: types.Type, count: types.Type, lanes: types.Type
) -> Any:
    """The first ``count`` numbers from ``p[i]`` on, then zeros; what follows is not touched."""
    L = literal(lanes)

    def emit(context: Any, builder: ir.IRBuilder, signature: Any, args: Any) -> ir.Value:
        p, i, count, _ = args
        return emit_masked_load(builder, p, i, emit_first_lanes(builder, count, L))

    return Vector(L)(POINTER, INT, INT, lanes), emit


@instruction
def prefetch(typing: Any, p: types.Type, i: types.Type) -> Any:
    """Let the cache line of ``p[i]`` come to the second cache, while other work goes on."""

    def emit(context: Any, builder: ir.IRBuilder, signature: Any, args: Any) -> ir.Value:
        place = builder.bitcast(builder.gep(args[0], [args[1]]), INT8.as_pointer())
        hints = (INT32(0), INT32(2), INT32(1))  # to read, level 2, data
        emit_call(builder, "llvm.prefetch.p0", ir.VoidType(), place, *hints)
        return context.get_dummy_value()

    return types.void(POINTER, INT), emit


@instruction
def store(typing: Any, p: types.Type, i: types.Type, value: types.Type) -> Any:
    """Write all lanes of ``value`` to ``p[i]`` and what follows."""

    def emit(context: Any, builder: ir.IRBuilder, signature: Any, args: Any) -> ir.Value:
        emit_store(builder, *args)
        return context.get_dummy_value()

    return types.void(POINTER, INT, value), emit


@instruction
def store_first(
    typing: Any, p: types.Type, i: types.Type, value: types.Type, count: types.Type
) -> Any:
    """Write the first ``count`` lanes of ``value``; all of them if ``count`` is larger."""

    def emit(context: Any, builder: ir.IRBuilder, signature: Any, args: Any) -> ir.Value:
        emit_store_first(builder, *args)
        return context.get_dummy_value()

    return types.void(POINTER, INT, value, INT), emit


@instruction
def store_bytes(typing: Any, p: types.Type, i: types.Type, value: types.Type, n: types.Type) -> Any:
    """Write the first n lanes, whole numbers below 256, to bytes from ``p[i]`` on."""

    def emit(context: Any, builder: ir.IRBuilder, signature: Any, args: Any) -> ir.Value:
        p, i, vector, n = args
        small = builder.fptoui(vector, ir.VectorType(INT8, vector.type.count))
        emit_store_first(builder, p, i, small, n)
        return context.get_dummy_value()

    return types.void(types.CPointer(types.uint8), INT, value, INT), emit


@instruction
def first_lanes(typing: Any, value: types.Type, count: types.Type) -> Any:
    """The first ``count`` lanes of ``value``, then zeros."""
    lanes = value.lanes if isinstance(value, Vector) else 1

    def emit(context: Any, builder: ir.IRBuilder, signature: Any, args: Any) -> ir.Value:
        vector, count = args
        zero = ir.Constant(vector.type, [0.0] * lanes)
        return builder.select(emit_first_lanes(builder, count, lanes), vector, zero)

    return value(value, INT), emit


@instruction
def total(typing: Any, value: types.Type) -> Any:
    """The sum of all lanes, added in halves."""

    def emit(context: Any, builder: ir.IRBuilder, signature: Any, args: Any) -> ir.Value:
        sum_of_lanes = emit_totals(builder, [args[0]], 1)
        return builder.extract_element(sum_of_lanes, INT32(0))

    return types.float32(value), emit


def emit_shuffle(builder: ir.IRBuilder, a: ir.Value, b: ir.Value, lanes: list[int]) -> ir.Value:
    """The vector of the given lanes of a and, counting on, of b."""
    return builder.shuffle_vector(a, b, ir.Constant(ir.VectorType(INT32, len(lanes)), lanes))


def emit_totals(builder: ir.IRBuilder, vectors: list[ir.Value], lanes: int) -> ir.Value:
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
            builder.fadd(emit_shuffle(builder, a, b, firsts), emit_shuffle(builder, a, b, seconds))
            for a, b in zip(vectors[0::2], vectors[1::2], strict=True)
        ]
        L, width = len(firsts), half
    while len(vectors) > 1:
        L = vectors[0].type.count
        vectors = [
            emit_shuffle(builder, a, b, list(range(2 * L)))
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

    @instruction
    def quaternary(typing: Any, a: types.Type, b: types.Type, c: types.Type, d: types.Type) -> Any:
        return a(a, a, a, a), emit

    return (unary, binary, ternary, quaternary)[arity - 1]


def _llvm(name: str) -> Callable[..., ir.Value]:
    return lambda builder, *args: emit_call(
        builder, f"llvm.{name}.v{args[0].type.count}f32", args[0].type, *args
    )


def _select_positive(builder: ir.IRBuilder, a: ir.Value, b: ir.Value, c: ir.Value) -> ir.Value:
    zero = ir.Constant(a.type, [0.0] * a.type.count)
    return builder.select(builder.fcmp_ordered(">", a, zero), b, c)


def _select_at_most_zero(builder: ir.IRBuilder, a: ir.Value, b: ir.Value, c: ir.Value) -> ir.Value:
    zero = ir.Constant(a.type, [0.0] * a.type.count)
    return builder.select(builder.fcmp_ordered("<=", a, zero), b, c)


def emit_better(builder: ir.IRBuilder, candidate: ir.Value, best: ir.Value) -> ir.Value:
    """Where a candidate is the maximum so far: larger or NaN, unless the best is NaN already."""
    return builder.and_(
        builder.fcmp_unordered(">", candidate, best), builder.fcmp_ordered("==", best, best)
    )


def _select_better(
    builder: ir.IRBuilder, a: ir.Value, b: ir.Value, c: ir.Value, d: ir.Value
) -> ir.Value:
    return builder.select(emit_better(builder, a, b), c, d)


def _exponent(builder: ir.IRBuilder, a: ir.Value) -> ir.Value:
    """The exponent's bits of positive a, as a number."""
    whole = ir.VectorType(INT32, a.type.count)
    shift, bias = (ir.Constant(whole, [n] * a.type.count) for n in (23, 127))
    bits = builder.lshr(builder.bitcast(a, whole), shift)
    return builder.sitofp(builder.sub(bits, bias), a.type)


def _scale_by_power(builder: ir.IRBuilder, a: ir.Value, n: ir.Value) -> ir.Value:
    """a * 2**n for whole n, by adding n to the exponent's bits."""
    lanes = a.type.count
    whole = ir.VectorType(INT32, lanes)
    shift = ir.Constant(whole, [23] * lanes)
    exponent = builder.shl(builder.fptosi(n, whole), shift)
    return builder.bitcast(builder.add(builder.bitcast(a, whole), exponent), a.type)


def _with_exponent(builder: ir.IRBuilder, a: ir.Value) -> ir.Value:
    """The last bits of a become the exponent of a power of two."""
    whole = ir.VectorType(INT32, a.type.count)
    bits = builder.shl(builder.bitcast(a, whole), ir.Constant(whole, [23] * a.type.count))
    return builder.bitcast(bits, a.type)


def _add(builder: ir.IRBuilder, a: ir.Value, b: ir.Value) -> ir.Value:
    return builder.fadd(a, b)


def _subtract(builder: ir.IRBuilder, a: ir.Value, b: ir.Value) -> ir.Value:
    return builder.fsub(a, b)


def _multiply(builder: ir.IRBuilder, a: ir.Value, b: ir.Value) -> ir.Value:
    return builder.fmul(a, b)


def _divide(builder: ir.IRBuilder, a: ir.Value, b: ir.Value) -> ir.Value:
    return builder.fdiv(a, b)


# Where a is no larger, or one of the two is NaN, b is the result.
def emit_maximum(builder: ir.IRBuilder, a: ir.Value, b: ir.Value) -> ir.Value:
    return builder.select(builder.fcmp_ordered(">", a, b), a, b)


def _minimum(builder: ir.IRBuilder, a: ir.Value, b: ir.Value) -> ir.Value:
    return builder.select(builder.fcmp_ordered("<", a, b), a, b)


fma = _lane_by_lane(emit_fma, 3)  #: a * b + c, rounded once
maximum = _lane_by_lane(emit_maximum, 2)
minimum = _lane_by_lane(_minimum, 2)
sqrt = _lane_by_lane(_llvm("sqrt"), 1)
with_sign_of = _lane_by_lane(_llvm("copysign"), 2)  #: the size of a with the sign of b
absolute = _lane_by_lane(_llvm("fabs"), 1)
where_better = _lane_by_lane(_select_better, 4)  #: c where a is a maximum after b, else d
where_positive = _lane_by_lane(_select_positive, 3)  #: b where a > 0, else c
where_at_most_zero = _lane_by_lane(_select_at_most_zero, 3)  #: b where a <= 0, else c
with_exponent = _lane_by_lane(_with_exponent, 1)  #: 2**(k - 127) for k in the last bits of a
scale_by_power = _lane_by_lane(_scale_by_power, 2)  #: a * 2**b for whole b
exponent = _lane_by_lane(_exponent, 1)  #: the whole number below log2(a), for normal a > 0


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
