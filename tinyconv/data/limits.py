"""How much memory a file of data may ask for, decided before any is taken."""

import os
from pathlib import Path

from tinyconv.errors import DataError

#: A compressed file may unpack to so many times its size: pictures of digits reach 10, masks 50.
MOST_TIMES = 100
#: A small file may do so in any case.
SMALL = 64 << 20

#: What has more is no set of classes, but numbers or file names taken for labels.
MOST_CLASSES = 10_000


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
