"""The step of a loss, its gradient and the metrics."""

from collections.abc import Sequence
from dataclasses import InitVar, dataclass
from math import prod

import numpy as np

from tinyconv import losses
from tinyconv import metrics as measures
from tinyconv.backend import Array
from tinyconv.engines.base import Totals
from tinyconv.engines.gpu.plain_step import samples
from tinyconv.engines.gpu.program import BATCH, Program
from tinyconv.engines.gpu.step import MOST_BLOCKS, Context
from tinyconv.layers.base import Shape
from tinyconv.layers.snapshot import Snapshot

#: Kernel in loss.cu, number of the loss of an element there, whether it is a mean over the outputs.
KERNELS: dict[type[losses.Loss], tuple[str, int, bool]] = {
    losses.CrossEntropyLoss: ("loss_cross_entropy", 0, False),
    losses.MultiMarginLoss: ("loss_margin", 0, True),
    losses.MSELoss: ("loss_elements", 0, True),
    losses.L1Loss: ("loss_elements", 1, True),
    losses.HuberLoss: ("loss_elements", 2, True),
    losses.BCEWithLogitsLoss: ("loss_elements", 3, True),
    losses.SigmoidCrossEntropy: ("loss_elements", 3, False),
    losses.Quadratic: ("loss_elements", 4, False),
}

#: Threads for a row of outputs, which are few, and blocks at most: LOSS_BLOCKS of update.cu.
THREADS, BLOCKS = 64, 1024


def _code(metric: measures.Metric, loss: losses.Loss) -> int | None:
    """Return the number of a metric in loss.cu; None if it has none."""
    if type(metric) is measures.TopK:
        return metric.k
    kinds: dict[type[measures.Metric], int] = {
        measures.Accuracy: int(loss.one_class),
        measures.MeanAbsoluteError: -1,
        measures.MeanSquaredError: -2,
    }
    return kinds.get(type(metric))


@dataclass
class LossStep:
    """A loss as a kernel, or by its own methods where it or a metric is a user's."""

    loss: losses.Loss  #: what is minimised
    all_metrics: Sequence[measures.Metric]  #: what is measured beside it
    #: such as will come; None for one class index each, or numbers.
    targets: InitVar[losses.Targets | None]
    shape: Shape  #: of the outputs for one sample
    context: Context

    def __post_init__(self, targets: losses.Targets | None) -> None:
        loss, metrics, shape, context = self.loss, self.all_metrics, self.shape, self.context
        self._codes = [_code(metric, loss) for metric in metrics]
        self.has_kernel = type(loss) in KERNELS and None not in self._codes  #: whether it is one
        self._options = Snapshot(loss)
        self._kind = (loss.one_class, False) if targets is None else self._kind_of(targets)
        #: the type as which it reads targets; None if there is no kernel.
        self.reads = (np.int64 if self._kind[0] else np.float32) if self.has_kernel else None
        self.metrics = len(metrics) if self.has_kernel else 0  #: how many it measures
        #: rows of a sample: one, or of images as many as have a class.
        self.positions = prod(shape[1:]) if loss.one_class else 1
        rows = min(BLOCKS, context.batch * self.positions)
        #: of the blocks, see loss.cu.
        self.sums = context.empty((3 + self.metrics) * rows, dtype=np.float64)
        self.measured = Totals()  #: of a loss without a kernel, the sums over the last batch
        self._floats = context.empty(1)  # of the dtype and the device that a batch's weights get
        self._batch: tuple[Array, Array | None] | None = None

    def takes(self, targets: losses.Targets) -> bool:
        """Whether this step is one for such targets, and for the loss as it is now."""
        if not self.has_kernel:
            return True
        return self._kind_of(targets) == self._kind and self._options.holds()

    def _kind_of(self, targets: losses.Targets) -> tuple[bool, bool]:
        """Return whether targets are class indices, and whether samples have weights."""
        is_hard = self.loss.one_class and targets.y.ndim == max(1, len(self.shape))
        return is_hard, targets.sample_weight is not None

    def set_batch(self, targets: losses.Targets, index: Array) -> None:
        """Fetch the targets of a batch, where no kernel does so."""
        if not self.has_kernel:
            self._batch = targets.batch(index, self._floats)

    def _blocks(self, n: int) -> int:
        return min(BLOCKS, n * self.positions)

    def losses(self, n: int) -> Array:
        """Return the part of the sums that is the loss of a batch of n samples."""
        return self.sums[: self._blocks(n)]

    def add(
        self, program: Program, logits: Array, gradient: Array, sources: Array, place: Array
    ) -> None:
        """Add the calls that make the sums and the gradient of a batch."""
        if not self.has_kernel:
            program.python("loss", lambda n: self._run(logits, gradient, n))
            return
        loss, config, launcher = self.loss, self.loss.config(), self.context.launcher
        kernel, kind, is_mean = KERNELS[type(loss)]
        K = prod(self.shape) // self.positions
        part = 1 / K if is_mean else 1.0
        if isinstance(loss, losses.Quadratic):
            part, kind = 0.5, 0 if loss.output == "linear" else 4
        is_hard, is_weighted = self._kind
        sizes = {"K": K, "P": self.positions, "KIND": kind, "METRICS": self.metrics}
        sizes |= {"HARD": is_hard, "CLASSES": loss.one_class}
        weight = None
        if config.get("weight") is not None:
            weight = launcher.upload(np.array(config["weight"], np.float32))
        ignored = loss.ignore_index
        of_rows = (weight, np.int32(ignored is not None), np.int64(ignored or 0))
        total = None
        if is_weighted or (is_hard and (weight is not None or ignored is not None)):
            total = self.context.empty(1, dtype=np.float64)
            parts = self.context.empty(MOST_BLOCKS, dtype=np.float64)
            arrived = launcher.upload(np.zeros(1, np.int32))
            program.call(
                "loss: total",
                "loss",
                sizes,
                "loss_total",
                lambda n: (min(MOST_BLOCKS, -(-n * self.positions // 256)), 1, 1),
                *(sources, place, *of_rows, total, parts, arrived, BATCH),
            )
        options = (config.get(name) for name in ("label_smoothing", "margin", "delta"))
        parameter = np.float32(next((value for value in options if value is not None), 0.0))
        codes = launcher.upload(np.array([*self._codes, 0], np.int32))
        program.call(
            "loss",
            "loss",
            sizes,
            kernel,
            lambda n: (self._blocks(n), 1, 1),
            *(logits, sources, place, *of_rows, parameter, np.float32(part), total, codes),
            *(gradient, self.sums, BATCH),
            threads=THREADS,
        )

    def _run(self, logits: Array, gradient: Array, n: int) -> None:
        assert self._batch is not None
        z = samples(logits, n, self.shape).copy()
        count, divisor = self.loss.samples(*self._batch), self.loss.divisor(*self._batch)
        means = measures.figures(self.all_metrics, self.loss, z, *self._batch)
        self.sums[...] = 0
        first = self.sums[: 3 * self._blocks(n) : self._blocks(n)]
        first[0], first[1], first[2] = means.pop("loss"), count, divisor
        self.measured = Totals({name: mean * count for name, mean in means.items()}, count, divisor)
        samples(gradient, n, self.shape)[...] = self.loss.backward()
