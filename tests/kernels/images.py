"""Batches of images as the kernels hold them: channels-last, in a border, one address."""

from math import prod
from typing import Any

import numpy as np

from tinyconv.kernels.cpu.kernel import address_of

Array = np.ndarray[Any, Any]

#: Numbers behind a buffer that a kernel's last vectors may read.
SLACK = 256


class Image:
    """A batch (N, C, *size) with ``border`` elements of ``around`` before and behind each axis."""

    def __init__(self, x: Array, border: int = 0, around: float = np.nan) -> None:
        N, C, *size = x.shape
        self.shape: tuple[int, ...] = x.shape
        size = [1] * (3 - len(size)) + size
        borders = [border if n > 1 else 0 for n in size]
        padded = [n + 2 * b for n, b in zip(size, borders, strict=True)]
        self.memory = np.full(N * prod(padded) * C + SLACK, around, np.float32)
        whole = self.memory[:-SLACK].reshape(N, *padded, C)
        inside = [slice(b, b + n) for b, n in zip(borders, size, strict=True)]
        self.inside = whole[:, *inside]
        self.inside[...] = np.moveaxis(x.reshape(N, C, *size), 1, -1)
        self.strides = [s // 4 for s in self.inside.strides[:3]]

    @property
    def array(self) -> Array:
        """(N, C, *size), a copy."""
        return np.moveaxis(self.inside, -1, 1).reshape(self.shape)

    def arguments(self, name: str) -> dict[str, int]:
        """Address and strides, for the record of a kernel."""
        sample, plane, row = self.strides
        return {
            name: address_of(self.inside),
            f"{name}_sample": sample,
            f"{name}_plane": plane,
            f"{name}_row": row,
        }


def poisoned(shape: tuple[int, ...], border: int = 1) -> Image:
    """A batch that holds nothing but NaN."""
    return Image(np.full(shape, np.nan, np.float32), border)


def filled(layout: Any, **values: float | Array) -> Array:
    """A record of arguments; values that it has no field for are left out."""
    args = np.zeros(1, layout)
    for name in args.dtype.names:
        value = values.get(name, 0)
        args[name] = address_of(value) if isinstance(value, np.ndarray) else value
    return args


def call(kernel: Any, layout: Any, samples: int, **values: float | Array) -> None:
    """Run a kernel on one thread, the samples in two pieces."""
    args = filled(layout, **values)
    middle = samples // 2
    for first, last in ((0, middle), (middle, samples)):
        kernel.ctypes(address_of(args), 0, first, last)
