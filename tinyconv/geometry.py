"""The sizes of a sliding window: kernel, stride, padding, dilation and what comes out.

Convolution and pooling, their backward passes, shape inference and pictures all read the one
:class:`Geometry` that was validated here, so no other code computes an output size.
"""

import itertools
from collections.abc import Iterator
from dataclasses import dataclass
from functools import cached_property, lru_cache
from typing import Any, TypeAlias

import numpy as np

from tinyconv.arguments import integer
from tinyconv.backend import Values
from tinyconv.errors import ShapeError
from tinyconv.messages import shown

#: One integer for all axes, or one for each.
Sizes: TypeAlias = int | tuple[int, ...]
#: One integer for all sides, or for each axis an integer or a (before, after) pair.
Sides: TypeAlias = int | tuple[int | tuple[int, int], ...]
#: These, or "same" or "valid".
Padding: TypeAlias = str | Sides
#: A (before, after) pair for each axis.
Pairs: TypeAlias = tuple[tuple[int, int], ...]


@dataclass(frozen=True)
class Geometry:
    """A validated sliding window over the spatial axes of an array (one, two or more).

    Every field holds one entry for each spatial axis. Make one with :func:`sliding_window`.
    """

    size: tuple[int, ...]  #: the input, (H, W) in two dimensions
    kernel: tuple[int, ...]  #: (KH, KW)
    stride: tuple[int, ...]  #: distance between two neighbouring windows
    padding: Pairs  #: (before, after) for each axis
    dilation: tuple[int, ...]  #: distance between two neighbouring elements of a window
    output: tuple[int, ...]  #: how many windows fit, (OH, OW)

    @cached_property
    def covered(self) -> tuple[int, ...]:
        """How many elements of an axis lie between the two ends of a window, ends included."""
        return tuple(d * (k - 1) + 1 for k, d in zip(self.kernel, self.dilation, strict=True))

    @cached_property
    def padded(self) -> tuple[int, ...]:
        """Size of the input with its padding and with what the last window needs beyond it.

        A window reaches beyond the padding only where ``ceil_mode`` has let it.
        """
        return tuple(
            max(n + lo + hi, (count - 1) * stride + covered)
            for n, (lo, hi), count, stride, covered in zip(
                self.size, self.padding, self.output, self.stride, self.covered, strict=True
            )
        )

    @property
    def is_padded(self) -> bool:
        """Whether windows see anything around the input."""
        return self.padded != self.size

    @property
    def is_pointwise(self) -> bool:
        """Whether the windows are the single elements of the input, each once and in order."""
        return not self.is_padded and all(
            k == s == 1 for k, s in zip(self.kernel, self.stride, strict=True)
        )

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

    def plane_index(self, offset: tuple[int, ...]) -> Values:
        """Return the flat index in the input plane of element ``offset`` of every window.

        The result is int64 of shape ``output``; it is -1 where the element lies in the padding.

        >>> sliding_window("demo", (4, 4), kernel=(2, 2), stride=2).plane_index((0, 1))
        array([[ 1,  3],
               [ 9, 11]])
        >>> sliding_window("demo", (2, 2), kernel=(2, 2), padding=1).plane_index((0, 0))
        array([[-1, -1, -1],
               [-1,  0,  1],
               [-1,  2,  3]])
        """
        index, is_inside = np.asarray(0), np.asarray(True)
        for axis, size in enumerate(self.size):
            first = offset[axis] * self.dilation[axis] - self.padding[axis][0]
            along = first + self.stride[axis] * np.arange(self.output[axis], dtype=np.int64)
            index = index[..., None] * size + along
            is_inside = is_inside[..., None] & (along >= 0) & (along < size)
        return np.where(is_inside, index, -1)


def sliding_window(
    op: str,
    size: tuple[int, ...],
    kernel: tuple[int, ...],
    stride: Sizes = 1,
    padding: Padding = 0,
    dilation: Sizes = 1,
    *,
    ceil_mode: bool = False,
) -> Geometry:
    """Validate the sizes of a sliding window and compute its output size.

    The output along an axis is ``floor((size + before + after - dilation (kernel - 1) - 1) /
    stride) + 1``, as in PyTorch and ONNX.

    Args:
        op: the name that error messages begin with.
        size: of the input, without batch and channels.
        kernel: size of the window.
        stride: step between two windows.
        padding: see :data:`Padding`. "valid" is none; "same" is what makes the output
            ``ceil(size / stride)`` long, with the odd element after the input: ONNX's SAME_UPPER,
            and PyTorch's "same", which exists for stride 1 only.
        dilation: distance between two elements of a window.
        ceil_mode: round the output up, so that the last window may reach beyond the padded
            input; it is left out if it would begin beyond the input, as in PyTorch.

    Raises:
        ShapeError: a size is out of range, or the window is larger than the padded input.

    >>> sliding_window("conv2d", (28, 28), kernel=(5, 5)).output
    (24, 24)
    >>> sliding_window("conv2d", (28, 28), kernel=(5, 5), stride=2, padding="same").padding
    ((1, 2), (1, 2))
    >>> sliding_window("max_pool2d", (5,), kernel=(2,), stride=2, ceil_mode=True).output
    (3,)
    >>> sliding_window("conv2d", (3, 3), kernel=(5, 5))
    Traceback (most recent call last):
    tinyconv.errors.ShapeError: conv2d: the window covers 5 elements of axis 0 (kernel 5,
    dilation 1), but the input has 3 (size 3, padding 0 + 0)
    """
    axes = len(size)
    kernel, stride, dilation = _steps(op, axes, kernel=kernel, stride=stride, dilation=dilation)
    if padding == "same":
        covered = tuple(d * (k - 1) + 1 for k, d in zip(kernel, dilation, strict=True))
        both = same_padding(size, covered, stride)
    else:
        both = spread_pairs(op, "padding", 0 if padding == "valid" else padding, axes)
    return _fitted(op, tuple(size), kernel, stride, both, dilation, ceil_mode)


@lru_cache(256)
def _fitted(
    op: str,
    size: tuple[int, ...],
    kernel: tuple[int, ...],
    stride: tuple[int, ...],
    padding: Pairs,
    dilation: tuple[int, ...],
    ceil_mode: bool,
) -> Geometry:
    output = []
    for axis, (lo, hi) in enumerate(padding):
        covered = dilation[axis] * (kernel[axis] - 1) + 1
        room = size[axis] + lo + hi - covered
        count = (-(-room // stride[axis]) if ceil_mode else room // stride[axis]) + 1
        if ceil_mode and (count - 1) * stride[axis] >= size[axis] + lo:
            count -= 1
        if count < 1 or size[axis] < 1:
            raise ShapeError(
                f"{op}: the window covers {covered} elements of axis {axis} "
                f"(kernel {kernel[axis]}, dilation {dilation[axis]}), but the input has "
                f"{size[axis] + lo + hi} (size {size[axis]}, padding {lo} + {hi})"
            )
        output.append(count)
    return Geometry(size, kernel, stride, padding, dilation, tuple(output))


def same_padding(size: tuple[int, ...], covered: tuple[int, ...], stride: tuple[int, ...]) -> Pairs:
    """Return the padding that makes the output ``ceil(size / stride)`` long.

    >>> same_padding((5, 5), covered=(3, 2), stride=(1, 1))
    ((1, 1), (0, 1))
    """
    pairs = []
    for n, c, s in zip(size, covered, stride, strict=True):
        total = max(0, (-(-n // s) - 1) * s + c - n)
        pairs.append((total // 2, total - total // 2))
    return tuple(pairs)


def transposed_window(
    op: str,
    size: tuple[int, ...],
    kernel: tuple[int, ...],
    stride: Sizes = 1,
    padding: Sides = 0,
    dilation: Sizes = 1,
    output_padding: Sizes = 0,
) -> Geometry:
    """Return the window of the convolution that a transposed convolution is the transpose of.

    That convolution goes from the large image to the small one: ``output`` of the geometry is
    ``size``, what the transposed convolution takes, and ``size`` of the geometry is what it gives,

        (size - 1) stride - before - after + dilation (kernel - 1) + output_padding + 1

    along each axis, as in PyTorch and ONNX. The output padding picks one of the sizes that the
    convolution maps onto ``size``.

    Raises:
        ShapeError: a size is out of range, nothing would be left, or the output padding is
            neither smaller than the stride nor than the dilation.

    >>> transposed_window("conv_transpose2d", (3, 3), kernel=(2, 2), stride=2).size
    (6, 6)
    >>> transposed_window("conv_transpose2d", (3,), kernel=(2,), output_padding=1)
    Traceback (most recent call last):
    tinyconv.errors.ShapeError: conv_transpose2d: output_padding is 1, expected less than the
    stride 1 or the dilation 1
    """
    axes = len(size)
    kernel, stride, dilation = _steps(op, axes, kernel=kernel, stride=stride, dilation=dilation)
    both = spread_pairs(op, "padding", padding, axes)
    extra = spread(op, "output_padding", output_padding, axes, least=0)
    large = []
    for axis in range(axes):
        if extra[axis] >= max(stride[axis], dilation[axis]):
            raise ShapeError(
                f"{op}: output_padding is {extra[axis]}, expected less than the stride "
                f"{stride[axis]} or the dilation {dilation[axis]}"
            )
        covered = dilation[axis] * (kernel[axis] - 1) + 1
        full = (size[axis] - 1) * stride[axis] + covered + extra[axis]
        if size[axis] < 1 or full <= sum(both[axis]):
            raise ShapeError(
                f"{op}: nothing is left of axis {axis}, expected more than the padding "
                f"{both[axis][0]} + {both[axis][1]} (size {size[axis]} spreads to {full})"
            )
        large.append(full - sum(both[axis]))
    return Geometry(tuple(large), kernel, stride, both, dilation, size)


def _steps(op: str, axes: int, **values: Sizes) -> Iterator[tuple[int, ...]]:
    return (spread(op, name, value, axes, least=1) for name, value in values.items())


def spread(op: str, name: str, value: Sizes, axes: int, least: int) -> tuple[int, ...]:
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
    numbers = tuple(n for v in values if (n := integer(v)) is not None and n >= least)
    if not len(numbers) == len(values) == axes:
        raise ShapeError(
            f"{op}: {name} is {shown(value)}, expected {_integers(axes)} of at least {least}"
        )
    return numbers


def sample_shape(op: str, value: Any, name: str = "input_shape") -> tuple[int, ...]:
    """Return ``value``, the argument of that name, as the shape of one sample.

    Raises:
        ShapeError: it is no shape.

    >>> sample_shape("flops", [1, 28, 28])
    (1, 28, 28)
    >>> sample_shape("flops", np.zeros((5, 4)))
    Traceback (most recent call last):
    tinyconv.errors.ShapeError: flops: input_shape is an array of shape (5, 4), expected integers of
    at least 1, such as (1, 28, 28)
    """
    numbers = [integer(n) for n in (value if isinstance(value, tuple | list) else (value,))]
    shape = tuple(n for n in numbers if n is not None and n >= 1)
    if len(shape) < len(numbers):
        raise ShapeError(
            f"{op}: {name} is {shown(value)}, expected integers of at least 1, such as (1, 28, 28)"
        )
    return shape


def spread_pairs(op: str, name: str, value: Padding, axes: int) -> Pairs:
    """Return ``value`` as a (before, after) pair for each of ``axes`` axes.

    Raises:
        ShapeError: not integers or pairs of them, not as many as axes, or one below 0.

    >>> spread_pairs("conv2d", "padding", (1, (0, 2)), axes=2)
    ((1, 1), (0, 2))
    >>> spread_pairs("conv2d", "padding", -1, axes=2)
    Traceback (most recent call last):
    tinyconv.errors.ShapeError: conv2d: padding is -1, expected 2 integers or (before, after)
    pairs of at least 0
    """
    values = tuple(value) if isinstance(value, tuple | list) else (value,) * axes
    pairs = []
    for v in values:
        pair: Any = v if isinstance(v, tuple | list) and len(v) == 2 else (v, v)
        before, after = map(integer, pair)
        if before is not None and after is not None and min(before, after) >= 0:
            pairs.append((before, after))
    if not len(pairs) == len(values) == axes:
        raise ShapeError(
            f"{op}: {name} is {shown(value)}, expected {_integers(axes)} or (before, after) pairs "
            "of at least 0"
        )
    return tuple(pairs)


def _integers(count: int) -> str:
    return "an integer" if count == 1 else f"{count} integers"


def plain(value: Any) -> Any:
    """Return a size or sizes with NumPy's integers as Python's, which JSON can hold.

    >>> import numpy as np
    >>> plain((np.int64(1), [2, np.int64(3)])), plain("same")
    ((1, (2, 3)), 'same')
    """
    if isinstance(value, tuple | list):
        return tuple(map(plain, value))
    number = integer(value)
    return value if number is None else number
