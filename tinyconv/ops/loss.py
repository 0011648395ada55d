"""Losses of elements one by one, regression and labels that may coincide, and the hinge of classes.

Each is a mean over all elements of a sample and over the samples of the batch, as in PyTorch,

    loss = sum_n w[n] mean_k l(x[n, k], t[n, k]) / sum_n w[n]

with weights w of the samples, which are 1 where none are given.

Sources: Nielsen, "Neural Networks and Deep Learning", equations 6 (squares) and 63 (cross-entropy;
the book sums over the outputs of a sample, this is their mean, as in PyTorch); Huber, "Robust
estimation of a location parameter" (1964); Weston and Watkins, "Support vector machines for
multi-class pattern recognition" (1999) (hinge).
"""

from types import ModuleType

from tinyconv.backend import Array, namespace, real_part, require, require_floating
from tinyconv.errors import ArgumentError
from tinyconv.ops.activation import sigmoid
from tinyconv.ops.loss_common import LossSaved, elementwise, loss_backward, mean, one_hot

#: The least that a derivative of a logarithm is divided by.
LEAST = 1e-12


def mse_loss(
    x: Array, targets: Array, sample_weight: Array | None = None
) -> tuple[Array, LossSaved]:
    """Mean squared error: the mean of ``(x - t)^2``.

    >>> import numpy as np
    >>> mse_loss(np.array([[1.0, 5.0]]), np.array([[1.0, 2.0]]))[0].item()
    4.5
    """
    xp = elementwise("mse_loss", x, targets)
    difference = x - targets
    return mean("mse_loss", xp, difference * difference, 2 * difference, sample_weight)


def mse_loss_backward(dy: Array | float, saved: LossSaved) -> Array:
    """Backpropagate through :func:`mse_loss`: ``dx = dy 2 (x - t) / (N K)``, K elements a sample.

    >>> import numpy as np
    >>> loss, saved = mse_loss(np.array([[1.0, 5.0]]), np.array([[1.0, 2.0]]))
    >>> mse_loss_backward(1.0, saved)
    array([[0., 3.]])
    """
    return loss_backward("mse_loss_backward", dy, saved)


def l1_loss(
    x: Array, targets: Array, sample_weight: Array | None = None
) -> tuple[Array, LossSaved]:
    """Mean absolute error: the mean of ``|x - t|``.

    >>> import numpy as np
    >>> l1_loss(np.array([[1.0, 5.0]]), np.array([[1.0, 2.0]]))[0].item()
    1.5
    """
    xp = elementwise("l1_loss", x, targets)
    difference = x - targets
    real = real_part(xp, difference)
    # By comparisons, so that a complex step goes through, and NaN, and what is infinite.
    one = xp.ones_like(difference)
    slope = xp.where(real < 0, -one, xp.where(real > 0, one, difference))
    return mean("l1_loss", xp, slope * difference, slope, sample_weight)


def l1_loss_backward(dy: Array | float, saved: LossSaved) -> Array:
    """Backpropagate through :func:`l1_loss`: ``dx = dy sign(x - t) / (N K)``, 0 where x is t.

    >>> import numpy as np
    >>> loss, saved = l1_loss(np.array([[1.0, 5.0]]), np.array([[1.0, 2.0]]))
    >>> l1_loss_backward(1.0, saved)
    array([[0. , 0.5]])
    """
    return loss_backward("l1_loss_backward", dy, saved)


def huber_loss(
    x: Array, targets: Array, sample_weight: Array | None = None, *, delta: float = 1.0
) -> tuple[Array, LossSaved]:
    """Squares near the target, absolute values away from it.

        l = (x - t)^2 / 2                       where |x - t| <= delta
        l = delta (|x - t| - delta / 2)         elsewhere

    Args:
        delta: where one becomes the other, greater than 0.

    Raises:
        ArgumentError: delta is not positive, or a sample's weight is negative.

    >>> import numpy as np
    >>> huber_loss(np.array([[1.0, 5.0]]), np.array([[2.0, 2.0]]))[0].item()  # 1/2 and 3 - 1/2
    1.5
    """
    if not delta > 0:
        raise ArgumentError(f"huber_loss: delta is {delta!r}, expected more than 0")
    xp = elementwise("huber_loss", x, targets)
    difference = x - targets
    real = real_part(xp, difference)
    bound = delta * xp.ones_like(difference)
    bound = xp.where(real < 0, -bound, bound)
    is_far = (real < -delta) | (real > delta)  # NaN is not
    slope = xp.where(is_far, bound, difference)
    losses = xp.where(is_far, bound * (difference - bound / 2), difference * difference / 2)
    return mean("huber_loss", xp, losses, slope, sample_weight)


def huber_loss_backward(dy: Array | float, saved: LossSaved) -> Array:
    """Backpropagate through :func:`huber_loss`: ``dx = dy clip(x - t, -delta, delta) / (N K)``.

    >>> import numpy as np
    >>> loss, saved = huber_loss(np.array([[1.5, 5.0]]), np.array([[2.0, 2.0]]))
    >>> huber_loss_backward(1.0, saved)
    array([[-0.25,  0.5 ]])
    """
    return loss_backward("huber_loss_backward", dy, saved)


def binary_cross_entropy_with_logits(
    x: Array, targets: Array, sample_weight: Array | None = None
) -> tuple[Array, LossSaved]:
    """Cross-entropy of sigmoids and their targets, from the logits.

        l = -t ln s(x) - (1 - t) ln(1 - s(x)),    s(x) = 1 / (1 + exp(-x))

    Computed as max(x, 0) - x t + ln(1 + exp(-\\|x\\|)), the same function, which no x overflows.

    Args:
        targets: of the shape and dtype of x, in [0, 1].

    >>> import numpy as np
    >>> loss, _ = binary_cross_entropy_with_logits(np.zeros((1, 3)), np.array([[0.0, 1.0, 0.0]]))
    >>> round(float(loss / np.log(2)), 12)
    1.0
    """
    op = "binary_cross_entropy_with_logits"
    xp = elementwise(op, x, targets)
    is_negative = real_part(xp, x) < 0
    away = xp.where(is_negative, x, -x)  # -|x|, by the sign of the real part
    largest = xp.where(is_negative, xp.zeros_like(x), x)
    losses = largest - x * targets + xp.log1p(xp.exp(away))
    y, _ = sigmoid(x)
    return mean(op, xp, losses, y - targets, sample_weight)


def binary_cross_entropy_with_logits_backward(dy: Array | float, saved: LossSaved) -> Array:
    """Backpropagate through :func:`binary_cross_entropy_with_logits`.

        dx = dy (s(x) - t) / (N K)

    >>> import numpy as np
    >>> x, t = np.zeros((1, 2)), np.array([[0.0, 1.0]])
    >>> loss, saved = binary_cross_entropy_with_logits(x, t)
    >>> binary_cross_entropy_with_logits_backward(1.0, saved)
    array([[ 0.25, -0.25]])
    """
    return loss_backward("binary_cross_entropy_with_logits_backward", dy, saved)


def binary_cross_entropy(
    x: Array, targets: Array, sample_weight: Array | None = None
) -> tuple[Array, LossSaved]:
    """Cross-entropy of probabilities and their targets: ``l = -t ln x - (1 - t) ln(1 - x)``.

    As in PyTorch a logarithm is at least -100, so that no loss is infinite. Where x is what a
    sigmoid gave, :func:`binary_cross_entropy_with_logits` is more exact.

    Args:
        x: (N, ...), probabilities in [0, 1], floating-point.
        targets: of the shape and dtype of x, in [0, 1].

    Raises:
        ArgumentError: x is outside [0, 1], or a sample's weight is negative.

    >>> import numpy as np
    >>> loss, saved = binary_cross_entropy(np.array([[0.25, 0.5]]), np.array([[1.0, 0.0]]))
    >>> round(float(loss / np.log(2)), 12)
    1.5
    """
    xp = elementwise("binary_cross_entropy", x, targets)
    real = real_part(xp, x)
    require(
        ~xp.any((real < 0) | (real > 1)),
        lambda: ArgumentError(
            "binary_cross_entropy: x has values outside 0 to 1, expected probabilities"
        ),
    )
    losses = -targets * _log(xp, x) - (1 - targets) * _log(xp, 1 - x)
    spread = x * (1 - x)
    spread = xp.where(real_part(xp, spread) < LEAST, LEAST * xp.ones_like(x), spread)
    return mean("binary_cross_entropy", xp, losses, (x - targets) / spread, sample_weight)


def binary_cross_entropy_backward(dy: Array | float, saved: LossSaved) -> Array:
    """Backpropagate through :func:`binary_cross_entropy`.

        dx = dy (x - t) / (x (1 - x)) / (N K)

    The divisor x (1 - x) is at least 1e-12, as in PyTorch.

    >>> import numpy as np
    >>> loss, saved = binary_cross_entropy(np.array([[0.25, 0.5]]), np.array([[1.0, 0.0]]))
    >>> binary_cross_entropy_backward(1.0, saved)
    array([[-2.,  1.]])
    """
    return loss_backward("binary_cross_entropy_backward", dy, saved)


def multi_margin_loss(
    x: Array, labels: Array, sample_weight: Array | None = None, *, margin: float = 1.0
) -> tuple[Array, LossSaved]:
    """Hinge loss: ask every wrong class to stay below the right one by a margin.

        loss = 1/(N K) sum_n sum_{k != y} max(0, margin + x[n, k] - x[n, y]),    y = labels[n]

    Axes behind the classes are positions of their own.

    Args:
        x: (N, K, ...), scores, floating-point.
        labels: (N, ...), integer, the class of each position, 0 to K - 1.
        margin: greater than 0.

    Raises:
        ArgumentError: the margin is not positive, a label out of range or a weight negative.
        DtypeError: x is not floating-point or labels not integer.

    >>> import numpy as np
    >>> multi_margin_loss(np.array([[3.0, 2.5]]), np.array([0]))[0].item()  # 2.5 is 0.5 too near
    0.25
    """
    op = "multi_margin_loss"
    xp = namespace(op, x=x, labels=labels)
    require_floating(op, xp, x=x)
    if not margin > 0:
        raise ArgumentError(f"{op}: margin is {margin!r}, expected more than 0")
    chosen = one_hot(op, x, labels)
    zero = xp.zeros_like(x)
    right = xp.sum(xp.where(chosen, x, zero), axis=1, keepdims=True)
    excess = margin + x - right
    # Not ``> 0``, so that NaN counts and comes through.
    violated = ~(real_part(xp, excess) <= 0) & ~chosen
    counts = xp.astype(violated, x.dtype)
    slope = xp.where(chosen, -xp.sum(counts, axis=1, keepdims=True), counts)
    return mean(op, xp, xp.where(violated, excess, zero), slope, sample_weight)


def multi_margin_loss_backward(dy: Array | float, saved: LossSaved) -> Array:
    """Backpropagate through :func:`multi_margin_loss`.

        dx[n, k] = dy/(N K)             for a wrong class that comes too near, 0 for another
        dx[n, y] = -dy/(N K) (how many come too near)

    >>> import numpy as np
    >>> loss, saved = multi_margin_loss(np.array([[3.0, 2.5]]), np.array([0]))
    >>> multi_margin_loss_backward(1.0, saved)
    array([[-0.5,  0.5]])
    """
    return loss_backward("multi_margin_loss_backward", dy, saved)


def _log(xp: ModuleType, x: Array) -> Array:
    """Return ln x, at least -100; no warning where x is 0."""
    is_zero = real_part(xp, x) <= 0
    log = xp.log(xp.where(is_zero, xp.ones_like(x), x))
    too_low = is_zero | (real_part(xp, log) < -100)
    return xp.where(too_low, -100 * xp.ones_like(x), log)
