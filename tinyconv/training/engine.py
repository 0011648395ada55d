"""What executes a training step. The fit loop knows no more of it than the protocol says."""

from dataclasses import dataclass
from typing import Any, Protocol

import numpy as np

from tinyconv.backend import Array, like, namespace
from tinyconv.errors import NonFiniteError
from tinyconv.layers.base import Layer
from tinyconv.losses import Loss
from tinyconv.optimizers import Optimizer
from tinyconv.parameters import Parameters

__all__ = ["EagerEngine", "Engine", "Totals", "check_finite"]


@dataclass
class Totals:
    """Sums over the samples that an epoch has seen so far, in training mode, without ignored ones.

    >>> Totals(loss=3.0, correct=1, samples=2).mean_loss
    1.5
    """

    loss: float = 0.0
    correct: int = 0
    samples: int = 0

    @property
    def mean_loss(self) -> float:
        """Loss per sample; NaN before the first one."""
        return self.loss / self.samples if self.samples else float("nan")

    @property
    def accuracy(self) -> float:
        """Share of samples classified correctly; NaN before the first one."""
        return self.correct / self.samples if self.samples else float("nan")


class Engine(Protocol):
    """Executes training steps: gather, forward, loss, backward, update.

    Attributes:
        optimizer: the update rule.
        optimizer_state: what it remembers, name -> flat array; saved with a checkpoint.
    """

    optimizer: Optimizer
    optimizer_state: dict[str, Array]

    def start_epoch(self, totals: Totals) -> None:
        """Let the sums begin at ``totals``, which are zero unless an epoch is resumed."""

    def step(self, x: Array, y: Array, index: np.ndarray[Any, Any], step: int, lr: float) -> None:
        """Train on the samples ``x[index]`` with the labels ``y[index]``.

        Args:
            x: (S, ...), all samples, in host memory or on the network's device.
            y: (S,), all labels.
            index: (N,), int64, the batch.
            step: number of the step since the network was made, which selects dropout masks.
            lr: learning rate of this step.

        Raises:
            NonFiniteError: the loss is not finite.
        """

    def totals(self) -> Totals:
        """Return the sums since the epoch started."""


class EagerEngine:
    """Runs the layers one by one: the readable engine, for every device and dtype.

    Args:
        net: the layers.
        loss: what is minimised.
        parameters: of the layers, flat.
        optimizer: the update rule.
    """

    def __init__(
        self, net: Layer, loss: Loss, parameters: Parameters, optimizer: Optimizer
    ) -> None:
        self.net = net
        self.loss = loss
        self.parameters = parameters
        self.optimizer = optimizer
        self.optimizer_state = optimizer.init(parameters.flat)
        self._totals = Totals()

    def start_epoch(self, totals: Totals) -> None:  # noqa: D102
        self._totals = totals

    def step(  # noqa: D102
        self, x: Array, y: Array, index: np.ndarray[Any, Any], step: int, lr: float
    ) -> None:
        with np.errstate(over="ignore", invalid="ignore"):  # what overflows is found and named
            self._step(x, y, index, step, lr)

    def _step(self, x: Array, y: Array, index: np.ndarray[Any, Any], step: int, lr: float) -> None:
        xb, yb = take_batch(self.parameters, x, y, index)
        logits = self.net.forward(xb, True, step)
        loss = float(self.loss.forward(logits, yb))
        if not np.isfinite(loss):
            raise NonFiniteError(check_finite(self.net, xb, step) or f"the loss is {loss}")
        self.net.backward(self.loss.backward())
        p = self.parameters
        self.optimizer.update(p.flat, p.flat_grad, self.optimizer_state, p.decay, lr, step)
        xp = namespace("fit", logits=logits)
        counts = self.loss.counts(yb)
        samples = int(xp.count_nonzero(counts))
        self._totals.loss += loss * samples
        self._totals.correct += int(xp.count_nonzero(counts & (xp.argmax(logits, axis=1) == yb)))
        self._totals.samples += samples

    def totals(self) -> Totals:  # noqa: D102
        return self._totals


def take_batch(
    parameters: Parameters, x: Array, y: Array, index: np.ndarray[Any, Any]
) -> tuple[Array, Array]:
    """Return ``x[index]`` and ``y[index]`` on the device and, for x, of the dtype of the net."""
    flat = parameters.flat
    if isinstance(x, np.ndarray):
        xb = like(flat, x[index].astype(str(flat.dtype), copy=False))
    else:
        xb = x[like(x, index)].astype(flat.dtype, copy=False)
    yb = like(flat, y[index]) if isinstance(y, np.ndarray) else y[like(y, index)]
    return xb, yb


def check_finite(net: Layer, x: Array, step: int = 0) -> str | None:
    """Run a forward pass; say where the first value that is not finite appears, if one does.

    >>> from tinyconv.layers import Chain, Linear, ReLU
    >>> net = Chain([Linear(2, 2), ReLU()])
    >>> check_finite(net, np.array([[1.0, float("nan")]]))
    'the input of the network holds values that are not finite'
    >>> check_finite(net, np.array([[1.0, 2.0]])) is None
    True
    """
    xp = namespace("check_finite", x=x)
    if not bool(xp.all(xp.isfinite(x))):
        return "the input of the network holds values that are not finite"
    net.forward(x, True, step)
    for layer in net.walk():
        for name, values in layer.params.items():
            if not bool(xp.all(xp.isfinite(values))):
                where = f"layer {layer.path} ({type(layer).__name__})"
                return f"{where} has a {name} that is not finite"
        if not bool(xp.all(xp.isfinite(layer.y))):
            where = f"layer {layer.path} ({type(layer).__name__})"
            return f"{where} is the first whose output is not finite"
    return None
