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
import math
import struct
import zlib
from pathlib import Path
from typing import IO, Any, cast

import numpy as np

from tinyconv.data.parts import check_unpacked
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
            is_packed = file.read(2) == GZIP_MAGIC
            file.seek(0)
            return _read(cast(IO[bytes], gzip.open(file)) if is_packed else file, shape, path)
    except EOFError as error:
        raise DataError(f"{path}: is truncated: its gzip stream has no end") from error
    except (gzip.BadGzipFile, zlib.error) as error:
        raise DataError(f"{path}: is a damaged gzip file: {error}") from error
    except OSError as error:
        raise DataError(f"{path}: cannot be read: {error.strerror}") from error


def _read(
    file: IO[bytes], shape: tuple[int, ...] | None, path: str | Path
) -> np.ndarray[Any, np.dtype[np.uint8]]:
    magic = file.read(4)
    if len(magic) < 4:
        raise DataError(f"{path}: is truncated: it has {len(magic)} bytes")
    rank = min(magic[3], MOST_AXES) if shape is None else len(shape)
    expected = bytes([0, 0, UNSIGNED_BYTE, rank])
    if magic[:3] != expected[:3]:
        raise DataError(
            f"{path}: is no IDX file of bytes: it starts with {magic!r}, expected {expected!r}"
        )
    if magic[3] != rank:
        raise DataError(f"{path}: is mislabelled: it holds an array of rank {magic[3]}, not {rank}")
    header = file.read(4 * rank)
    if len(header) < 4 * rank:
        raise DataError(f"{path}: is truncated: it ends in its header")
    claimed = struct.unpack(f">{rank}I", header)
    if shape is None:
        shape = claimed
    elif claimed != shape:
        raise DataError(f"{path}: its header claims an array of shape {claimed}, expected {shape}")
    size = math.prod(shape)
    check_unpacked(path, size)
    numbers = file.read(size + 1)
    if len(numbers) < size:
        raise DataError(
            f"{path}: is truncated: {len(numbers):,} bytes follow its header, expected {size:,}"
        )
    if len(numbers) > size:
        raise DataError(f"{path}: is oversized: more than {size:,} bytes follow its header")
    return np.frombuffer(numbers, dtype=np.uint8).reshape(shape)
