"""The step of a loss and its gradient."""

from collections.abc import Sequence
from math import prod
from typing import Any

import numpy as np

from tinyconv import losses
from tinyconv.backend import Array
from tinyconv.engines.base import Totals
from tinyconv.engines.cpu.arena import Image
from tinyconv.engines.cpu.flatten_step import add_flatten, add_unflatten
from tinyconv.engines.cpu.program import Program
from tinyconv.engines.cpu.step import Context
from tinyconv.engines.cpu.tiling import compiled
from tinyconv.kernels.cpu import loss as kernels
from tinyconv.kernels.cpu.kernel import address_of
from tinyconv.kernels.cpu.simd import LANES
from tinyconv.layers.base import Shape
from tinyconv.metrics import Metric, figures


class LossStep:
    """A loss as a kernel, or by its own methods where its targets or figures are beyond a kernel.

    Kernels know one class index a sample, or a number for every output, and the accuracy.

    Args:
        loss: what is minimised.
        metrics: what is measured beside it.
        targets: such as will come.
        context: what all steps share.
        sums: (threads, 8) float64, of which the first gets the losses of a batch and, from a
            kernel, the second what is correct.
    """

    def __init__(
        self,
        loss: losses.Loss,
        metrics: Sequence[Metric],
        targets: losses.Targets | None,
        context: Context,
        sums: Array,
    ) -> None:
        self.loss, self.metrics, self.context, self.sums = loss, metrics, context, sums
        self.wants_labels = loss.one_class
        self.has_kernel = (
            _function(loss) is not None
            and {metric.name for metric in metrics} <= {"accuracy"}
            and (targets is None or self._suits(targets))
        )
        self._labels = np.zeros(context.batch, np.int64)
        self._targets: Array = np.zeros(0, np.float32)
        self._scales = np.ones(2)
        self._figures = Totals()

    def takes(self, targets: losses.Targets) -> bool:
        """Whether this step is one for such targets."""
        return not self.has_kernel or self._suits(targets)

    def _suits(self, targets: losses.Targets) -> bool:
        """Whether a kernel knows such targets."""
        return targets.are_labels if self.wants_labels else targets.sample_weight is None

    def forward(self, program: Program, logits: Image, gradient: Image, shape: Shape) -> None:
        """Add the calls of the loss of outputs of a shape, and of its gradient."""
        self.shape = shape
        if not self.has_kernel or (self.wants_labels and len(shape) > 1):
            self.has_kernel = False
            program.python("loss", lambda n: self._run(logits, gradient, n))
            return
        maker, *constants = _function(self.loss) or ()
        context, count = self.context, prod(shape)
        self._targets = context.arena.take(context.batch * count)
        rows, of_rows = (
            image.flattened() or context.arena.image(context.batch, (count,))
            for image in (logits, gradient)
        )
        config = self.loss.config()
        weight = np.asarray(config.get("weight") or [0.0], np.float32)
        context.arena.arrays.append(weight)
        # The mean goes over the outputs too, or they are summed, or half of that.
        self._part = 1 / shape[0] if isinstance(self.loss, losses.MultiMarginLoss) else 1.0
        self._part = 0.5 if isinstance(self.loss, losses.Quadratic) else self._part
        self._fills_rows = isinstance(self.loss, losses.Quadratic | losses.SigmoidCrossEntropy)
        ignored = self.loss.ignore_index
        accuracy = kernels.BY_CLASS if self.wants_labels else kernels.BY_ELEMENT
        add_flatten(program, "loss", logits, rows)
        program.call(
            "loss",
            compiled(maker, LANES, *constants),
            x=rows.origin,
            x_sample=rows.sample,
            dx=of_rows.origin,
            dx_sample=of_rows.sample,
            labels=self._labels,
            targets=self._targets,
            weight=address_of(weight) if config.get("weight") else 0,
            scales=self._scales,
            sums=self.sums,
            K=count,
            accuracy=accuracy if self.metrics else 0,
            ignores=ignored is not None,
            ignored=0 if ignored is None else ignored,
            parameter=config.get("margin", config.get("delta", 0.0)),
            smoothing=config.get("label_smoothing", 0.0),
        )
        add_unflatten(program, "loss", of_rows, gradient)

    def set_batch(self, targets: losses.Targets, index: Array) -> None:
        """Fetch the targets of a batch."""
        if not self.has_kernel:
            self._batch = targets.batch(index, self.context.flat)
            return
        n, y, count = len(index), targets.y, prod(self.shape)
        samples = divisor = float(n)
        if self.wants_labels:
            labels = self._labels[:n]
            if y.dtype == np.int64:
                y.take(index, out=labels, mode="clip")
            else:
                labels[:] = y[index]
            samples, divisor = self._weigh(labels)
            if self._fills_rows:
                rows = self._targets[: n * count].reshape(n, count)
                rows[:] = 0
                rows[np.arange(n), labels] = 1
        else:
            self._targets[: n * count].reshape(n, count)[:] = y[index].reshape(n, count)
            self._scales[:] = 1 / max(1, n * count), 1 / count
        self._figures.add(Totals({}, samples, divisor))

    def _weigh(self, labels: Array) -> tuple[float, float]:
        """Set the scales for a batch of labels; return how many of them count, and Z."""
        loss, samples = self.loss, float(len(labels))
        total = samples
        if isinstance(loss, losses.CrossEntropyLoss):
            if loss.ignore_index is not None:
                labels = labels[labels != loss.ignore_index]
                samples = total = float(len(labels))
            if loss.weight is not None:
                total = float(np.asarray(loss.weight, np.float32)[labels].sum())
        self._scales[:] = self._part / (total or 1.0), self._part * total / (total or 1.0)
        return samples, total

    def totals(self) -> list[float]:
        """Return what all threads found in the batch: the loss, how many are correct, the reach."""
        self._found = [sum(each) for each in zip(*self.sums[:, :3].tolist(), strict=True)]
        return self._found

    def take_sums(self) -> Totals:
        """Return, behind :meth:`totals`, the sums over the batch."""
        loss, correct, _ = self._found
        measured, self._figures = self._figures, Totals()
        if self.has_kernel and self.metrics:
            measured.sums["accuracy"] = correct
        measured.sums = {"loss": loss, **measured.sums}
        return measured

    def _run(self, logits: Image, gradient: Image, n: int) -> None:
        loss = self.loss
        z = np.ascontiguousarray(logits.channels_first(n)).reshape(n, *self.shape)
        samples, divisor = loss.samples(*self._batch), loss.divisor(*self._batch)
        means = figures(self.metrics, loss, z, *self._batch)
        self.sums[0, 0] += means.pop("loss") * divisor
        sums = {name: mean * samples for name, mean in means.items()}
        self._figures.add(Totals(sums, samples, divisor))
        out = gradient.channels_first(n)
        out[...] = loss.backward().reshape(out.shape)


def _function(loss: losses.Loss) -> tuple[Any, ...] | None:
    """Return the maker of the loss's kernel and its constants; None if there is none."""
    if type(loss) is losses.CrossEntropyLoss:
        return (kernels.cross_entropy,)
    if type(loss) is losses.MultiMarginLoss:
        return (kernels.multi_margin,)
    linear = isinstance(loss, losses.Quadratic) and loss.output == "linear"
    names: dict[type[losses.Loss], str] = {
        losses.MSELoss: "squares",
        losses.L1Loss: "sizes",
        losses.HuberLoss: "huber",
        losses.BCEWithLogitsLoss: "cross entropy of sigmoids",
        losses.SigmoidCrossEntropy: "cross entropy of sigmoids",
        losses.Quadratic: "squares" if linear else "squares of sigmoids",
    }
    if type(loss) not in names:
        return None
    return kernels.elements, list(kernels.ELEMENTS).index(names[type(loss)])
