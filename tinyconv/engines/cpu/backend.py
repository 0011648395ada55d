"""What a plan gets from the CPU: memory, steps and a program over the compiled kernels."""

from collections.abc import Callable, Sequence
from dataclasses import replace
from functools import partial
from math import isfinite, prod

import numpy as np

from tinyconv.backend import Values
from tinyconv.engines.base import Engine, Totals
from tinyconv.engines.cpu.arena import Border, Image, Rows
from tinyconv.engines.cpu.element_steps import add_image
from tinyconv.engines.cpu.loss_step import LossStep
from tinyconv.engines.cpu.program import Program
from tinyconv.engines.cpu.step import Context, Step, runs_of, sizes_of
from tinyconv.engines.cpu.steps import STEPS
from tinyconv.engines.cpu.tiling import FEW, compiled
from tinyconv.engines.cpu.update_rule import UpdateRule
from tinyconv.engines.step import Steps
from tinyconv.kernels.cpu import batch as batch_kernels
from tinyconv.kernels.cpu import reach
from tinyconv.kernels.cpu.kernel import address_of
from tinyconv.kernels.cpu.simd import LANES
from tinyconv.layers.base import Shape
from tinyconv.losses import Targets
from tinyconv.parameters import Parameters

#: Bytes of activations that a block of samples may have, so that they stay in the second cache.
BLOCK_BYTES = 768 << 10
#: Samples of which a block makes light of what it costs itself.
MANY = 96

#: What a reader asks of its input's buffer: a border and spare numbers.
Room = tuple[Border, int]


class CpuBackend:
    """Memory, steps and program of one plan, which maps batches to logits.

    Args:
        parameters: of the network, float32.
        shape: of one sample.
        batch: samples at most.
        threads: that share the work.
        at_once: of them, those that there are buffers for; all if it is not given.
        loss_step: makes the step of the loss, if the plan has one.

    Attributes:
        training: whether the plan has a backward pass.
        sums: (threads, 8) float64: of each thread the sum of the losses of a batch, the reach of
            the gradients, see ``kernels.cpu.reach``, and the sums of figures.
        program: what the plan adds its calls to.
        context: what its steps share.
    """

    training = False

    def __init__(
        self,
        parameters: Parameters,
        shape: Shape,
        batch: int,
        threads: int,
        at_once: int | None = None,
        loss_step: Callable[[Context, Values], LossStep] | None = None,
    ) -> None:
        self.parameters, self.shape = parameters, shape
        self.batch, self.threads = batch, threads
        flat, flat_grad = parameters.flat, parameters.flat_grad
        self.context = Context(at_once or batch, threads, self.training, flat, flat_grad)
        steps = Steps(STEPS, self.context)
        self.steps, self.accepts, self.step = steps.made, steps.accept, steps.make
        self.program = Program(threads)
        self.sums = np.zeros((threads, 8))
        if loss_step is not None:
            self.loss_step = loss_step(self.context, self.sums)
        self.images: list[Image] = []
        self._inputs: list[Values] = []
        self._rows: Values | None = None

    # What a plan is built with.

    def needs_room(self, wanted: Sequence[Room]) -> bool:
        """Whether a buffer's readers need more than its numbers."""
        return any(spare or any(map(any, border)) for border, spare in wanted)

    def buffer(self, shape: Shape, wanted: Sequence[Room]) -> Image:
        """Return memory for a batch of samples, with all that its readers want."""
        border = tuple(
            (
                max((room[axis][0] for room, _ in wanted), default=0),
                max((room[axis][1] for room, _ in wanted), default=0),
            )
            for axis in range(3)
        )
        spare = max((spare for _, spare in wanted), default=0)
        image = self.context.arena.image(self.context.batch, shape, border, spare)
        self.images.append(image)
        return image

    def gather(self, x: Image) -> None:
        """Add the call that fetches the batch, behind what the steps prepare.

        There is none if the steps can read the batch where it is.
        """
        self.program.add_deferred()
        if not self.training:
            preparing = (step for step in self.steps if type(step).prepare is not Step.prepare)
            self.program.only_after_changes(a for step in preparing for a in step.sources)
        self._input = x
        readers = [
            step
            for step in self.steps
            if x.origin in [each.origin for each in step.xs] and step.y.origin != x.origin
        ]
        if readers and all(step.reads_in_place for step in readers) and x.flattened() is not None:
            for step in readers:
                step.x = replace(step.x, sample=prod(self.shape))
            return
        y = x.flattened() or x  # one long row where a sample is one, not many short ones
        self._gather = self.program.call(
            "gather",
            compiled(batch_kernels.flatten, LANES, True),
            image=y,
            rows_sample=prod(self.shape),
            **sizes_of(y),
        )
        self._inputs = [self._gather["rows"]]

    def outputs(self, logits: Image, shape: Shape) -> None:
        """Add the call that copies the logits, if their order is not that of the op."""
        batch = self.context.batch
        self._logits = logits.channels_first(batch).reshape(batch, *shape)
        if logits.flattened() is None:
            args = self.program.call(
                "outputs",
                compiled(batch_kernels.flatten, LANES, False),
                image=logits,
                rows_sample=prod(shape),
                **sizes_of(logits),
            )
            self._rows = args["rows"]

    def freeze(self) -> None:
        """End the program."""
        self.program.freeze(self._block)
        self._inputs = self._inputs or self.program.fields("x", self._input.origin)
        self._started = [step for step in self.steps if type(step).start is not Step.start]

    @property
    def _block(self) -> int:
        """Samples of a block, in numbers that leave few tiles in part empty."""
        sample = 4 * sum(image.sample for image in self.images)
        fitting = BLOCK_BYTES // sample
        # Few samples would wait for many weights, transformed ones, or sums of their gradients.
        passed = 4 * self.parameters.flat.nbytes
        least = FEW if passed > max(sample, BLOCK_BYTES) else 1
        even = max(n for n in (MANY, FEW, least) if n <= max(fitting, least))
        return max(even, fitting // even * even)

    @property
    def best_at_once(self) -> int:
        """The samples that a prediction should have buffers for: a block for each thread.

        What one leaves in the cache is where the next one writes. All samples, if they depend on
        each other or are small: to wake other threads for each block takes longer than it spares.
        """
        small = self._block >= MANY or (self._block > FEW and self.threads > 1)
        if small or not self.program.is_by_samples:
            return self.batch
        return min(self.batch, self._block * self.threads)

    # What a plan is run with.

    def predict(self, x: Values) -> Values:
        """Return the logits (n, ...) of the samples ``x`` (n, ...)."""
        x, most = np.ascontiguousarray(x, np.float32), self.context.batch
        if len(x) <= most:
            return self._predict(x)
        pieces = range(0, len(x), most)
        return np.concatenate([self._predict(x[i : i + most], again=i > 0) for i in pieces])

    def _predict(self, x: Values, again: bool = False) -> Values:
        if self._rows is None:
            self.map(x, again)
            return self._logits[: len(x)].copy()
        out = np.empty((len(x), *self._logits.shape[1:]), np.float32)
        self._rows[0] = address_of(out)
        self.map(x, again)
        return out

    def map(self, x: Values, again: bool = False) -> None:
        """Run the program for samples; ``again`` without a look for changes of the weights."""
        n = self.context.n[0] = len(x)
        for step in self._started:
            step.start(0)
        address = address_of(x)
        for field in self._inputs:
            field[0] = address
        self.program.run(n, again)

    def poison(self) -> None:
        """Fill every activation and gradient, but for the borders, with NaN: for tests."""
        for image in self.images:
            image.channels_first(self.context.batch)[...] = np.nan


class CpuTraining(CpuBackend):
    """Memory, steps and program of one plan, which does training steps.

    Args:
        engine: whose steps they are: of its network, whose parameters are updated in place, by its
            optimizer and so on.
        shape: of one sample.
        batch: samples at most.
        threads: that share the work.
        targets: such as will come; None for one class index each. See :meth:`takes`.
    """

    training = True

    def __init__(
        self,
        engine: Engine,
        shape: Shape,
        batch: int,
        threads: int,
        targets: Targets | None = None,
    ) -> None:
        loss_step = partial(LossStep, engine.loss, engine.metrics, targets)
        super().__init__(engine.net.parameters, shape, batch, threads, loss_step=loss_step)
        self.rule = UpdateRule(
            engine.optimizer, self.parameters, engine.optimizer_state, engine.sharing
        )
        self.context.rule = self.rule.call
        self.index = np.zeros(batch, np.int64)
        self._staging: Values | None = None
        self._samples = Rows(batch)
        self._x: Values | None = None

    # What a plan is built with.

    def loss(self, logits: Image, dlogits: Image | None, shape: Shape) -> None:
        """Add the loss and its gradient with respect to the logits."""
        gradient = self.buffer(shape, []) if dlogits is None else dlogits
        self.loss_step.forward(self.program, logits, gradient, shape)

    def add(self, name: str, x: Image, y: Image) -> None:
        """Add the call y = y + x."""
        add_image(self.program, name, x, y)

    def watch(self, step: Step) -> None:
        """Add to the reach what the gradients of a step's parameters can come to."""
        inputs = self.context.arena.take(self.batch)
        for image, sums in zip(step.multiplied, (None, self.sums), strict=True):
            self._add_reach(step, image, inputs, sums)

    def watch_input(self, step: Step) -> None:
        """Add to the reach the input of a step, which has to be finite."""
        self._add_reach(step, step.x, np.zeros(self.batch, np.float32), self.sums)

    def _add_reach(self, step: Step, image: Image, inputs: Values, sums: Values | None) -> None:
        self.program.call(
            f"{step.name}: reach",
            compiled(reach.reach, LANES),
            v=image,
            **runs_of(image),
            inputs=inputs,
            sums=sums,
        )

    def watch_kept(self, step: Step) -> None:
        """Add to the reach what a step keeps of its gradients until the update."""
        for values in step.kept_gradients:
            self.program.call(
                f"{step.name}: reach",
                compiled(reach.reach_of_kept, LANES),
                sums=self.sums,
                **values,
            )

    def finish_update(self) -> None:
        """Add what the optimizer does after all gradients are there."""
        self.rule.add_rest(self.program, self.was_taken, self.refuse)
        self.program.add_deferred()

    def freeze(self) -> None:  # noqa: D102
        self.program.sums = address_of(self.sums)
        super().freeze()

    # What a plan is run with.

    def takes(self, targets: Targets) -> bool:
        """Whether the loss's step is one for such targets."""
        return self.loss_step.takes(targets)

    def set_batch(self, x: Values, y: Targets, index: Values, step: int, lr: float) -> int:
        """Make the samples ``x[index]`` with their targets the batch; return its size."""
        n = len(index)
        self.context.n[0] = n
        self.context.step = step
        self.rule.start(lr, step)
        for each in self._started:
            each.start(step)
        if x is not self._x:
            self._x = x
            is_direct = isinstance(x, np.ndarray) and x.dtype == np.float32 and x.flags.c_contiguous
            source = x if is_direct else np.zeros((self.batch, *self.shape), np.float32)
            self._staging = None if is_direct else source
            self._gather["rows"] = address_of(source)
            self._gather["index"] = address_of(self.index) if is_direct else 0
        self.index[:n] = index
        self.loss_step.set_batch(y, index)
        if self._staging is not None:
            self._samples.fetch(x, index, self._staging[:n])
        return n

    def run(self, n: int, seconds: dict[str, float] | None = None) -> bool:
        """Train on the batch of :meth:`set_batch`.

        Args:
            n: what that returned.
            seconds: gets the time of each call, if it is there.

        Returns:
            Whether the step was taken. If the loss is not finite, or a gradient might not be, it
            was not, and parameters and running statistics are as before.
        """
        self.sums.fill(0)
        taken = False
        try:
            if seconds is None:
                self.program.run(n)
            else:
                self.program.profile(n, seconds)
            taken = self.was_taken()
        finally:
            if not taken:
                for step in self.steps:
                    step.undo()
        if taken:
            self.rule.finish()
        return taken

    def refuse(self) -> None:
        """Let the guard stop what has not run yet of this step."""
        self.sums[0, 0] = np.nan

    def was_taken(self) -> bool:
        """Whether the guard of the program let the last step go on."""
        loss, reached, *_ = self.loss_step.totals()
        return isfinite(loss) and reached < reach.LIMIT

    def take_sums(self) -> Totals:
        """Return the sums over the batch."""
        return self.loss_step.take_sums()
