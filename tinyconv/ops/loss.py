"""Losses beside the softmax's: cross-entropy of sigmoids, quadratic cost, hinge.

Each is a sum over the K outputs of a sample and a mean over the N samples of the batch, as in
Nielsen's book. (PyTorch's mean goes over the outputs too, so its values are 1/K of these.)

Sources: Nielsen, "Neural Networks and Deep Learning", equations 6 (quadratic) and 63
(cross-entropy); Weston and Watkins, "Support vector machines for multi-class pattern recognition"
(1999) (hinge).
"""

from types import ModuleType
from typing import NamedTuple

from tinyconv.backend import Array, namespace, real_part, require_floating
from tinyconv.errors import ShapeError
from tinyconv.geometry import check_rank, check_shape
from tinyconv.ops.activation import sigmoid
from tinyconv.ops.softmax import check_loss_dy, one_hot

__all__ = [
    "LossSaved",
    "binary_cross_entropy",
    "binary_cross_entropy_backward",
    "hinge",
    "hinge_backward",
    "quadratic",
    "quadratic_backward",
    "sigmoid_cross_entropy",
    "sigmoid_cross_entropy_backward",
]

#: The least that a derivative of a logarithm is divided by.
LEAST = 1e-12


class LossSaved(NamedTuple):
    """What a forward pass keeps: the derivative of the loss."""

    slope: Array  #: (N, K)


def sigmoid_cross_entropy(x: Array, targets: Array) -> tuple[Array, LossSaved]:
    """Cross-entropy of K sigmoids and their targets, from the logits.

        loss = -1/N sum_{n, k} t ln s(x) + (1 - t) ln(1 - s(x)),    s(x) = 1 / (1 + exp(-x))

    Computed as max(x, 0) - x t + ln(1 + exp(-\\|x\\|)), the same function, which no x overflows.

    Args:
        x: (N, K), logits, floating-point.
        targets: (N, K), t, in [0, 1], of the dtype of x.

    Returns:
        The loss, an array without axes (0 for an empty batch), and what
        :func:`sigmoid_cross_entropy_backward` needs.

    Raises:
        ShapeError: the shapes do not fit.
        DtypeError: the dtypes differ or are not floating-point.
        DeviceError: the arrays are not of one library.

    >>> import numpy as np
    >>> loss, saved = sigmoid_cross_entropy(np.zeros((1, 3)), np.array([[0.0, 1.0, 0.0]]))
    >>> round(float(loss / np.log(2)), 12)
    3.0
    """
    xp, N = _prepare("sigmoid_cross_entropy", x, targets)
    is_negative = real_part(xp, x) < 0
    away = xp.where(is_negative, x, -x)  # -|x|, by the sign of the real part
    largest = xp.where(is_negative, xp.zeros_like(x), x)
    loss = xp.sum(largest - x * targets + xp.log1p(xp.exp(away))) / N
    y, _ = sigmoid(x)
    return loss, LossSaved((y - targets) / N)


def sigmoid_cross_entropy_backward(dy: Array | float, saved: LossSaved) -> Array:
    """Backpropagate through :func:`sigmoid_cross_entropy`: ``dx = dy (s(x) - t) / N``.

    Args:
        dy: the gradient with respect to the loss, without axes.
        saved: from the forward pass.

    Returns:
        dx (N, K).

    Raises:
        ShapeError: dy has axes.
        DeviceError: dy is an array of another library than x was.

    >>> import numpy as np
    >>> loss, saved = sigmoid_cross_entropy(np.zeros((1, 3)), np.array([[0.0, 1.0, 0.0]]))
    >>> sigmoid_cross_entropy_backward(1.0, saved)
    array([[ 0.5, -0.5,  0.5]])
    """
    return _backward("sigmoid_cross_entropy_backward", dy, saved)


def binary_cross_entropy(x: Array, targets: Array) -> tuple[Array, LossSaved]:
    """Cross-entropy of K probabilities and their targets.

        loss = -1/N sum_{n, k} t ln x + (1 - t) ln(1 - x)

    As in PyTorch a logarithm is at least -100, so that no loss is infinite. Where x is what a
    sigmoid gave, :func:`sigmoid_cross_entropy` of its logits is more exact.

    Args:
        x: (N, K), probabilities in [0, 1], floating-point.
        targets: (N, K), t, in [0, 1], of the dtype of x.

    Returns:
        The loss, an array without axes (0 for an empty batch), and what
        :func:`binary_cross_entropy_backward` needs.

    Raises:
        ShapeError: the shapes do not fit, or x is outside [0, 1].
        DtypeError: the dtypes differ or are not floating-point.
        DeviceError: the arrays are not of one library.

    >>> import numpy as np
    >>> loss, saved = binary_cross_entropy(np.array([[0.25, 0.5]]), np.array([[1.0, 0.0]]))
    >>> round(float(loss / np.log(2)), 12)
    3.0
    """
    xp, N = _prepare("binary_cross_entropy", x, targets)
    real = real_part(xp, x)
    if bool(xp.any((real < 0) | (real > 1))):
        raise ShapeError(
            "binary_cross_entropy: x has values outside 0 to 1, expected probabilities"
        )
    loss = -xp.sum(targets * _log(xp, x) + (1 - targets) * _log(xp, 1 - x)) / N
    spread = x * (1 - x)
    spread = xp.where(real_part(xp, spread) < LEAST, LEAST * xp.ones_like(x), spread)
    return loss, LossSaved((x - targets) / spread / N)


def binary_cross_entropy_backward(dy: Array | float, saved: LossSaved) -> Array:
    """Backpropagate through :func:`binary_cross_entropy`: ``dx = dy (x - t) / (x (1 - x)) / N``.

    The divisor is at least 1e-12, as in PyTorch.

    Args:
        dy: the gradient with respect to the loss, without axes.
        saved: from the forward pass.

    Returns:
        dx (N, K).

    Raises:
        ShapeError: dy has axes.
        DeviceError: dy is an array of another library than x was.

    >>> import numpy as np
    >>> loss, saved = binary_cross_entropy(np.array([[0.25, 0.5]]), np.array([[1.0, 0.0]]))
    >>> binary_cross_entropy_backward(1.0, saved)
    array([[-4.,  2.]])
    """
    return _backward("binary_cross_entropy_backward", dy, saved)


def quadratic(x: Array, targets: Array) -> tuple[Array, LossSaved]:
    """Half the squared distance of outputs and targets: ``1/(2 N) sum_{n, k} (x - t)^2``.

    Args:
        x: (N, K), outputs, floating-point.
        targets: (N, K), t, of the dtype of x.

    Returns:
        The loss, an array without axes (0 for an empty batch), and what
        :func:`quadratic_backward` needs.

    Raises:
        ShapeError: the shapes do not fit.
        DtypeError: the dtypes differ or are not floating-point.
        DeviceError: the arrays are not of one library.

    >>> import numpy as np
    >>> quadratic(np.array([[1.0, 5.0], [0.0, 2.0]]), np.array([[1.0, 2.0], [0.0, 1.0]]))[0].item()
    2.5
    """
    xp, N = _prepare("quadratic", x, targets)
    difference = x - targets
    return xp.sum(difference * difference) / (2 * N), LossSaved(difference / N)


def quadratic_backward(dy: Array | float, saved: LossSaved) -> Array:
    """Backpropagate through :func:`quadratic`: ``dx = dy (x - t) / N``.

    Args:
        dy: the gradient with respect to the loss, without axes.
        saved: from the forward pass.

    Returns:
        dx (N, K).

    Raises:
        ShapeError: dy has axes.
        DeviceError: dy is an array of another library than x was.

    >>> import numpy as np
    >>> loss, saved = quadratic(np.array([[1.0, 5.0]]), np.array([[1.0, 2.0]]))
    >>> quadratic_backward(1.0, saved)
    array([[0., 3.]])
    """
    return _backward("quadratic_backward", dy, saved)


def hinge(x: Array, labels: Array, margin: float = 1.0) -> tuple[Array, LossSaved]:
    """Ask every wrong class to stay below the right one by a margin.

        loss = 1/N sum_n sum_{k != y} max(0, margin + x[n, k] - x[n, y]),    y = labels[n]

    PyTorch's multi_margin_loss divides by K too.

    Args:
        x: (N, K), scores, floating-point.
        labels: (N,), integer, the class of each sample, 0 to K - 1.
        margin: greater than 0.

    Returns:
        The loss, an array without axes (0 for an empty batch), and what :func:`hinge_backward`
        needs.

    Raises:
        ShapeError: the shapes do not fit, a label is out of range or the margin not positive.
        DtypeError: x is not floating-point or labels not integer.
        DeviceError: the arrays are not of one library.

    >>> import numpy as np
    >>> hinge(np.array([[3.0, 2.5, 1.0]]), np.array([0]))[0].item()  # 2.5 is 0.5 too near
    0.5
    """
    xp = namespace("hinge", x=x, labels=labels)
    require_floating("hinge", xp, x=x)
    if not margin > 0:
        raise ShapeError(f"hinge: margin is {margin!r}, expected more than 0")
    chosen = one_hot("hinge", x, labels)
    zero = xp.zeros_like(x)
    right = xp.sum(xp.where(chosen, x, zero), axis=1, keepdims=True)
    excess = margin + x - right
    # Not ``> 0``, so that NaN counts and comes through.
    violated = ~(real_part(xp, excess) <= 0) & ~chosen
    N = max(x.shape[0], 1)
    loss = xp.sum(xp.where(violated, excess, zero)) / N
    counts = xp.astype(violated, x.dtype)
    slope = xp.where(chosen, -xp.sum(counts, axis=1, keepdims=True), counts) / N
    return loss, LossSaved(slope)


def hinge_backward(dy: Array | float, saved: LossSaved) -> Array:
    """Backpropagate through :func:`hinge`.

        dx[n, k] = dy/N                 for a wrong class that comes too near, 0 for another
        dx[n, y] = -dy/N (how many come too near)

    Args:
        dy: the gradient with respect to the loss, without axes.
        saved: from the forward pass.

    Returns:
        dx (N, K).

    Raises:
        ShapeError: dy has axes.
        DeviceError: dy is an array of another library than x was.

    >>> import numpy as np
    >>> loss, saved = hinge(np.array([[3.0, 2.5, 1.0]]), np.array([0]))
    >>> hinge_backward(1.0, saved)
    array([[-1.,  1.,  0.]])
    """
    return _backward("hinge_backward", dy, saved)


def _prepare(op: str, x: Array, targets: Array) -> tuple[ModuleType, int]:
    """Check outputs and targets; return the namespace and the number to divide by."""
    xp = namespace(op, x=x, targets=targets)
    require_floating(op, xp, x=x, targets=targets)
    check_rank(op, "x", x, "(N, K)")
    check_shape(op, "targets", targets, tuple(x.shape))
    return xp, max(x.shape[0], 1)


def _log(xp: ModuleType, x: Array) -> Array:
    """Return ln x, at least -100; no warning where x is 0."""
    is_zero = real_part(xp, x) <= 0
    log = xp.log(xp.where(is_zero, xp.ones_like(x), x))
    too_low = is_zero | (real_part(xp, log) < -100)
    return xp.where(too_low, -100 * xp.ones_like(x), log)


def _backward(op: str, dy: Array | float, saved: LossSaved) -> Array:
    check_loss_dy(op, dy, slope=saved.slope)
    return saved.slope * dy
