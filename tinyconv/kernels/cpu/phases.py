"""The transpose of a sliding window as windows of stride 1, one for each phase of the stride.

A convolution with stride s leads from a large image to a small one. On the way back, an element
at place h of the large one is made of the windows o and taps k with o s + k d - P = h. Which
taps these are depends on h modulo s alone; from one such element to the next, s further, each of
them reads the next window. So the elements of one phase are a convolution of the small image
with stride 1 and some of the taps, whose windows lie d / gcd(d, s) apart.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from itertools import product
from math import gcd
from typing import NamedTuple

import numpy as np

from tinyconv.geometry import Geometry

__all__ = ["AxisPhase", "Phase", "border_of", "over_three_axes", "phases"]


class AxisPhase(NamedTuple):
    """The elements ``first``, ``first + stride``, ... of the large image along one axis."""

    first: int
    length: int  #: how many there are
    taps: tuple[int, ...]  #: of the kernel, in the order of the windows that they read
    window: int  #: what the first tap reads for the first element; see :func:`border_of`
    step: int  #: from the window of one tap to that of the next


@dataclass(frozen=True)
class Phase:
    """The elements of one phase along each of three axes.

    Attributes:
        axes: the phase along each.
        kernel: sizes of the whole kernel.
    """

    axes: tuple[AxisPhase, ...]
    kernel: tuple[int, ...]

    @property
    def count(self) -> tuple[int, ...]:
        """Elements along each axis."""
        return tuple(axis.length for axis in self.axes)

    @property
    def taps(self) -> list[int]:
        """The phase's taps as places in the flat kernel."""
        kernel = np.arange(np.prod(self.kernel)).reshape(self.kernel)
        return kernel[np.ix_(*(axis.taps for axis in self.axes))].ravel().tolist()

    def offsets(self, strides: Sequence[int]) -> list[int]:
        """How far from the first tap each one reads, with the small image's strides."""
        steps = [
            [i * axis.step * stride for i in range(len(axis.taps))]
            for axis, stride in zip(self.axes, strides, strict=True)
        ]
        return [sum(step) for step in product(*steps)]

    def source(self, strides: Sequence[int]) -> int:
        """Where in the small image the first tap of the first element reads."""
        return sum(axis.window * stride for axis, stride in zip(self.axes, strides, strict=True))

    def target(self, strides: Sequence[int]) -> int:
        """Where in the large image the first element is."""
        return sum(axis.first * stride for axis, stride in zip(self.axes, strides, strict=True))


def over_three_axes(geometry: Geometry) -> Geometry:
    """Return the geometry with axes of one element before its own, which nothing happens along.

    >>> from tinyconv.geometry import sliding_window
    >>> over_three_axes(sliding_window("demo", (8,), (3,), 2)).output
    (1, 1, 3)
    """
    missing = 3 - len(geometry.size)
    ones, none = (1,) * missing, ((0, 0),) * missing
    return Geometry(
        size=(*ones, *geometry.size),
        kernel=(*ones, *geometry.kernel),
        stride=(*ones, *geometry.stride),
        padding=(*none, *geometry.padding),
        dilation=(*ones, *geometry.dilation),
        output=(*ones, *geometry.output),
    )


def axis_phases(geometry: Geometry, axis: int) -> list[AxisPhase]:
    """Return the phases along one axis.

    >>> from tinyconv.geometry import sliding_window
    >>> for phase in axis_phases(sliding_window("demo", (5,), (3,), 2, 1), 0):
    ...     print(phase)
    AxisPhase(first=0, length=3, taps=(1,), window=0, step=1)
    AxisPhase(first=1, length=2, taps=(2, 0), window=0, step=1)
    """
    size, kernel, stride = geometry.size[axis], geometry.kernel[axis], geometry.stride[axis]
    dilation, before = geometry.dilation[axis], geometry.padding[axis][0]
    found = []
    for first in range(min(stride, size)):
        place = first + before
        taps = [k for k in reversed(range(kernel)) if (place - k * dilation) % stride == 0]
        window = (place - taps[0] * dilation) // stride if taps else 0
        length = -(-(size - first) // stride)
        step = dilation // gcd(dilation, stride)
        found.append(AxisPhase(first, length, tuple(taps), window, step))
    return found


def phases(geometry: Geometry) -> list[Phase]:
    """Return every phase of the large image of a geometry over three axes."""
    along = (axis_phases(geometry, axis) for axis in range(3))
    return [Phase(axes, geometry.kernel) for axes in product(*along)]


def border_of(geometry: Geometry) -> tuple[tuple[int, int], ...]:
    """Return how many windows before the first and behind the last are read, for each axis.

    They do not exist; a border of zeros stands for them.

    >>> from tinyconv.geometry import sliding_window
    >>> border_of(sliding_window("demo", (5, 5), (3, 2)))
    ((2, 2), (1, 1))
    """
    borders = []
    for axis, windows in enumerate(geometry.output):
        found = [phase for phase in axis_phases(geometry, axis) if phase.taps]
        ends = [p.window + (len(p.taps) - 1) * p.step + p.length for p in found]
        before = max(0, *(-phase.window for phase in found))
        borders.append((before, max(0, *(end - windows for end in ends))))
    return tuple(borders)
