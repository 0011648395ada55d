"""Elementwise activations. Each keeps its output, from which its slope follows."""

from tinyconv.backend import Array, namespace, real_part, require_floating
from tinyconv.geometry import check_shape

__all__ = ["relu", "relu_backward", "sigmoid", "sigmoid_backward", "tanh", "tanh_backward"]


def relu(x: Array) -> tuple[Array, Array]:
    """Rectify: ``y = max(x, 0)``. NaN stays NaN.

    Args:
        x: any shape, floating-point.

    Returns:
        y of the shape of x, and y again, which is all that :func:`relu_backward` needs.

    Raises:
        DtypeError: x is not floating-point.

    Source: Glorot, Bordes and Bengio, "Deep sparse rectifier neural networks" (2011).

    >>> import numpy as np
    >>> relu(np.array([-1.0, 0.0, 2.0]))[0]
    array([0., 0., 2.])
    """
    xp = namespace("relu", x=x)
    require_floating("relu", xp, x=x)
    y = xp.where(real_part(xp, x) <= 0, xp.zeros_like(x), x)
    return y, y


def relu_backward(dy: Array, y: Array) -> Array:
    """Backpropagate through :func:`relu`: ``dx = dy`` where y > 0, else 0 (also at x = 0).

    Args:
        dy: of the shape of y.
        y: the output of the forward pass.

    Returns:
        dx of the same shape.

    Raises:
        ShapeError: dy does not have the shape of y.

    >>> import numpy as np
    >>> relu_backward(np.array([1.0, 2.0, 3.0]), np.array([0.0, 0.0, 2.0]))
    array([0., 0., 3.])
    """
    xp = namespace("relu_backward", dy=dy, y=y)
    check_shape("relu_backward", "dy", dy, tuple(y.shape))
    return xp.where(real_part(xp, y) <= 0, xp.zeros_like(dy), dy)


def sigmoid(x: Array) -> tuple[Array, Array]:
    """Squash into (0, 1): ``y = 1 / (1 + exp(-x))``.

    Computed as (1 + tanh(x/2)) / 2, the same function, which no x overflows.

    Args:
        x: any shape, floating-point.

    Returns:
        y of the shape of x, and y again, which is all that :func:`sigmoid_backward` needs.

    Raises:
        DtypeError: x is not floating-point.

    Source: Nielsen, "Neural Networks and Deep Learning", equation 3.

    >>> import numpy as np
    >>> sigmoid(np.array([-1000.0, 0.0, 1000.0]))[0]
    array([0. , 0.5, 1. ])
    """
    xp = namespace("sigmoid", x=x)
    require_floating("sigmoid", xp, x=x)
    y = xp.tanh(x * 0.5) * 0.5 + 0.5
    return y, y


def sigmoid_backward(dy: Array, y: Array) -> Array:
    """Backpropagate through :func:`sigmoid`: ``dx = dy y (1 - y)``.

    Args:
        dy: of the shape of y.
        y: the output of the forward pass.

    Returns:
        dx of the same shape.

    Raises:
        ShapeError: dy does not have the shape of y.

    >>> import numpy as np
    >>> sigmoid_backward(np.array([4.0]), np.array([0.5]))
    array([1.])
    """
    namespace("sigmoid_backward", dy=dy, y=y)
    check_shape("sigmoid_backward", "dy", dy, tuple(y.shape))
    return dy * y * (1 - y)


def tanh(x: Array) -> tuple[Array, Array]:
    """Squash into (-1, 1): ``y = tanh(x)``.

    Args:
        x: any shape, floating-point.

    Returns:
        y of the shape of x, and y again, which is all that :func:`tanh_backward` needs.

    Raises:
        DtypeError: x is not floating-point.

    Source: Nielsen, "Neural Networks and Deep Learning", equation 110.

    >>> import numpy as np
    >>> tanh(np.array([0.0, 1000.0]))[0]
    array([0., 1.])
    """
    xp = namespace("tanh", x=x)
    require_floating("tanh", xp, x=x)
    y = xp.tanh(x)
    return y, y


def tanh_backward(dy: Array, y: Array) -> Array:
    """Backpropagate through :func:`tanh`: ``dx = dy (1 - y^2)``.

    Args:
        dy: of the shape of y.
        y: the output of the forward pass.

    Returns:
        dx of the same shape.

    Raises:
        ShapeError: dy does not have the shape of y.

    >>> import numpy as np
    >>> tanh_backward(np.array([4.0]), np.array([0.5]))
    array([3.])
    """
    namespace("tanh_backward", dy=dy, y=y)
    check_shape("tanh_backward", "dy", dy, tuple(y.shape))
    return dy * (1 - y * y)
