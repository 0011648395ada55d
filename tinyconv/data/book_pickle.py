"""Reads the data files of Nielsen's book, pickles of Python 2, without executing what they say.

A pickle is a program for a machine with a stack, which may name any function and have it called.
This reader walks through the program itself: it knows numbers, texts, lists, tuples and what NumPy
writes for an array of numbers, and refuses everything else. Neither Python's own machine nor
NumPy's reconstruction of arrays ever sees the file. :mod:`pickletools` describes the instructions
and reads their arguments.
"""

import codecs
import gzip
import io
import math
import pickletools
import re
import zlib
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any, NamedTuple, TypeAlias

import numpy as np

from tinyconv.data.limits import most_unpacked
from tinyconv.errors import DataError
from tinyconv.messages import shown

Pair: TypeAlias = tuple[np.ndarray[Any, Any], np.ndarray[Any, Any]]


def read_book_pickle(path: str | Path) -> list[Pair]:
    """Return the three pairs (images, labels) of ``mnist.pkl.gz`` or ``mnist_expanded.pkl.gz``.

    Returns:
        Images (N, 784), float32 in [0, 1], and labels (N,), int32 from 0 to 9, of the training,
        validation and test data.

    Raises:
        DataError: the file cannot be read, is damaged, names anything but arrays of numbers, or
            holds something else than the book's data.
    """
    try:
        most = most_unpacked(path)
        with gzip.open(path) as file:
            unpacked = file.read(most + 1)
    except gzip.BadGzipFile:
        raise DataError(f"{path}: is no gzip file") from None
    except EOFError:
        raise DataError(f"{path}: is truncated") from None
    except zlib.error as error:
        raise DataError(f"{path}: is a damaged gzip file: {error}") from None
    except OSError as error:
        raise DataError(f"{path}: cannot be read: {error.strerror}") from None
    if len(unpacked) > most:
        raise DataError(f"{path}: unpacks to more than {most:,} bytes")
    if not unpacked:
        raise DataError(f"{path}: is truncated")
    try:
        content = _Machine(unpacked).run()
    except _Refused as refused:
        raise DataError(f"{path}: refused, because it would execute {refused}") from None
    except (ValueError, IndexError) as error:
        raise DataError(f"{path}: is no pickle of arrays: {error}") from None
    if not isinstance(content, list | tuple) or len(content) != 3:
        raise DataError(f"{path}: holds no three parts: training, validation and test data")
    names = ("training", "validation", "test")
    left = [len(unpacked)]  # a number takes a byte of the file at least; references repeat some
    return [
        _pair(f"{path}: {name} data", part, left) for name, part in zip(names, content, strict=True)
    ]


def _pair(what: str, part: Any, left: list[int]) -> Pair:
    """Check one part, of arrays or of lists of rows, and bring it to the library's types."""
    if not isinstance(part, list | tuple) or len(part) != 2:
        raise DataError(f"{what}: no pair of images and labels")
    try:
        x, y = _images(part[0], left), _labels(part[1])
    except ValueError as error:
        raise DataError(f"{what}: no arrays of numbers: {error}") from None
    if x.ndim != 2 or x.shape[1] != 784:
        raise DataError(f"{what}: images of shape {x.shape}, expected (N, 784)")
    if y.shape != (len(x),):
        raise DataError(f"{what}: labels of shape {y.shape}, expected ({len(x)},)")
    if y.dtype.kind not in "iu":
        raise DataError(f"{what}: labels of type {y.dtype}, expected integers")
    if len(y) and not (y.min() >= 0 and y.max() <= 9):
        raise DataError(f"{what}: labels from {y.min()} to {y.max()}, expected 0 to 9")
    if x.size and not (x.min() >= 0 and x.max() <= 1):
        raise DataError(f"{what}: values from {x.min()} to {x.max()}, expected them in [0, 1]")
    return x, y.astype(np.int32)


def _images(value: Any, left: list[int]) -> np.ndarray[Any, Any]:
    """Return images from an array of them or a list of rows, while there are bytes ``left``."""
    if isinstance(value, _Array):
        return value.numbers.astype(np.float32)
    if not isinstance(value, list) or not all(isinstance(row, _Array) for row in value):
        raise ValueError(f"images are {shown(value)}")
    shapes = {row.numbers.shape for row in value}
    if len(shapes) != 1:
        raise ValueError(f"rows of {len(shapes)} shapes")
    left[0] -= len(value) * math.prod(shapes.pop())
    if left[0] < 0:
        raise ValueError("a row is repeated")
    return np.array([row.numbers for row in value], np.float32)


def _labels(value: Any) -> np.ndarray[Any, Any]:
    if isinstance(value, _Array):
        return value.numbers
    if not isinstance(value, list) or not all(isinstance(v, int) and abs(v) < 99 for v in value):
        raise ValueError(f"labels are {shown(value)}")
    return np.array(value, np.int64)


class _Refused(Exception):
    """A pickle names something that it has no business with."""


class _Name(NamedTuple):
    """What a pickle calls a function or a class."""

    module: str
    name: str


class _Mark:
    """The place on the stack where a list or a tuple begins."""


@dataclass
class _Dtype:
    """The type of an array: numbers of so many bytes, in this order."""

    code: str
    order: str = "="

    def __post_init__(self) -> None:
        if not isinstance(self.code, str) or not re.fullmatch("[<>=|]?[fiu][1248]", self.code):
            raise ValueError(f"an array of type {shown(self.code)}")

    def build(self, state: Any) -> None:
        """Take the byte order, all of the state that concerns numbers."""
        if not isinstance(state, tuple) or len(state) < 2 or state[1] not in ("<", ">", "=", "|"):
            raise ValueError(f"a type with the state {shown(state)}")
        self.order = state[1]

    def numbers(self, content: Any) -> np.ndarray[Any, Any]:
        """Return the numbers that bytes are; Python 2 wrote bytes as text."""
        if isinstance(content, str):
            content = content.encode("latin1")
        if not isinstance(content, bytes | bytearray):
            raise ValueError(f"an array of {shown(content)}")
        return np.frombuffer(content, np.dtype(f"{self.order}{self.code.lstrip('<>=|')}"))


@dataclass
class _Array:
    """An array, empty until its state comes."""

    numbers: np.ndarray[Any, Any]

    def build(self, state: Any) -> None:
        """Take the shape, the type and the bytes."""
        if not isinstance(state, tuple) or len(state) != 5:
            raise ValueError(f"an array with the state {shown(state)}")
        _, shape, dtype, columns_first, content = state
        self.fill(content, dtype, shape, "F" if columns_first else "C")

    def fill(self, content: Any, dtype: Any, shape: Any, order: Any) -> None:
        """Take bytes that are as many as the shape says."""
        if not isinstance(dtype, _Dtype) or order not in ("C", "F"):
            raise ValueError(f"an array of type {shown(dtype)}")
        numbers = dtype.numbers(content)
        if not isinstance(shape, tuple) or not all(type(n) is int and n >= 0 for n in shape):
            raise ValueError(f"an array of shape {shown(shape)}")
        if math.prod(shape) != len(numbers):
            raise ValueError(f"{len(numbers)} numbers for an array of shape {shape}")
        self.numbers = numbers.reshape(shape, order=order)


def _reconstruct(kind: Any, shape: Any, code: Any) -> _Array:
    return _Array(np.empty(0, np.uint8))


def _from_buffer(content: Any, dtype: Any, shape: Any, order: Any) -> _Array:
    array = _Array(np.empty(0, np.uint8))
    array.fill(content, dtype, shape, order)
    return array


def _scalar(dtype: Any, content: Any) -> int | float:
    if not isinstance(dtype, _Dtype):
        raise ValueError(f"a number of type {shown(dtype)}")
    number: int | float = dtype.numbers(content).reshape(()).item()
    return number


def _bytes(text: Any, encoding: Any) -> bytes:
    """Stand in for ``_codecs.encode``, by which old protocols write bytes."""
    if not isinstance(text, str) or encoding != "latin1":
        raise ValueError(f"bytes of {shown(text)}")
    return text.encode("latin1")


#: What may be called, and the number of arguments it takes at least and at most.
_KNOWN: dict[_Name, tuple[Callable[..., Any], int, int]] = {
    _Name("numpy", "dtype"): (lambda code, *flags: _Dtype(code), 1, 3),
    _Name("_codecs", "encode"): (_bytes, 2, 2),
    **{
        _Name(f"numpy.{core}.{module}", name): called
        for core in ("core", "_core")
        for module, name, called in (
            ("multiarray", "_reconstruct", (_reconstruct, 3, 3)),
            ("multiarray", "scalar", (_scalar, 2, 2)),
            ("numeric", "_frombuffer", (_from_buffer, 4, 4)),
        )
    },
}
_CLASS = _Name("numpy", "ndarray")  # handed to _reconstruct, never called


_INSTRUCTIONS = {instruction.code: instruction for instruction in pickletools.opcodes}


class _Machine:
    """Walks through a pickle; holds no more objects than a file of such arrays needs."""

    #: Instructions that any file may have, and bytes that each further one must come with.
    FREE, BYTES = 10_000, 16

    def __init__(self, program: bytes) -> None:
        self.program = io.BytesIO(program)
        self.most = self.FREE + len(program) // self.BYTES
        self.stack: list[Any] = []
        self.memo: dict[int, Any] = {}

    def run(self) -> Any:
        """Return what the program leaves on the stack."""
        for _ in range(self.most):
            code = self.program.read(1)
            if not code:
                raise ValueError("it ends too early")
            instruction = _INSTRUCTIONS.get(code.decode("latin1"))
            if instruction is None or instruction.name not in _STEPS:
                raise ValueError(f"instruction {code!r} at byte {self.program.tell() - 1}")
            if instruction.name == "STOP":
                return self.stack.pop()
            _STEPS[instruction.name](self, self.argument(instruction))
        raise ValueError("more instructions than arrays need")

    def argument(self, instruction: pickletools.OpcodeInfo) -> Any:
        """Return what stands behind an instruction."""
        if instruction.name == "STRING":  # pickletools takes Python 2's bytes for ASCII
            quoted = pickletools.read_stringnl(self.program, decode=False)
            return codecs.escape_decode(quoted)[0].decode("latin1")
        return instruction.arg and instruction.arg.reader(self.program)

    def items(self) -> list[Any]:
        """Take everything above the last mark off the stack, and the mark."""
        place = len(self.stack) - 1
        while place >= 0 and not isinstance(self.stack[place], _Mark):
            place -= 1
        if place < 0:
            raise ValueError("a list without a beginning")
        above = self.stack[place + 1 :]
        del self.stack[place:]
        return above

    def push(self, value: Any) -> None:
        self.stack.append(value)

    def pop(self, count: int) -> list[Any]:
        if len(self.stack) < count:
            raise ValueError("the stack is empty")
        values = self.stack[len(self.stack) - count :]
        del self.stack[len(self.stack) - count :]
        return values

    def extend(self, values: list[Any]) -> None:
        """Append to the list on top of the stack."""
        if not isinstance(self.stack[-1], list):
            raise ValueError("what is appended to is no list")
        self.stack[-1].extend(values)

    def name(self, module: Any, name: Any) -> None:
        """Push the name of a function that is known."""
        known = isinstance(module, str) and isinstance(name, str)
        if not known or (_Name(module, name) not in _KNOWN and (module, name) != _CLASS):
            raise _Refused(f"{module}.{name}")
        self.push(_Name(module, name))

    def call(self) -> None:
        function, arguments = self.pop(2)
        if function not in _KNOWN if isinstance(function, _Name) else True:
            raise ValueError(f"a call of {shown(function)}")
        called, least, most = _KNOWN[function]
        if not isinstance(arguments, tuple) or not least <= len(arguments) <= most:
            raise ValueError(f"a call of {function.name} with {shown(arguments)}")
        self.push(called(*arguments))

    def build(self) -> None:
        (state,) = self.pop(1)
        if not isinstance(self.stack[-1], _Dtype | _Array):
            raise ValueError(f"a state of {shown(self.stack[-1])}")
        self.stack[-1].build(state)

    def get(self, key: int) -> None:
        if key not in self.memo:
            raise ValueError(f"nothing was noted under {key}")
        self.push(self.memo[key])

    def put(self, key: int) -> None:
        self.memo[key] = self.stack[-1]


#: Instructions whose argument is a number, a text or bytes.
_VALUES = (
    *("INT", "LONG", "LONG1", "BININT", "BININT1", "BININT2", "STRING", "BINSTRING", "UNICODE"),
    *("SHORT_BINSTRING", "BINUNICODE", "SHORT_BINUNICODE", "BINUNICODE8", "BINBYTES"),
    *("SHORT_BINBYTES", "BINBYTES8", "BYTEARRAY8"),
)

#: What an instruction does, given its argument, by the name that :mod:`pickletools` has for it.
_STEPS: dict[str, Callable[[_Machine, Any], None]] = {
    **dict.fromkeys(("PROTO", "FRAME", "STOP"), lambda m, _: None),
    **dict.fromkeys(_VALUES, _Machine.push),
    "NONE": _Machine.push,  # whose argument is None
    "NEWTRUE": lambda m, _: m.push(True),
    "NEWFALSE": lambda m, _: m.push(False),
    "MARK": lambda m, _: m.push(_Mark()),
    "POP": lambda m, _: m.pop(1).clear(),
    "EMPTY_TUPLE": lambda m, _: m.push(()),
    "TUPLE": lambda m, _: m.push(tuple(m.items())),
    "TUPLE1": lambda m, _: m.push(tuple(m.pop(1))),
    "TUPLE2": lambda m, _: m.push(tuple(m.pop(2))),
    "TUPLE3": lambda m, _: m.push(tuple(m.pop(3))),
    "EMPTY_LIST": lambda m, _: m.push([]),
    "LIST": lambda m, _: m.push(m.items()),
    "APPEND": lambda m, _: m.extend(m.pop(1)),
    "APPENDS": lambda m, _: m.extend(m.items()),
    "GLOBAL": lambda m, words: m.name(*words.split(" ", 1)),
    "STACK_GLOBAL": lambda m, _: m.name(*m.pop(2)),
    "REDUCE": lambda m, _: m.call(),
    "BUILD": lambda m, _: m.build(),
    "MEMOIZE": lambda m, _: m.put(len(m.memo)),
    **dict.fromkeys(("PUT", "BINPUT", "LONG_BINPUT"), _Machine.put),
    **dict.fromkeys(("GET", "BINGET", "LONG_BINGET"), _Machine.get),
}
