"""What every loss is: a mean over a batch, its gradient, and what it says of targets.

And the targets of a data set, with how often each sample counts: what an engine takes batches of.
"""

from abc import ABC, abstractmethod
from collections.abc import Callable
from typing import Any

import numpy as np

from tinyconv.arguments import checked
from tinyconv.backend import Array, Values, device_of, like, namespace, number
from tinyconv.errors import StateError
from tinyconv.losses.checks import check_classes
from tinyconv.registry import Described


class Targets:
    """Targets of all samples.

    Args:
        y: (S, ...), class indices, probabilities or numbers, as the loss asks for.
        sample_weight: (S,), floating-point; None for 1.

    >>> targets = Targets(np.array([5, 6, 7]), np.array([1.0, 0.5, 2.0]))
    >>> targets.batch(np.array([2, 0]), np.zeros(1, np.float32))
    (array([7, 5]), array([2., 1.], dtype=float32))
    """

    def __init__(self, y: Array, sample_weight: Array | None = None) -> None:
        self.y = y
        self.sample_weight = sample_weight

    def __len__(self) -> int:
        return int(self.y.shape[0])

    def __getitem__(self, index: Values) -> "Targets":
        """Return those of some samples."""
        y = take(self.y, index, self.y)
        weight = self.sample_weight
        return Targets(y, None if weight is None else take(weight, index, weight))

    def batch(self, index: Values, of: Array) -> tuple[Array, Array | None]:
        """Return targets and weights of some samples, on the device of ``of``.

        Args:
            index: (N,), int64, which samples.
            of: an array of the network; the weights get its dtype.
        """
        y = take(self.y, index, of)
        if self.sample_weight is None:
            return y, None
        weight = take(self.sample_weight, index, of)
        return y, namespace("targets", of=of, weight=weight).astype(weight, of.dtype, copy=False)


def take(array: Array, index: Values, of: Array) -> Array:
    """Return ``array[index]`` on the device of ``of``."""
    part = array[index if device_of(array) == "cpu" else like(array, index)]
    return like(of, part) if isinstance(part, np.ndarray) else part


def beside(xp: Any, array: Array, ndim: int) -> Array:
    """Return the array with as many axes, for what has more of them behind."""
    return xp.reshape(array, (*array.shape, *[1] * (ndim - array.ndim)))


class _NotYet:
    """What a loss has kept before its first forward pass."""

    def __get__(self, loss: Any, kind: type) -> Any:
        raise StateError(f"{kind.__name__}: backward was called before forward")


class Loss(Described, ABC):
    """The base of all losses, also of your own: override ``forward`` and ``backward``.

    A loss whose targets are classes sets ``one_class``; then ``predict`` returns the class of the
    largest output, accuracy is measured, and class indices are checked before training. Any other
    one is handed its targets as ``fit`` was, and ``predict`` returns the outputs. Of an argument
    that is not what its annotation says, a constructor raises an ArgumentError.

    Attributes:
        one_class: whether each position has one class, on axis 1 of the outputs.
        ignore_index: the label of positions that cost nothing; None if there is no such label.
        metrics: the figures of a history beside the loss, where ``fit`` names none.

    >>> import numpy as np
    >>> class LogCosh(Loss):
    ...     def forward(self, outputs, targets):
    ...         self.difference = outputs - targets
    ...         return np.log(np.cosh(self.difference)).mean()
    ...     def backward(self):
    ...         return np.tanh(self.difference) / self.difference.size
    >>> round(float(LogCosh().forward(np.ones((2, 3)), np.zeros((2, 3)))), 6)
    0.433781
    """

    one_class: bool = False
    ignore_index: int | None = None
    _saved: Any = _NotYet()

    @checked
    def __init__(self) -> None:
        """Take no arguments, unless a loss has some of its own."""
        super().__init__()

    @property
    def metrics(self) -> tuple[str, ...]:  # noqa: D102
        return ("accuracy",) if self.one_class else ()

    @abstractmethod
    def forward(self, outputs: Array, targets: Array, sample_weight: Array | None = None) -> Array:
        """Return the loss of a batch, an array without axes or a number.

        Args:
            outputs: (N, ...), what the network gave; floating-point.
            targets: (N, ...), what it should have given, as ``fit`` was handed it.
            sample_weight: (N,), how often each sample counts, of the dtype of the outputs; None
                for 1. A loss of your own may leave this argument out; then ``fit`` refuses weights.
        """

    @abstractmethod
    def backward(self) -> Array:
        """Return its gradient with respect to the outputs of the last forward pass."""

    def check_targets(self, op: str, targets: Array, output_shape: tuple[int, ...]) -> None:
        """Check all targets before anything runs, on behalf of ``op``.

        Args:
            op: the name that error messages begin with.
            targets: (S, ...), of all samples.
            output_shape: what the network makes of one sample.

        Raises:
            ShapeError: their shape does not fit.
            DtypeError: their dtype does not.
            ArgumentError: a value is out of range.
        """
        if self.one_class:
            check_classes(op, targets, output_shape, self.ignore_index)

    def predictions(self, outputs: Array) -> Array:
        """Return what the network says of each sample: classes, or the outputs themselves."""
        if not self.one_class:
            return outputs
        return namespace("predict", outputs=outputs).argmax(outputs, axis=1)

    def classes(self, targets: Array) -> Array:
        """Return what :meth:`predictions` should be, for the accuracy."""
        return targets

    def probabilities(self, outputs: Array) -> Array:
        """Return the probability of each class, of the shape of the outputs.

        Raises:
            StateError: the loss does not classify.
        """
        raise StateError(f"predict_proba: {type(self).__name__} knows no probabilities; use logits")

    def counts(self, targets: Array) -> Array:
        """Return which positions count, (N, ...) bool: those whose label is not ignored."""
        xp = namespace("loss", targets=targets)
        if not self.one_class:
            return xp.ones(targets.shape[:1], dtype=xp.bool, device=targets.device)
        labels = self.classes(targets)
        # Probabilities have no label that could be ignored.
        if self.ignore_index is None or labels is not targets:
            return xp.ones(labels.shape, dtype=xp.bool, device=targets.device)
        return labels != self.ignore_index

    def samples(self, targets: Array, sample_weight: Array | None = None) -> Any:
        """Return how much a batch counts in an epoch: its samples, without ignored ones.

        A number; within a step on a GPU it may be an array without axes.

        Args:
            targets: (N, ...), of the batch.
            sample_weight: (N,), floating-point; None for 1.

        >>> import numpy as np
        >>> from tinyconv.losses import CrossEntropyLoss
        >>> CrossEntropyLoss(ignore_index=9).samples(np.array([1, 2, 9]))
        2.0
        """
        if sample_weight is None and not self.one_class:
            return float(targets.shape[0])
        xp = namespace("fit", targets=targets)
        counts = self.counts(targets)
        if sample_weight is None:
            return number(xp.count_nonzero(counts))
        counts = xp.astype(counts, sample_weight.dtype)
        return number(xp.sum(counts * beside(xp, sample_weight, counts.ndim)))

    def divisor(self, targets: Array, sample_weight: Array | None = None) -> Any:
        """Return what the mean over a batch divides by, the samples unless overridden.

        A number as :meth:`samples` returns. The means of batches are weighted by it for that of an
        epoch, and where processes share a batch, so are their gradients.
        """
        return self.samples(targets, sample_weight)


class OneOperation(Loss):
    """What losses share that call one operation, whose options are their arguments."""

    _operation: tuple[Callable[..., tuple[Array, Any]], Callable[[float, Any], Array]]

    def forward(self, outputs: Array, targets: Array, sample_weight: Array | None = None) -> Array:  # noqa: D102
        if not self.one_class:
            xp = namespace(type(self).__name__, outputs=outputs, targets=targets)
            targets = xp.astype(targets, outputs.dtype, copy=False)
        value, self._saved = self._operation[0](outputs, targets, sample_weight, **self.config())
        return value

    def backward(self) -> Array:  # noqa: D102
        return self._operation[1](1.0, self._saved)
