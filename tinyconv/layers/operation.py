"""Layers that call one operation, and what shapes these take and give."""

from collections.abc import Callable
from typing import Any

import numpy as np

from tinyconv.backend import Array
from tinyconv.errors import ShapeError
from tinyconv.geometry import Padding, Sizes, plain, spread, spread_pairs
from tinyconv.layers.base import Layer, Shape
from tinyconv.ops.ranks import AXES, Over
from tinyconv.parameters import ParameterSpec

#: Forward and backward.
Operation = tuple[Callable[..., tuple[Array, Any]], Callable[..., Any]]


class OneOperation(Layer):
    """What layers share that call one operation, whose options are their arguments."""

    #: The latter gives dx and, of a layer that has such parameters, dw and db.
    operation: Operation
    #: Names of its options, arguments of the layer all; None where all of these are options.
    _options: tuple[str, ...] | None = None
    #: Whether it takes a weight w and a bias b.
    _takes_weights = False

    def _call(self, place: int, *arguments: Any, **options: Any) -> Any:
        """Call the operation: the forward one, place 0, or the backward one, place 1."""
        return self.operation[place](*arguments, **options)

    def output_shape(self, shape: Shape) -> Shape:  # noqa: D102
        return shape_of(lambda x: self._call(0, x, **self.config()), shape)

    def compute(self, x: Array, training: bool, step: int) -> tuple[Array, Any]:  # noqa: D102
        names = self._options
        options = self.config() if names is None else {name: getattr(self, name) for name in names}
        if self._takes_weights:
            options |= {"w": self.params.get("weight"), "b": self.params.get("bias")}
        y, saved = self._call(0, x, **options)
        return y, saved

    def compute_backward(self, dy: Array, saved: Any) -> tuple[Array, dict[str, Array]]:  # noqa: D102
        found = self._call(1, dy, saved)
        dx, *gradients = found if isinstance(found, tuple) else (found,)
        named = zip(("weight", "bias"), gradients, strict=False)
        return dx, {name: gradient for name, gradient in named if gradient is not None}


class OverAxes(OneOperation):
    """What layers share whose operation goes over any number of spatial axes."""

    #: How many.
    _axes: int

    def __init_subclass__(cls, axes: int | None = None) -> None:
        """Say over how many axes a class goes."""
        super().__init_subclass__()
        if axes is not None:
            cls._axes = axes

    def _set_window(
        self, kernel_size: Sizes, stride: Sizes, padding: Padding, dilation: Sizes
    ) -> None:
        """Keep the sizes of a sliding window, one for each axis.

        Raises:
            ShapeError: one is out of range, or there are not as many as axes.
        """
        name, axes = type(self).__name__, self._axes
        self.kernel_size = spread(name, "kernel_size", kernel_size, axes, least=1)
        self.stride = spread(name, "stride", stride, axes, least=1)
        if not isinstance(padding, str) or padding not in ("same", "valid"):
            spread_pairs(name, "padding", padding, axes)
        padding = plain(padding)
        self.padding: Padding = (padding,) * axes if isinstance(padding, int) else padding
        self.dilation = spread(name, "dilation", dilation, axes, least=1)

    @property
    def _window(self) -> tuple[Any, Any, Any, Any]:
        return self.kernel_size, self.stride, self.padding, self.dilation

    def _check_planes(self, shape: Shape, channels: int | None = None) -> None:
        check_input(type(self).__name__, shape, channels, " ".join(("C", *AXES[self._axes])))

    def _call(self, place: int, *arguments: Any, **options: Any) -> Any:
        over = Over.of(self.operation[place].__name__, self._axes)
        return super()._call(place, over, *arguments, **options)


def shape_of(op: Callable[[Array], tuple[Array, Any]], shape: Shape) -> Shape:
    """Return the shape that an operation gives a sample of ``shape``, by asking it.

    It is applied to an empty batch, which costs nothing, so its own checks are the only ones.

    >>> from tinyconv.ops import crop
    >>> shape_of(lambda x: crop(x, 2), (3, 28, 28))
    (3, 24, 24)
    """
    y, _ = op(np.zeros((0, *shape)))
    return tuple(y.shape[1:])


def check_input(op: str, shape: Shape, features: int | None, *layouts: str) -> None:
    """Check the shape of an input, without the batch, against what a layer was made for.

    Args:
        op: the name of the layer.
        shape: of one sample.
        features: length of its first axis; None for any.
        layouts: the axes that it may have, by name; ``...`` stands for any others.

    Raises:
        ShapeError: it has other axes, or the first one another length.

    >>> check_input("BatchNorm1d", (4, 28, 28), 3, "C", "C L")
    Traceback (most recent call last):
    tinyconv.errors.ShapeError: BatchNorm1d: input of shape (4, 28, 28), expected (3,) or (3, L)
    """
    ways = [layout.split() for layout in layouts]
    fits = any(len(axes) == len(shape) or (shape and axes[-1] == "...") for axes in ways)
    if not fits or features not in (None, shape[0]):
        ways = [[str(features or axes[0]), *(axes[1:] or [""])] for axes in ways]
        expected = " or ".join(f"({', '.join(axes).rstrip()})" for axes in ways)
        raise ShapeError(f"{op}: input of shape {shape}, expected {expected}")


def weight_and_bias(
    layer: Any, shape: Shape, outputs: int, fan_in: int, fan_out: int
) -> dict[str, ParameterSpec]:
    """Return the parameters of a layer with initializers, of which the bias does not decay."""
    specs = {"weight": ParameterSpec(shape, layer.weight_init, fan_in, fan_out)}
    if layer.bias:
        specs["bias"] = ParameterSpec((outputs,), layer.bias_init, fan_in, fan_out, decay=False)
    return specs
