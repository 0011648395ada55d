"""The step of a loss, its gradient and the figures beside it."""

from collections.abc import Sequence
from math import prod
from typing import Any

import numpy as np

from tinyconv import losses
from tinyconv import metrics as measures
from tinyconv.backend import Array
from tinyconv.engines.base import Totals
from tinyconv.engines.cpu.arena import Image, Rows
from tinyconv.engines.cpu.program import Program
from tinyconv.engines.cpu.step import Context
from tinyconv.engines.cpu.tiling import compiled
from tinyconv.kernels.cpu import loss as kernels
from tinyconv.kernels.cpu.kernel import Kernel, address_of
from tinyconv.kernels.cpu.simd import LANES
from tinyconv.layers.base import Shape
from tinyconv.layers.snapshot import Snapshot

#: What a loss does to a row of outputs, by its name among those of the kernels.
ROWS: dict[type[losses.Loss], str] = {
    losses.CrossEntropyLoss: "cross entropy",
    losses.MultiMarginLoss: "margins",
    losses.MSELoss: "squares",
    losses.L1Loss: "sizes",
    losses.HuberLoss: "huber",
    losses.BCEWithLogitsLoss: "cross entropy of sigmoids",
    losses.SigmoidCrossEntropy: "cross entropy of sigmoids",
    losses.Quadratic: "squares of sigmoids",
}


#: Figures that there is room for beside the loss and the reach.
FIGURES = 6


class LossStep:
    """A loss and figures as kernels, or by their own methods where they are a user's.

    Args:
        loss: what is minimised.
        metrics: what is measured beside it.
        targets: such as will come; None for class indices, or numbers.
        context: what all steps share.
        sums: (threads, 8) float64, of which the first gets the losses of a batch, and those from
            the third on the figures that a kernel finds, as many as there is room for.
    """

    def __init__(
        self,
        loss: losses.Loss,
        metrics: Sequence[measures.Metric],
        targets: losses.Targets | None,
        context: Context,
        sums: Array,
    ) -> None:
        self.loss, self.metrics, self.context, self.sums = loss, metrics, context, sums
        self.has_kernel = type(loss) in ROWS
        self._options = Snapshot(loss)
        self._is_hard = loss.one_class if targets is None else self._has_labels(targets)
        self._often = np.ones(context.batch, np.float32)
        self._is_weighted = False
        self._measured: list[str] = []  # figures that a kernel finds, in the sums from the third on
        self._figures = Totals()

    def takes(self, targets: losses.Targets) -> bool:
        """Whether this step is one for such targets, and for the loss as it is now."""
        if not self.has_kernel:
            return True
        return self._has_labels(targets) == self._is_hard and self._options.holds()

    def _has_labels(self, targets: losses.Targets) -> bool:
        return bool(self.loss.one_class and targets.y.dtype.kind in "iu")

    def forward(
        self, program: Program, logits: Image, gradient: Image | None, shape: Shape
    ) -> None:
        """Add the calls of the loss of outputs of a shape, of its gradient, and of the figures.

        Args:
            program: gets them.
            logits: the outputs.
            gradient: of the loss with respect to them; None if it is not asked for, where
                :func:`has_kernels`.
            shape: of the outputs of a sample.
        """
        self.shape, self._logits = shape, logits
        by_class = self.loss.one_class
        self._is_image = 2 <= len(shape) <= 4  # whose numbers lie channels-last
        self.has_kernel = _has_kernel(self.loss, shape)
        if not self.has_kernel and gradient is not None:
            program.python("loss", lambda n: self._run(gradient, n))
            return
        loss, context, count, config = self.loss, self.context, prod(shape), self.loss.config()
        self._K = shape[0] if by_class else count
        self._positions = count // self._K
        self._labels = np.zeros(context.batch * self._positions if by_class else 1, np.int64)
        row = _row_of_loss(loss, self._is_hard)
        is_of_elements = row in kernels.ELEMENTS
        self._fills_rows = self._is_hard and is_of_elements
        has_rows = is_of_elements or not self._is_hard
        self._targets = context.arena.take(context.batch * count if has_rows else 0)
        self._rows = Rows(context.batch)
        if self._fills_rows:
            self._starts = np.arange(0, self._labels.size * self._K, self._K)
            self._hot = np.empty_like(self._starts)  # places of ones in the rows
        self._part, self._scales = _part_of(loss, self._K, count), np.ones(2)
        ignored, weight = loss.ignore_index, context.arena.take(self._K)
        weight[: self._K] = config.get("weight", 1.0)
        self._some_count = row == "cross entropy" and bool({"weight", "ignore_index"} & set(config))
        self._counts = np.empty((2, self._labels.size if self._some_count else 0))
        shared: dict[str, Any] = {
            "x": logits,
            "labels": self._labels,
            "targets": self._targets,
            "often": self._often,
            "ignores": ignored is not None and self._is_hard,
            "ignored": ignored or 0,
        }
        options: dict[str, Any] = {
            "dx": gradient,
            "weight": weight,
            "scales": self._scales,
            "sums": self.sums,
            "parameter": config.get("margin", config.get("delta", 0.0)),
            "smoothing": config.get("label_smoothing", 0.0),
        }
        images = (logits,) if gradient is None else (logits, gradient)
        rows = _rows_of(shape, not is_of_elements, *images)
        program.call("loss", _kernel(row), **shared, **rows, **options)
        for metric in self.metrics:
            known, slot = _row_of_figure(metric, by_class), 2 + len(self._measured)
            if known is None or len(self._measured) == FIGURES:
                continue
            self._measured.append(metric.name)
            row, parameter = known
            scales = np.array([0.0, 1.0 if by_class else 1 / count])
            sums = address_of(self.sums) + 8 * slot
            options = {"scales": scales, "sums": sums, "parameter": parameter}
            rows = _rows_of(shape, by_class, logits)
            program.call(metric.name, _kernel(row), **shared, **rows, **options)
        self._others = [metric for metric in self.metrics if metric.name not in self._measured]
        if self._others:
            program.python("metrics", self._measure)

    def set_batch(self, targets: losses.Targets, index: Array) -> None:
        """Fetch the targets of a batch."""
        if not self.has_kernel or self._others:
            self._batch = targets.batch(index, self.context.flat)
            if not self.has_kernel:
                return
        n, y, K = len(index), targets.y, self._K
        labels = self._labels[: n * self._positions]
        if self._is_hard:
            self._rows.fetch(y, index, labels.reshape(n, *self.shape[1:]))
        else:
            rows = self._targets[: n * prod(self.shape)]
            places = rows.reshape(n, *y.shape[1:])
            if self._is_image:
                last = rows.reshape(n, *self.shape[1:], self.shape[0])
                places = np.moveaxis(last, -1, 1)
            self._rows.fetch(y, index, places)
            if self.loss.one_class and self.metrics:
                rows.reshape(-1, K).argmax(axis=1, out=labels)
        if self._fills_rows:
            rows = self._targets[: labels.size * K]
            rows[:] = 0
            rows[np.add(labels, self._starts[: labels.size], out=self._hot[: labels.size])] = 1
        self._figures.add(Totals({}, *self._weigh(targets, index, labels)))

    def _weigh(self, targets: losses.Targets, index: Array, labels: Array) -> tuple[float, float]:
        """Set the scales of a batch; return how many of its samples count, and Z."""
        loss, n = self.loss, len(index)
        samples = divisor = float(n * self._positions)
        if targets.sample_weight is not None or self._is_weighted:
            self._is_weighted = targets.sample_weight is not None
            self._often[:] = 1
            if targets.sample_weight is not None:
                self._often[:n] = targets.sample_weight[index]
            samples = divisor = self._positions * float(self._often[:n].sum(dtype=float))
        if self._some_count and isinstance(loss, losses.CrossEntropyLoss):
            often, (counts, weights) = self._often[:n], self._counts[:, : labels.size]
            counts[:] = 1
            if loss.ignore_index is not None:
                np.not_equal(labels, loss.ignore_index, out=counts)
            samples = divisor = float(often @ counts.reshape(n, -1).sum(axis=1))
            if loss.weight is not None:  # an ignored label may be no class
                np.asarray(loss.weight, float).take(labels, out=weights, mode="clip")
                weights *= counts
                divisor = float(often @ weights.reshape(n, -1).sum(axis=1))
        self._scales[:] = self._part / (divisor or 1.0), self._part if divisor else 0.0
        return samples, divisor

    def totals(self) -> list[float]:
        """Return what all threads found in the batch: the loss, the reach, and the figures."""
        used = self.sums[:, : 2 + len(self._measured)]
        self._found = [sum(each) for each in zip(*used.tolist(), strict=True)]
        return self._found

    def take_sums(self) -> Totals:
        """Return, behind :meth:`totals`, the sums over the batch."""
        taken, self._figures = self._figures, Totals()
        loss, _, *found = self._found
        measured = dict(zip(self._measured, found, strict=True))
        taken.sums = {"loss": loss, **measured, **taken.sums}
        return taken

    def _measure(self, n: int) -> None:
        """Add the figures that are a user's."""
        z, samples = self._outputs(n), self.loss.samples(*self._batch)
        sums = {each.name: each(self.loss, z, *self._batch) * samples for each in self._others}
        self._figures.add(Totals(sums))

    def _run(self, gradient: Image, n: int) -> None:
        """Do everything by the methods of the loss."""
        loss = self.loss
        samples, divisor = loss.samples(*self._batch), loss.divisor(*self._batch)
        means = measures.figures(self.metrics, loss, self._outputs(n), *self._batch)
        self.sums[0, 0] += means.pop("loss") * divisor
        sums = {name: mean * samples for name, mean in means.items()}
        self._figures.add(Totals(sums, samples, divisor))
        out = gradient.channels_first(n)
        out[...] = loss.backward().reshape(out.shape)

    def _outputs(self, n: int) -> Array:
        outputs = self._logits.channels_first(n)
        return np.ascontiguousarray(outputs).reshape(n, *self.shape)


def has_kernels(loss: losses.Loss, metrics: Sequence[measures.Metric], shape: Shape) -> bool:
    """Whether a loss of outputs of a shape and all figures beside it are kernels."""
    known = [_row_of_figure(metric, loss.one_class) for metric in metrics]
    return _has_kernel(loss, shape) and None not in known and len(known) <= FIGURES


def _has_kernel(loss: losses.Loss, shape: Shape) -> bool:
    return type(loss) in ROWS and not (loss.one_class and len(shape) > 4)


def _kernel(row: str) -> Kernel:
    made: Kernel = compiled(kernels.of_rows, LANES, list(kernels.ROWS).index(row))
    return made


def _rows_of(shape: Shape, by_class: bool, *images: Image) -> dict[str, int]:
    """The arguments that say where rows are: at every position, or as long as numbers follow."""
    first = images[0]
    if len(shape) == 1 or not (by_class or 2 <= len(shape) <= 4):
        return {"D": 1, "H": 1, "W": 1, "K": prod(shape)}
    if by_class or any(image.step != first.C for image in images):
        return {"D": first.D, "H": first.H, "W": first.W, "K": first.C}
    if all(image.is_contiguous for image in images):
        return {"D": 1, "H": 1, "W": 1, "K": prod(shape)}
    return {"D": first.D, "H": first.H, "W": 1, "K": first.W * first.C}


def _row_of_loss(loss: losses.Loss, is_hard: bool) -> str:
    """Return what a loss does to a row, with labels or without."""
    row = ROWS[type(loss)]
    if isinstance(loss, losses.Quadratic) and loss.output == "linear":
        return "squares"
    return "cross entropy of probabilities" if row == "cross entropy" and not is_hard else row


def _part_of(loss: losses.Loss, K: int, count: int) -> float:
    """Return what the sum of a row stands for: the mean of the outputs, their sum, half of it."""
    if isinstance(loss, losses.Quadratic):
        return 0.5
    if isinstance(loss, losses.MultiMarginLoss):
        return 1 / K
    return 1.0 if loss.one_class else 1 / count


def _row_of_figure(metric: measures.Metric, by_class: bool) -> tuple[str, float] | None:
    """Return what finds a figure of a row, and its parameter; None if there is no such thing."""
    if type(metric) is measures.TopK:
        return "among the best", metric.k
    if type(metric) is measures.Accuracy:
        return ("among the best", 1) if by_class else ("on its side", 0)
    errors: dict[type[measures.Metric], str] = {
        measures.MeanAbsoluteError: "sizes",
        measures.MeanSquaredError: "squares",
    }
    return (errors[type(metric)], 0) if type(metric) in errors else None
