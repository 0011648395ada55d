"""How a kernel is given instructions of its own: functions that write LLVM code.

:func:`instruction` lets kernels call such a function, whose parameters say by their annotations
what they are. Those of :mod:`emit` write what several of them need.
"""

import inspect
from collections.abc import Callable
from functools import wraps
from typing import Annotated, Any, Final, TypeAlias

import llvmlite.binding
import numba
from llvmlite import ir
from numba import types
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
                if kind in (Constant, Places):
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
