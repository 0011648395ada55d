"""Losses as thin objects over the operations: what ``fit(loss=...)`` takes."""

from abc import ABC, abstractmethod
from collections.abc import Mapping, Sequence
from typing import Any

from tinyconv.backend import Array, namespace
from tinyconv.errors import FileError, ShapeError
from tinyconv.ops.activation import sigmoid, sigmoid_backward
from tinyconv.ops.loss import (
    hinge,
    hinge_backward,
    quadratic,
    quadratic_backward,
    sigmoid_cross_entropy,
    sigmoid_cross_entropy_backward,
)
from tinyconv.ops.softmax import (
    one_hot,
    softmax,
    softmax_log_likelihood,
    softmax_log_likelihood_backward,
)

__all__ = [
    "LOSSES",
    "Hinge",
    "Loss",
    "Quadratic",
    "SigmoidCrossEntropy",
    "SoftmaxLogLikelihood",
    "loss_from_name",
]


class Loss(ABC):
    """The base of all losses: the mean over the batch of what each sample costs.

    Attributes:
        ignore_index: the label of samples that cost nothing; None if there is no such label.
    """

    ignore_index: int | None = None
    _saved: Any = None

    def config(self) -> dict[str, Any]:
        """Return the arguments that construct this loss again; JSON can hold them."""
        return {}

    @abstractmethod
    def forward(self, logits: Array, labels: Array) -> Array:
        """Return the loss, an array without axes, of (N, K) logits and (N,) class indices."""

    @abstractmethod
    def backward(self) -> Array:
        """Return its gradient with respect to the logits of the last forward pass."""

    @abstractmethod
    def probabilities(self, logits: Array) -> Array:
        """Return what the network says of each class, (N, K), of (N, K) logits."""

    def counts(self, labels: Array) -> Array:
        """Return which samples count, (N,) bool: those whose label is not ignored."""
        xp = namespace("loss", labels=labels)
        if self.ignore_index is None:
            return xp.ones(labels.shape, dtype=xp.bool)
        return labels != self.ignore_index

    def __repr__(self) -> str:
        arguments = ", ".join(f"{name}={value!r}" for name, value in self.config().items())
        return f"{type(self).__name__}({arguments})"


class SoftmaxLogLikelihood(Loss):
    """``-log softmax(logits)[label]``, the default.

    PyTorch's CrossEntropyLoss with its arguments.

    Args:
        weight: of each class, K numbers of at least 0; None for 1. The mean is weighted too.
        ignore_index: the label of samples that do not count; None for no such label.
        label_smoothing: share of each label that goes to all classes alike, 0 to 1.

    Raises:
        ShapeError: an argument is out of range.

    >>> import numpy as np
    >>> loss = SoftmaxLogLikelihood()
    >>> round(float(loss.forward(np.zeros((2, 10)), np.array([3, 4]))), 6)  # log 10
    2.302585
    >>> loss.backward().shape
    (2, 10)
    """

    def __init__(
        self,
        weight: Sequence[float] | None = None,
        ignore_index: int | None = None,
        label_smoothing: float = 0.0,
    ) -> None:
        if weight is not None and not all(w >= 0 for w in weight):
            raise ShapeError(f"SoftmaxLogLikelihood: weight is {weight!r}, expected 0 or more")
        if not 0 <= label_smoothing <= 1:
            raise ShapeError(
                f"SoftmaxLogLikelihood: label_smoothing is {label_smoothing!r}, expected 0 to 1"
            )
        self.weight = None if weight is None else [float(w) for w in weight]
        self.ignore_index = ignore_index
        self.label_smoothing = float(label_smoothing)

    def config(self) -> dict[str, Any]:  # noqa: D102
        arguments = {"weight": self.weight, "ignore_index": self.ignore_index}
        given = {name: value for name, value in arguments.items() if value is not None}
        return given | ({"label_smoothing": self.label_smoothing} if self.label_smoothing else {})

    def forward(self, logits: Array, labels: Array) -> Array:  # noqa: D102
        weight = None
        if self.weight is not None:
            xp = namespace("SoftmaxLogLikelihood", logits=logits)
            weight = xp.asarray(self.weight, dtype=logits.dtype, device=logits.device)
        value, self._saved = softmax_log_likelihood(
            logits, labels, weight, self.ignore_index, self.label_smoothing
        )
        return value

    def backward(self) -> Array:  # noqa: D102
        return softmax_log_likelihood_backward(1.0, self._saved)

    def probabilities(self, logits: Array) -> Array:  # noqa: D102
        return softmax(logits)[0]


class SigmoidCrossEntropy(Loss):
    """Cross-entropy of K sigmoids, of which the label's shall be 1 and the others 0.

    Summed over the K outputs, as in equation 63 of Nielsen's book.

    >>> import numpy as np
    >>> loss = SigmoidCrossEntropy()
    >>> round(float(loss.forward(np.zeros((2, 10)), np.array([3, 4]))), 6)  # 10 log 2
    6.931472
    >>> loss.backward()[0, 2:5]
    array([ 0.25, -0.25,  0.25])
    """

    def forward(self, logits: Array, labels: Array) -> Array:  # noqa: D102
        targets = _targets("SigmoidCrossEntropy", logits, labels)
        value, self._saved = sigmoid_cross_entropy(logits, targets)
        return value

    def backward(self) -> Array:  # noqa: D102
        return sigmoid_cross_entropy_backward(1.0, self._saved)

    def probabilities(self, logits: Array) -> Array:
        """Return the sigmoid of every logit; the K of a sample need not add up to 1."""
        return sigmoid(logits)[0]


class Quadratic(Loss):
    """Half the squared distance from outputs to 1 for the label and 0 for the others.

    Equation 6 of Nielsen's book.

    Args:
        output: ``"sigmoid"``, which is applied to the logits first, or ``"linear"``.

    Raises:
        ShapeError: output is neither of the two.

    >>> import numpy as np
    >>> loss = Quadratic()
    >>> float(loss.forward(np.zeros((2, 10)), np.array([3, 4])))  # 10 * 0.5^2 / 2
    1.25
    >>> float(Quadratic(output="linear").forward(np.zeros((2, 10)), np.array([3, 4])))
    0.5
    """

    def __init__(self, output: str = "sigmoid") -> None:
        if output not in ("sigmoid", "linear"):
            raise ShapeError(f"Quadratic: output is {output!r}, expected 'sigmoid' or 'linear'")
        self.output = output

    def config(self) -> dict[str, Any]:  # noqa: D102
        return {"output": self.output}

    def forward(self, logits: Array, labels: Array) -> Array:  # noqa: D102
        y = sigmoid(logits)[0] if self.output == "sigmoid" else logits
        value, saved = quadratic(y, _targets("Quadratic", logits, labels))
        self._saved = y, saved
        return value

    def backward(self) -> Array:  # noqa: D102
        y, saved = self._saved
        dy = quadratic_backward(1.0, saved)
        return sigmoid_backward(dy, y) if self.output == "sigmoid" else dy

    def probabilities(self, logits: Array) -> Array:
        """Return the outputs; the K of a sample need not add up to 1."""
        return sigmoid(logits)[0] if self.output == "sigmoid" else logits


class Hinge(Loss):
    """Ask the logit of every wrong class to stay below the label's by a margin.

    Args:
        margin: greater than 0.

    Raises:
        ShapeError: the margin is not positive.

    >>> import numpy as np
    >>> float(Hinge().forward(np.array([[3.0, 2.5, 1.0]]), np.array([0])))
    0.5
    """

    def __init__(self, margin: float = 1.0) -> None:
        if not margin > 0:
            raise ShapeError(f"Hinge: margin is {margin!r}, expected more than 0")
        self.margin = float(margin)

    def config(self) -> dict[str, Any]:  # noqa: D102
        return {"margin": self.margin}

    def forward(self, logits: Array, labels: Array) -> Array:  # noqa: D102
        value, self._saved = hinge(logits, labels, self.margin)
        return value

    def backward(self) -> Array:  # noqa: D102
        return hinge_backward(1.0, self._saved)

    def probabilities(self, logits: Array) -> Array:
        """Return the softmax of the scores, which ranks the classes as they do."""
        return softmax(logits)[0]


def _targets(op: str, logits: Array, labels: Array) -> Array:
    """Return (N, K), of the dtype of the logits: 1 in the column of the label, 0 elsewhere."""
    xp = namespace(op, logits=logits)
    return xp.astype(one_hot(op, logits, labels), logits.dtype)


#: The losses that a file may name.
LOSSES: dict[str, type[Loss]] = {
    kind.__name__: kind for kind in (Hinge, Quadratic, SigmoidCrossEntropy, SoftmaxLogLikelihood)
}


def loss_from_name(name: str, config: Mapping[str, Any] | None = None) -> Loss:
    """Return a loss by the name of its class and what its ``config()`` gave.

    Raises:
        FileError: there is none of that name, or it does not take such arguments.

    >>> loss_from_name("SoftmaxLogLikelihood")
    SoftmaxLogLikelihood()
    >>> loss_from_name("Hinge", {"margin": 0.5})
    Hinge(margin=0.5)
    >>> loss_from_name("Surprise")
    Traceback (most recent call last):
    tinyconv.errors.FileError: unknown loss 'Surprise'
    """
    if name not in LOSSES:
        raise FileError(f"unknown loss {name!r}")
    try:
        return LOSSES[name](**(config or {}))
    except (TypeError, ValueError) as error:
        raise FileError(f"loss {name} does not take {config!r}: {error}") from None
