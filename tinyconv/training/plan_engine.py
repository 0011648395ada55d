"""The default engine: steps of a compiled plan, float32 on the CPU."""

import sys
from dataclasses import replace
from math import isfinite
from typing import Any

import numpy as np

from tinyconv.backend import Array
from tinyconv.engine.plan import TrainingPlan
from tinyconv.engine.thread_count import get_num_threads
from tinyconv.errors import NonFiniteError
from tinyconv.layers.container import Chain
from tinyconv.losses import Loss
from tinyconv.optimizers import Optimizer
from tinyconv.parameters import Parameters
from tinyconv.training.engine import Totals, check_finite, take_batch

__all__ = ["PlanEngine"]


class PlanEngine:
    """Runs a :class:`TrainingPlan`, made with the first batch; same results as the eager engine.

    Equal to float32 rounding: sums are added in another order, which depends on the number of
    threads. The gradients in ``net.parameters.flat_grad`` and the arrays of the last pass that
    layers keep are not touched.

    Args:
        net: the layers.
        loss: what is minimised.
        parameters: of the layers, flat.
        optimizer: the update rule.
        verbose: whether to say so on standard error when kernels have to be compiled.
        profile: whether to measure the time of each call of a kernel, which slows a step down.

    Attributes:
        seconds_per_step: with ``profile``, seconds a step of each call, by its name.
    """

    def __init__(
        self,
        net: Chain,
        loss: Loss,
        parameters: Parameters,
        optimizer: Optimizer,
        verbose: bool = False,
        profile: bool = False,
    ) -> None:
        self.net = net
        self.loss = loss
        self.parameters = parameters
        self.optimizer = optimizer
        self.optimizer_state = optimizer.init(parameters.flat)
        self.verbose = verbose
        self.profile = profile
        self._seconds: dict[str, float] = {}
        self._steps = 0
        self._plan: TrainingPlan | None = None
        self._totals = Totals()

    def start_epoch(self, totals: Totals) -> None:  # noqa: D102
        self._totals = replace(totals)

    def step(  # noqa: D102
        self, x: Array, y: Array, index: np.ndarray[Any, Any], step: int, lr: float
    ) -> None:
        plan = self._plan
        if plan is None or len(index) > plan.batch or get_num_threads() != plan.threads:
            plan = self._make_plan(x, len(index))
        n = plan.set_batch(x, y, index, step, lr)
        if self.profile:
            plan.profile(n, self._seconds)
        else:
            plan.run(n)
        self._steps += 1
        # Added up batch by batch, so that a resumed epoch ends with the same bits.
        loss, correct = plan.take_sums()
        self._totals.loss += loss
        self._totals.correct += correct
        self._totals.samples += plan.counted(n)
        if not isfinite(loss):
            xb, _ = take_batch(self.parameters, x, y, index)
            with np.errstate(over="ignore", invalid="ignore"):
                place = check_finite(self.net, xb, step)
            raise NonFiniteError(place or "the loss is not finite")

    @property
    def seconds_per_step(self) -> dict[str, float]:  # noqa: D102
        return {name: seconds / self._steps for name, seconds in self._seconds.items()}

    def totals(self) -> Totals:  # noqa: D102
        return replace(self._totals)

    def _make_plan(self, x: Array, batch: int) -> TrainingPlan:
        if self._plan is not None:  # a larger batch, or another number of threads
            batch = max(batch, self._plan.batch)
        self._plan = TrainingPlan(
            self.net.layers,
            tuple(x.shape[1:]),
            self.parameters,
            self.loss,
            self.optimizer,
            self.optimizer_state,
            batch,
            get_num_threads(),
            _announce if self.verbose else None,
        )
        return self._plan


def _announce() -> None:
    print("compiling kernels for this machine (once; they are cached) ...", file=sys.stderr)
