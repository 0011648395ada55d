"""The sizes of a sliding window: kernel, stride, padding, dilation and what comes out.

Convolution and pooling, their backward passes, shape inference and pictures all read the one
:class:`Geometry` that was validated here, so no other code computes an output size.
"""

import itertools
import math
from collections.abc import Iterator
from dataclasses import dataclass
from types import ModuleType

from tinyconv.backend import Array
from tinyconv.errors import ShapeError

__all__ = ["Geometry", "check_channels", "check_rank", "check_shape", "sliding_window", "spread"]


@dataclass(frozen=True)
class Geometry:
    """A validated sliding window over the spatial axes of an array (one, two or more).

    Every field holds one entry for each spatial axis. Make one with :func:`sliding_window`.

    Attributes:
        size: the input, (H, W) in two dimensions.
        kernel: (KH, KW).
        stride: distance between two neighbouring windows.
        padding: (before, after) for each axis.
        dilation: distance between two neighbouring elements of a window.
        output: how many windows fit, (OH, OW).
    """

    size: tuple[int, ...]
    kernel: tuple[int, ...]
    stride: tuple[int, ...]
    padding: tuple[tuple[int, int], ...]
    dilation: tuple[int, ...]
    output: tuple[int, ...]

    @property
    def padded(self) -> tuple[int, ...]:
        """Size of the input with its padding."""
        return tuple(n + lo + hi for n, (lo, hi) in zip(self.size, self.padding, strict=True))

    @property
    def is_padded(self) -> bool:
        """Whether any axis has padding."""
        return any(lo or hi for lo, hi in self.padding)

    @property
    def inside(self) -> tuple[slice, ...]:
        """Where the input lies in the padded input, as one slice an axis."""
        return tuple(slice(lo, lo + n) for n, (lo, _) in zip(self.size, self.padding, strict=True))

    def windows(self) -> Iterator[tuple[tuple[int, ...], tuple[slice, ...]]]:
        """Yield each kernel offset with the slices that fetch it for all windows at once.

        Offsets come in row-major order. Indexing the padded input with the slices of offset
        (i, j) gives an (OH, OW) array: element (i, j) of every window.

        >>> g = sliding_window("demo", (4, 5), kernel=(2, 2), stride=2)
        >>> [offset for offset, _ in g.windows()]
        [(0, 0), (0, 1), (1, 0), (1, 1)]
        >>> dict(g.windows())[(1, 0)]
        (slice(1, 4, 2), slice(0, 3, 2))
        """
        for offset in itertools.product(*(range(k) for k in self.kernel)):
            slices = []
            for i, dilation, stride, count in zip(
                offset, self.dilation, self.stride, self.output, strict=True
            ):
                first = i * dilation
                slices.append(slice(first, first + (count - 1) * stride + 1, stride))
            yield offset, tuple(slices)

    def plane_index(self, offset: tuple[int, ...], xp: ModuleType) -> Array:
        """Return the flat index in the input plane of element ``offset`` of every window.

        The result is int64 of shape ``output``; it is -1 where the element lies in the padding.

        >>> import numpy as np
        >>> sliding_window("demo", (4, 4), kernel=(2, 2), stride=2).plane_index((0, 1), np)
        array([[ 1,  3],
               [ 9, 11]])
        >>> sliding_window("demo", (2, 2), kernel=(2, 2), padding=1).plane_index((0, 0), np)
        array([[-1, -1, -1],
               [-1,  0,  1],
               [-1,  2,  3]])
        """
        axes = len(self.size)
        index = xp.zeros((1,) * axes, dtype=xp.int64)
        is_inside = index == 0
        for axis in range(axes):
            first = offset[axis] * self.dilation[axis] - self.padding[axis][0]
            along = xp.arange(self.output[axis], dtype=xp.int64) * self.stride[axis] + first
            shape = tuple(-1 if other == axis else 1 for other in range(axes))
            along = xp.reshape(along, shape)
            index = index * self.size[axis] + along
            is_inside = is_inside & (along >= 0) & (along < self.size[axis])
        return xp.where(is_inside, index, -xp.ones_like(index))


def sliding_window(
    op: str,
    size: tuple[int, ...],
    kernel: tuple[int, ...],
    stride: int | tuple[int, ...] = 1,
    padding: int | tuple[int, ...] = 0,
    dilation: int | tuple[int, ...] = 1,
) -> Geometry:
    """Validate the sizes of a sliding window and compute its output size.

    The output along an axis is ``floor((size + 2 padding - dilation (kernel - 1) - 1) / stride)
    + 1``, as in PyTorch and ONNX.

    Raises:
        ShapeError: a size is out of range, or the window is larger than the padded input.

    >>> sliding_window("conv2d", (28, 28), kernel=(5, 5)).output
    (24, 24)
    >>> sliding_window("conv2d", (3, 3), kernel=(5, 5))
    Traceback (most recent call last):
    tinyconv.errors.ShapeError: conv2d: the window covers 5 elements of axis 0 (kernel 5,
    dilation 1), but the input has 3 (size 3, padding 0 + 0)
    """
    axes = len(size)
    kernel = spread(op, "kernel", kernel, axes, least=1)
    stride = spread(op, "stride", stride, axes, least=1)
    dilation = spread(op, "dilation", dilation, axes, least=1)
    both = tuple((p, p) for p in spread(op, "padding", padding, axes, least=0))
    output = []
    for axis in range(axes):
        covered = dilation[axis] * (kernel[axis] - 1) + 1
        lo, hi = both[axis]
        if covered > size[axis] + lo + hi:
            raise ShapeError(
                f"{op}: the window covers {covered} elements of axis {axis} "
                f"(kernel {kernel[axis]}, dilation {dilation[axis]}), but the input has "
                f"{size[axis] + lo + hi} (size {size[axis]}, padding {lo} + {hi})"
            )
        output.append((size[axis] + lo + hi - covered) // stride[axis] + 1)
    return Geometry(size, kernel, stride, both, dilation, tuple(output))


def spread(
    op: str, name: str, value: int | tuple[int, ...], axes: int, least: int
) -> tuple[int, ...]:
    """Return ``value`` as one integer for each of ``axes`` axes; a single integer serves all.

    Raises:
        ShapeError: not integers, not as many as axes, or one of them below ``least``.

    >>> spread("conv2d", "stride", 2, axes=2, least=1)
    (2, 2)
    >>> spread("conv2d", "stride", (2, 0), axes=2, least=1)
    Traceback (most recent call last):
    tinyconv.errors.ShapeError: conv2d: stride is (2, 0), expected 2 integers of at least 1
    """
    values = tuple(value) if isinstance(value, tuple | list) else (value,) * axes
    good = len(values) == axes and all(
        isinstance(v, int) and not isinstance(v, bool) and v >= least for v in values
    )
    if not good:
        raise ShapeError(f"{op}: {name} is {value!r}, expected {axes} integers of at least {least}")
    return values


def check_rank(op: str, name: str, array: Array, layout: str) -> None:
    """Check that ``array`` has the axes that ``layout`` names, as in ``"(N, C, H, W)"``.

    Raises:
        ShapeError: the number of axes differs.

    >>> import numpy as np
    >>> check_rank("conv2d", "x", np.zeros((28, 28)), "(N, C, H, W)")
    Traceback (most recent call last):
    tinyconv.errors.ShapeError: conv2d: x has shape (28, 28), expected (N, C, H, W)
    """
    if array.ndim != layout.rstrip(",)").count(",") + 1:
        raise ShapeError(f"{op}: {name} has shape {tuple(array.shape)}, expected {layout}")


def check_shape(op: str, name: str, array: Array, shape: tuple[int, ...]) -> None:
    """Check that ``array`` has exactly this shape.

    Raises:
        ShapeError: it has not.

    >>> import numpy as np
    >>> check_shape("relu_backward", "dy", np.zeros((2, 3)), (3, 2))
    Traceback (most recent call last):
    tinyconv.errors.ShapeError: relu_backward: dy has shape (2, 3), expected (3, 2)
    """
    if tuple(array.shape) != shape:
        raise ShapeError(f"{op}: {name} has shape {tuple(array.shape)}, expected {shape}")


def check_channels(
    op: str, channels: int, groups: int, w_shape: tuple[int, ...], b_shape: tuple[int, ...] | None
) -> None:
    """Check the weights and the bias of a convolution against the channels of its input.

    Raises:
        ShapeError: the groups do not divide the channels, or w or b does not fit.

    >>> check_channels("conv2d", 1, 1, (20, 3, 5, 5), None)
    Traceback (most recent call last):
    tinyconv.errors.ShapeError: conv2d: w has shape (20, 3, 5, 5), expected (O, C/groups=1, ...)
    because x has 1 channel
    """
    if not isinstance(groups, int) or groups < 1 or channels % groups or w_shape[0] % groups:
        raise ShapeError(
            f"{op}: groups is {groups!r}, expected a divisor of the {channels} input "
            f"and {w_shape[0]} output channels"
        )
    if w_shape[1] != channels // groups:
        plural = "channel" if channels == 1 else "channels"
        raise ShapeError(
            f"{op}: w has shape {w_shape}, expected (O, C/groups={channels // groups}, ...) "
            f"because x has {channels} {plural}"
        )
    if math.prod(w_shape) == 0:
        raise ShapeError(f"{op}: w has shape {w_shape}, expected no axis of length 0")
    if b_shape is not None and b_shape != w_shape[:1]:
        raise ShapeError(
            f"{op}: b has shape {b_shape}, expected ({w_shape[0]},) because w has "
            f"{w_shape[0]} output channels"
        )
