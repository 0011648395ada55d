"""What instructions (:mod:`instruction`) are written with: a function a piece of LLVM code."""

from collections.abc import Callable
from typing import Any

from llvmlite import ir
from numba.core import cgutils

from tinyconv.kernels.cpu.instruction import FLOAT, INT32, REGISTERS, Builder


def splat(builder: Builder, scalar: ir.Value, lanes: int) -> ir.Value:
    """Every lane is ``scalar``."""
    vector = ir.VectorType(scalar.type, lanes)
    first = builder.insert_element(ir.Constant(vector, ir.Undefined), scalar, INT32(0))
    mask = ir.Constant(ir.VectorType(INT32, lanes), [0] * lanes)
    return builder.shuffle_vector(first, ir.Constant(vector, ir.Undefined), mask)


def call(builder: Builder, name: str, result: ir.Type, *args: ir.Value) -> ir.Value:
    """Call an LLVM intrinsic, e.g. ``llvm.fma.v16f32``."""
    signature = ir.FunctionType(result, [arg.type for arg in args])
    return builder.call(cgutils.get_or_insert_function(builder.module, signature, name), args)


def fma(builder: Builder, a: ir.Value, b: ir.Value, c: ir.Value) -> ir.Value:
    """The sum a * b + c, rounded once."""
    return call(builder, f"llvm.fma.v{a.type.count}f32", a.type, a, b, c)


def load(builder: Builder, p: ir.Value, i: ir.Value, lanes: int) -> ir.Value:
    """The ``lanes`` numbers from ``p[i]`` on; any alignment."""
    place = builder.bitcast(builder.gep(p, [i]), ir.VectorType(FLOAT, lanes).as_pointer())
    return builder.load(place, align=4, typ=ir.VectorType(FLOAT, lanes))


def store(builder: Builder, p: ir.Value, i: ir.Value, value: ir.Value) -> None:
    """Write all lanes to ``p[i]`` and what follows."""
    place = builder.bitcast(builder.gep(p, [i]), value.type.as_pointer())
    builder.store(value, place, align=4)


def first_lanes(builder: Builder, count: ir.Value, lanes: int) -> ir.Value:
    """A mask that is true in the first ``count`` lanes."""
    index = ir.Constant(ir.VectorType(INT32, lanes), list(range(lanes)))
    return builder.icmp_signed("<", index, splat(builder, builder.trunc(count, INT32), lanes))


def store_first(
    builder: Builder, p: ir.Value, i: ir.Value, value: ir.Value, count: ir.Value
) -> None:
    """Write the first ``count`` lanes of floats or bytes, all of them if ``count`` is larger.

    Only AVX-512 has masks that cost nothing; without it, a whole vector takes a way of its own.
    """
    place, lanes = builder.bitcast(builder.gep(p, [i]), value.type.as_pointer()), value.type.count
    kind, align = ("f32", 4) if value.type.element == FLOAT else ("i8", 1)

    def store_masked() -> None:
        name, mask = f"llvm.masked.store.v{lanes}{kind}.p0", first_lanes(builder, count, lanes)
        call(builder, name, ir.VoidType(), value, place, INT32(align), mask)

    if REGISTERS >= 32:
        store_masked()
        return
    whole = builder.icmp_signed(">=", count, ir.Constant(count.type, lanes))
    with builder.if_else(whole) as (then, otherwise):
        with then:
            builder.store(value, place, align=align)
        with otherwise:
            store_masked()


def masked_load(builder: Builder, p: ir.Value, i: ir.Value, mask: ir.Value) -> ir.Value:
    """The numbers from ``p[i]`` on where the mask is true, else 0; the others are not touched."""
    lanes = mask.type.count
    vector = ir.VectorType(FLOAT, lanes)
    place = builder.bitcast(builder.gep(p, [i]), vector.as_pointer())
    zero = ir.Constant(vector, [0.0] * lanes)
    name = f"llvm.masked.load.v{lanes}f32.p0"
    return call(builder, name, vector, place, INT32(4), mask, zero)


def if_above(builder: Builder, count: ir.Value, n: int) -> Any:
    """Write what follows, in a ``with``, for ``count`` above n alone."""
    return builder.if_then(builder.icmp_signed(">", count, ir.Constant(count.type, n)))


def plus(builder: Builder, i: ir.Value, *terms: ir.Value | int) -> ir.Value:
    """The index ``i`` plus each term."""
    for term in terms:
        if isinstance(term, int):
            term = ir.Constant(i.type, term)
        i = builder.add(i, term)
    return i


def times(builder: Builder, stride: ir.Value, factor: int) -> ir.Value:
    """A whole number times a constant."""
    return builder.mul(stride, ir.Constant(stride.type, factor))


def zeros(vector: ir.VectorType) -> ir.Value:
    """A vector of zeros."""
    return ir.Constant(vector, [0.0] * vector.count)


def maximum(builder: Builder, a: ir.Value, b: ir.Value) -> ir.Value:
    """The larger one; b where a is no larger, or one of the two is NaN."""
    return builder.select(builder.fcmp_ordered(">", a, b), a, b)


def better(builder: Builder, candidate: ir.Value, best: ir.Value) -> ir.Value:
    """Where a candidate is the maximum so far: larger or NaN, unless the best is NaN already."""
    return builder.and_(
        builder.fcmp_unordered(">", candidate, best), builder.fcmp_ordered("==", best, best)
    )


def gated(builder: Builder, value: ir.Value, gate: ir.Value) -> ir.Value:
    """The value, but 0 where the gate is 0 or less: the slope of a ReLU."""
    zero = zeros(value.type)
    return builder.select(builder.fcmp_ordered("<=", gate, zero), zero, value)


def shuffle(builder: Builder, a: ir.Value, b: ir.Value, lanes: list[int]) -> ir.Value:
    """The vector of the given lanes of a and, counting on, of b."""
    return builder.shuffle_vector(a, b, ir.Constant(ir.VectorType(INT32, len(lanes)), lanes))


def totals(
    builder: Builder,
    vectors: list[ir.Value],
    lanes: int,
    join: Callable[[Builder, ir.Value, ir.Value], ir.Value] = ir.IRBuilder.fadd,
) -> ir.Value:
    """A vector of ``lanes`` (a power of two) whose lane q is the sum of the lanes of vector q.

    A vector consists of groups of ``width`` lanes; a group is one sum in the making. Each round
    adds the second halves of all groups of two vectors to the first halves, which fill one
    vector. So V sums take V - 1 additions and a few, not V times log2(lanes).
    """
    L = vectors[0].type.count
    vectors = vectors + [zeros(vectors[0].type)] * (lanes - len(vectors))
    width = L
    while width > 1:
        half = width // 2
        firsts = [lane for lane in range(len(vectors[:2]) * L) if lane % width < half]
        seconds = [lane + half for lane in firsts]
        if len(vectors) == 1:
            vectors = [vectors[0], vectors[0]]
        vectors = [
            join(builder, shuffle(builder, a, b, firsts), shuffle(builder, a, b, seconds))
            for a, b in zip(vectors[0::2], vectors[1::2], strict=True)
        ]
        L, width = len(firsts), half
    while len(vectors) > 1:
        L = vectors[0].type.count
        vectors = [
            shuffle(builder, a, b, list(range(2 * L)))
            for a, b in zip(vectors[0::2], vectors[1::2], strict=True)
        ]
    return vectors[0]
