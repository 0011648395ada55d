"""What operations check of the arrays that they are given: namespaces, axes, shapes.

Every function takes ``op``, the name that error messages begin with, and arrays by their names, of
which one that is None was left out.
"""

import math
from types import ModuleType

from tinyconv.backend import Array, namespace
from tinyconv.errors import DeviceError, ShapeError


def check_rank(op: str, layout: str, **arrays: Array) -> None:
    """Check that arrays have the axes that ``layout`` names, as in ``"(N, C, H, W)"``.

    Raises:
        ShapeError: the number of axes differs.

    >>> import numpy as np
    >>> check_rank("conv2d", "(N, C, H, W)", x=np.zeros((28, 28)))
    Traceback (most recent call last):
    tinyconv.errors.ShapeError: conv2d: x has shape (28, 28), expected (N, C, H, W)
    """
    for name, array in arrays.items():
        if array.ndim != layout.rstrip(",)").count(",") + 1:
            raise ShapeError(f"{op}: {name} has shape {tuple(array.shape)}, expected {layout}")


def check_shape(op: str, shape: tuple[int, ...], **arrays: Array | None) -> None:
    """Check that arrays have exactly this shape.

    Raises:
        ShapeError: one has not.

    >>> import numpy as np
    >>> check_shape("linear", (2,), b=np.zeros(3))
    Traceback (most recent call last):
    tinyconv.errors.ShapeError: linear: b has shape (3,), expected (2,)
    """
    for name, array in arrays.items():
        if array is not None and tuple(array.shape) != shape:
            raise ShapeError(f"{op}: {name} has shape {tuple(array.shape)}, expected {shape}")


def incoming(
    op: str, dy: Array, shape: tuple[int, ...] | None = None, **saved: Array
) -> ModuleType:
    """Check the gradient that comes into a backward pass; return the namespace of the arrays.

    Args:
        dy: the gradient.
        shape: that it is to have; that of the first array of ``saved`` if None.
        saved: arrays of the forward pass.

    Raises:
        DeviceError: the arrays are not of one library.
        ShapeError: dy has another shape.

    >>> import numpy as np
    >>> incoming("relu_backward", np.zeros((2, 3)), y=np.zeros((3, 2)))
    Traceback (most recent call last):
    tinyconv.errors.ShapeError: relu_backward: dy has shape (2, 3), expected (3, 2)
    """
    if dy is None:  # which stands for an array that is not wanted
        raise DeviceError(f"{op}: dy is a NoneType, expected an array")
    xp = namespace(op, dy=dy, **saved)
    if shape is None:
        shape = tuple(next(iter(saved.values())).shape)
    check_shape(op, shape, dy=dy)
    return xp


def check_channels(op: str, groups: int, x: Array, w: Array, b: Array | None) -> None:
    """Check the weights and the bias of a convolution against the channels of its input.

    Raises:
        ShapeError: the groups do not divide the channels, or w or b does not fit.

    >>> import numpy as np
    >>> check_channels("conv2d", 1, np.zeros((1, 1, 28, 28)), np.zeros((20, 3, 5, 5)), None)
    Traceback (most recent call last):
    tinyconv.errors.ShapeError: conv2d: w has shape (20, 3, 5, 5), expected (O, C/groups=1, ...)
    because x has 1 channel
    """
    channels, w_shape = x.shape[1], tuple(w.shape)
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
    if b is not None and tuple(b.shape) != w_shape[:1]:
        raise ShapeError(
            f"{op}: b has shape {tuple(b.shape)}, expected ({w_shape[0]},) because w has "
            f"{w_shape[0]} output channels"
        )
