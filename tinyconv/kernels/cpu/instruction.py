"""How a kernel is given instructions of its own: functions that write LLVM code.

:func:`instruction` lets kernels call such a function, whose parameters say by their annotations
what they are. The functions named ``emit_...`` write what several of them need.
"""

import inspect
from collections.abc import Callable
from functools import wraps
from typing import Annotated, Any, Final, TypeAlias

import llvmlite.binding
import numba
from llvmlite import ir
from numba import types
from numba.core import cgutils
from numba.core.errors import RequireLiteralValue
from numba.extending import intrinsic, models, register_model


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


def vector_type(lanes: int) -> Vector:
    """The Numba type of a vector."""
    return Vector(lanes)


def tile_type(vectors: int, lanes: int) -> types.UniTuple:
    """The Numba type of a tile."""
    return types.UniTuple(Vector(lanes), vectors)


def literal(value: types.Type) -> int:
    """Return the compile-time constant behind a Numba type, or ask Numba to type it as one."""
    if not isinstance(value, types.IntegerLiteral):
        raise RequireLiteralValue("lanes, rows and columns are compile-time constants")
    return int(value.literal_value)


Builder: TypeAlias = ir.IRBuilder
#: What the parameters of an instruction are, and what it is handed for them: LLVM values, of a
#: tile a list of its vectors, of the places of its rows a list of numbers, and a Python number for
#: a compile-time constant. A table and bytes are pointers, to int32 and uint8.
Constant = Annotated[int, "constant"]
Int = Annotated[ir.Value, types.int64]
Float = Annotated[ir.Value, types.float32]
Pointer = Annotated[ir.Value, types.CPointer(types.float32)]
Table = Annotated[ir.Value, types.CPointer(types.int32)]
Bytes = Annotated[ir.Value, types.CPointer(types.uint8)]
Vec = Annotated[ir.Value, "vector"]
Tile = Annotated[list[ir.Value], "tile"]
Places = Annotated[list[ir.Value], "places"]


def instruction(result: Callable[..., types.Type] | None = None) -> Callable[[Any], Any]:
    """Let kernels call the decorated function, which writes instructions with a builder.

    All vectors that it takes are of one type, and likewise all tiles.

    Args:
        result: the type of what it returns, a function of any of its parameters by their names:
            constants as numbers, the others as their Numba types. Without one, the annotation
            says it: a vector or a tile is of the type of those that it takes.
    """

    def define(function: Any) -> Any:
        kinds = list(function.__annotations__.values())[1:]
        returned = kinds.pop()
        names = list(inspect.signature(function).parameters)[1:]
        asked = list(inspect.signature(result).parameters) if result is not None else []

        @wraps(function)
        def typed(typing: Any, *given: types.Type) -> Any:
            known: dict[Any, types.Type] = {None: types.void}
            wanted, constants = [], {}
            for name, kind, type_ in zip(names, kinds, given, strict=True):
                if kind is Constant:
                    constants[name] = literal(type_)
                    wanted.append(type_)
                    continue
                of_kind = kind.__metadata__[0]
                known.setdefault(kind, type_ if isinstance(of_kind, str) else of_kind)
                wanted.append(known[kind])
            if not isinstance(known.get(Vec, Vector(1)), Vector):
                return None
            if result is None:
                made = known.get(returned) or returned.__metadata__[0]
            else:
                of_name = dict(zip(names, wanted, strict=True)) | constants
                made = result(*(of_name[name] for name in asked))

            def emit(context: Any, builder: Builder, signature: Any, args: Any) -> ir.Value:
                values = [
                    constants[name]
                    if name in constants
                    else [builder.extract_value(value, n) for n in range(type_.count)]
                    if isinstance(type_, types.BaseTuple)
                    else value
                    for name, type_, value in zip(names, wanted, args, strict=True)
                ]
                written = function(builder, *values)
                if isinstance(written, list):
                    return context.make_tuple(builder, made, written)
                return context.get_dummy_value() if written is None else written

            return made(*wanted), emit

        return intrinsic(prefer_literal=True)(typed)

    return define


def emit_splat(builder: Builder, scalar: ir.Value, lanes: int) -> ir.Value:
    """Every lane is ``scalar``."""
    vector = ir.VectorType(scalar.type, lanes)
    first = builder.insert_element(ir.Constant(vector, ir.Undefined), scalar, INT32(0))
    mask = ir.Constant(ir.VectorType(INT32, lanes), [0] * lanes)
    return builder.shuffle_vector(first, ir.Constant(vector, ir.Undefined), mask)


def emit_call(builder: Builder, name: str, result: ir.Type, *args: ir.Value) -> ir.Value:
    """Call an LLVM intrinsic, e.g. ``llvm.fma.v16f32``."""
    signature = ir.FunctionType(result, [arg.type for arg in args])
    return builder.call(cgutils.get_or_insert_function(builder.module, signature, name), args)


def emit_fma(builder: Builder, a: ir.Value, b: ir.Value, c: ir.Value) -> ir.Value:
    """The sum a * b + c, rounded once."""
    return emit_call(builder, f"llvm.fma.v{a.type.count}f32", a.type, a, b, c)


def emit_load(builder: Builder, p: ir.Value, i: ir.Value, lanes: int) -> ir.Value:
    """The ``lanes`` numbers from ``p[i]`` on; any alignment."""
    place = builder.bitcast(builder.gep(p, [i]), ir.VectorType(FLOAT, lanes).as_pointer())
    return builder.load(place, align=4, typ=ir.VectorType(FLOAT, lanes))


def emit_store(builder: Builder, p: ir.Value, i: ir.Value, value: ir.Value) -> None:
    """Write all lanes to ``p[i]`` and what follows."""
    place = builder.bitcast(builder.gep(p, [i]), value.type.as_pointer())
    builder.store(value, place, align=4)


def emit_first_lanes(builder: Builder, count: ir.Value, lanes: int) -> ir.Value:
    """A mask that is true in the first ``count`` lanes."""
    index = ir.Constant(ir.VectorType(INT32, lanes), list(range(lanes)))
    return builder.icmp_signed("<", index, emit_splat(builder, builder.trunc(count, INT32), lanes))


def emit_store_first(
    builder: Builder, p: ir.Value, i: ir.Value, value: ir.Value, count: ir.Value
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


def emit_masked_load(builder: Builder, p: ir.Value, i: ir.Value, mask: ir.Value) -> ir.Value:
    """The numbers from ``p[i]`` on where the mask is true, else 0; the others are not touched."""
    lanes = mask.type.count
    vector = ir.VectorType(FLOAT, lanes)
    place = builder.bitcast(builder.gep(p, [i]), vector.as_pointer())
    zero = ir.Constant(vector, [0.0] * lanes)
    name = f"llvm.masked.load.v{lanes}f32.p0"
    return emit_call(builder, name, vector, place, INT32(4), mask, zero)


def emit_if_above(builder: Builder, count: ir.Value, n: int) -> Any:
    """Write what follows, in a ``with``, for ``count`` above n alone."""
    return builder.if_then(builder.icmp_signed(">", count, ir.Constant(count.type, n)))


def emit_plus(builder: Builder, i: ir.Value, *terms: ir.Value | int) -> ir.Value:
    """The index ``i`` plus each term."""
    for term in terms:
        if isinstance(term, int):
            term = ir.Constant(i.type, term)
        i = builder.add(i, term)
    return i


def emit_times(builder: Builder, stride: ir.Value, factor: int) -> ir.Value:
    """A whole number times a constant."""
    return builder.mul(stride, ir.Constant(stride.type, factor))


def emit_zeros(vector: ir.VectorType) -> ir.Value:
    """A vector of zeros."""
    return ir.Constant(vector, [0.0] * vector.count)


def emit_maximum(builder: Builder, a: ir.Value, b: ir.Value) -> ir.Value:
    """The larger one; b where a is no larger, or one of the two is NaN."""
    return builder.select(builder.fcmp_ordered(">", a, b), a, b)


def emit_better(builder: Builder, candidate: ir.Value, best: ir.Value) -> ir.Value:
    """Where a candidate is the maximum so far: larger or NaN, unless the best is NaN already."""
    return builder.and_(
        builder.fcmp_unordered(">", candidate, best), builder.fcmp_ordered("==", best, best)
    )


def emit_gated(builder: Builder, value: ir.Value, gate: ir.Value) -> ir.Value:
    """The value, but 0 where the gate is 0 or less: the slope of a ReLU."""
    zero = emit_zeros(value.type)
    return builder.select(builder.fcmp_ordered("<=", gate, zero), zero, value)


def emit_shuffle(builder: Builder, a: ir.Value, b: ir.Value, lanes: list[int]) -> ir.Value:
    """The vector of the given lanes of a and, counting on, of b."""
    return builder.shuffle_vector(a, b, ir.Constant(ir.VectorType(INT32, len(lanes)), lanes))


def emit_totals(builder: Builder, vectors: list[ir.Value], lanes: int) -> ir.Value:
    """A vector of ``lanes`` (a power of two) whose lane q is the sum of the lanes of vector q.

    A vector consists of groups of ``width`` lanes; a group is one sum in the making. Each round
    adds the second halves of all groups of two vectors to the first halves, which fill one
    vector. So V sums take V - 1 additions and a few, not V times log2(lanes).
    """
    L = vectors[0].type.count
    vectors = vectors + [emit_zeros(vectors[0].type)] * (lanes - len(vectors))
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
