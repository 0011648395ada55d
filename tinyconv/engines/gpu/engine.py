"""The engine of plans on the GPU: one graph launch a training step."""

import threading

import numpy as np

from tinyconv.backend import Array, Values
from tinyconv.engines.base import Net, Totals
from tinyconv.engines.eager import REPLACED, EagerEngine
from tinyconv.engines.gpu.backend import GpuBackend, GpuTraining
from tinyconv.engines.gpu.program import Launcher
from tinyconv.engines.gpu.sources import holds_bytes
from tinyconv.engines.plan import KeptPlans, Plan
from tinyconv.errors import ShapeError, StateError
from tinyconv.losses import Targets

#: Steps between two looks at whether one was refused, where no figure is asked for in between:
#: data of so many steps are kept.
MOST_UNSEEN = 1024
#: Likewise where each step brings data of its own.
MOST_DATA = 16


class GpuEngine(EagerEngine):
    """Trains and predicts by plans, made with the first batch; same results as the eager engine.

    It is one as well, for what its kernels cannot vouch for.

    Equal to float32 rounding, and to the bit from run to run: no kernel adds in an order that may
    change. A step whose loss or gradient is not finite is found at the next call of
    :meth:`totals`, and neither it nor any after it has changed anything. Data are uploaded once
    and looked at again only where a whole data set is one batch, since the next one may then come
    in the same memory.

    Args:
        net: the network, float32; its arrays are the launcher's.
        launcher: of the device.
    """

    def __init__(self, net: Net, launcher: Launcher) -> None:
        super().__init__(net)
        self.launcher = launcher
        self._training: GpuTraining | None = None
        self._trains = 0  # the version of the network that the plan is of
        self._plans = KeptPlans(self._make_plan)
        self._lock = threading.RLock()  # the buffers of a prediction serve one call at a time

    def _begin(self) -> None:
        self._trains = self.net.refresh()
        super()._begin()
        self._training = None
        # What was asked for since it was last seen that all steps were taken, by step.
        self._unseen: dict[int, tuple[Array, Targets, Array, int, float]] = {}

    def start_epoch(self, totals: Totals) -> None:  # noqa: D102
        self._settle()
        super().start_epoch(totals)
        if self._training is not None:
            self._training.set_sums(self._totals)
            if self._sees_all:
                self._training.sources.forget()

    def train_step(self, x: Array, y: Targets, index: Values, step: int, lr: float) -> None:  # noqa: D102
        last = next(reversed(self._unseen.values()), None)
        most = MOST_UNSEEN if last is None or last[0] is x else MOST_DATA
        if len(self._unseen) >= most:
            self._settle()
        backend = self._trainer(x, len(index), y)
        try:
            n = backend.set_batch(x, y, index, step, lr)
        except ShapeError:  # the layers say which of them is the first to refuse the batch
            self._settle()
            super().train_step(x, y, index, step, lr)
            raise
        self._unseen[step] = (x, y, index, step, lr)
        self._sees_all = len(index) == len(x)
        if self._is_profiling:
            backend.program.profile(n, self._seconds, lambda: backend.was_taken)
        else:
            backend.program.run(n)
        self._steps += 1
        if not backend.program.is_compiled:  # the host was asked in any case
            self._settle()

    def totals(self) -> Totals:  # noqa: D102
        self._settle()
        return super().totals()

    def _settle(self) -> None:
        """Wait for all steps and take over the sums; what was refused, the layers do or explain.

        Raises:
            NonFiniteError: they cannot do it either; its ``step`` says which one.
        """
        backend = self._training
        if not self._unseen or backend is None:
            return
        refused = backend.first_refused()
        totals, before = backend.sums(), self._totals.sums
        if not backend.loss_step.has_kernel and backend.was_taken:  # each step is looked at
            measured = backend.loss_step.measured.sums
            totals.sums |= {k: before.get(k, 0.0) + value for k, value in measured.items()}
        self._totals = totals
        again = [each for k, each in self._unseen.items() if refused is not None and k >= refused]
        self._unseen.clear()
        if refused is None:
            return
        backend.forgive()
        super().train_step(*again[0])
        backend.set_sums(self._totals)
        for each in again[1:]:
            self.train_step(*each)
        self._settle()

    def _trainer(self, x: Array, batch: int, y: Targets) -> GpuTraining:
        """Return the backend of a plan for such a batch."""
        old, version, shape = self._training, self.net.refresh(), tuple(x.shape[1:])
        if self.net.parameters is not self._parameters:
            raise StateError(REPLACED)
        of_bytes = holds_bytes(x)
        if old is not None:
            same = (version, of_bytes, shape) == (self._trains, old.of_bytes, old.shape)
            if same and old.takes(y) and batch <= old.batch:
                return old
            self._settle()
            batch = max(batch, old.batch)
        self._trains = version
        backend = GpuTraining(self.launcher, self, shape, batch, y, of_bytes)
        Plan(self.net, shape, backend)
        self._training = backend
        backend.set_sums(self._totals)
        return backend

    def logits(self, x: Array, batch_size: int) -> Values:  # noqa: D102
        N, shape = len(x), tuple(x.shape[1:])
        with self._lock:
            plan = self._plans.find(self.net.refresh(), max(1, min(batch_size, N)), shape)
            out = np.empty((N, *plan.output.shape), np.float32)
            for first in range(0, N, batch_size):
                piece = x[first : first + batch_size].astype(np.float32, copy=False)
                try:
                    values = plan.backend.predict(piece)
                except ShapeError:
                    return super().logits(x, batch_size)
                out[first : first + batch_size] = values
        return out

    def _make_plan(self, batch: int, shape: tuple[int, ...]) -> Plan:
        return Plan(self.net, shape, GpuBackend(self.launcher, self.net.parameters, shape, batch))
