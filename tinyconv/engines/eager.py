"""The layers run one by one: the readable engine, for every device and dtype."""

from dataclasses import replace
from typing import Any

import numpy as np

from tinyconv.backend import Array, like, namespace, to_numpy
from tinyconv.engines.base import Net, Totals
from tinyconv.engines.blas import single_blas_thread
from tinyconv.engines.diagnosis import check_finite
from tinyconv.errors import NonFiniteError
from tinyconv.losses import Loss
from tinyconv.optimizers import Optimizer

__all__ = ["EagerEngine"]


class EagerEngine:
    """Runs the layers one by one.

    Args:
        net: the network.
    """

    profile: dict[str, float] = {}  # noqa: RUF012 - it has no parts to measure

    def __init__(self, net: Net) -> None:
        self.net = net

    def start_training(  # noqa: D102
        self, loss: Loss, optimizer: Optimizer, verbose: bool = False, profile: bool = False
    ) -> None:
        self.loss = loss
        self.optimizer = optimizer
        self.optimizer_state = optimizer.init(self.net.parameters.flat)
        self._totals = Totals()

    def start_epoch(self, totals: Totals) -> None:  # noqa: D102
        self._totals = replace(totals)

    def train_step(  # noqa: D102
        self, x: Array, y: Array, index: np.ndarray[Any, Any], step: int, lr: float
    ) -> None:
        # What overflows is found and named.
        with single_blas_thread(), np.errstate(over="ignore", invalid="ignore"):
            self._step(x, y, index, step, lr)

    def _step(self, x: Array, y: Array, index: np.ndarray[Any, Any], step: int, lr: float) -> None:
        p = self.net.parameters
        xb, yb = _take(x, index, p.flat), _take(y, index, p.flat)
        xb = xb.astype(p.flat.dtype, copy=False)
        logits = self.net.forward(xb, True, step)
        loss = float(self.loss.forward(logits, yb))
        if not np.isfinite(loss):
            raise NonFiniteError(check_finite(self.net, xb, step) or f"the loss is {loss}")
        self.net.backward(self.loss.backward())
        self.optimizer.update(p.flat, p.flat_grad, self.optimizer_state, p.decay, lr, step)
        xp = namespace("fit", logits=logits)
        counts = self.loss.counts(yb)
        samples = int(xp.count_nonzero(counts))
        self._totals.loss += loss * samples
        self._totals.correct += int(xp.count_nonzero(counts & (xp.argmax(logits, axis=1) == yb)))
        self._totals.samples += samples

    def totals(self) -> Totals:  # noqa: D102
        return replace(self._totals)

    def logits(self, x: Array, batch_size: int) -> np.ndarray[Any, Any]:  # noqa: D102
        flat, parts = self.net.parameters.flat, []
        for first in range(0, max(len(x), 1), batch_size):
            batch = x[first : first + batch_size].astype(self.net.dtype, copy=False)
            if isinstance(batch, np.ndarray):
                batch = like(flat, batch)
            with single_blas_thread():
                parts.append(to_numpy(self.net.forward(batch)))
        return np.concatenate(parts)


def _take(x: Array, index: np.ndarray[Any, Any], flat: Array) -> Array:
    """Return ``x[index]`` on the device of the parameters."""
    return like(flat, x[index]) if isinstance(x, np.ndarray) else x[like(x, index)]
