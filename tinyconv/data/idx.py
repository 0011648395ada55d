"""IDX, the file format of MNIST: a header of big-endian sizes, then the numbers as bytes.

======  ============================================================
byte    holds
======  ============================================================
0, 1    zero
2       the type of the numbers; 8 is an unsigned byte, MNIST's type
3       the rank R: 1 for labels, 3 for images
4 …     R sizes of four bytes each, the slowest-moving first
then    the numbers, in row-major order, to the end of the file
======  ============================================================

Source: the page of the MNIST database (http://yann.lecun.com/exdb/mnist/).
"""

import gzip
import io
import math
import struct
import zlib
from collections.abc import Callable
from pathlib import Path
from typing import IO, Any, cast

import numpy as np

from tinyconv.data.limits import check_unpacked
from tinyconv.errors import DataError

GZIP_MAGIC = b"\x1f\x8b"
UNSIGNED_BYTE = 8
MOST_AXES = 4  # samples, channels, height and width


def read_idx(
    path: str | Path, shape: tuple[int, ...] | None = None
) -> np.ndarray[Any, np.dtype[np.uint8]]:
    """Read an IDX file of bytes, gzipped or not.

    At most one byte beyond the array is read, so a compressed file that unpacks to more costs no
    memory, and neither does a header that claims what the file cannot hold.

    Args:
        path: of the file.
        shape: what it has to hold; whatever its header says if None.

    Raises:
        DataError: the file cannot be read, is no IDX file of bytes, holds another shape, or is
            truncated, oversized or damaged. The message starts with its path.
    """
    try:
        with open(path, "rb") as file:
            return _read(file, shape, str(path), lambda size: check_unpacked(path, size))
    except OSError as error:
        raise DataError(f"{path}: cannot be read: {error.strerror}") from error


def parse_idx(
    content: bytes, shape: tuple[int, ...], name: str
) -> np.ndarray[Any, np.dtype[np.uint8]]:
    """Do the same for the bytes of a file; ``name`` stands for its path in messages.

    >>> parse_idx(b"\\0\\0\\x08\\x01" + b"\\0\\0\\0\\x03" + b"\\x07\\x02\\x01", (3,), "labels")
    array([7, 2, 1], dtype=uint8)
    >>> parse_idx(b"\\x89PNG....", (3,), "labels")
    Traceback (most recent call last):
    tinyconv.errors.DataError: labels: is no IDX file of bytes: it starts with b'\\x89PNG', \
expected b'\\x00\\x00\\x08\\x01'
    """
    return _read(io.BytesIO(content), shape, name, lambda size: None)


def _read(
    file: IO[bytes], shape: tuple[int, ...] | None, name: str, check: Callable[[int], None]
) -> np.ndarray[Any, np.dtype[np.uint8]]:
    start = file.read(2)
    file.seek(0)
    if start != GZIP_MAGIC:
        return _read_plain(file, shape, name, check)
    try:
        with gzip.open(file) as unzipped:
            return _read_plain(cast(IO[bytes], unzipped), shape, name, check)
    except EOFError as error:
        raise DataError(f"{name}: is truncated: its gzip stream has no end") from error
    except (gzip.BadGzipFile, zlib.error) as error:
        raise DataError(f"{name}: is a damaged gzip file: {error}") from error


def _read_plain(
    file: IO[bytes], shape: tuple[int, ...] | None, name: str, check: Callable[[int], None]
) -> np.ndarray[Any, np.dtype[np.uint8]]:
    magic = file.read(4)
    if len(magic) < 4:
        raise DataError(f"{name}: is truncated: it has {len(magic)} bytes")
    rank = min(magic[3], MOST_AXES) if shape is None else len(shape)
    expected = bytes([0, 0, UNSIGNED_BYTE, rank])
    if magic[:3] != expected[:3]:
        raise DataError(
            f"{name}: is no IDX file of bytes: it starts with {magic!r}, expected {expected!r}"
        )
    if magic[3] != rank:
        raise DataError(f"{name}: is mislabelled: it holds an array of rank {magic[3]}, not {rank}")
    header = file.read(4 * rank)
    if len(header) < 4 * rank:
        raise DataError(f"{name}: is truncated: it ends in its header")
    claimed = struct.unpack(f">{rank}I", header)
    if shape is None:
        shape = claimed
    elif claimed != shape:
        raise DataError(f"{name}: its header claims an array of shape {claimed}, expected {shape}")
    size = math.prod(shape)
    check(size)
    numbers = file.read(size + 1)
    if len(numbers) < size:
        raise DataError(
            f"{name}: is truncated: {len(numbers):,} bytes follow its header, expected {size:,}"
        )
    if len(numbers) > size:
        raise DataError(f"{name}: is oversized: more than {size:,} bytes follow its header")
    return np.frombuffer(numbers, dtype=np.uint8).reshape(shape)
