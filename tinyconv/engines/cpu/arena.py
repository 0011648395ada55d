"""The memory of a plan: every buffer is allocated once, aligned to a cache line, and zero."""

from dataclasses import dataclass, fields, replace
from math import prod
from typing import Any, TypeAlias

import numpy as np

from tinyconv.backend import Values
from tinyconv.kernels.cpu.kernel import address_of

ALIGNMENT = 64
#: Numbers behind each buffer that a kernel's last vectors may read, and write zeros to.
SLACK = 256

#: Samples behind a batch, and positions behind the last image, that a last tile may read.
SPARE_SAMPLES, SPARE_POSITIONS = 8, 32

#: Zeros before and behind the planes, above and below the rows, left and right of the columns.
Border: TypeAlias = tuple[tuple[int, int], ...]
NO_BORDER: Border = ((0, 0), (0, 0), (0, 0))


@dataclass(frozen=True)
class Image:
    """A batch of images (D, H, W, C) in a border of zeros.

    Two axes have D = 1, one axis has D = H = 1, and a vector has C = 1 besides.

    Attributes:
        array: the memory, float32.
        C, D, H, W: channels, planes, rows and columns without the border.
        border: of zeros around each image.
        step: numbers from one position of a row to the next: C, or more in a slice of the channels.
        row: numbers from one row of an image to the next.
        plane: numbers from one plane to the next.
        sample: numbers from one image to the next.
    """

    array: Values
    C: int
    D: int
    H: int
    W: int
    border: Border
    step: int
    row: int
    plane: int
    sample: int

    @property
    def size(self) -> tuple[int, int, int]:
        """D, H, W."""
        return self.D, self.H, self.W

    @property
    def base(self) -> int:
        """Address of the first number, border included."""
        return address_of(self.array)

    @property
    def first(self) -> int:
        """How many numbers lie before the first one inside the border."""
        (front, _), (top, _), (left, _) = self.border
        return front * self.plane + top * self.row + left * self.step

    @property
    def origin(self) -> int:
        """Address of the first number inside the border."""
        return self.base + 4 * self.first

    def arguments(self, name: str) -> dict[str, int]:
        """The arguments of a kernel that describe the inside of the buffer ``name``."""
        strides = {key: getattr(self, key) for key in ("sample", "plane", "row", "step")}
        return {name: self.origin, **{f"{name}_{key}": n for key, n in strides.items()}}

    def without_border(self) -> "Image":
        """Return the same images, of whose border nothing is known."""
        return replace(self, array=self.array[self.first :], border=NO_BORDER)

    def has_border(self, wanted: Border) -> bool:
        """Whether the border is at least as wide as another."""
        return all(
            has >= wants
            for sides, others in zip(self.border, wanted, strict=True)
            for has, wants in zip(sides, others, strict=True)
        )

    def is_laid_out_as(self, other: "Image") -> bool:
        """Whether the numbers of two buffers have the same places."""
        names = {each.name for each in fields(self)} - {"array"}
        return all(getattr(self, name) == getattr(other, name) for name in names)

    @property
    def is_contiguous(self) -> bool:
        """Whether the numbers of an image follow each other without a gap."""
        rows_do = self.row == self.W * self.C or self.D * self.H == 1
        return rows_do and self.step == self.C and (self.plane == self.H * self.row or self.D == 1)

    def channels(self, first: int, count: int) -> "Image":
        """Return the same memory as images of ``count`` channels, from ``first`` on."""
        return replace(self, array=self.array[first:], C=count)

    def flattened(self) -> "Image | None":
        """Return the same memory as vectors, if it holds the numbers in the order (C, D, H, W)."""
        positions = self.D * self.H * self.W
        if (self.C > 1 and positions > 1) or not self.is_contiguous:
            return None
        count = self.C * positions
        array = self.array[self.first :]
        return Image(array, 1, 1, 1, count, NO_BORDER, 1, count, count, self.sample)

    def channels_first(self, n: int) -> Values:
        """Return the first n images as a view (n, C, D, H, W)."""
        return np.ndarray(
            (n, self.C, self.D, self.H, self.W),
            np.float32,
            self.array,
            4 * self.first,
            (4 * self.sample, 4, 4 * self.plane, 4 * self.row, 4 * self.step),
        )


def _as_image(shape: tuple[int, ...]) -> tuple[int, int, int, int]:
    """Return C, D, H, W."""
    if not 2 <= len(shape) <= 4:
        return 1, 1, 1, prod(shape)
    D, H, W = (1, 1, 1, *shape[1:])[-3:]
    return shape[0], D, H, W


class Arena:
    """Hands out zeroed memory and keeps it alive."""

    def __init__(self) -> None:
        self.arrays: list[Values] = []

    def take(self, count: int, dtype: str = "float32") -> Values:
        """Return ``count`` zeros, with SLACK more of them behind."""
        itemsize = np.dtype(dtype).itemsize
        raw = np.zeros((count + SLACK) * itemsize + ALIGNMENT, np.uint8)
        first = -raw.ctypes.data % ALIGNMENT
        array = raw[first : first + (count + SLACK) * itemsize].view(dtype)
        self.arrays.append(array)
        return array

    def table(self, values: Any) -> Values:
        """Return whole numbers as int32, for kernels that look up where things lie."""
        array = np.ascontiguousarray(values, np.int32)
        self.arrays.append(array)
        return array

    def image(
        self, batch: int, shape: tuple[int, ...], border: Border = NO_BORDER, spare: int = 0
    ) -> Image:
        """Return a batch of images.

        Args:
            batch: number of images.
            shape: of one, channels first: (I,), (C, L), (C, H, W), (C, D, H, W), or anything else
                as (I,).
            border: zeros around each image.
            spare: numbers behind each image that a kernel may add zeros to.
        """
        C, D, H, W = _as_image(shape)
        (front, back), (top, bottom), (left, right) = border
        row = (left + W + right) * C
        plane = (top + H + bottom) * row
        sample = (front + D + back) * plane + spare
        sample = -(-sample // 16) * 16
        array = self.take((batch + SPARE_SAMPLES) * sample + SPARE_POSITIONS * C)
        return Image(array, C, D, H, W, border, C, row, plane, sample)


class Rows:
    """Memory for some rows of an array at a time, in its dtype.

    Args:
        most: rows.
    """

    def __init__(self, most: int) -> None:
        self.most = most
        self._memory: Values = np.empty((most, 0))

    def fetch(self, array: Values, index: Values, into: Values) -> None:
        """Do ``into[...] = array[index]``, without other memory where NumPy can.

        Args:
            array: (S, ...), an array or what gives one when it is indexed.
            index: (n,), int64, within it; n is ``most`` or fewer.
            into: (n, ...), of any dtype and order.
        """
        if not isinstance(array, np.ndarray) or not array.flags.c_contiguous:
            into[...] = array[index]
            return
        is_direct = into.dtype == array.dtype and into.flags.c_contiguous
        shape = self.most, *array.shape[1:]
        if not is_direct and (self._memory.dtype, self._memory.shape) != (array.dtype, shape):
            self._memory = np.empty(shape, array.dtype)
        out = into if is_direct else self._memory[: len(index)]
        array.take(index, axis=0, out=out, mode="clip")
        if not is_direct:
            into[...] = out
