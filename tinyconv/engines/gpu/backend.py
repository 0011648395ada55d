"""What a plan gets from the GPU: memory, steps and a program over the kernels."""

from collections.abc import Sequence
from math import prod
from typing import Any

import numpy as np

from tinyconv.backend import Array, Values, namespace
from tinyconv.engines.base import Engine, Totals
from tinyconv.engines.gpu.element_steps import (
    ActivationStep,
    AddStep,
    ConcatStep,
    DropoutStep,
    FlattenStep,
    add_arrays,
)
from tinyconv.engines.gpu.loss_step import LossStep
from tinyconv.engines.gpu.norm_step import NormStep, ResponseStep
from tinyconv.engines.gpu.plain_step import PlainStep, samples
from tinyconv.engines.gpu.product_steps import ConvStep, LinearStep, PoolStep, TransposedStep
from tinyconv.engines.gpu.program import BATCH, Launcher, Program, blocks
from tinyconv.engines.gpu.resample_step import ResampleStep, SubsampleStep
from tinyconv.engines.gpu.sources import Sources
from tinyconv.engines.gpu.step import Buffer, Context, Step
from tinyconv.engines.gpu.update_rule import COUNTERS, FIGURES, UpdateRule
from tinyconv.engines.step import Steps
from tinyconv.errors import ArgumentError
from tinyconv.layers import Dropout
from tinyconv.layers.base import Shape
from tinyconv.losses import Targets
from tinyconv.parameters import Parameters

#: Kind of a unit (:mod:`tinyconv.engines.units`) -> the steps that may compute it.
STEPS: dict[str, tuple[type[Step], ...]] = {
    "add": (AddStep,),
    "concat": (ConcatStep,),
    "conv": (ConvStep,),
    "linear": (LinearStep,),
    "norm": (NormStep,),
    "plain": (PlainStep,),
    "single": (
        *(ActivationStep, DropoutStep, FlattenStep, ResponseStep),
        *(PoolStep, ResampleStep, SubsampleStep),
    ),
    "transposed": (TransposedStep,),
}

#: Kernels count the numbers of a buffer by 32 bits.
MOST_NUMBERS = 2**31
#: Training steps of which the device has the keys of dropout masks.
KEYS = 256


class GpuBackend:
    """Memory, steps and program of one plan, which maps batches to logits.

    Args:
        launcher: of the device.
        parameters: of the network, float32, on the device.
        shape: of one sample.
        batch: samples at most.
    """

    training = False  #: whether the plan has a backward pass

    def __init__(
        self, launcher: Launcher, parameters: Parameters, shape: Shape, batch: int
    ) -> None:
        self.launcher, self.parameters, self.shape, self.batch = launcher, parameters, shape, batch
        self.context = Context(launcher, batch, self.training, {}, [])  #: what its steps share
        steps = Steps(STEPS, self.context)
        self.steps, self.accepts, self.step = steps.made, steps.accept, steps.make
        self.program = Program(launcher)  #: what the plan adds its calls to
        self.buffers: list[Buffer] = []

    # What a plan is built with.

    def needs_room(self, wanted: Sequence[Any]) -> bool:
        """Whether a buffer's readers need more than its numbers: none does."""
        return False

    def buffer(self, shape: Shape, wanted: Sequence[Any]) -> Buffer:
        """Return memory for a batch of samples."""
        if self.batch * prod(shape) >= MOST_NUMBERS:
            raise ArgumentError(
                f"fit: a batch of {self.batch} has {self.batch * prod(shape):,} numbers {shape} in "
                f"a layer, expected less than {MOST_NUMBERS:,}; pass a smaller batch_size"
            )
        # The first is of the network's input.
        buffer = Buffer(self.context.empty(self.batch, *shape), not self.buffers)
        self.buffers.append(buffer)
        return buffer

    def gather(self, x: Buffer) -> None:
        """Add the call that fetches the batch: in prediction it is written to its place."""
        self.input = x.array

    def outputs(self, logits: Buffer, shape: Shape) -> None:
        """Note where the logits will be."""
        self._logits = logits.array.reshape(self.batch, *shape)

    def freeze(self) -> None:
        """End the program."""
        self.program.freeze()

    # What a plan is run with.

    def predict(self, x: Array) -> Values:
        """Return the logits (n, ...) of ``x`` (n, ...), float32."""
        n = len(x)
        for step in self.steps:
            step.start(n)
        self.launcher.write(samples(self.input, n, self.shape), x)
        self.program.run(n)
        return self.launcher.read(self._logits[:n])

    def poison(self) -> None:
        """Fill every activation and gradient with NaN: for tests."""
        for buffer in self.buffers:
            self.launcher.write(buffer.array, np.float32(np.nan))


class GpuTraining(GpuBackend):
    """Memory, steps and program of one plan, which does training steps.

    What a step depends on lies on the device, and a kernel of the step moves it on, so that
    the next one is launched without a word from the host:

    * ``counters``, int64: the place of the batch in the order of the epoch, the row of the keys
      of dropout masks (tick), the number of the step, the first step that was refused (bad, -1 for
      none), and whether the last one was taken;
    * ``figures``, float64: the rate, and the sums over the epoch of loss, samples and metrics.

    Args:
        launcher: of the device.
        engine: whose steps they are: of its network, whose parameters, on the device, are updated
            in place, by its optimizer and so on. Its ``sharing`` comes in turn with the kernels,
            and leaves the gradient of the whole batch in ``parameters.flat_grad``.
        shape: of one sample.
        batch: samples at most.
        targets: such as will come; None for one class index each. See :meth:`takes`.
        of_bytes: whether samples are bytes, to be divided by 255.
    """

    training = True

    def __init__(
        self,
        launcher: Launcher,
        engine: Engine,
        shape: Shape,
        batch: int,
        targets: Targets | None = None,
        of_bytes: bool = False,
    ) -> None:
        net, metrics = engine.net, engine.metrics
        super().__init__(launcher, net.parameters, shape, batch)
        self.of_bytes, self.sharing = of_bytes, engine.sharing
        self._counters = launcher.upload(np.array([0, 0, 0, -1, 0], np.int64))
        counters = {name: self._counters[i : i + 1] for i, name in enumerate(COUNTERS)}
        self.metrics = [metric.name for metric in metrics]
        self._figures = launcher.upload(np.zeros(len(FIGURES) + len(metrics)))
        context = self.context
        context.counters = counters | {"all": self._counters}
        layers = sum(isinstance(layer, Dropout) for layer in net.walk())
        context.keys = launcher.empty((max(1, layers), KEYS), np.uint64)
        self._first_key: int | None = None  # the step of which the first keys are
        self._starts: list[int] = []  # the first samples that they are for
        self._expected: tuple[int, ...] = ()  # place, tick and step as the device will have them
        self._rate: float | None = None
        self.sources = Sources(launcher, batch)
        context.sources, context.gather = self.sources.addresses, 2 if of_bytes else 1
        self.rule = UpdateRule(engine.optimizer, net.parameters, engine.optimizer_state)
        self.loss_step = LossStep(engine.loss, metrics, targets, net.output_shape(shape), context)

    # What a plan is built with.

    def gather(self, x: Buffer) -> None:
        """Add the call that fetches the batch, unless the steps that read it do so themselves."""
        if any(step.gather for step in self.steps) and not self.context.reads_batch:
            return
        count, context = prod(self.shape), self.context
        sizes = {"COUNT": count, "GATHER": context.gather}
        arguments = (context.sources, context.counters["place"], x.array, BATCH)
        self.program.call("gather", "batch", sizes, "gather", blocks(count), *arguments)

    def loss(self, logits: Buffer, dlogits: Buffer | None, shape: Shape) -> None:
        """Add the loss and its gradient with respect to the logits."""
        gradient = self.buffer(shape, []) if dlogits is None else dlogits
        context = self.context
        arrays = (logits.array, gradient.array, context.sources, context.counters["place"])
        self.loss_step.add(self.program, *arrays)
        self.program.judge = self._add_update

    def add(self, name: str, x: Buffer, y: Buffer) -> None:
        """Add the call y = y + x."""
        add_arrays(self.program, name, y.array, x.array, None, y.array)

    def watch(self, step: Step) -> None:
        """Nothing: whether gradients are finite is seen in themselves."""

    def watch_kept(self, step: Step) -> None:
        """Likewise."""

    def _add_update(self) -> None:
        """Add what judges and updates; what a refused step must not do comes behind it."""
        context = self.context
        context.squares = context.empty(max(1, context.slots), dtype=np.float64)
        if self.sharing is not None:
            self.program.python("sum over ranks", self._share)
        plain = any(step.unit.kind == "plain" for step in self.steps)
        has_squares = not plain and self.sharing is None
        arguments = (has_squares, self.loss_step, self._figures, lambda: self.was_taken)
        self.rule.add(self.program, context, *arguments)

    def _share(self, n: int) -> None:
        assert self.sharing is not None
        flat_grad, losses = self.parameters.flat_grad, self.loss_step.losses(n)
        xp = namespace("fit", flat_grad=flat_grad)
        # All ranks judge the same gradient: so a loss that is not finite has to show in it.
        flat_grad[:1] += xp.sum(losses) * 0
        self.sharing(flat_grad)

    def finish_update(self) -> None:
        """Add the running statistics of all batch norms."""
        launcher, tracked = self.launcher, self.context.tracked
        if not tracked:
            return
        places = [[launcher.address(array) for array in arrays] for arrays, _ in tracked]
        addresses = launcher.upload(np.array(places, np.uint64))
        numbers = launcher.upload(np.array([each for _, each in tracked], np.float64))
        arguments = (addresses, numbers, self._counters, BATCH)
        grid = (len(tracked), 1, 1)
        name = "running statistics"
        self.program.call(name, "update", {}, "track_statistics", lambda n: grid, *arguments)

    # What a plan is run with.

    def takes(self, targets: Targets) -> bool:
        """Whether the loss's step is one for such targets."""
        return self.loss_step.takes(targets)

    def set_batch(self, x: Any, y: Targets, index: Array, step: int, lr: float) -> int:
        """Make the samples ``x[index]`` with their targets the batch; return its size."""
        n = len(index)
        self.context.step, self.rule.lr, self.rule.step = step, lr, step
        for each in self.steps:
            each.start(n)
        place = self.sources.place(x, y, index, self.loss_step.reads)
        self.loss_step.set_batch(y, index)
        starts = [each.layer.first_sample for each in self.steps if isinstance(each, DropoutStep)]
        known = self._first_key is not None and 0 <= step - self._first_key < KEYS
        if not known or starts != self._starts:
            self._starts = starts
            self._draw_keys(step)
        assert self._first_key is not None
        wanted = (place, step - self._first_key, step)
        if wanted != self._expected:
            self.launcher.write(self._counters[:3], np.array(wanted, np.int64))
        self._expected = (place + n, wanted[1] + 1, step + 1)
        if lr != self._rate:
            self._rate = lr
            self.launcher.write(self._figures[:1], np.array([lr]))
        return n

    def _draw_keys(self, first: int) -> None:
        """Upload the keys of the masks of the steps from ``first`` on."""
        self._first_key = first
        keys = [[key_of(first + k) for k in range(KEYS)] for key_of in self.context.key_of]
        if keys:
            assert self.context.keys is not None
            self.launcher.write(self.context.keys[: len(keys)], np.array(keys, np.uint64))

    @property
    def was_taken(self) -> bool:
        """Whether the last step was taken; waits for it."""
        return bool(self.launcher.read(self.context.counters["taken"])[0])

    def first_refused(self) -> int | None:
        """Return the number of the first step that was refused, None if all were taken; waits."""
        bad = int(self.launcher.read(self.context.counters["bad"])[0])
        return None if bad < 0 else bad

    def forgive(self) -> None:
        """Take steps again after one was refused."""
        self.launcher.write(self.context.counters["bad"], np.array([-1]))
        for step in self.steps:
            step.undo()

    def set_sums(self, totals: Totals) -> None:
        """Let the sums over the epoch go on from these."""
        names = ["loss", *self.metrics]
        loss, *scores = (totals.sums.get(name, 0.0) for name in names)
        self.launcher.write(
            self._figures[1:], np.array([loss, totals.samples, totals.divisor, *scores])
        )

    def sums(self) -> Totals:
        """Return the sums over the epoch; waits."""
        _, loss, samples, divisor, *scores = self.launcher.read(self._figures).tolist()
        sums = {"loss": loss, **dict(zip(self.metrics, scores, strict=True))}
        return Totals(sums, samples, divisor)
