"""Reads the data files of Nielsen's book, pickles of Python 2, without executing what they say.

A pickle may name any function and have it called. This reader knows numbers, lists, tuples and
NumPy's arrays of numbers, and refuses a file that names anything else.
"""

import gzip
import pickle
import zlib
from collections.abc import Callable
from pathlib import Path
from typing import Any, TypeAlias

import numpy as np

from tinyconv.errors import DataError

__all__ = ["read_book_pickle"]

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
        with gzip.open(path) as file:
            content = _Reader(file, encoding="latin1").load()
    except _Refused as refused:
        raise DataError(f"{path}: refused, because it would execute {refused}") from None
    except gzip.BadGzipFile:
        raise DataError(f"{path}: is no gzip file") from None
    except EOFError:
        raise DataError(f"{path}: is truncated") from None
    except zlib.error as error:
        raise DataError(f"{path}: is a damaged gzip file: {error}") from None
    except OSError as error:
        raise DataError(f"{path}: cannot be read: {error.strerror}") from None
    except Exception as error:  # a damaged pickle raises whatever its bytes lead to
        raise DataError(f"{path}: is no pickle of arrays: {error}") from None
    if not isinstance(content, list | tuple) or len(content) != 3:
        raise DataError(f"{path}: holds no three parts: training, validation and test data")
    names = ("training", "validation", "test")
    return [_pair(f"{path}: {name} data", part) for name, part in zip(names, content, strict=True)]


def _pair(what: str, part: Any) -> Pair:
    """Check one part, of arrays or of lists of rows, and bring it to the library's types."""
    if not isinstance(part, list | tuple) or len(part) != 2:
        raise DataError(f"{what}: no pair of images and labels")
    try:
        x, y = np.asarray(part[0], np.float32), np.asarray(part[1])
    except (TypeError, ValueError) as error:
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


class _Refused(Exception):
    """A pickle names something that it has no business with."""


def _empty_array(kind: Any, shape: Any, code: Any) -> np.ndarray[Any, Any]:
    """Stand in for ``numpy.core.multiarray._reconstruct``; the state that follows fills it."""
    return np.empty(0, np.uint8)


def _array_of_bytes(
    content: Any, dtype: np.dtype[Any], shape: tuple[int, ...], order: Any
) -> np.ndarray[Any, Any]:
    """Stand in for ``numpy._core.numeric._frombuffer``."""
    return np.frombuffer(content, dtype).reshape(shape, order=order)


def _scalar(dtype: np.dtype[Any], content: Any) -> Any:
    """Stand in for ``numpy.core.multiarray.scalar``."""
    encoded = content.encode("latin1") if isinstance(content, str) else content
    return np.frombuffer(encoded, dtype)[0]


def _dtype(code: Any, *flags: Any) -> np.dtype[Any]:
    """Stand in for ``numpy.dtype``, for numbers only."""
    dtype = np.dtype(str(code), copy=True)  # the state that follows changes it in place
    if dtype.kind not in "fiu":
        raise ValueError(f"an array of type {dtype}")
    return dtype


def _bytes(text: str, encoding: str) -> bytes:
    """Stand in for ``_codecs.encode``, by which old protocols write bytes."""
    return text.encode("latin1")


_KNOWN: dict[tuple[str, str], Callable[..., Any] | None] = {
    ("numpy", "dtype"): _dtype,
    ("numpy", "ndarray"): None,  # only handed to _reconstruct
    ("_codecs", "encode"): _bytes,
    **{
        (f"numpy.{core}.{module}", name): function
        for core in ("core", "_core")
        for module, name, function in (
            ("multiarray", "_reconstruct", _empty_array),
            ("multiarray", "scalar", _scalar),
            ("numeric", "_frombuffer", _array_of_bytes),
        )
    },
}


class _Reader(pickle.Unpickler):
    def find_class(self, module: str, name: str) -> Any:
        if (module, name) not in _KNOWN:
            raise _Refused(f"{module}.{name}")
        return _KNOWN[module, name]
