"""Softmax, and the cross-entropy on top of it, which the book calls log-likelihood.

Source: Nielsen, "Neural Networks and Deep Learning", chapter 3, equations 78 to 81.
"""

from typing import NamedTuple

from tinyconv.backend import Array, floating, namespace, real_part, require_floating
from tinyconv.errors import ArgumentError
from tinyconv.ops.checks import check_shape, incoming
from tinyconv.ops.loss_common import check_logits, check_loss_dy, one_hot, weights_of


class CrossEntropySaved(NamedTuple):
    """What the forward pass keeps for the backward pass."""

    probabilities: Array  #: (N, K, ...)
    targets: Array  #: (N, K, ...): t of the equations
    total: Array  #: without axes: Z of the equations


def softmax(x: Array) -> tuple[Array, Array]:
    """Turn logits into probabilities: ``y[n, k] = exp(x[n, k]) / sum_j exp(x[n, j])``.

    The maximum over the classes is subtracted first, which changes nothing and prevents overflow.
    Axes behind the classes, such as those of an image, are positions of their own.

    Args:
        x: (N, K, ...), floating-point.

    Raises:
        ShapeError: x has fewer than two axes, or there are no classes.

    >>> import numpy as np
    >>> softmax(np.array([[1000.0, 1000.0], [0.0, -1000.0]]))[0]
    array([[0.5, 0.5],
           [1. , 0. ]])
    """
    xp = floating("softmax", x=x)
    check_logits("softmax", x)
    shifted = x - xp.max(real_part(xp, x), axis=1, keepdims=True)
    e = xp.exp(shifted)
    y = e / xp.sum(e, axis=1, keepdims=True)
    return y, y


def softmax_backward(dy: Array, y: Array) -> Array:
    """Backpropagate through :func:`softmax`.

        dx[n, k] = y[n, k] (dy[n, k] - sum_j dy[n, j] y[n, j])

    >>> import numpy as np
    >>> softmax_backward(np.array([[1.0, 0.0]]), np.array([[0.5, 0.5]]))
    array([[ 0.25, -0.25]])
    """
    xp = incoming("softmax_backward", dy, y=y)
    return y * (dy - xp.sum(dy * y, axis=1, keepdims=True))


def log_softmax(x: Array) -> tuple[Array, Array]:
    """Return the logarithm of :func:`softmax`: ``y[n, k] = x[n, k] - log sum_j exp(x[n, j])``.

    Args:
        x: (N, K, ...), floating-point.

    Raises:
        ShapeError: x has fewer than two axes, or there are no classes.

    >>> import numpy as np
    >>> log_softmax(np.array([[0.0, -1000.0]]))[0]
    array([[    0., -1000.]])
    """
    xp = floating("log_softmax", x=x)
    check_logits("log_softmax", x)
    shifted = x - xp.max(real_part(xp, x), axis=1, keepdims=True)
    y = shifted - xp.log(xp.sum(xp.exp(shifted), axis=1, keepdims=True))
    return y, y


def log_softmax_backward(dy: Array, y: Array) -> Array:
    """Backpropagate through :func:`log_softmax`.

        dx[n, k] = dy[n, k] - exp(y[n, k]) sum_j dy[n, j]

    >>> import numpy as np
    >>> log_softmax_backward(np.array([[1.0, 0.0]]), np.log([[0.5, 0.5]]))
    array([[ 0.5, -0.5]])
    """
    xp = incoming("log_softmax_backward", dy, y=y)
    return dy - xp.exp(y) * xp.sum(dy, axis=1, keepdims=True)


def cross_entropy(
    x: Array,
    targets: Array,
    weight: Array | None = None,
    sample_weight: Array | None = None,
    *,
    ignore_index: int | None = None,
    label_smoothing: float = 0.0,
) -> tuple[Array, CrossEntropySaved]:
    """Mean over the batch of ``-log softmax(x)[n, labels[n]]``.

    With probabilities p as targets, weights of the classes and of the samples, and smoothing s,

        loss = -1/Z sum_{n, k} t[n, k] log softmax(x)[n, k]
        t[n, k] = sample_weight[n] weight[k] ((1 - s) p[n, k] + s / K)
        Z = sum_n sample_weight[n]

    as in PyTorch. Class indices mean p[n, k] = [k = labels[n]]; then Z is the sum of
    sample_weight[n] weight[labels[n]], and t is 0, and Z does not count n, where a label is
    ignored. Axes behind the classes, such as those of an image, are positions of their own, over
    which n runs too.

    Args:
        x: (N, K, ...), logits, floating-point.
        targets: (N, ...), integer, the class of each position, 0 to K - 1; or (N, K, ...), of the
            dtype of x, probabilities.
        weight: (K,), of each class, not negative, of the dtype of x; None for 1.
        sample_weight: (N,), how often each sample counts, not negative, of the dtype of x; None
            for 1.
        ignore_index: the label of positions that do not count, None for no such label.
        label_smoothing: share of each target that goes to all classes alike, 0 to 1.

    Returns:
        The loss, an array without axes (0 where no sample counts), and what
        :func:`cross_entropy_backward` needs.

    Raises:
        ArgumentError: the label_smoothing or a label is out of range, or a weight negative.
        DtypeError: x is not floating-point, targets neither integer nor of its dtype, or weights
            of another dtype.

    >>> import numpy as np
    >>> loss, saved = cross_entropy(np.log([[0.25, 0.75]]), np.array([1]))
    >>> round(float(np.exp(-loss)), 12)
    0.75
    >>> loss, saved = cross_entropy(np.log([[0.25, 0.75]]), np.array([[0.5, 0.5]]))
    >>> round(float(np.exp(-2 * loss)), 12)  # 1/4 * 3/4
    0.1875
    """
    op = "cross_entropy"
    xp = namespace(op, x=x, targets=targets, weight=weight, sample_weight=sample_weight)
    require_floating(op, xp, x=x, weight=weight)
    check_logits(op, x)
    if not 0 <= label_smoothing <= 1:
        raise ArgumentError(f"{op}: label_smoothing is {label_smoothing!r}, expected 0 to 1")
    K = x.shape[1]
    check_shape(op, (K,), weight=weight)
    often, _ = weights_of(op, xp, x, sample_weight)
    if is_hard := xp.isdtype(targets.dtype, ("bool", "integral")):
        chosen = one_hot(op, x, targets, ignore_index=ignore_index)
        counts = xp.astype(xp.any(chosen, axis=1, keepdims=True), x.dtype)
        targets = xp.astype(chosen, x.dtype)
    else:
        require_floating(op, xp, x=x, targets=targets)
        check_shape(op, tuple(x.shape), targets=targets)
        counts = xp.ones_like(x[:, :1, ...])
    total = xp.sum(often * counts)
    # What nobody asked for is left out: a factor of 1 takes as long as a logarithm does.
    if weight is not None:
        often = often * xp.reshape(weight, (1, K, *[1] * (x.ndim - 2)))
        total = xp.sum(often * targets) if is_hard else total
    if label_smoothing:
        targets = (1 - label_smoothing) * targets + counts * (label_smoothing / K)
    if weight is not None or sample_weight is not None:
        targets = often * targets
    total = xp.where(total == 0, xp.ones_like(total), total)
    log_probabilities, _ = log_softmax(x)
    # What does not count may be minus infinity, which times 0 would be NaN.
    counted = xp.where(targets == 0, xp.zeros_like(x), log_probabilities)
    loss = -xp.sum(targets * counted) / total
    return loss, CrossEntropySaved(xp.exp(log_probabilities), targets, total)


def cross_entropy_backward(dy: Array | float, saved: CrossEntropySaved) -> Array:
    """Backpropagate through :func:`cross_entropy`.

        dx[n, k] = dy (softmax(x)[n, k] sum_j t[n, j] - t[n, k]) / Z

    which of class indices without weights and smoothing is
    ``dy (softmax(x)[n, k] - [k = labels[n]]) / N``.

    Args:
        dy: the gradient of what follows with respect to the loss, without axes; 1 where the loss
            is what is minimised.

    >>> import numpy as np
    >>> loss, saved = cross_entropy(np.log([[0.25, 0.75]]), np.array([1]))
    >>> cross_entropy_backward(1.0, saved)
    array([[ 0.25, -0.25]])
    """
    probabilities, targets, total = saved
    xp = namespace("cross_entropy_backward", probabilities=probabilities)
    check_loss_dy("cross_entropy_backward", dy, probabilities=probabilities)
    share = xp.sum(targets, axis=1, keepdims=True)
    # What does not count may be NaN, which times 0 would be NaN.
    counted = xp.where(share == 0, xp.zeros_like(probabilities), probabilities)
    return (counted * share - targets) * (dy / total)
