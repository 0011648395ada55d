"""Convolution and transposed convolution in one, two and three dimensions as layers."""

from math import prod
from typing import Annotated

from tinyconv.arguments import Count, OneOf, checked
from tinyconv.errors import ShapeError
from tinyconv.geometry import (
    Geometry,
    Padding,
    Sides,
    Sizes,
    sliding_window,
    spread,
    transposed_window,
)
from tinyconv.initializers import InitializerName
from tinyconv.layers.base import Shape
from tinyconv.layers.operation import Operation, OverAxes, shape_of, weight_and_bias
from tinyconv.ops.conv import conv_nd, conv_nd_backward
from tinyconv.ops.conv_transpose import conv_transpose_nd, conv_transpose_nd_backward
from tinyconv.ops.shape import pad
from tinyconv.parameters import ParameterSpec

__all__ = ["Conv1d", "Conv2d", "Conv3d", "ConvTranspose1d", "ConvTranspose2d", "ConvTranspose3d"]


class _Conv(OverAxes):
    """Convolution over any number of axes."""

    operation: Operation = (conv_nd, conv_nd_backward)
    _options: tuple[str, ...] = ("stride", "padding", "dilation", "groups", "padding_mode")
    _takes_weights = True

    @checked
    def __init__(
        self,
        in_channels: Count | None,
        out_channels: Count,
        kernel_size: Sizes,
        stride: Sizes = 1,
        padding: Padding = 0,
        dilation: Sizes = 1,
        groups: Count = 1,
        bias: bool = True,
        padding_mode: Annotated[str, OneOf("zeros", "reflect", "replicate", "circular")] = "zeros",
        *,
        weight_init: InitializerName = "he",
        bias_init: InitializerName = "zeros",
    ) -> None:
        self.in_channels = in_channels
        self.out_channels = out_channels
        self._set_window(kernel_size, stride, padding, dilation)
        self.groups = groups
        self.bias = bias
        self.padding_mode = padding_mode
        self.weight_init = weight_init
        self.bias_init = bias_init
        self._check_groups(in_channels)
        # Over an input larger than any window, only the arguments themselves can be wrong.
        self.window((2**20,) * self._axes)

    def window(self, size: tuple[int, ...]) -> Geometry:
        """Return the sliding window over an input of this size.

        Raises:
            ShapeError: it does not fit.
        """
        return sliding_window(type(self).__name__, size, *self._window)

    def _weight_shape(self, in_channels: int) -> tuple[int, ...]:
        return (self.out_channels, in_channels // self.groups, *self.kernel_size)

    def output_shape(self, shape: Shape) -> Shape:
        self._check_input(shape)
        window = self.window(shape[1:])
        if self.padding_mode != "zeros":  # the other modes copy elements that must be there
            shape_of(lambda x: pad(x, window.padding, mode=self.padding_mode), shape)
        return (self.out_channels, *window.output)

    def multiply_adds(self, shape: Shape) -> int:
        outputs = prod(self.output_shape(shape))
        return outputs * (shape[0] // self.groups) * prod(self.kernel_size)

    def _check_input(self, shape: Shape) -> None:
        self._check_planes(shape, self.in_channels)
        self._check_groups(shape[0])

    def _check_groups(self, channels: int | None) -> None:
        if self.out_channels % self.groups or (channels or 0) % self.groups:
            raise ShapeError(
                f"{type(self).__name__}: groups is {self.groups}, expected a divisor of the "
                f"{channels} input and {self.out_channels} output channels"
            )

    def specs(self, shape: Shape | None) -> dict[str, ParameterSpec] | None:
        C, area = self._size("in_channels", shape), prod(self.kernel_size)
        if C is None:
            return None
        fans = C // self.groups * area, self.out_channels // self.groups * area
        return weight_and_bias(self, self._weight_shape(C), self.out_channels, *fans)


class Conv1d(_Conv, axes=1):
    """As :class:`Conv2d`, from (N, C, L) to (N, O, OL)."""


class Conv2d(_Conv, axes=2):
    """Convolve (N, C, H, W) with ``out_channels`` kernels to (N, O, OH, OW).

    The arguments are PyTorch's, in PyTorch's order.

    Args:
        in_channels: C, or None to take it from the first input.
        out_channels: O.
        kernel_size: one integer or (KH, KW).
        stride: step between two windows.
        padding: on each side: one integer, (down, across), a (before, after) pair for each axis,
            "same" or "valid".
        dilation: distance between two elements of a kernel.
        groups: number of separate blocks of channels.
        bias: whether to add a bias.
        padding_mode: "zeros", "reflect", "replicate" or "circular".
        weight_init: a name of :mod:`tinyconv.initializers`.
        bias_init: likewise.

    Parameters: ``weight`` (O, C/groups, KH, KW), ``bias`` (O,).

    >>> import numpy as np
    >>> layer = Conv2d(1, 20, 5)
    >>> layer.forward(np.zeros((10, 1, 28, 28))).shape
    (10, 20, 24, 24)
    >>> layer.output_shape((1, 28, 28))
    (20, 24, 24)
    >>> Conv2d(3, 20, 5).output_shape((1, 28, 28))
    Traceback (most recent call last):
    tinyconv.errors.ShapeError: Conv2d: input of shape (1, 28, 28), expected (3, H, W)
    """


class Conv3d(_Conv, axes=3):
    """As :class:`Conv2d`, from (N, C, D, H, W) to (N, O, OD, OH, OW)."""


class _ConvTranspose(_Conv):
    """Transposed convolution over any number of axes."""

    operation = (conv_transpose_nd, conv_transpose_nd_backward)
    _options = ("stride", "padding", "output_padding", "groups", "dilation")

    @checked
    def __init__(
        self,
        in_channels: Count | None,
        out_channels: Count,
        kernel_size: Sizes,
        stride: Sizes = 1,
        padding: Sides = 0,
        output_padding: Sizes = 0,
        groups: Count = 1,
        bias: bool = True,
        dilation: Sizes = 1,
        *,
        weight_init: InitializerName = "he",
        bias_init: InitializerName = "zeros",
    ) -> None:
        name = type(self).__name__
        self.output_padding = spread(name, "output_padding", output_padding, self._axes, least=0)
        super().__init__(
            *(in_channels, out_channels, kernel_size, stride, padding, dilation, groups, bias),
            weight_init=weight_init,
            bias_init=bias_init,
        )

    def window(self, size: tuple[int, ...]) -> Geometry:
        name = type(self).__name__
        if isinstance(self.padding, str):
            raise ShapeError(
                f"{name}: padding is {self.padding!r}, expected integers: the size of the output "
                "is what padding and output_padding make it"
            )
        return transposed_window(name, size, *self._window, self.output_padding)

    def _weight_shape(self, in_channels: int) -> tuple[int, ...]:
        return (in_channels, self.out_channels // self.groups, *self.kernel_size)

    def output_shape(self, shape: Shape) -> Shape:
        self._check_input(shape)
        return (self.out_channels, *self.window(shape[1:]).size)

    def multiply_adds(self, shape: Shape) -> int:
        self._check_input(shape)
        return prod(shape) * self.out_channels // self.groups * prod(self.kernel_size)


class ConvTranspose1d(_ConvTranspose, axes=1):
    """As :class:`ConvTranspose2d`, from (N, C, L) to (N, O, OL)."""


class ConvTranspose2d(_ConvTranspose, axes=2):
    """The transpose of a convolution, from (N, C, H, W) to (N, O, OH, OW): it goes up in size.

    The arguments are PyTorch's, in PyTorch's order; those not named here, and the errors, are those
    of :class:`Conv2d`.

    Args:
        stride: distance in the output between two neighbours of the input.
        padding: what the convolution adds to each side, and this takes away.
        output_padding: how much longer the output is at its end.

    Parameters: ``weight`` (C, O/groups, KH, KW), ``bias`` (O,).

    >>> import numpy as np
    >>> ConvTranspose2d(8, 4, 2, stride=2).forward(np.zeros((5, 8, 7, 7))).shape
    (5, 4, 14, 14)
    """


class ConvTranspose3d(_ConvTranspose, axes=3):
    """As :class:`ConvTranspose2d`, from (N, C, D, H, W) to (N, O, OD, OH, OW)."""
