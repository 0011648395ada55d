"""The plan of a network: its layers as a program over buffers that exist once.

One plan serves one network, batches up to one size, one number of threads; float32 on the CPU.
The layers run by themselves (``net.forward``, ``net.backward``) are its specification.
"""

from collections.abc import Callable, Sequence
from math import prod
from typing import Any

import numpy as np

from tinyconv.engine import kernels
from tinyconv.engine.arena import Image
from tinyconv.engine.fusion import fuse
from tinyconv.engine.program import Program
from tinyconv.engine.rules import UpdateRule
from tinyconv.engine.step import Context, Step
from tinyconv.engine.steps import STEPS
from tinyconv.kernels.cpu import batch as batch_kernels
from tinyconv.kernels.cpu.kernel import address_of, when_compiling
from tinyconv.kernels.cpu.simd import LANES
from tinyconv.layers import Layer
from tinyconv.losses import Loss, SoftmaxLogLikelihood
from tinyconv.optimizers import Optimizer
from tinyconv.parameters import Parameters

__all__ = ["ForwardPlan", "TrainingPlan"]

Array = np.ndarray[Any, Any]

#: Bytes of activations that a block of samples may have, so that they stay in the second cache.
BLOCK_BYTES = 768 << 10


class _Plan:
    """What both plans do: fuse the layers, lay out the buffers, add the forward calls."""

    def __init__(
        self,
        layers: Sequence[Layer],
        shape: tuple[int, ...],
        parameters: Parameters,
        batch: int,
        threads: int,
        training: bool,
    ) -> None:
        self.batch = batch
        self.threads = threads
        self.context = Context(batch, threads, training, parameters.flat, parameters.flat_grad)
        self.parameters = parameters
        self.shape = tuple(shape)
        self.steps: list[Step] = []
        for unit in fuse(layers):
            if not training and unit.leaves_predictions:
                continue
            step = STEPS[unit.kind](unit, shape, self.context)
            self.steps.append(step)
            shape = step.shape
        self._lay_out(training)
        self._x_args = None
        per_sample = 4 * sum(image.sample for image in self.images)
        block = max(6, BLOCK_BYTES // per_sample // 6 * 6)
        self.program = Program(threads, block)
        self.index = np.zeros(batch, np.int64)
        for step in self.steps:
            step.prepare(self.program)
        x = self.images[0]
        self._gather = self.program.call(
            "gather",
            kernels.get("batch.gather", LANES),
            batch_kernels.GATHER,
            y=x.origin,
            y_sample=x.sample,
            y_row=x.row,
            C=x.C,
            H=x.H,
            W=x.W,
        )
        for step in self.steps:
            step.forward(self.program)

    def _lay_out(self, training: bool) -> None:
        """Give every step its buffers; ``images[i]`` is the input of step i."""
        arena, batch = self.context.arena, self.batch
        self.images: list[Image] = []
        gradients: list[Image | None] = []
        shape, trained = self.shape, False
        for place in range(len(self.steps) + 1):
            step = self.steps[place] if place < len(self.steps) else None
            flat = self.images[-1].flattened() if place else None
            wants_gradient = training and trained
            if place and self.steps[place - 1].unit.kind == "flatten" and flat is not None:
                self.images.append(flat)
                before = gradients[-1]
                gradients.append(None if before is None else before.flattened())
            else:
                border, spare = (step.border, step.spare) if step else ((0, 0, 0, 0), 0)
                self.images.append(arena.image(batch, shape, border, spare))
                gradients.append(
                    arena.image(batch, shape, border, spare) if wants_gradient else None
                )
            if step is not None:
                trained = trained or any(layer.params for layer in step.unit.layers)
                shape = step.shape
        for place, step in enumerate(self.steps):
            x, y = self.images[place : place + 2]
            dx, dy = gradients[place : place + 2]
            step.bind(x, dx, y, dy)
        self.logits, self.dlogits = self.images[-1], gradients[-1]
        self.gradients = gradients

    @property
    def is_compiled(self) -> bool:
        """Whether no layer of the plan runs by its own Python methods."""
        return self.program.is_compiled

    def __str__(self) -> str:
        return "\n".join(step.name for step in self.steps)

    def poison(self) -> None:
        """Fill every activation and gradient, but for the borders, with NaN: for tests."""
        for image in (*self.images, *self.gradients):
            if image is not None:
                image.channels_first(self.batch)[...] = np.nan


class ForwardPlan(_Plan):
    """Maps batches to logits, as ``net.forward(x)`` does.

    Args:
        layers: of the network.
        shape: of one sample.
        parameters: of the network, float32.
        batch: samples at most.
        threads: that share the work.
    """

    def __init__(
        self,
        layers: Sequence[Layer],
        shape: tuple[int, ...],
        parameters: Parameters,
        batch: int,
        threads: int,
    ) -> None:
        super().__init__(layers, shape, parameters, batch, threads, training=False)
        self.program.freeze()

    def run(self, x: Array, out: Array) -> None:
        """Write the logits of ``x`` (n, ...), contiguous float32, to ``out`` (n, ...)."""
        n = len(x)
        self.context.n[0] = n
        self._gather["x"] = address_of(x)
        self.program.run(n)
        logits = self.logits.channels_first(n)
        out.reshape(logits.shape)[...] = logits


class TrainingPlan(_Plan):
    """Runs training steps: gather, forward, loss, backward and update.

    Args:
        layers: of the network.
        shape: of one sample.
        parameters: of the network, float32; updated in place.
        loss: what is minimised.
        optimizer: the update rule.
        state: what the rule remembers; updated in place.
        batch: samples at most.
        threads: that share the work.
        on_compile: called once if a kernel has to be compiled, which takes seconds.

    Attributes:
        sums: (threads, 8) float64: of each thread the sum of the losses since they were set to
            0, and the number of samples classified correctly.
    """

    def __init__(
        self,
        layers: Sequence[Layer],
        shape: tuple[int, ...],
        parameters: Parameters,
        loss: Loss,
        optimizer: Optimizer,
        state: dict[str, Array],
        batch: int,
        threads: int,
        on_compile: Callable[[], None] | None = None,
    ) -> None:
        with when_compiling(on_compile):
            super().__init__(layers, shape, parameters, batch, threads, training=True)
            self._build(loss, optimizer, state)

    def _build(self, loss: Loss, optimizer: Optimizer, state: dict[str, Array]) -> None:
        self.loss = loss
        self.rule = UpdateRule(optimizer, self.parameters, state)
        self.labels = np.zeros(self.batch, np.int64)
        self.sums = np.zeros((self.threads, 8))
        self._starters = [step for step in self.steps if type(step).start is not Step.start]
        self._staging: Array | None = None
        self._x: Array | None = None
        self._y: Array | None = None
        self._add_loss()
        for step in reversed(self.steps):
            step.backward(self.program)
        self.program.guard()
        self._add_updates()
        self.program.freeze(address_of(self.sums))

    def _add_loss(self) -> None:
        logits, dlogits, context = self.logits, self.dlogits, self.context
        if dlogits is None:  # nothing to train
            dlogits = context.arena.image(self.batch, self.steps[-1].shape)
        if type(self.loss) is SoftmaxLogLikelihood and not self.loss.config():
            self.program.call(
                "loss",
                kernels.get("batch.softmax_log_likelihood", LANES),
                batch_kernels.SOFTMAX,
                x=logits.origin,
                x_sample=logits.sample,
                labels=address_of(self.labels),
                dx=dlogits.origin,
                dx_sample=dlogits.sample,
                sums=address_of(self.sums),
                K=prod(self.steps[-1].shape),
                n=address_of(context.n),
            )
            return
        gradient = dlogits

        def run(n: int) -> None:
            z = np.ascontiguousarray(logits.channels_first(n)).reshape(n, *self.steps[-1].shape)
            labels = self.labels[:n]
            counts = self.loss.counts(labels)
            self.sums[0, 0] += float(self.loss.forward(z, labels)) * np.count_nonzero(counts)
            self.sums[0, 1] += np.count_nonzero(counts & (z.argmax(axis=1) == labels))
            out = gradient.channels_first(n)
            out[...] = self.loss.backward().reshape(out.shape)

        self.program.python("loss", run)

    def _add_updates(self) -> None:
        self.context.rule = self.rule.call
        for step in self.steps:
            step.update(self.program)
        if not self.rule.has_kernel:

            def run(n: int) -> None:
                if np.isfinite(self.loss_sum()):
                    self.rule.update()

            self.program.python("optimizer", run)

    def set_batch(self, x: Array, y: Array, index: Array, step: int, lr: float) -> int:
        """Make the samples ``x[index]`` with labels ``y[index]`` the batch; return its size."""
        n = len(index)
        self.context.n[0] = n
        self.context.step = step
        self.rule.start(lr, step)
        for starter in self._starters:
            starter.start(step)
        if x is not self._x:
            self._x = x
            is_direct = isinstance(x, np.ndarray) and x.dtype == np.float32 and x.flags.c_contiguous
            source = x if is_direct else np.zeros((self.batch, *self.shape), np.float32)
            self._staging = None if is_direct else source
            self._gather["x"] = address_of(source)
            self._gather["index"] = address_of(self.index) if is_direct else 0
        if y is not self._y:
            self._y = y
            self._all_labels = np.ascontiguousarray(y, np.int64)
        self.index[:n] = index
        self._all_labels.take(index, out=self.labels[:n], mode="clip")
        if self._staging is not None:
            self._staging[:n] = x[index]
        return n

    def counted(self, n: int) -> int:
        """Return how many samples of the batch have labels that are not ignored."""
        if self.loss.ignore_index is None:
            return n
        return int(np.count_nonzero(self.loss.counts(self.labels[:n])))

    def loss_sum(self) -> float:
        """Return the sum of the losses of all samples since ``sums`` was set to 0."""
        return float(self.sums[:, 0].sum())

    def take_sums(self) -> tuple[float, int]:
        """Return the sum of the losses and the number classified correctly; set ``sums`` to 0."""
        taken = self.loss_sum(), int(self.sums[:, 1].sum())
        self.sums[...] = 0
        return taken

    def run(self, n: int) -> None:
        """Train on the batch of :meth:`set_batch`; without an update if the loss is not finite."""
        self.program.run(n)
        self.rule.finish()

    def profile(self, n: int, seconds: dict[str, float]) -> None:
        """Do what :meth:`run` does and add the time of each call to ``seconds``."""
        self.program.profile(n, seconds)
        self.rule.finish()
