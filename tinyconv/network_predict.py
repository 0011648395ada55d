"""What a network says of samples, and how good that is: predictions and figures."""

from collections.abc import Callable, Sequence
from functools import cached_property
from math import isnan, nan
from typing import Any

import numpy as np

from tinyconv.arguments import Count, checked
from tinyconv.backend import Array, Values, to_numpy
from tinyconv.engines.base import Engine, Totals
from tinyconv.engines.choose import engine_for
from tinyconv.engines.ranks import ALONE, Ranks
from tinyconv.errors import ArgumentError, NonFiniteError
from tinyconv.losses import Loss, Targets
from tinyconv.messages import shown
from tinyconv.metrics import Metric, figures, metrics_of
from tinyconv.network_base import Network
from tinyconv.training.batches import as_pair
from tinyconv.training.checks import as_array, check_targets


class Predictor(Network):
    """The part of :class:`tinyconv.Sequential` that predicts and evaluates; see there."""

    @checked
    def logits(self, x: Array, batch_size: Count = 256) -> Values:
        """Return the outputs of the last layer, (N, K), computed batch by batch.

        Args:
            x: (N, ...), floating-point, in host memory or on the network's device.
            batch_size: samples in memory at a time.
        """
        x = as_array("predict", "x", x)
        self._accept(x)
        return self._engine.logits(x, batch_size)

    @cached_property
    def _engine(self) -> Engine:
        return engine_for(self)

    @checked
    def predict(self, x: Array, batch_size: Count = 256) -> Values:
        """Return what the network says of every sample.

        With a loss of classes the most likely one, (N,) or (N, H, W), int64; with one of numbers
        the outputs, (N, ...); with :class:`BCEWithLogitsLoss` 0 or 1 for every output.
        """
        outputs = self._finite("predict", x, self.logits(x, batch_size))
        predictions: Values = self.loss.predictions(outputs)
        return predictions

    @checked
    def predict_proba(self, x: Array, batch_size: Count = 256) -> Values:
        """Return the probability of every class for every sample, (N, K).

        Raises:
            StateError: the loss is one of numbers, not of classes.
        """
        outputs = self._finite("predict_proba", x, self.logits(x, batch_size))
        probabilities: Values = self.loss.probabilities(outputs)
        return probabilities

    def _finite(self, op: str, x: Array, outputs: Values) -> Values:
        """Return outputs from which something can be concluded.

        Raises:
            NonFiniteError: one is NaN; the text says which sample's, and whether x or a weight is.
        """
        wrong: Array = np.isnan(outputs)
        if not wrong.any():
            return outputs
        wrong = wrong.any(axis=tuple(range(1, outputs.ndim)))
        place = int(wrong.argmax())
        why = "its numbers overflow"
        if np.isnan(to_numpy(as_array(op, "x", x)[place])).any():
            why = "it holds NaN"
        for name, values in self._tensors().items():
            if np.isnan(to_numpy(values)).any():
                why = f"the network's {name} holds NaN"
        raise NonFiniteError(
            f"{op}: the output for sample {place} is NaN ({wrong.sum():,} of {len(wrong):,} are): "
            f"{why}"
        )

    @checked
    def evaluate(
        self,
        x: Any,
        y: Array | None = None,
        *,
        metrics: Sequence[str | Metric | Callable[[Any, Any], float]] | None = None,
        sample_weight: Array | None = None,
        batch_size: Count = 256,
    ) -> dict[str, float]:
        """Return the mean loss and other figures on samples with known targets.

        Args:
            x: (N, ...), samples; or a pair (x, y) in place of both, such as ``data.test``.
            y: targets as ``fit`` takes them.
            metrics: see ``fit``, and so for sample_weight.
            batch_size: samples in memory at a time.

        Returns:
            Name -> figure, ``"loss"`` first.

        Raises:
            ArgumentError: a metric is unknown, or a target out of range, or there are none.
            ShapeError: the shapes do not fit.
            DtypeError: the loss does not take such targets.

        >>> import numpy as np
        >>> import tinyconv as tc
        >>> net = tc.Sequential([tc.Linear(4, 3)], seed=0)
        >>> net.evaluate(np.ones((5, 4), "f"), np.zeros(5, int), metrics=["top_3"])["top_3"]
        1.0
        """
        pair = as_pair(x, y, sample_weight)
        if pair is None:
            raise ArgumentError(
                f"evaluate: x is {shown(x)} and y is missing; expected x and y, or a pair of them "
                "such as data.test"
            )
        x, targets = self._samples("evaluate", *pair, self.loss)
        measured = metrics_of("evaluate", metrics, self.loss, self.output_shape(tuple(x.shape[1:])))
        return self._figures(x, targets, measured, batch_size)

    def score(self, x: Any, y: Array | None = None) -> float:
        """Return the accuracy, as scikit-learn's classifiers do; the loss where there is none."""
        figures = self.evaluate(x, y)
        return figures.get("accuracy", figures["loss"])

    def _figures(
        self,
        x: Array,
        targets: Targets,
        metrics: Sequence[Metric],
        batch_size: int = 256,
        *,
        ranks: Ranks = ALONE,
    ) -> dict[str, float]:
        part = ranks.part(len(x))
        self._accept(x, "evaluate")
        found = self._engine.measure(x, targets, part, self.loss, metrics, batch_size)
        means = ranks.totals(found or Totals({"loss": nan})).means()
        if not isnan(means["loss"]):  # else no engine measures, an output is NaN or nothing counts
            return means
        outputs = ranks.outputs(self.logits(x[part], batch_size))
        y, weight = to_numpy(targets.y), targets.sample_weight
        if weight is not None:
            weight = to_numpy(weight).astype(outputs.dtype)
        # What does not count may be NaN.
        if np.isnan(outputs).any() and isnan(figures([], self.loss, outputs, y, weight)["loss"]):
            self._finite("evaluate", x, outputs)
        return figures(metrics, self.loss, outputs, y, weight)

    def _samples(
        self, op: str, x: Any, y: Any, sample_weight: Any, loss: Loss
    ) -> tuple[Array, Targets]:
        """Return checked samples and their checked targets, on behalf of ``op``."""
        x, y = as_array(op, "x", x), as_array(op, "y", y)
        if sample_weight is not None:
            sample_weight = as_array(op, "sample_weight", sample_weight)
        self._accept(x, op)
        outputs = self.output_shape(tuple(x.shape[1:]))
        return x, check_targets(op, x, y, sample_weight, loss, outputs)
