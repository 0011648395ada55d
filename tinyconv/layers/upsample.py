"""Upsampling as a layer."""

from typing import Annotated, Any

from tinyconv.arguments import OneOf, checked
from tinyconv.backend import Array
from tinyconv.errors import ShapeError
from tinyconv.geometry import Sizes, spread
from tinyconv.layers.base import Layer, Shape
from tinyconv.layers.operation import shape_of
from tinyconv.ops import upsample as ops

__all__ = ["Upsample"]


class Upsample(Layer):
    """Enlarge each plane: (N, C, H, W) -> (N, C, OH, OW).

    Args:
        size: of the output, one integer or (OH, OW); or
        scale_factor: how many times larger it is, an integer for both axes or for each.
        mode: ``"nearest"`` repeats elements, ``"bilinear"`` interpolates between them.
        align_corners: whether the centres of the corner elements stay where they are, in mode
            "bilinear" only; False if None.

    >>> import numpy as np
    >>> Upsample(scale_factor=(1, 2)).forward(np.array([[[[1.0, 2.0]]]]))
    array([[[[1., 1., 2., 2.]]]])
    >>> Upsample((1, 3), mode="bilinear", align_corners=True).forward(np.array([[[[1.0, 2.0]]]]))
    array([[[[1. , 1.5, 2. ]]]])
    """

    @checked
    def __init__(
        self,
        size: Sizes | None = None,
        scale_factor: Sizes | None = None,
        mode: Annotated[str, OneOf("nearest", "bilinear")] = "nearest",
        align_corners: bool | None = None,
    ) -> None:
        if (size is None) == (scale_factor is None):
            raise ShapeError(
                f"Upsample: size is {size!r} and scale_factor is {scale_factor!r}, "
                "expected one of them"
            )
        if mode == "nearest" and align_corners is not None:
            raise ShapeError("Upsample: align_corners is given, expected None in mode 'nearest'")
        self.size = None if size is None else spread("Upsample", "size", size, 2, least=1)
        self.scale_factor: tuple[int, ...] | None = None
        if scale_factor is not None:
            self.scale_factor = spread("Upsample", "scale_factor", scale_factor, 2, least=1)
        self.mode = mode
        self.align_corners = align_corners

    def output_shape(self, shape: Shape) -> Shape:  # noqa: D102
        op = ops.upsample_nearest2d if self.mode == "nearest" else ops.upsample_bilinear2d
        shape_of(lambda x: op(x, 1), shape)  # checks the input; listing all places would take long
        if self.size is not None:
            return (shape[0], *self.size)
        assert self.scale_factor is not None
        return (shape[0], *(n * f for n, f in zip(shape[1:], self.scale_factor, strict=True)))

    def compute(self, x: Array, training: bool, step: int) -> tuple[Array, Any]:  # noqa: D102
        how: dict[str, Any] = {"scale_factor": self.scale_factor}
        if self.mode == "nearest":
            return ops.upsample_nearest2d(x, self.size, **how)
        return ops.upsample_bilinear2d(x, self.size, **how, align_corners=bool(self.align_corners))

    def compute_backward(self, dy: Array, saved: Any) -> tuple[Array, dict[str, Array]]:  # noqa: D102
        if self.mode == "nearest":
            return ops.upsample_nearest2d_backward(dy, saved), {}
        return ops.upsample_bilinear2d_backward(dy, saved), {}
