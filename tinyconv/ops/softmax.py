"""Softmax, and the log-likelihood loss on top of it.

Source: Nielsen, "Neural Networks and Deep Learning", chapter 3, equations 78 to 81.
"""

from typing import NamedTuple

from tinyconv.backend import Array, namespace, real_part, require_floating
from tinyconv.errors import DtypeError, ShapeError
from tinyconv.geometry import check_rank, check_shape

__all__ = [
    "SoftmaxLogLikelihoodSaved",
    "softmax",
    "softmax_backward",
    "softmax_log_likelihood",
    "softmax_log_likelihood_backward",
]


class SoftmaxLogLikelihoodSaved(NamedTuple):
    """What the forward pass keeps for the backward pass."""

    probabilities: Array  #: (N, K)
    labels: Array  #: (N,), integer


def softmax(x: Array) -> tuple[Array, Array]:
    """Turn rows of logits into probabilities: ``y[n, k] = exp(x[n, k]) / sum_j exp(x[n, j])``.

    The maximum of each row is subtracted first, which changes nothing and prevents overflow.

    Args:
        x: (N, K), floating-point.

    Returns:
        y (N, K) and y again, which is all that :func:`softmax_backward` needs.

    Raises:
        ShapeError: x does not have two axes, or there are no classes.
        DtypeError: x is not floating-point.

    >>> import numpy as np
    >>> softmax(np.array([[1000.0, 1000.0], [0.0, -1000.0]]))[0]
    array([[0.5, 0.5],
           [1. , 0. ]])
    """
    xp = namespace("softmax", x=x)
    require_floating("softmax", xp, x=x)
    _check_logits("softmax", x)
    shifted = x - xp.max(real_part(xp, x), axis=1, keepdims=True)
    e = xp.exp(shifted)
    y = e / xp.sum(e, axis=1, keepdims=True)
    return y, y


def softmax_backward(dy: Array, y: Array) -> Array:
    """Backpropagate through :func:`softmax`.

        dx[n, k] = y[n, k] (dy[n, k] - sum_j dy[n, j] y[n, j])

    Args:
        dy: (N, K).
        y: (N, K), the output of the forward pass.

    Returns:
        dx (N, K).

    Raises:
        ShapeError: dy does not have the shape of y.

    >>> import numpy as np
    >>> softmax_backward(np.array([[1.0, 0.0]]), np.array([[0.5, 0.5]]))
    array([[ 0.25, -0.25]])
    """
    xp = namespace("softmax_backward", dy=dy, y=y)
    check_shape("softmax_backward", "dy", dy, tuple(y.shape))
    return y * (dy - xp.sum(dy * y, axis=1, keepdims=True))


def softmax_log_likelihood(x: Array, labels: Array) -> tuple[Array, SoftmaxLogLikelihoodSaved]:
    """Mean over the batch of ``-log softmax(x)[n, labels[n]]``.

    Args:
        x: (N, K), logits, floating-point.
        labels: (N,), integer, the class of each sample, 0 to K - 1.

    Returns:
        The loss, an array without axes (0 for an empty batch), and what
        :func:`softmax_log_likelihood_backward` needs.

    Raises:
        ShapeError: the shapes do not fit, or a label is out of range.
        DtypeError: x is not floating-point or labels not integer.
        DeviceError: the arrays are not of one library.

    >>> import numpy as np
    >>> loss, saved = softmax_log_likelihood(np.log([[0.25, 0.75]]), np.array([1]))
    >>> round(float(np.exp(-loss)), 12)
    0.75
    """
    op = "softmax_log_likelihood"
    xp = namespace(op, x=x, labels=labels)
    require_floating(op, xp, x=x)
    _check_logits(op, x)
    N, K = x.shape
    if not xp.isdtype(labels.dtype, "integral"):
        raise DtypeError(f"{op}: labels has dtype {labels.dtype}, expected integers")
    check_shape(op, "labels", labels, (N,))
    if N and not (int(xp.min(labels)) >= 0 and int(xp.max(labels)) < K):
        raise ShapeError(
            f"{op}: labels run from {int(xp.min(labels))} to {int(xp.max(labels))}, "
            f"expected 0 to {K - 1} because x has {K} classes"
        )
    shifted = x - xp.max(real_part(xp, x), axis=1, keepdims=True)
    log_sum = xp.log(xp.sum(xp.exp(shifted), axis=1, keepdims=True))
    log_probabilities = shifted - log_sum
    of_labels = xp.where(_one_hot(xp, labels, K), log_probabilities, xp.zeros_like(x))
    loss = -xp.sum(of_labels) / max(N, 1)
    return loss, SoftmaxLogLikelihoodSaved(xp.exp(log_probabilities), labels)


def softmax_log_likelihood_backward(dy: Array | float, saved: SoftmaxLogLikelihoodSaved) -> Array:
    """Backpropagate through :func:`softmax_log_likelihood`.

        dx[n, k] = dy (softmax(x)[n, k] - [k = labels[n]]) / N

    Args:
        dy: the gradient of what follows with respect to the loss, without axes; 1 where the loss
            is what is minimised.
        saved: from the forward pass.

    Returns:
        dx (N, K).

    Raises:
        ShapeError: dy has axes.
        DeviceError: dy is an array of another library than x was.

    >>> import numpy as np
    >>> loss, saved = softmax_log_likelihood(np.log([[0.25, 0.75]]), np.array([1]))
    >>> softmax_log_likelihood_backward(1.0, saved)
    array([[ 0.25, -0.25]])
    """
    probabilities, labels = saved
    xp = namespace("softmax_log_likelihood_backward", probabilities=probabilities)
    check_loss_dy("softmax_log_likelihood_backward", dy, probabilities=probabilities)
    N, K = probabilities.shape
    one_hot = xp.astype(_one_hot(xp, labels, K), probabilities.dtype)
    return (probabilities - one_hot) * (dy / max(N, 1))


def check_loss_dy(op: str, dy: Array | float, **saved: Array) -> None:
    """Check the gradient of a loss: a Python number, or an array without axes.

    Raises:
        ShapeError: dy has axes.
        DeviceError: dy is an array of another library than what the forward pass saved.

    >>> import numpy as np
    >>> check_loss_dy("hinge_backward", np.zeros((3, 4)), x=np.zeros((3, 4)))
    Traceback (most recent call last):
    tinyconv.errors.ShapeError: hinge_backward: dy has shape (3, 4), expected ()
    """
    if not isinstance(dy, int | float | complex):
        namespace(op, dy=dy, **saved)
        check_shape(op, "dy", dy, ())


def _check_logits(op: str, x: Array) -> None:
    check_rank(op, "x", x, "(N, K)")
    if x.shape[1] == 0:
        raise ShapeError(f"{op}: x has shape {tuple(x.shape)}, expected at least one class")


def _one_hot(xp: Array, labels: Array, K: int) -> Array:
    classes = xp.arange(K, dtype=labels.dtype, device=labels.device)
    return xp.expand_dims(labels, axis=1) == xp.expand_dims(classes, axis=0)
