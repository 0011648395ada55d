"""Cross-entropy of elements that are each true or not: labels that do not exclude each other.

Source: Nielsen, "Neural Networks and Deep Learning", equation 63. The book sums over the outputs
of a sample; this is their mean, as in PyTorch.
"""

from types import ModuleType

from tinyconv.backend import Array, real_part
from tinyconv.errors import ArgumentError
from tinyconv.ops.activation import sigmoid
from tinyconv.ops.loss_common import LossSaved, elementwise, loss_backward, mean
from tinyconv.transfers import require

#: The least that a derivative of a logarithm is divided by.
LEAST = 1e-12


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


def _log(xp: ModuleType, x: Array) -> Array:
    """Return ln x, at least -100; no warning where x is 0."""
    is_zero = real_part(xp, x) <= 0
    log = xp.log(xp.where(is_zero, xp.ones_like(x), x))
    too_low = is_zero | (real_part(xp, log) < -100)
    return xp.where(too_low, -100 * xp.ones_like(x), log)
