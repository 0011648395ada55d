"""Convolution as a layer."""

from math import prod
from typing import Any

from tinyconv.backend import Array
from tinyconv.errors import ShapeError
from tinyconv.geometry import sliding_window, spread
from tinyconv.layers.base import Layer, Shape
from tinyconv.ops.conv import conv2d, conv2d_backward
from tinyconv.parameters import ParameterSpec

__all__ = ["Conv2d"]


class Conv2d(Layer):
    """Convolve (N, C, H, W) with ``out_channels`` kernels to (N, O, OH, OW).

    The arguments are PyTorch's, in PyTorch's order.

    Args:
        in_channels: C, or None to take it from the first input.
        out_channels: O.
        kernel_size: one integer or (KH, KW).
        stride: step between two windows.
        padding: zeros on each side.
        dilation: distance between two elements of a kernel.
        groups: number of separate blocks of channels.
        bias: whether to add a bias.
        weight_init: a name of :mod:`tinyconv.initializers`.
        bias_init: likewise.

    Parameters: ``weight`` (O, C/groups, KH, KW), ``bias`` (O,).

    >>> import numpy as np
    >>> layer = Conv2d(1, 20, 5)
    >>> layer.forward(np.zeros((10, 1, 28, 28))).shape
    (10, 20, 24, 24)
    >>> layer.output_shape((1, 28, 28))
    (20, 24, 24)
    """

    def __init__(
        self,
        in_channels: int | None,
        out_channels: int,
        kernel_size: int | tuple[int, int],
        stride: int | tuple[int, int] = 1,
        padding: int | tuple[int, int] = 0,
        dilation: int | tuple[int, int] = 1,
        groups: int = 1,
        bias: bool = True,
        *,
        weight_init: str = "he",
        bias_init: str = "zeros",
    ) -> None:
        super().__init__()
        self.in_channels = in_channels
        (self.out_channels,) = spread("Conv2d", "out_channels", out_channels, 1, least=1)
        self.kernel_size = spread("Conv2d", "kernel_size", kernel_size, 2, least=1)
        self.stride = spread("Conv2d", "stride", stride, 2, least=1)
        self.padding = spread("Conv2d", "padding", padding, 2, least=0)
        self.dilation = spread("Conv2d", "dilation", dilation, 2, least=1)
        (self.groups,) = spread("Conv2d", "groups", groups, 1, least=1)
        self.bias = bias
        self.weight_init = weight_init
        self.bias_init = bias_init
        if in_channels is not None:
            spread("Conv2d", "in_channels", in_channels, 1, least=1)
        if out_channels % groups or (in_channels is not None and in_channels % groups):
            raise ShapeError(
                f"Conv2d: groups is {groups}, expected a divisor of the {in_channels} input "
                f"and {out_channels} output channels"
            )

    def config(self) -> dict[str, Any]:  # noqa: D102
        return {
            "in_channels": self.in_channels,
            "out_channels": self.out_channels,
            "kernel_size": self.kernel_size,
            "stride": self.stride,
            "padding": self.padding,
            "dilation": self.dilation,
            "groups": self.groups,
            "bias": self.bias,
            "weight_init": self.weight_init,
            "bias_init": self.bias_init,
        }

    def output_shape(self, shape: Shape) -> Shape:  # noqa: D102
        if len(shape) != 3 or self.in_channels not in (None, shape[0]):
            channels = "C" if self.in_channels is None else self.in_channels
            raise ShapeError(f"Conv2d: input of shape {shape}, expected ({channels}, H, W)")
        if shape[0] % self.groups:
            raise ShapeError(
                f"Conv2d: groups is {self.groups}, expected a divisor of the {shape[0]} input "
                f"and {self.out_channels} output channels"
            )
        window = sliding_window(
            "Conv2d", shape[1:], self.kernel_size, self.stride, self.padding, self.dilation
        )
        return (self.out_channels, *window.output)

    def parameter_specs(self, shape: Shape | None) -> dict[str, ParameterSpec] | None:  # noqa: D102
        if self.in_channels is None:
            if shape is None:
                return None
            self.in_channels = shape[0]
        area = prod(self.kernel_size)
        fan_in = self.in_channels // self.groups * area
        fan_out = self.out_channels // self.groups * area
        weight = (self.out_channels, self.in_channels // self.groups, *self.kernel_size)
        specs = {"weight": ParameterSpec(weight, self.weight_init, fan_in, fan_out)}
        if self.bias:
            specs["bias"] = ParameterSpec(
                (self.out_channels,), self.bias_init, fan_in, fan_out, decay=False
            )
        return specs

    def multiply_adds(self, shape: Shape) -> int:  # noqa: D102
        per_output = shape[0] // self.groups * prod(self.kernel_size)
        return prod(self.output_shape(shape)) * per_output

    def _forward(self, x: Array, training: bool, step: int) -> tuple[Array, Any]:
        return conv2d(
            x,
            self.params["weight"],
            self.params.get("bias"),
            stride=self.stride,
            padding=self.padding,
            dilation=self.dilation,
            groups=self.groups,
        )

    def _backward(self, dy: Array, saved: Any) -> tuple[Array, dict[str, Array]]:
        dx, dw, db = conv2d_backward(dy, saved)
        return dx, {"weight": dw} if db is None else {"weight": dw, "bias": db}
