"""Losses of numbers to be met one by one: regression, autoencoders, labels that may coincide."""

from tinyconv.arguments import Positive, checked
from tinyconv.backend import Array, namespace
from tinyconv.losses.base import OneOperation
from tinyconv.losses.checks import check_values
from tinyconv.ops import loss as ops
from tinyconv.ops.activation import sigmoid


class _ElementLoss(OneOperation):
    """Targets are numbers of any type, of the shape of the outputs."""

    def check_targets(self, op: str, targets: Array, output_shape: tuple[int, ...]) -> None:
        check_values(op, targets, output_shape)


class MSELoss(_ElementLoss):
    """Mean squared error: the mean of ``(outputs - targets)^2`` over all elements.

    For regression, with targets (N, 1) or (N, K), and autoencoders, with ``y=x``.

    >>> import numpy as np
    >>> loss = MSELoss()
    >>> float(loss.forward(np.array([[1.0, 5.0]]), np.array([[1.0, 2.0]])))
    4.5
    >>> loss.backward()
    array([[0., 3.]])
    """

    _operation = (ops.mse_loss, ops.mse_loss_backward)


class L1Loss(_ElementLoss):
    """Mean absolute error: the mean of ``|outputs - targets|`` over all elements.

    Its gradient where they are equal is 0.

    >>> import numpy as np
    >>> float(L1Loss().forward(np.array([[1.0, 5.0]]), np.array([[1.0, 2.0]])))
    1.5
    """

    _operation = (ops.l1_loss, ops.l1_loss_backward)


class HuberLoss(_ElementLoss):
    """Squares near the target, absolute values away from it; the mean over all elements.

        d^2 / 2 where |d| <= delta, delta (|d| - delta / 2) elsewhere,    d = outputs - targets

    Args:
        delta: where one becomes the other, greater than 0.

    >>> import numpy as np
    >>> float(HuberLoss().forward(np.array([[1.0, 5.0]]), np.array([[2.0, 2.0]])))
    1.5
    """

    _operation = (ops.huber_loss, ops.huber_loss_backward)

    @checked
    def __init__(self, delta: Positive = 1.0) -> None:
        self.delta = delta


class BCEWithLogitsLoss(_ElementLoss):
    """Cross-entropy of each output's sigmoid s and its target t, 0 to 1; the mean over all.

        -t ln s(outputs) - (1 - t) ln(1 - s(outputs))

    For several labels a sample, targets (N, K), and for two classes with one output, (N, 1).
    ``predict`` returns 1 where the sigmoid is above 1/2; the accuracy is the share of elements.

    >>> import numpy as np
    >>> loss = BCEWithLogitsLoss()
    >>> round(float(loss.forward(np.zeros((1, 3)), np.array([[0, 1, 1]]))), 6)  # log 2
    0.693147
    >>> loss.predictions(np.array([[-1.0, 2.0]])).tolist()
    [[0, 1]]
    """

    _operation = (
        ops.binary_cross_entropy_with_logits,
        ops.binary_cross_entropy_with_logits_backward,
    )

    @property
    def metrics(self) -> tuple[str, ...]:  # noqa: D102
        return ("accuracy",)

    def check_targets(self, op: str, targets: Array, output_shape: tuple[int, ...]) -> None:  # noqa: D102
        check_values(op, targets, output_shape, least=0, most=1)

    def predictions(self, outputs: Array) -> Array:  # noqa: D102
        xp = namespace("predict", outputs=outputs)
        return xp.astype(outputs > 0, xp.int64)

    def classes(self, targets: Array) -> Array:
        """Return 1 where a target is above 1/2, else 0."""
        xp = namespace("classes", targets=targets)
        if xp.isdtype(targets.dtype, ("bool", "integral")):
            return xp.astype(targets, xp.int64)
        return xp.astype(targets > 0.5, xp.int64)

    def probabilities(self, outputs: Array) -> Array:
        """Return the sigmoid of every output."""
        return sigmoid(outputs)[0]
