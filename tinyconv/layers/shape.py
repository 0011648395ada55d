"""Padding, cropping, changing the shape and upsampling as layers."""

from typing import Annotated, Any

from tinyconv.arguments import OneOf, checked, integer
from tinyconv.backend import Array
from tinyconv.errors import ShapeError
from tinyconv.geometry import Sides, Sizes, spread_pairs
from tinyconv.layers.base import Layer, Shape
from tinyconv.layers.operation import OneOperation, Operation, shape_of
from tinyconv.ops import shape as ops
from tinyconv.ops import upsample

__all__ = ["Crop", "Flatten", "Identity", "Pad", "Reshape", "Upsample"]


class Identity(Layer):
    """``y = x``: the linear activation.

    >>> import numpy as np
    >>> Identity().forward(np.array([[-1.0, 2.0]]))
    array([[-1.,  2.]])
    """

    def compute(self, x: Array, training: bool, step: int) -> tuple[Array, Any]:  # noqa: D102
        return x, None

    def compute_backward(self, dy: Array, saved: Any) -> tuple[Array, dict[str, Array]]:  # noqa: D102
        return dy, {}


class Flatten(OneOperation):
    """Join all axes but the batch: (N, C, H, W) -> (N, C*H*W).

    >>> import numpy as np
    >>> Flatten().forward(np.zeros((10, 40, 4, 4))).shape
    (10, 640)
    """

    operation = (ops.flatten, ops.flatten_backward)


class Reshape(OneOperation):
    """Give each sample another shape: (N, ...) -> (N, *shape).

    Args:
        shape: without the batch; one entry may be -1, which stands for what is left.

    >>> import numpy as np
    >>> Reshape((3, -1)).forward(np.zeros((10, 12))).shape
    (10, 3, 4)
    """

    operation = (ops.reshape, ops.reshape_backward)

    @checked
    def __init__(self, shape: tuple[int, ...]) -> None:
        sizes = [integer(s) for s in shape] if isinstance(shape, tuple | list) else [None]
        self.shape = tuple(size for size in sizes if size is not None)
        if len(self.shape) < len(sizes):
            raise ShapeError(f"Reshape: shape is {shape!r}, expected a tuple of integers")


class Pad(OneOperation):
    """Put elements around each plane: (N, C, *size) -> (N, C, *padded size).

    Args:
        padding: how many, for all axes or for each: an integer or a (before, after) pair.
        mode: ``"zeros"``, ``"reflect"``, ``"replicate"`` or ``"circular"``, as of
            :func:`tinyconv.ops.pad`.
        value: of the padding in mode "zeros".

    A digit of 28 x 28 made 29 x 29, with the last row and column zero:

    >>> import numpy as np
    >>> Pad(((0, 1), (0, 1))).forward(np.ones((10, 1, 28, 28))).shape
    (10, 1, 29, 29)
    """

    operation = (ops.pad, ops.pad_backward)

    @checked
    def __init__(
        self,
        padding: Sides,
        mode: Annotated[str, OneOf("zeros", "reflect", "replicate", "circular")] = "zeros",
        value: float = 0.0,
    ) -> None:
        self.padding = _sides("Pad", "padding", padding)
        self.mode = mode
        self.value = value

    def output_shape(self, shape: Shape) -> Shape:  # noqa: D102
        return ops.padded_shape((0, *shape), self.padding, self.mode)[1:]


class Crop(OneOperation):
    """Cut elements off around each plane: (N, C, *size) -> (N, C, *what is left).

    Args:
        cropping: how many, for all axes or for each: an integer or a (before, after) pair.

    >>> import numpy as np
    >>> Crop(2).forward(np.zeros((10, 3, 28, 28))).shape
    (10, 3, 24, 24)
    """

    operation = (ops.crop, ops.crop_backward)

    @checked
    def __init__(self, cropping: Sides) -> None:
        self.cropping = _sides("Crop", "cropping", cropping)


def _sides(op: str, name: str, value: Sides) -> Sides:
    """Check what can be checked before the number of axes is known."""
    pairs = spread_pairs(op, name, value, len(value) if isinstance(value, tuple | list) else 1)
    return pairs if isinstance(value, tuple | list) else pairs[0][0]


_UPSAMPLING: dict[str, Operation] = {
    "nearest": (upsample.upsample_nearest2d, upsample.upsample_nearest2d_backward),
    "bilinear": (upsample.upsample_bilinear2d, upsample.upsample_bilinear2d_backward),
}


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
        if mode == "nearest" and align_corners is not None:
            raise ShapeError("Upsample: align_corners is given, expected None in mode 'nearest'")
        said = upsample.upsampled_size("Upsample", (1, 1), size, scale_factor)
        self.size = None if size is None else said
        self.scale_factor = None if scale_factor is None else said
        self.mode = mode
        self.align_corners = align_corners

    def output_shape(self, shape: Shape) -> Shape:  # noqa: D102
        # It checks the input; to list all places would take long.
        shape_of(lambda x: _UPSAMPLING[self.mode][0](x, 1), shape)
        given = self.size, self.scale_factor
        return (shape[0], *upsample.upsampled_size("Upsample", shape[1:], *given))

    def compute(self, x: Array, training: bool, step: int) -> tuple[Array, Any]:  # noqa: D102
        how: dict[str, Any] = {"scale_factor": self.scale_factor}
        if self.mode == "bilinear":
            how["align_corners"] = bool(self.align_corners)
        y, saved = _UPSAMPLING[self.mode][0](x, self.size, **how)
        return y, saved

    def compute_backward(self, dy: Array, saved: Any) -> tuple[Array, dict[str, Array]]:  # noqa: D102
        return _UPSAMPLING[self.mode][1](dy, saved), {}
