"""Vectors for Numba kernels, as LLVM vector instructions; :mod:`tiles` is made of them.

Numba leaves vectorisation to LLVM, which finds no register accumulators in a convolution. Here a
kernel says what it wants. Two kinds of value:

- a *pointer*: ``pointer(address)`` is a float32 pointer; ``p[i]`` reads one number, and every
  function that takes ``p, i`` means the numbers from ``p[i]`` on;
- a *vector* of ``lanes`` float32 numbers, written with ``+ - * /`` and the functions below.

``lanes`` is a compile-time constant: a literal, a global or a variable of the closure around the
kernel. LLVM splits vectors that are longer than those of the machine, so any choice is right
everywhere; ``LANES`` is the one that is fast here. Nothing here checks a bound.
"""

import operator
from collections.abc import Callable
from typing import Any

from llvmlite import ir
from numba import types
from numba.core.typing import signature
from numba.core.typing.templates import AbstractTemplate, infer_global
from numba.extending import lower_builtin

from tinyconv.kernels.cpu import emit
from tinyconv.kernels.cpu.instruction import (
    INT8,
    INT32,
    Builder,
    Bytes,
    Constant,
    Float,
    Int,
    Pointer,
    Vec,
    Vector,
    instruction,
    vector_type,
)
from tinyconv.kernels.cpu.instruction import LANES as LANES
from tinyconv.kernels.cpu.instruction import REGISTERS as REGISTERS

# Pointers -------------------------------------------------------------------------------------


def _pointer_to(result: types.Type, element: ir.Type) -> Any:
    @instruction(result=lambda: result)
    def convert(builder: Builder, address: Int) -> Pointer:
        return builder.inttoptr(address, element.as_pointer())

    return convert


#: ``pointer(address)``: the address as a pointer to float32; the others to what they are named for.
pointer = _pointer_to(types.CPointer(types.float32), ir.FloatType())
ints_pointer = _pointer_to(types.CPointer(types.int32), INT32)
bytes_pointer = _pointer_to(types.CPointer(types.uint8), INT8)
doubles_pointer = _pointer_to(types.CPointer(types.float64), ir.DoubleType())
words_pointer = _pointer_to(types.CPointer(types.int64), ir.IntType(64))


@instruction()
def invoke(builder: Builder, function: Int, args: Int, thread: Int, first: Int, last: Int) -> None:
    """Call the kernel at the address ``function``: ``kernel(args, thread, first, last)``."""
    word, address = ir.IntType(64), INT8.as_pointer()
    kernel = ir.FunctionType(ir.VoidType(), [address, word, word, word])
    target = builder.inttoptr(function, kernel.as_pointer())
    builder.call(target, [builder.inttoptr(args, address), thread, first, last])


# Vectors --------------------------------------------------------------------------------------


@instruction(result=vector_type)
def splat(builder: Builder, x: Float, lanes: Constant) -> Vec:
    """A vector of ``lanes`` times ``x``."""
    return emit.splat(builder, x, lanes)


@instruction()
def all_lanes(builder: Builder, x: Float, vector: Vec) -> Vec:
    """A vector of the length of ``vector`` whose lanes are all ``x``."""
    return emit.splat(builder, x, vector.type.count)


@instruction(result=vector_type)
def load(builder: Builder, p: Pointer, i: Int, lanes: Constant) -> Vec:
    """The ``lanes`` numbers from ``p[i]`` on; any alignment."""
    return emit.load(builder, p, i, lanes)


@instruction(result=vector_type)
def load_first(builder: Builder, p: Pointer, i: Int, count: Int, lanes: Constant) -> Vec:
    """The first ``count`` numbers from ``p[i]`` on, then zeros; what follows is not touched."""
    return emit.masked_load(builder, p, i, emit.first_lanes(builder, count, lanes))


@instruction()
def prefetch(builder: Builder, p: Pointer, i: Int) -> None:
    """Let the cache line of ``p[i]`` come to the second cache, while other work goes on."""
    place = builder.bitcast(builder.gep(p, [i]), INT8.as_pointer())
    hints = (INT32(0), INT32(2), INT32(1))  # to read, level 2, data
    emit.call(builder, "llvm.prefetch.p0", ir.VoidType(), place, *hints)


@instruction()
def store(builder: Builder, p: Pointer, i: Int, value: Vec) -> None:
    """Write all lanes of ``value`` to ``p[i]`` and what follows."""
    emit.store(builder, p, i, value)


@instruction()
def store_first(builder: Builder, p: Pointer, i: Int, value: Vec, count: Int) -> None:
    """Write the first ``count`` lanes of ``value``; all of them if ``count`` is larger."""
    emit.store_first(builder, p, i, value, count)


@instruction()
def store_bytes(builder: Builder, p: Bytes, i: Int, value: Vec, n: Int) -> None:
    """Write the first n lanes, whole numbers below 256, to bytes from ``p[i]`` on."""
    small = builder.fptoui(value, ir.VectorType(INT8, value.type.count))
    emit.store_first(builder, p, i, small, n)


@instruction()
def first_lanes(builder: Builder, value: Vec, count: Int) -> Vec:
    """The first ``count`` lanes of ``value``, then zeros."""
    zero = emit.zeros(value.type)
    return builder.select(emit.first_lanes(builder, count, value.type.count), value, zero)


@instruction()
def total(builder: Builder, value: Vec) -> Float:
    """The sum of all lanes, added in halves."""
    return builder.extract_element(emit.totals(builder, [value], 1), INT32(0))


@instruction()
def largest(builder: Builder, value: Vec) -> Float:
    """The largest of all lanes; of any of them where one is NaN."""
    return builder.extract_element(emit.totals(builder, [value], 1, emit.maximum), INT32(0))


@instruction()
def where_positive(builder: Builder, a: Vec, b: Vec, c: Vec) -> Vec:
    """The vector b where a > 0, else c."""
    return builder.select(builder.fcmp_ordered(">", a, emit.zeros(a.type)), b, c)


@instruction()
def where_at_most_zero(builder: Builder, a: Vec, b: Vec, c: Vec) -> Vec:
    """The vector b where a <= 0, else c."""
    return builder.select(builder.fcmp_ordered("<=", a, emit.zeros(a.type)), b, c)


@instruction()
def where_better(builder: Builder, a: Vec, b: Vec, c: Vec, d: Vec) -> Vec:
    """The vector c where a is a maximum after b, else d."""
    return builder.select(emit.better(builder, a, b), c, d)


@instruction()
def exponent(builder: Builder, a: Vec) -> Vec:
    """The whole number below log2(a), for normal a > 0: the exponent's bits as a number."""
    whole = ir.VectorType(INT32, a.type.count)
    shift, bias = (ir.Constant(whole, [n] * a.type.count) for n in (23, 127))
    bits = builder.lshr(builder.bitcast(a, whole), shift)
    return builder.sitofp(builder.sub(bits, bias), a.type)


@instruction()
def scale_by_power(builder: Builder, a: Vec, n: Vec) -> Vec:
    """The product a * 2**n for whole n, by adding n to the exponent's bits."""
    lanes = a.type.count
    whole = ir.VectorType(INT32, lanes)
    shift = ir.Constant(whole, [23] * lanes)
    added = builder.shl(builder.fptosi(n, whole), shift)
    return builder.bitcast(builder.add(builder.bitcast(a, whole), added), a.type)


@instruction()
def with_exponent(builder: Builder, a: Vec) -> Vec:
    """The power 2**(k - 127) for k in the last bits of a, which become the exponent."""
    whole = ir.VectorType(INT32, a.type.count)
    bits = builder.shl(builder.bitcast(a, whole), ir.Constant(whole, [23] * a.type.count))
    return builder.bitcast(bits, a.type)


@instruction()
def fma(builder: Builder, a: Vec, b: Vec, c: Vec) -> Vec:
    """The sum a * b + c, rounded once."""
    return emit.fma(builder, a, b, c)


@instruction()
def maximum(builder: Builder, a: Vec, b: Vec) -> Vec:
    """The larger one; b where a is no larger, or one of the two is NaN."""
    return emit.maximum(builder, a, b)


@instruction()
def minimum(builder: Builder, a: Vec, b: Vec) -> Vec:
    """The smaller one; b where a is no smaller, or one of the two is NaN."""
    return builder.select(builder.fcmp_ordered("<", a, b), a, b)


def polynomial(*coefficients: float) -> Any:
    """Return the function of a vector x that is the sum of ``coefficients[n] * x**n``."""

    @instruction()
    def evaluate(builder: Builder, x: Vec) -> Vec:
        *others, value = (ir.Constant(x.type, [float(c)] * x.type.count) for c in coefficients)
        for other in reversed(others):
            value = emit.fma(builder, value, x, other)
        return value

    return evaluate


def _of_llvm(name: str, a: ir.Value) -> tuple[str, ir.Type]:
    return f"llvm.{name}.v{a.type.count}f32", a.type


@instruction()
def sqrt(builder: Builder, a: Vec) -> Vec:
    """The square root of each lane."""
    return emit.call(builder, *_of_llvm("sqrt", a), a)


@instruction()
def absolute(builder: Builder, a: Vec) -> Vec:
    """The size of each lane."""
    return emit.call(builder, *_of_llvm("fabs", a), a)


@instruction()
def with_sign_of(builder: Builder, a: Vec, b: Vec) -> Vec:
    """The size of a with the sign of b."""
    return emit.call(builder, *_of_llvm("copysign", a), a, b)


@instruction()
def nonzero_lanes(builder: Builder, value: Vec) -> Int:
    """A whole number whose bit k is 1 where lane k is not 0."""
    mask = builder.fcmp_unordered("!=", value, emit.zeros(value.type))
    bits = builder.bitcast(mask, ir.IntType(value.type.count))
    return builder.zext(bits, ir.IntType(64))


@instruction()
def first_bit(builder: Builder, bits: Int) -> Int:
    """The place of the lowest bit of a number that is not 0."""
    return builder.cttz(bits, ir.Constant(ir.IntType(1), 1))


def _operator(symbol: Callable[..., Any], name: str) -> None:
    """Let two vectors be joined by a Python operator, the builder's method of that name."""

    @infer_global(symbol)
    class Typing(AbstractTemplate):
        def generic(self, args: Any, kws: Any) -> Any:
            a, b = args
            return signature(a, a, b) if isinstance(a, Vector) and a == b else None

    @lower_builtin(symbol, Vector, Vector)
    def lower(context: Any, builder: Builder, signature: Any, args: Any) -> ir.Value:
        return getattr(builder, name)(*args)


_operator(operator.add, "fadd")
_operator(operator.sub, "fsub")
_operator(operator.mul, "fmul")
_operator(operator.truediv, "fdiv")
