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
    targets: Array  #: (N, K): t of the equations
    total: Array  #: without axes: what the sum is divided by


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


def softmax_log_likelihood(
    x: Array,
    labels: Array,
    weight: Array | None = None,
    ignore_index: int | None = None,
    label_smoothing: float = 0.0,
) -> tuple[Array, SoftmaxLogLikelihoodSaved]:
    """Mean over the batch of ``-log softmax(x)[n, labels[n]]``.

    With weights of the classes and smoothed labels, as in PyTorch,

        loss = -1/Z sum_{n, k} t[n, k] log softmax(x)[n, k],    Z = sum_n weight[labels[n]]
        t[n, k] = weight[k] ((1 - s) [k = labels[n]] + s / K)

    where s is ``label_smoothing``; t is 0, and Z does not count n, where a label is ignored.

    Args:
        x: (N, K), logits, floating-point.
        labels: (N,), integer, the class of each sample, 0 to K - 1.
        weight: (K,), of each class, not negative, of the dtype of x; None for 1.
        ignore_index: the label of samples that do not count, None for no such label.
        label_smoothing: share of each label that goes to all classes alike, 0 to 1.

    Returns:
        The loss, an array without axes (0 where no sample counts), and what
        :func:`softmax_log_likelihood_backward` needs.

    Raises:
        ShapeError: the shapes do not fit, a label or the label_smoothing is out of range.
        DtypeError: x is not floating-point, labels not integer, or weight of another dtype.
        DeviceError: the arrays are not of one library.

    >>> import numpy as np
    >>> loss, saved = softmax_log_likelihood(np.log([[0.25, 0.75]]), np.array([1]))
    >>> round(float(np.exp(-loss)), 12)
    0.75
    """
    op = "softmax_log_likelihood"
    xp = namespace(op, x=x, labels=labels, weight=weight)
    require_floating(op, xp, x=x)
    if not 0 <= label_smoothing <= 1:
        raise ShapeError(f"{op}: label_smoothing is {label_smoothing!r}, expected 0 to 1")
    K = x.shape[1] if x.ndim == 2 else 0
    chosen = one_hot(op, x, labels, ignore_index)
    counts = xp.any(chosen, axis=1, keepdims=True)
    real = real_part(xp, x)
    of_class = xp.ones((K,), dtype=real.dtype, device=x.device)
    if weight is not None:
        require_floating(op, xp, x=x, weight=weight)
        check_shape(op, "weight", weight, (K,))
        of_class = weight
    hard = xp.astype(chosen, real.dtype)
    smooth = xp.astype(counts, real.dtype) * (label_smoothing / K)
    targets = ((1 - label_smoothing) * hard + smooth) * of_class
    total = xp.sum(hard * of_class)
    total = xp.where(total == 0, xp.ones_like(total), total)
    shifted = x - xp.max(real, axis=1, keepdims=True)
    log_sum = xp.log(xp.sum(xp.exp(shifted), axis=1, keepdims=True))
    log_probabilities = shifted - log_sum
    # What does not count may be minus infinity, which times 0 would be NaN.
    counted = xp.where(targets == 0, xp.zeros_like(x), log_probabilities)
    loss = -xp.sum(targets * counted) / total
    return loss, SoftmaxLogLikelihoodSaved(xp.exp(log_probabilities), targets, total)


def softmax_log_likelihood_backward(dy: Array | float, saved: SoftmaxLogLikelihoodSaved) -> Array:
    """Backpropagate through :func:`softmax_log_likelihood`.

        dx[n, k] = dy (softmax(x)[n, k] sum_j t[n, j] - t[n, k]) / Z

    which without weights and smoothing is ``dy (softmax(x)[n, k] - [k = labels[n]]) / N``.

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
    probabilities, targets, total = saved
    xp = namespace("softmax_log_likelihood_backward", probabilities=probabilities)
    check_loss_dy("softmax_log_likelihood_backward", dy, probabilities=probabilities)
    share = xp.sum(targets, axis=1, keepdims=True)
    return (probabilities * share - targets) * (dy / total)


def one_hot(op: str, x: Array, labels: Array, ignore_index: int | None = None) -> Array:
    """Return (N, K), boolean: where the column is the label of the row, on behalf of ``op``.

    Args:
        op: the name that error messages begin with.
        x: (N, K), the logits.
        labels: (N,), integer, 0 to K - 1.
        ignore_index: a label that may stand there too and whose row is False.

    Raises:
        ShapeError: the shapes do not fit, or a label is out of range.
        DtypeError: labels is not integer.

    >>> import numpy as np
    >>> one_hot("demo", np.zeros((2, 3)), np.array([2, 0]))
    array([[False, False,  True],
           [ True, False, False]])
    """
    xp = namespace(op, x=x, labels=labels)
    _check_logits(op, x)
    N, K = x.shape
    if not xp.isdtype(labels.dtype, "integral"):
        raise DtypeError(f"{op}: labels has dtype {labels.dtype}, expected integers")
    check_shape(op, "labels", labels, (N,))
    checked = labels
    if ignore_index is not None:
        checked = xp.where(labels == ignore_index, xp.zeros_like(labels), labels)
    if N and not (int(xp.min(checked)) >= 0 and int(xp.max(checked)) < K):
        raise ShapeError(
            f"{op}: labels run from {int(xp.min(checked))} to {int(xp.max(checked))}, "
            f"expected 0 to {K - 1} because x has {K} classes"
        )
    classes = xp.arange(K, dtype=labels.dtype, device=labels.device)
    found = xp.expand_dims(labels, axis=1) == xp.expand_dims(classes, axis=0)
    if ignore_index is not None:
        found = found & xp.expand_dims(labels != ignore_index, axis=1)
    return found


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
