"""The memory of a plan: every buffer is allocated once, aligned to a cache line, and zero."""

from dataclasses import dataclass
from math import prod
from typing import Any

import numpy as np

from tinyconv.kernels.cpu.kernel import address_of

__all__ = ["Arena", "Image"]

ALIGNMENT = 64
#: Numbers behind each buffer that a kernel's last vectors may read, and write zeros to.
SLACK = 256

#: Samples behind a batch, and positions behind the last image, that a last tile may read.
SPARE_SAMPLES, SPARE_POSITIONS = 8, 32

Array = np.ndarray[Any, Any]


@dataclass(frozen=True)
class Image:
    """A batch of images (H, W, C) in a border of zeros; a batch of vectors has C = H = 1.

    Attributes:
        array: the memory, float32.
        C, H, W: channels, height and width without the border.
        top, left: width of the border above and on the left.
        row: numbers from one row of an image to the next.
        sample: numbers from one image to the next.
    """

    array: Array
    C: int
    H: int
    W: int
    top: int
    left: int
    row: int
    sample: int

    @property
    def base(self) -> int:
        """Address of the first number, border included."""
        return address_of(self.array)

    @property
    def origin(self) -> int:
        """Address of the first number inside the border."""
        return self.base + 4 * (self.top * self.row + self.left * self.C)

    @property
    def is_contiguous(self) -> bool:
        """Whether the numbers of an image follow each other without a gap."""
        return self.row == self.W * self.C

    def flattened(self) -> "Image | None":
        """Return the same memory as vectors, if it holds the numbers in the order (C, H, W)."""
        if (self.C == 1 or self.H * self.W == 1) and (self.is_contiguous or self.H == 1):
            count = self.C * self.H * self.W
            first = self.top * self.row + self.left * self.C
            return Image(self.array[first:], 1, 1, count, 0, 0, count, self.sample)
        return None

    def channels_first(self, n: int) -> Array:
        """Return the first n images as a view (n, C, H, W)."""
        first = self.top * self.row + self.left * self.C
        return np.lib.stride_tricks.as_strided(
            self.array[first:],
            (n, self.C, self.H, self.W),
            (4 * self.sample, 4, 4 * self.row, 4 * self.C),
        )


def _as_image(shape: tuple[int, ...]) -> tuple[int, int, int]:
    if len(shape) == 3:
        return shape[0], shape[1], shape[2]
    if len(shape) == 2:
        return shape[0], 1, shape[1]
    return 1, 1, prod(shape)


class Arena:
    """Hands out zeroed memory and keeps it alive."""

    def __init__(self) -> None:
        self.arrays: list[Array] = []

    def take(self, count: int, dtype: str = "float32") -> Array:
        """Return ``count`` zeros, with SLACK more of them behind."""
        itemsize = np.dtype(dtype).itemsize
        raw = np.zeros((count + SLACK) * itemsize + ALIGNMENT, np.uint8)
        first = -raw.ctypes.data % ALIGNMENT
        array = raw[first : first + (count + SLACK) * itemsize].view(dtype)
        self.arrays.append(array)
        return array

    def image(
        self,
        batch: int,
        shape: tuple[int, ...],
        border: tuple[int, int, int, int] = (0, 0, 0, 0),
        spare: int = 0,
    ) -> Image:
        """Return a batch of images.

        Args:
            batch: number of images.
            shape: of one, channels first: (I,), (C, L), (C, H, W), or anything else as (I,).
            border: zeros above, below, on the left, on the right.
            spare: numbers behind each image that a kernel may add zeros to.
        """
        C, H, W = _as_image(shape)
        top, bottom, left, right = border
        row = (left + W + right) * C
        sample = (top + H + bottom) * row + spare
        sample = -(-sample // 16) * 16
        array = self.take((batch + SPARE_SAMPLES) * sample + SPARE_POSITIONS * C)
        return Image(array, C, H, W, top, left, row, sample)

    @property
    def nbytes(self) -> int:
        """Bytes in all."""
        return sum(array.nbytes for array in self.arrays)
