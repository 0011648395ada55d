"""Figures beside the loss: accuracy, top-k, errors, and functions of one's own.

A figure is a mean over the samples (or pixels) that count, weighted as the loss is, so what
``fit`` adds up batch by batch is what :meth:`tinyconv.Sequential.evaluate` finds.
"""

import inspect
from abc import ABC, abstractmethod
from collections.abc import Callable, Sequence
from typing import Any

from tinyconv.arguments import Function
from tinyconv.backend import Array, namespace, number, to_numpy
from tinyconv.errors import ArgumentError
from tinyconv.losses import Loss
from tinyconv.losses.base import beside
from tinyconv.messages import hint, shown


class Metric(ABC):
    """The base of all figures, also of your own.

    Attributes:
        name: of its column in a history.
    """

    name: str

    @abstractmethod
    def __call__(
        self, loss: Loss, outputs: Array, targets: Array, sample_weight: Array | None = None
    ) -> Any:
        """Return the figure of a batch, 0 where no sample counts: a number.

        Within a step on a GPU it may be an array without axes, so that the host need not wait.

        Args:
            loss: what is minimised; it knows predictions and which targets count.
            outputs: (N, ...), of the network.
            targets: (N, ...), as ``fit`` was handed them.
            sample_weight: (N,), how often each sample counts; None for 1.
        """

    def objection(self, loss: Loss, output_shape: tuple[int, ...]) -> str | None:
        """Return why the figure makes no sense of such a loss or such outputs; None if it does."""
        return None


class _MeanScore(Metric):
    """The mean of a score that every sample, pixel or element has."""

    @abstractmethod
    def scores(self, loss: Loss, outputs: Array, targets: Array) -> Array:
        """Return (N, ...), a score of each."""

    def __call__(
        self, loss: Loss, outputs: Array, targets: Array, sample_weight: Array | None = None
    ) -> Any:
        xp = namespace(self.name, outputs=outputs)
        if xp.isdtype(targets.dtype, "real floating"):  # as the loss takes them
            targets = xp.astype(targets, outputs.dtype, copy=False)
        scores = xp.astype(self.scores(loss, outputs, targets), xp.float64)
        if sample_weight is None and loss.ignore_index is None:
            return number(xp.mean(scores)) if 0 not in scores.shape else 0.0
        weights = xp.astype(loss.counts(targets), xp.float64)
        if sample_weight is not None:
            weights = weights * beside(xp, sample_weight, weights.ndim)
        weights = xp.broadcast_to(beside(xp, weights, scores.ndim), scores.shape)
        total, none = xp.sum(weights), xp.zeros((), dtype=xp.float64, device=weights.device)
        mean = xp.sum(weights * scores) / xp.where(total == 0, none + 1, total)
        return number(xp.where(total == 0, none, mean))


class Accuracy(_MeanScore):
    """The share of samples, pixels or labels that are predicted correctly."""

    name = "accuracy"

    def objection(self, loss: Loss, output_shape: tuple[int, ...]) -> str | None:  # noqa: D102
        if "accuracy" in loss.metrics:
            return None
        return f"{type(loss).__name__} asks for numbers, which are not right or wrong; try 'mae'"

    def scores(self, loss: Loss, outputs: Array, targets: Array) -> Array:  # noqa: D102
        return loss.predictions(outputs) == loss.classes(targets)


class TopK(_MeanScore):
    """The share of samples whose class is among the k with the largest outputs.

    Args:
        k: at least 1.

    >>> TopK(5).name
    'top_5'
    """

    def __init__(self, k: int) -> None:
        if k < 1:
            raise ArgumentError(f"TopK: k is {k!r}, expected at least 1")
        self.k = k
        self.name = f"top_{k}"

    def objection(self, loss: Loss, output_shape: tuple[int, ...]) -> str | None:  # noqa: D102
        if not loss.one_class:
            return f"{type(loss).__name__} does not ask for one class a sample"
        if not output_shape or self.k > output_shape[0]:
            return f"the network has {output_shape[0] if output_shape else 'no'} classes"
        return None

    def scores(self, loss: Loss, outputs: Array, targets: Array) -> Array:  # noqa: D102
        xp = namespace(self.name, outputs=outputs)
        # Of equal outputs the first ones are the best.
        best = xp.argsort(-outputs, axis=1, stable=True)[:, : self.k, ...]
        return xp.any(best == xp.expand_dims(loss.classes(targets), axis=1), axis=1)


class MeanAbsoluteError(_MeanScore):
    """The mean of ``|outputs - targets|``."""

    name = "mae"

    def objection(self, loss: Loss, output_shape: tuple[int, ...]) -> str | None:  # noqa: D102
        is_of_classes = loss.one_class or "accuracy" in loss.metrics
        return "the targets are classes" if is_of_classes else None

    def scores(self, loss: Loss, outputs: Array, targets: Array) -> Array:  # noqa: D102
        xp = namespace(self.name, outputs=outputs, targets=targets)
        return xp.abs(outputs - xp.astype(targets, outputs.dtype))


class MeanSquaredError(MeanAbsoluteError):
    """The mean of ``(outputs - targets)^2``."""

    name = "mse"

    def scores(self, loss: Loss, outputs: Array, targets: Array) -> Array:  # noqa: D102
        return super().scores(loss, outputs, targets) ** 2


class FromFunction(Metric):
    """A function of one's own: ``function(targets, predictions)``, in scikit-learn's order.

    Both are NumPy arrays, the predictions those of ``net.predict``; targets that the loss ignores
    are among them. During training it is a mean over batches; ``evaluate`` and validation call it
    once, with everything.

    Args:
        function: returns a number; its ``__name__`` names the column. Where samples have weights it
            gets them as ``sample_weight=``, if it has an argument of that name.
    """

    def __init__(self, function: Callable[..., float]) -> None:
        self.function = function
        try:
            self._weighs = "sample_weight" in inspect.signature(function).parameters
        except ValueError:  # of a function in C, which does not say
            self._weighs = False
        self.name = getattr(function, "__name__", type(function).__name__)

    def __call__(  # noqa: D102
        self, loss: Loss, outputs: Array, targets: Array, sample_weight: Array | None = None
    ) -> Any:
        predictions = to_numpy(loss.predictions(outputs))
        is_weighted = self._weighs and sample_weight is not None
        weights = {"sample_weight": to_numpy(sample_weight)} if is_weighted else {}
        value = self.function(to_numpy(targets), predictions, **weights)
        try:
            return float(value)
        except (TypeError, ValueError):
            raise ArgumentError(
                f"the metric {self.name!r} returned {shown(value)}, expected a number"
            ) from None


_BY_NAME: dict[str, type[Metric]] = {
    kind.name: kind for kind in (Accuracy, MeanAbsoluteError, MeanSquaredError)
}


def metrics_of(
    op: str,
    metrics: Sequence[str | Metric | Callable[[Any, Any], float]] | None,
    loss: Loss,
    output_shape: tuple[int, ...],
) -> list[Metric]:
    """Return the figures that an argument means: the loss's own if None.

    Raises:
        ArgumentError: a name is unknown, or a figure makes no sense of the loss.

    >>> from tinyconv.losses import CrossEntropyLoss
    >>> [m.name for m in metrics_of("fit", ["accuracy", "top_2"], CrossEntropyLoss(), (3,))]
    ['accuracy', 'top_2']
    >>> metrics_of("fit", ["top_5"], CrossEntropyLoss(), (3,))
    Traceback (most recent call last):
    tinyconv.errors.ArgumentError: fit: the metric 'top_5' makes no sense: the network has 3 classes
    >>> metrics_of("fit", ["auc"], CrossEntropyLoss(), (3,))
    Traceback (most recent call last):
    tinyconv.errors.ArgumentError: fit: metric 'auc', expected 'accuracy', 'mae', 'mse', 'top_<k>',
    a Metric or a function of targets and predictions
    """
    given = loss.metrics if metrics is None else metrics
    if isinstance(given, str) or not isinstance(given, Sequence):
        raise ArgumentError(f"{op}: metrics is {metrics!r}, expected a list such as ['accuracy']")
    found = [_metric_of(op, metric) for metric in given]
    for metric in found:
        if (why := metric.objection(loss, output_shape)) is not None:
            raise ArgumentError(f"{op}: the metric {metric.name!r} makes no sense: {why}")
    names = ["loss", *(metric.name for metric in found)]
    if len(set(names)) < len(names):
        raise ArgumentError(f"{op}: the metrics have the names {names[1:]}, expected each once")
    return found


def _metric_of(op: str, metric: str | Metric | Callable[[Any, Any], float]) -> Metric:
    if isinstance(metric, Metric):
        return metric
    if isinstance(metric, str):
        if metric in _BY_NAME:
            return _BY_NAME[metric]()
        k = metric.removeprefix("top_")
        if k != metric and k.isdecimal() and int(k) > 0:
            return TopK(int(k))
    elif callable(metric) and not isinstance(metric, type):
        try:
            return FromFunction(Function("targets", "predictions").take(metric))
        except ValueError as more:
            raise ArgumentError(
                f"{op}: metric {shown(metric)}, expected a function of (targets, predictions){more}"
            ) from None
    raise ArgumentError(
        f"{op}: metric {shown(metric)}, expected {', '.join(map(repr, _BY_NAME))}, 'top_<k>', "
        f"a Metric or a function of targets and predictions{hint(metric, _BY_NAME)}"
    )


def figures(
    metrics: Sequence[Metric],
    loss: Loss,
    outputs: Array,
    targets: Array,
    sample_weight: Array | None = None,
) -> dict[str, Any]:
    """Return the loss and every figure of a batch by name, numbers as a :class:`Metric` returns.

    >>> import numpy as np
    >>> from tinyconv.losses import MSELoss
    >>> figures([MeanAbsoluteError()], MSELoss(), np.array([[1.0, 5.0]]), np.array([[1, 2]]))
    {'loss': 4.5, 'mae': 1.5}
    """
    weights = () if sample_weight is None else (sample_weight,)
    values = {"loss": number(loss.forward(outputs, targets, *weights))}
    return values | {metric.name: metric(loss, outputs, targets, *weights) for metric in metrics}
