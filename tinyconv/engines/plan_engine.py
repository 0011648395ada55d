"""The engine of plans: compiled kernels for float32 on the CPU."""

import os
import sys
import threading
import weakref
from collections.abc import Callable, Sequence
from functools import partial
from math import prod
from typing import Any

import numpy as np

from tinyconv.backend import Array, Values
from tinyconv.engines.base import Net, Totals
from tinyconv.engines.cpu.backend import CpuBackend, CpuTraining
from tinyconv.engines.cpu.loss_step import LossStep, has_kernels
from tinyconv.engines.cpu.measuring import CpuMeasuring
from tinyconv.engines.eager import REPLACED, EagerEngine
from tinyconv.engines.plan import KeptPlans, Plan
from tinyconv.engines.thread_count import get_num_threads
from tinyconv.errors import ShapeError, StateError
from tinyconv.kernels.cpu.kernel import when_compiling
from tinyconv.kernels.cpu.simd import LANES
from tinyconv.losses import Loss, Targets
from tinyconv.metrics import Metric

#: Multiply-adds of a prediction below which one thread makes it: some 10 µs.
WORK = LANES << 16


class PlanEngine(EagerEngine):
    """Trains and predicts by plans, made with the first batch; same results as the eager engine.

    It is one as well, for the steps that its kernels cannot vouch for.

    Equal to float32 rounding: sums are added in another order, which depends on the number of
    threads. The gradients in ``net.parameters.flat_grad`` and the arrays of the last pass that
    layers keep are not touched.
    """

    def __init__(self, net: Net) -> None:
        super().__init__(net)
        self._training: CpuTraining | None = None
        self._trains = 0  # the version of the network that the plan is of
        self._work: tuple[tuple[int, ...], int, int] = (), -1, 0  # of a sample of a shape
        self.forget_threads()
        _ENGINES.add(self)

    def forget_threads(self) -> None:
        """Begin without predictions: in a forked child, the thread of one that ran is not there."""
        self._plans = KeptPlans(self._make_plan)
        self._asked: tuple[Any, ...] = ()  # the answer was
        self._plan: Plan
        self._meter: CpuMeasuring | None = None
        self._measures: tuple[Any, ...] = ()  # what the meter is for
        self._lock = threading.RLock()  # the buffers of a prediction serve one call at a time
        self._is_predicting = False

    def _begin(self) -> None:
        super()._begin()
        self._trains = self.net.refresh()
        self._training = None

    def train_step(self, x: Array, y: Targets, index: Values, step: int, lr: float) -> None:  # noqa: D102
        backend = self._trainer(tuple(x.shape[1:]), len(index), y)
        try:
            n = backend.set_batch(x, y, index, step, lr)
            is_taken = backend.run(n, self._seconds if self._is_profiling else None)
        except ShapeError:  # the layers say which of them is the first to refuse the batch
            is_taken = False
        if is_taken:
            # Added up batch by batch, so that a resumed epoch ends with the same bits.
            self._totals.add(backend.take_sums())
        else:
            # What the kernels cannot vouch for, the layers do, or say why not. The buffers hold
            # halves of a step now, so the next one gets a plan of its own.
            self._training = None
            super().train_step(x, y, index, step, lr)
        self._steps += 1

    def logits(self, x: Array, batch_size: int) -> Values:  # noqa: D102
        with self._lock:
            if self._is_predicting:  # a signal handler, in the middle of a prediction
                return PlanEngine(self.net).logits(x, batch_size)
            self._is_predicting = True
            try:
                plan = self._predictor(tuple(x.shape), batch_size)
                N, backend = len(x), plan.backend
                if 0 < N <= batch_size:
                    values: Values = backend.predict(x[:])
                    return values
                out = np.empty((N, *plan.output.shape), np.float32)
                for first in range(0, N, batch_size):
                    stop = first + batch_size
                    out[first:stop] = backend.predict(x[first:stop])
            except ShapeError:
                return super().logits(x, batch_size)
            finally:
                self._is_predicting = False
        return out

    def _predictor(self, shape: tuple[int, ...], batch_size: int) -> Plan:
        """Return a plan for such samples on as many threads as are wanted.

        The network has just looked whether it was changed, and raised its version if so.
        """
        asked = shape, batch_size, self.net.version, get_num_threads()
        if asked != self._asked:
            batch, shape = max(1, min(batch_size, shape[0])), shape[1:]
            threads = self._threads(shape, batch)
            self._plan = self._plans.find(self.net.version, batch, shape, threads)
            self._asked = asked
        return self._plan

    def measure(  # noqa: D102
        self,
        x: Array,
        targets: Targets,
        part: slice,
        loss: Loss,
        metrics: Sequence[Metric],
        batch_size: int,
    ) -> Totals | None:
        shape, net, totals = tuple(x.shape[1:]), self.net, Totals()
        if not has_kernels(loss, metrics, net.output_shape(shape)):
            return None
        index = np.arange(part.start, part.stop)
        with self._lock:
            if self._is_predicting:
                return None
            self._is_predicting = True
            try:
                meter = self._meter_of(shape, min(batch_size, len(index)), targets, loss, metrics)
                for first in range(0, len(index), batch_size):
                    batch = index[first : first + batch_size]
                    piece = x[batch[0] : batch[-1] + 1]
                    totals.add(meter.measure(piece, targets, batch))
            except ShapeError:
                return None
            finally:
                self._is_predicting = False
        return totals

    def _meter_of(
        self,
        shape: tuple[int, ...],
        batch: int,
        targets: Targets,
        loss: Loss,
        metrics: Sequence[Metric],
    ) -> CpuMeasuring:
        """Return what measures samples of a shape on as many threads as are wanted."""
        threads, names = self._threads(shape, batch), [metric.name for metric in metrics]
        asked, old = (self.net.refresh(), shape, threads, loss, names), self._meter
        is_same = old is not None and asked == self._measures and old.loss_step.takes(targets)
        if old is not None and is_same and batch <= old.batch:
            return old
        self._meter = old = None  # its memory serves the next one
        sizes = self.net.parameters, shape, max(batch, 1), threads
        make = partial(CpuMeasuring, *sizes, loss_step=partial(LossStep, loss, metrics, targets))
        meter: CpuMeasuring = self._made(make).backend
        self._meter, self._measures = meter, asked
        return meter

    def _make_plan(self, batch: int, shape: tuple[int, ...], threads: int) -> Plan:
        return self._made(partial(CpuBackend, self.net.parameters, shape, batch, threads))

    def _made(self, make: Callable[..., CpuBackend]) -> Plan:
        """Return a plan over a backend with as many buffers as are best."""
        backend = make()
        plan = Plan(self.net, backend.shape, backend)
        if (at_once := backend.best_at_once) < backend.batch:
            smaller = Plan(self.net, backend.shape, make(at_once))
            # A linear layer of few samples may be shared out otherwise.
            plan = smaller if smaller.backend.program.is_by_samples else plan
        return plan

    def _threads(self, shape: tuple[int, ...], batch: int) -> int:
        """Return the threads that a prediction is worth: to wake one takes a while itself."""
        if self._work[:2] != (shape, self.net.version):
            work = self.net.multiply_adds(shape) + 16 * prod(shape)
            self._work = shape, self.net.version, work
        return 1 if batch * self._work[2] < WORK else get_num_threads()

    def _trainer(self, shape: tuple[int, ...], batch: int, y: Targets) -> CpuTraining:
        """Return the backend of a plan for such a batch on as many threads as are wanted."""
        old, threads, version = self._training, get_num_threads(), self.net.refresh()
        if self.net.parameters is not self._parameters:
            raise StateError(REPLACED)
        if version != self._trains:
            old, self._trains = None, version
        if old is not None:
            same = (shape, threads) == (old.shape, old.threads)
            if same and batch <= old.batch and old.takes(y):
                return old
            batch = max(batch, old.batch)
        with when_compiling(_announce if self._verbose else None):
            backend = CpuTraining(self, shape, batch, threads, y)
            Plan(self.net, shape, backend)
        self._training = backend
        return backend


#: Those of this process.
_ENGINES: weakref.WeakSet[PlanEngine] = weakref.WeakSet()


def _after_fork() -> None:
    for engine in [*_ENGINES]:
        engine.forget_threads()


if hasattr(os, "register_at_fork"):
    os.register_at_fork(after_in_child=_after_fork)


def _announce() -> None:
    print("compiling kernels for this machine (once; they are cached) ...", file=sys.stderr)
