"""The step of a loss and its gradient."""

from collections.abc import Callable, Sequence
from math import prod

import numpy as np

from tinyconv.backend import Array
from tinyconv.engines.base import Totals
from tinyconv.engines.gpu.plain_step import samples
from tinyconv.engines.gpu.program import BATCH, Program
from tinyconv.engines.gpu.step import Context
from tinyconv.layers.base import Shape
from tinyconv.losses import (
    BCEWithLogitsLoss,
    CrossEntropyLoss,
    HuberLoss,
    L1Loss,
    Loss,
    MSELoss,
    Quadratic,
    SigmoidCrossEntropy,
    Targets,
)
from tinyconv.metrics import Metric, figures

__all__ = ["LossStep"]

#: Number of the loss of an element in loss.cu, and 1 where it is a mean over the outputs.
ELEMENTS: dict[type[Loss], tuple[int, bool]] = {
    MSELoss: (0, True),
    L1Loss: (1, True),
    HuberLoss: (2, True),
    BCEWithLogitsLoss: (3, True),
    SigmoidCrossEntropy: (3, False),
    Quadratic: (4, False),
}

#: Threads for a sample: rows of outputs are short.
THREADS = 64


class LossStep:
    """A loss as a kernel, or by its own methods where its targets or figures are beyond a kernel.

    Kernels know one class index a sample, or a number for every output, and the accuracy of
    classes.

    Args:
        loss: what is minimised.
        metrics: what is measured beside it.
        targets: such as will come; None for one class index each.
        shape: of the outputs for one sample.
        context: what all steps share.

    Attributes:
        has_kernel: whether it is one.
        reads: the type as which it reads targets; None if there is no kernel.
        losses, correct, counts: (batch,), what each sample has in the sums: see loss.cu.
        measured: of a loss without a kernel, the sums over the last batch.
    """

    def __init__(
        self,
        loss: Loss,
        metrics: Sequence[Metric],
        targets: Targets | None,
        shape: Shape,
        context: Context,
    ) -> None:
        self.loss, self.metrics, self.shape, self.context = loss, metrics, shape, context
        known = type(loss) is CrossEntropyLoss or type(loss) in ELEMENTS
        wanted = {metric.name for metric in metrics}
        self.has_kernel = (
            known
            and wanted <= ({"accuracy"} if loss.one_class else set())
            and not (loss.one_class and len(shape) > 1)
            and (targets is None or self._suits(targets))
        )
        self.reads = (np.int64 if loss.one_class else np.float32) if self.has_kernel else None
        self.losses, self.correct, self.counts = (context.empty(context.batch) for _ in range(3))
        self.measured = Totals()
        self._batch: tuple[Array, Array | None] | None = None

    def takes(self, targets: Targets) -> bool:
        """Whether this step is one for such targets."""
        return not self.has_kernel or self._suits(targets)

    def _suits(self, targets: Targets) -> bool:
        """Whether a kernel knows such targets."""
        return targets.are_labels if self.loss.one_class else targets.sample_weight is None

    def set_batch(self, targets: Targets, index: Array) -> None:
        """Fetch the targets of a batch, where no kernel does so."""
        if not self.has_kernel:
            self._batch = targets.batch(index, self.counts)

    def add(
        self, program: Program, logits: Array, gradient: Array, sources: Array, place: Array
    ) -> None:
        """Add the call that makes the sums and the gradient of a batch."""
        if not self.has_kernel:
            program.python("loss", lambda n: self._run(logits, gradient, n))
            return
        loss, config, K = self.loss, self.loss.config(), prod(self.shape)
        outputs = (gradient, self.losses, self.correct, self.counts, BATCH)
        kernel, kind = "loss_cross_entropy", 0
        arguments: tuple[object, ...]
        if isinstance(loss, CrossEntropyLoss):
            weight = None
            if loss.weight is not None:
                weight = self.context.launcher.upload(np.array(loss.weight, np.float32))
            ignored = loss.ignore_index
            smoothing = np.float32(loss.label_smoothing)
            ignores = np.int32(ignored is not None), np.int64(ignored or 0)
            arguments = (weight, smoothing, *ignores)
        else:
            kernel = "loss_elements"
            kind, is_mean = ELEMENTS[type(loss)]
            part = 1 / K if is_mean else 1.0
            if isinstance(loss, Quadratic):
                part, kind = 0.5, 0 if loss.output == "linear" else 4
            of_labels, delta = np.int32(loss.one_class), np.float32(config.get("delta", 0.0))
            arguments = (of_labels, _share(part), delta)
        program.call(
            "loss",
            "loss",
            {"K": K, "KIND": kind},
            kernel,
            lambda n: (n, 1, 1),
            *(logits, sources, place, *arguments, *outputs),
            threads=THREADS,
        )

    def _run(self, logits: Array, gradient: Array, n: int) -> None:
        assert self._batch is not None
        z = samples(logits, n, self.shape).copy()
        weight = self.loss.samples(*self._batch)
        means = figures(self.metrics, self.loss, z, *self._batch)
        self.losses[:n], self.correct[:n], self.counts[:n] = 0, 0, 0
        self.losses[:1], self.counts[:1] = means.pop("loss"), weight
        self.measured = Totals({name: mean * weight for name, mean in means.items()}, weight)
        samples(gradient, n, self.shape)[...] = self.loss.backward()


def _share(part: float) -> Callable[[int], np.float32]:
    """Return the argument that is what an element has in the mean over a batch."""
    return lambda n: np.float32(part / n)
