"""Losses of classes that exclude each other: one class a sample, or one a pixel."""

from collections.abc import Sequence
from typing import Annotated, Any

from tinyconv.arguments import Fraction, Numbers, OneOf, Positive, checked
from tinyconv.backend import Array, namespace, number, table
from tinyconv.errors import ArgumentError
from tinyconv.losses.base import Loss, OneOperation, beside
from tinyconv.losses.checks import check_classes, check_probabilities
from tinyconv.messages import shown
from tinyconv.ops import loss as ops
from tinyconv.ops.activation import sigmoid, sigmoid_backward
from tinyconv.ops.loss_common import one_hot
from tinyconv.ops.softmax import cross_entropy, cross_entropy_backward, softmax


class _ClassLoss(Loss):
    """Targets are class indices (N, ...), or of the shape of the outputs (N, K, ...)."""

    one_class = True

    def check_targets(self, op: str, targets: Array, output_shape: tuple[int, ...]) -> None:
        if _is_floating(targets) and tuple(targets.shape[1:]) == tuple(output_shape):
            check_probabilities(op, targets, output_shape)
        else:
            check_classes(op, targets, output_shape, self.ignore_index)

    def classes(self, targets: Array) -> Array:
        """Return class indices; of probabilities the most likely class."""
        if not _is_floating(targets):
            return targets
        return namespace("classes", targets=targets).argmax(targets, axis=1)

    def probabilities(self, outputs: Array) -> Array:
        """Return the softmax, which ranks the classes as the outputs do."""
        return softmax(outputs)[0]


class CrossEntropyLoss(OneOperation, _ClassLoss):
    """``-log softmax(outputs)[label]``, the default; the book's log-likelihood.

        loss = -1/Z sum_{n, k} t[n, k] log softmax(outputs)[n, k]

    with t of :func:`tinyconv.ops.cross_entropy`. Targets are class indices, (N,) or (N, H, W) for
    outputs (N, K, H, W), or probabilities of the shape of the outputs. PyTorch's arguments.

    Args:
        weight: of each class, K numbers of at least 0; None for 1. The mean is weighted too.
        ignore_index: the label of samples that do not count; None for no such label.
        label_smoothing: share of each label that goes to all classes alike, 0 to 1.

    >>> import numpy as np
    >>> loss = CrossEntropyLoss()
    >>> round(float(loss.forward(np.zeros((2, 10)), np.array([3, 4]))), 6)  # log 10
    2.302585
    >>> loss.backward().shape
    (2, 10)
    """

    _operation = (cross_entropy, cross_entropy_backward)

    @checked
    def __init__(
        self,
        weight: Annotated[Sequence[float], Numbers(least=0)] | None = None,
        *,
        ignore_index: int | None = None,
        label_smoothing: Fraction = 0.0,
    ) -> None:
        if weight is not None and not any(weight):
            raise ArgumentError(f"CrossEntropyLoss: weight is {shown(weight)}, all of it 0")
        self.weight = None if weight is None else [float(w) for w in weight]
        self.ignore_index = ignore_index
        self.label_smoothing = float(label_smoothing)

    def config(self) -> dict[str, Any]:  # noqa: D102
        arguments = {"weight": self.weight, "ignore_index": self.ignore_index}
        given = {name: value for name, value in arguments.items() if value is not None}
        return given | ({"label_smoothing": self.label_smoothing} if self.label_smoothing else {})

    def check_targets(self, op: str, targets: Array, output_shape: tuple[int, ...]) -> None:  # noqa: D102
        super().check_targets(op, targets, output_shape)
        if self.weight is not None and len(self.weight) != output_shape[0]:
            raise ArgumentError(
                f"{op}: the loss has weights of {len(self.weight)} classes, the network "
                f"{output_shape[0]} outputs"
            )

    def forward(self, outputs: Array, targets: Array, sample_weight: Array | None = None) -> Array:  # noqa: D102
        xp = namespace("CrossEntropyLoss", outputs=outputs)
        weight = None
        if self.weight is not None:
            weight = xp.astype(table(outputs, list, tuple(self.weight)), outputs.dtype)
        value, self._saved = cross_entropy(
            outputs,
            _as_floats(outputs, targets) if _is_floating(targets) else targets,
            weight,
            sample_weight,
            ignore_index=self.ignore_index,
            label_smoothing=self.label_smoothing,
        )
        return value

    def divisor(self, targets: Array, sample_weight: Array | None = None) -> Any:
        """Return Z, in which a label counts as often as its class."""
        if self.weight is None or _is_floating(targets):
            return self.samples(targets, sample_weight)
        xp = namespace("CrossEntropyLoss", targets=targets)
        counts = self.counts(targets)
        # On a GPU a label that is none comes here before it is refused.
        is_class = counts & (targets >= 0) & (targets < len(self.weight))
        labels = xp.where(is_class, targets, xp.zeros_like(targets))
        weight = table(targets, list, tuple(self.weight))
        of_label = xp.reshape(xp.take(weight, xp.reshape(labels, (-1,))), labels.shape)
        often = of_label * xp.astype(counts, of_label.dtype)
        if sample_weight is not None:
            often = often * beside(xp, sample_weight, often.ndim)
        return number(xp.sum(often))


#: The name of the book.
SoftmaxLogLikelihood = CrossEntropyLoss


class MultiMarginLoss(OneOperation, _ClassLoss):
    """Hinge loss: ask the output of every wrong class to stay below the right one's by a margin.

        loss = 1/(N K) sum_n sum_{k != y} max(0, margin + x[n, k] - x[n, y]),    y = label of n

    Targets are class indices, (N,) or (N, ...) for outputs (N, K, ...).

    Args:
        margin: greater than 0.

    >>> import numpy as np
    >>> float(MultiMarginLoss().forward(np.array([[3.0, 2.5]]), np.array([0])))
    0.25
    """

    _operation = (ops.multi_margin_loss, ops.multi_margin_loss_backward)

    @checked
    def __init__(self, margin: Positive = 1.0) -> None:
        self.margin = margin

    def check_targets(self, op: str, targets: Array, output_shape: tuple[int, ...]) -> None:  # noqa: D102
        check_classes(op, targets, output_shape)


class SigmoidCrossEntropy(_ClassLoss):
    """The book's cross-entropy: of K sigmoids, of which the label's shall be 1, the others 0.

    Summed over the K outputs, as in equation 63 of Nielsen's book:

        loss = -1/N sum_{n, k} t ln s(x) + (1 - t) ln(1 - s(x)),    t[n, k] = [k = label of n]

    For labels that do not exclude each other see :class:`tinyconv.BCEWithLogitsLoss`.

    >>> import numpy as np
    >>> loss = SigmoidCrossEntropy()
    >>> round(float(loss.forward(np.zeros((2, 10)), np.array([3, 4]))), 6)  # 10 log 2
    6.931472
    >>> loss.backward()[0, 2:5]
    array([ 0.25, -0.25,  0.25])
    """

    def forward(self, outputs: Array, targets: Array, sample_weight: Array | None = None) -> Array:  # noqa: D102
        t = _of_outputs("SigmoidCrossEntropy", outputs, targets)
        value, saved = ops.binary_cross_entropy_with_logits(outputs, t, sample_weight)
        self._saved = float(outputs.shape[1]), saved
        return self._saved[0] * value

    def backward(self) -> Array:  # noqa: D102
        return ops.binary_cross_entropy_with_logits_backward(*self._saved)

    def probabilities(self, outputs: Array) -> Array:
        """Return the sigmoid of every output; the K of a sample need not add up to 1."""
        return sigmoid(outputs)[0]


class Quadratic(_ClassLoss):
    """The book's quadratic cost: half the squared distance to 1 for the label, 0 for the others.

    Summed over the K outputs, as in equation 6 of Nielsen's book:

        loss = 1/(2 N) sum_{n, k} (a - t)^2,    t[n, k] = [k = label of n]

    For numbers to be met see :class:`tinyconv.MSELoss`.

    Args:
        output: ``"sigmoid"``, which is applied to the outputs first to give a, or ``"linear"``.

    >>> import numpy as np
    >>> loss = Quadratic()
    >>> float(loss.forward(np.zeros((2, 10)), np.array([3, 4])))  # 10 * 0.5^2 / 2
    1.25
    >>> float(Quadratic(output="linear").forward(np.zeros((2, 10)), np.array([3, 4])))
    0.5
    """

    @checked
    def __init__(self, output: Annotated[str, OneOf("sigmoid", "linear")] = "sigmoid") -> None:
        self.output = output

    def forward(self, outputs: Array, targets: Array, sample_weight: Array | None = None) -> Array:  # noqa: D102
        a = self.probabilities(outputs)
        value, saved = ops.mse_loss(a, _of_outputs("Quadratic", outputs, targets), sample_weight)
        half = outputs.shape[1] / 2
        self._saved = a, half, saved
        return half * value

    def backward(self) -> Array:  # noqa: D102
        a, half, saved = self._saved
        da = ops.mse_loss_backward(half, saved)
        return sigmoid_backward(da, a) if self.output == "sigmoid" else da

    def probabilities(self, outputs: Array) -> Array:
        """Return a; the K of a sample need not add up to 1."""
        return sigmoid(outputs)[0] if self.output == "sigmoid" else outputs


def _is_floating(targets: Array) -> bool:
    return bool(namespace("loss", targets=targets).isdtype(targets.dtype, "real floating"))


def _as_floats(outputs: Array, targets: Array) -> Array:
    """Return the targets in the dtype of the outputs."""
    xp = namespace("loss", outputs=outputs, targets=targets)
    return xp.astype(targets, outputs.dtype, copy=False)


def _of_outputs(op: str, outputs: Array, targets: Array) -> Array:
    """Return targets of the shape and dtype of the outputs: probabilities, or 1 at the label."""
    if not _is_floating(targets):
        targets = one_hot(op, outputs, targets)
    return _as_floats(outputs, targets)
