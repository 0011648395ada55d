"""Reads the data files of Nielsen's book, pickles of Python 2, without executing what they say.

A pickle is a program for a machine with a stack, which may name any function and have it called.
This reader first walks through the program, and refuses instructions, or a number of them, that
arrays do not need. Then Python's machine runs it, in which the few names that NumPy writes for an
array of numbers mean functions of this file, and all others are refused. NumPy's reconstruction of
arrays never sees it.
"""

import gzip
import io
import math
import pickle
import pickletools
import re
import zlib
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any, TypeAlias

import numpy as np

from tinyconv.backend import Values
from tinyconv.data.splits import most_unpacked
from tinyconv.errors import DAMAGED, DataError
from tinyconv.messages import shown

Pair: TypeAlias = tuple[Values, Values]


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
        _check(unpacked)
        content = _Unpickler(io.BytesIO(unpacked), encoding="latin1").load()
    except _Refused as refused:
        raise DataError(f"{path}: refused, because it would execute {refused}") from None
    except (pickle.UnpicklingError, *DAMAGED) as error:
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


def _images(value: Any, left: list[int]) -> Values:
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


def _labels(value: Any) -> Values:
    if isinstance(value, _Array):
        return value.numbers
    if not isinstance(value, list) or not all(isinstance(v, int) and abs(v) < 99 for v in value):
        raise ValueError(f"labels are {shown(value)}")
    return np.array(value, np.int64)


class _Refused(Exception):
    """A pickle names something that it has no business with."""


@dataclass
class _Dtype:
    """The type of an array: numbers of so many bytes, in this order."""

    code: str
    order: str = "="

    def __post_init__(self) -> None:
        if not isinstance(self.code, str) or not re.fullmatch("[<>=|]?[fiu][1248]", self.code):
            raise ValueError(f"an array of type {shown(self.code)}")

    def __setstate__(self, state: Any) -> None:
        """Take the byte order, all of the state that concerns numbers."""
        if not isinstance(state, tuple) or len(state) < 2 or state[1] not in ("<", ">", "=", "|"):
            raise ValueError(f"a type with the state {shown(state)}")
        self.order = state[1]

    def numbers(self, content: Any) -> Values:
        """Return the numbers that bytes are; Python 2 wrote bytes as text."""
        if isinstance(content, str):
            content = content.encode("latin1")
        if not isinstance(content, bytes | bytearray):
            raise ValueError(f"an array of {shown(content)}")
        return np.frombuffer(content, np.dtype(f"{self.order}{self.code.lstrip('<>=|')}"))


@dataclass
class _Array:
    """An array, empty until its state comes."""

    numbers: Values

    def __setstate__(self, state: Any) -> None:
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


#: What may be named, and what stands in for it; the class is handed to _reconstruct, never called.
_KNOWN: dict[tuple[str, str], Callable[..., Any] | None] = {
    ("numpy", "dtype"): lambda code, *flags: _Dtype(code),
    ("numpy", "ndarray"): None,
    ("_codecs", "encode"): _bytes,
    **{
        (f"numpy.{core}.{module}", name): called
        for core in ("core", "_core")
        for module, name, called in (
            ("multiarray", "_reconstruct", _reconstruct),
            ("multiarray", "scalar", _scalar),
            ("numeric", "_frombuffer", _from_buffer),
        )
    },
}


class _Unpickler(pickle.Unpickler):
    """Knows no names but those."""

    def find_class(self, module: str, name: str) -> Any:
        """Return what stands in for a function or a class."""
        if (module, name) not in _KNOWN:
            raise _Refused(f"{module}.{name}")
        return _KNOWN[module, name]


_INSTRUCTIONS = {instruction.code: instruction for instruction in pickletools.opcodes}

#: What a pickle of arrays consists of: numbers, texts, lists, tuples, calls and references.
_ALLOWED = frozenset(
    (
        *("PROTO", "FRAME", "STOP", "MARK", "POP", "NONE", "NEWTRUE", "NEWFALSE"),
        *("INT", "LONG", "LONG1", "BININT", "BININT1", "BININT2"),
        *("STRING", "BINSTRING", "SHORT_BINSTRING", "UNICODE", "BINUNICODE", "SHORT_BINUNICODE"),
        *("BINUNICODE8", "BINBYTES", "SHORT_BINBYTES", "BINBYTES8", "BYTEARRAY8"),
        *("EMPTY_TUPLE", "TUPLE", "TUPLE1", "TUPLE2", "TUPLE3"),
        *("EMPTY_LIST", "LIST", "APPEND", "APPENDS"),
        *("GLOBAL", "STACK_GLOBAL", "REDUCE", "BUILD", "MEMOIZE"),
        *("PUT", "BINPUT", "LONG_BINPUT", "GET", "BINGET", "LONG_BINGET"),
    )
)

#: Instructions that any file may have, and bytes that each further one must come with: so no more
#: objects are made than a file of such arrays needs.
FREE, BYTES = 10_000, 16


def _check(program: bytes) -> None:
    """Walk through a pickle, executing nothing, and refuse what arrays do not need.

    Raises:
        ValueError: an instruction is another one or not whole, or there are too many of them.
    """
    file, most = io.BytesIO(program), FREE + len(program) // BYTES
    for _ in range(most):
        code = file.read(1)
        instruction = _INSTRUCTIONS.get(code.decode("latin1"))
        if not code:
            raise ValueError("it ends too early")
        if instruction is None or instruction.name not in _ALLOWED:
            raise ValueError(f"instruction {code!r} at byte {file.tell() - 1}")
        if instruction.name == "STOP":
            return
        if instruction.name == "STRING":  # pickletools takes Python 2's bytes for ASCII
            pickletools.read_stringnl(file, decode=False)
            continue
        argument: Any = instruction.arg and instruction.arg.reader(file)
        if instruction.name.endswith("PUT") and not 0 <= argument < most:
            raise ValueError(f"a reference under {argument}")  # so much memory would be taken
    raise ValueError("more instructions than arrays need")
