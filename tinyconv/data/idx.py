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

A folder of them has the names of MNIST's, of EMNIST's or of one's own. Of a name matters whether it
says ``images`` or ``labels``, and which part: ``train``, ``test`` or ``t10k``, ``valid``.

Source: the page of the MNIST database (http://yann.lecun.com/exdb/mnist/).
"""

import gzip
import math
import struct
import zlib
from pathlib import Path
from typing import IO, Any, cast

import numpy as np

from tinyconv.data.splits import Part, Parts, check_unpacked
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


PARTS = {"train": "train", "t10k": "test", "test": "test", "val": "validation"}
ENDS = ("-ubyte", "-ubyte.gz", ".idx", ".idx.gz")


def is_idx_folder(folder: Path) -> bool:
    """Tell whether a folder holds files that are named as IDX files are."""
    return bool(_files(folder))


def read_idx_folder(folder: Path) -> Parts:
    """Read images (N, H, W), or (N, C, H, W), of bytes and their labels (N,).

    Raises:
        DataError: a file is damaged, has no part in the above, or is one of two for the same part;
            images lack their labels, or labels their images.
    """
    found: dict[tuple[str, str], Path] = {}
    for path in _files(folder):
        role = _role(path)
        if role in found:
            raise DataError(
                f"{folder}: {found[role].name} and {path.name} are both {' '.join(role)}"
            )
        found[role] = path
    arrays = {}
    for part in sorted({part for part, _ in found}):
        for what in ("images", "labels"):
            if (part, what) not in found:
                raise DataError(f"{folder}: has no file of {part} {what}")
        labels = read_idx(found[part, "labels"])
        if labels.ndim != 1:
            raise DataError(
                f"{found[part, 'labels']}: labels of shape {labels.shape}, expected (N,)"
            )
        x = read_idx(found[part, "images"])
        if x.ndim == 3:
            x = x[:, np.newaxis]
        if x.ndim != 4 or 0 in x.shape:
            raise DataError(
                f"{found[part, 'images']}: images of shape {x.shape}, expected (N, H, W)"
            )
        arrays[part] = Part(x, labels.astype(np.int64))
    if "train" not in arrays:
        raise DataError(f"{folder}: has no file of train images")
    return Parts(arrays, "pictures", like_mnist=True)


def _files(folder: Path) -> list[Path]:
    """Return the IDX files; those whose names begin with a dot are some system's own."""
    return [
        path
        for path in sorted(folder.iterdir())
        if path.name.endswith(ENDS) and not path.name.startswith(".") and path.is_file()
    ]


def _role(path: Path) -> tuple[str, str]:
    parts = {part for word, part in PARTS.items() if word in path.name}
    kinds = [what for what in ("images", "labels") if what in path.name]
    if len(kinds) != 1 or len(parts) > 1:
        raise DataError(
            f"{path}: its name says not whether it holds images or labels, and which part: "
            "expected one such as train-images-idx3-ubyte"
        )
    return parts.pop() if parts else "train", kinds[0]
