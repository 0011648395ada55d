"""What the readers of data of one's own return, before it is numbered, split and scaled.

And how much memory a file may ask for, decided before any is taken.
"""

import os
from dataclasses import dataclass
from pathlib import Path
from typing import NamedTuple

from tinyconv.backend import Values
from tinyconv.errors import DataError

#: A compressed file may unpack to so many times its size: pictures of digits reach 10, masks 50.
MOST_TIMES = 100
#: A small file may do so in any case.
SMALL = 64 << 20

#: The parts of data that are split already, and the names that each goes by.
SPELLINGS = {
    "train": ("train", "training"),
    "validation": ("validation", "val", "valid"),
    "test": ("test", "testing"),
}

#: What has more is no set of classes, but numbers or file names taken for labels.
MOST_CLASSES = 10_000


class Part(NamedTuple):
    """Samples (N, ...), uint8 or float32, and their labels.

    Those of classes are (N,), integers or strings; numbers to be predicted are (N, K), float32.
    """

    x: Values
    labels: Values


@dataclass(frozen=True)
class Parts:
    """A file or folder as it was read.

    Attributes:
        arrays: ``"train"`` and, where the data have parts of their own, ``"test"`` and
            ``"validation"``.
        kind: see :class:`tinyconv.data.DataSet`.
        class_names: what the labels number, where the data say it.
        like_mnist: whether digits are of MNIST's form: light on dark, centred.
        about: what was done with the data, for the report.
    """

    arrays: dict[str, Part]
    kind: str
    class_names: tuple[str, ...] | None = None
    like_mnist: bool = False
    about: str = ""


def most_unpacked(path: str | Path) -> int:
    """Return how many bytes the content of a file may have when it is unpacked.

    A hundred times the size of the file, and 64 MiB at least: enough for every picture that is
    one, too little for a file made to fill the memory.
    """
    return max(SMALL, MOST_TIMES * os.path.getsize(path))


def check_unpacked(path: str | Path, size: int) -> None:
    """Check what a file says it will unpack to.

    Raises:
        DataError: it is more than :func:`most_unpacked`.
    """
    if size > (most := most_unpacked(path)):
        raise DataError(
            f"{path}: claims {size:,} bytes when unpacked, expected at most {most:,} "
            f"({MOST_TIMES} times its size)"
        )
