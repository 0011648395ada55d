"""Data parallelism: processes share each batch, and all of them take the same step.

Every process, a *rank*, holds the whole network. It computes the gradient of its part of the
batch; one sum over all ranks makes the gradient of the whole batch of these; and every rank takes
the same step with it. With losses that are means,

    dw = sum_r t[r] dw[r] / sum_r t[r]

where t[r] is what the mean of rank r divides by. So any number of ranks trains as one process
does, up to rounding.

Source: Li et al., "PyTorch distributed" (2020), section 3, without the buckets: one flat vector
holds all gradients here.
"""

import sys
import traceback
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from functools import wraps
from typing import Any, ParamSpec, Protocol, TypeVar

import numpy as np

from tinyconv.backend import Array
from tinyconv.engines.base import Engine, Net, Totals
from tinyconv.errors import ArgumentError, DeviceError
from tinyconv.losses import Loss, Targets
from tinyconv.metrics import Metric
from tinyconv.optimizers import Optimizer

__all__ = ["ALONE", "Comm", "Ranks", "SharedEngine", "ends_all"]


class Comm(Protocol):
    """What is needed of a communicator of ``mpi4py``, such as ``MPI.COMM_WORLD``."""

    def Get_rank(self) -> int:
        """Return the number of this process, from 0."""

    def Get_size(self) -> int:
        """Return how many processes there are."""

    def Allreduce(self, sendbuf: Any, recvbuf: Any) -> None:
        """Put the sum of all ranks' first array into the second one of each."""

    def allgather(self, sendobj: Any) -> list[Any]:
        """Return what each rank hands over, by rank."""

    def bcast(self, obj: Any, root: int = 0) -> Any:
        """Return what rank ``root`` hands over."""

    def Abort(self, errorcode: int = 0) -> None:
        """End all processes at once."""


class Ranks:
    """The processes that train a network together; without a communicator this one alone.

    Args:
        comm: has the interface of ``mpi4py``'s communicators.

    Attributes:
        rank: number of this process.
        size: how many there are.

    >>> Ranks(None).part(10)
    slice(0, 10, None)
    """

    def __init__(self, comm: Comm | None) -> None:
        for name in ("Get_rank", "Get_size", "Allreduce", "allgather", "bcast", "Abort"):
            if comm is not None and not hasattr(comm, name):
                raise ArgumentError(
                    f"fit: comm has no {name}, expected a communicator such as mpi4py's "
                    "MPI.COMM_WORLD"
                )
        self.comm = comm
        self.rank = 0 if comm is None else comm.Get_rank()
        self.size = 1 if comm is None else comm.Get_size()

    @property
    def is_first(self) -> bool:
        """Whether this is the rank that writes and shows."""
        return self.rank == 0

    def part(self, n: int) -> slice:
        """Return which of n samples are this rank's; each has as many, or one more."""
        return slice(n * self.rank // self.size, n * (self.rank + 1) // self.size)

    def add(self, values: Array, out: Array) -> Array:
        """Put the sum of all ranks' ``values`` into ``out``, and return it."""
        if self.comm is None:
            out[...] = values
        else:
            self.comm.Allreduce(values, out)
        return out

    def gather(self, value: Any) -> list[Any]:
        """Return what each rank hands over."""
        return [value] if self.comm is None else self.comm.allgather(value)

    def from_first(self, value: Any) -> Any:
        """Return what the first rank hands over."""
        return value if self.comm is None else self.comm.bcast(value)

    def agree(self, stop: str | None) -> str | None:
        """Return the reason to stop of the first rank that has one."""
        if self.size == 1:
            return stop
        wants = self.add(np.array([float(stop is not None)]), np.empty(1))
        if wants[0] == 0:
            return None
        reasons: list[str | None] = self.gather(stop)
        return next(filter(None, reasons))

    def check_same(self, settings: Mapping[str, Any]) -> None:
        """Check that all ranks were given the same.

        Raises:
            ArgumentError: one was not.
        """
        first = self.from_first(dict(settings))
        for name, value in settings.items():
            if value != first.get(name):
                raise ArgumentError(
                    f"fit: rank {self.rank} has {name} {value!r} and rank 0 {first.get(name)!r}, "
                    "expected the same arguments and data on all ranks"
                )

    def outputs(
        self, logits: Callable[[Array], np.ndarray[Any, Any]], x: Array
    ) -> np.ndarray[Any, Any]:
        """Return the outputs for all samples, of which each rank computes its part."""
        parts = self.gather(logits(x[self.part(len(x))]))
        return parts[0] if len(parts) == 1 else np.concatenate(parts)


#: This process without others.
ALONE = Ranks(None)

P = ParamSpec("P")
R = TypeVar("R")


def ends_all(fit: Callable[P, R]) -> Callable[P, R]:
    """Let an exception of one rank end all of them, with its text: they would wait for it forever.

    Args:
        fit: takes the communicator as ``comm``.
    """

    @wraps(fit)
    def together(*args: P.args, **kwargs: P.kwargs) -> R:
        comm: Any = kwargs.get("comm")
        try:
            return fit(*args, **kwargs)
        except BaseException as error:
            if hasattr(comm, "Abort") and comm.Get_size() > 1:
                traceback.print_exc()
                print(f"rank {comm.Get_rank()} ends all ranks: {error!r}", file=sys.stderr)
                sys.stderr.flush()
                comm.Abort(1)
            raise

    return together


@dataclass(frozen=True)
class _SharedRule(Optimizer):
    """A rule whose gradients become those of the whole batch first.

    Args:
        rule: what is done with them.
        mean: of a rank's gradient makes that of the batch.
    """

    rule: Optimizer
    mean: Callable[[Array], Array]

    def init(self, w: Array) -> dict[str, Array]:
        return self.rule.init(w)

    def update(
        self,
        w: Array,
        dw: Array,
        state: dict[str, Array],
        decay: Array,
        lr: float | None = None,
        step: int = 0,
    ) -> None:
        self.rule.update(w, self.mean(dw), state, decay, lr, step)

    def move(self, w: Array, g: Array, state: dict[str, Array], lr: float) -> None:
        self.rule.move(w, g, state, lr)


class SharedEngine:
    """Trains on this rank's part of each batch by another engine, in step with all ranks.

    Args:
        net: the network, on the CPU.
        inner: the engine of this rank.
        ranks: that share the batches.

    Raises:
        DeviceError: the network is not on the CPU.
    """

    optimizer: Optimizer
    optimizer_state: dict[str, Array]

    def __init__(self, net: Net, inner: Engine, ranks: Ranks) -> None:
        if net.device != "cpu":
            raise DeviceError(
                f"fit: comm is given and the network is on the {net.device}, expected one on the "
                "cpu; ranks add up their gradients in host memory"
            )
        self.net, self.inner, self.ranks = net, inner, ranks
        self._layers = list(net.walk())

    def start_training(  # noqa: D102
        self,
        loss: Loss,
        optimizer: Optimizer,
        metrics: Sequence[Metric] = (),
        *,
        verbose: bool = False,
        profile: bool = False,
    ) -> None:
        self.loss, self.optimizer = loss, optimizer
        self._rule = _SharedRule(lr=optimizer.lr, rule=optimizer, mean=self._mean)
        self.inner.start_training(loss, self._rule, metrics, verbose=verbose, profile=profile)
        self.optimizer_state = self.inner.optimizer_state
        flat = self.net.parameters.flat
        self._sent = np.empty(flat.size + 1, flat.dtype)
        self._sum = np.empty_like(self._sent)
        self._names = ["loss", *(metric.name for metric in metrics)]
        self.start_epoch(Totals())

    def start_epoch(self, totals: Totals) -> None:  # noqa: D102
        self._totals = totals.copy()

    def train_step(  # noqa: D102
        self, x: Array, y: Targets, index: np.ndarray[Any, Any], step: int, lr: float
    ) -> None:
        part = self.ranks.part(len(index))
        mine, p = index[part], self.net.parameters
        self._weight = 0.0
        self.inner.start_epoch(Totals())
        if len(mine):
            self._weight = self.loss.divisor(*y.batch(mine, p.flat)) / len(index)
            self._place(part.start)
            try:
                self.inner.train_step(x, y, mine, step, lr)
            finally:
                self._place(0)
        else:  # a last batch of fewer samples than ranks
            p.flat_grad[...] = 0
            self._rule.update(p.flat, p.flat_grad, self.optimizer_state, p.decay, lr, step)
        self._add_up(self.inner.totals())

    def _place(self, first_sample: int) -> None:
        """Tell the layers where in the batch their samples begin."""
        for layer in self._layers:
            layer.first_sample = first_sample

    def _add_up(self, local: Totals) -> None:
        """Add the figures of the batch, of those of this rank's part."""
        part = {name: local.sums.get(name, 0.0) for name in self._names}
        # The loss is a mean over what it divides by, which need not be the samples.
        part["loss"] *= self._weight / (local.samples or 1.0)
        values = np.array([self._weight, local.samples, *part.values()])
        weight, samples, *sums = self.ranks.add(values, np.empty_like(values)).tolist()
        sums[0] *= samples / (weight or 1.0)
        self._totals.add(dict(zip(self._names, sums, strict=True)), samples)

    def _mean(self, dw: Array) -> Array:
        """Return the gradient of the whole batch, of the gradient of this rank's part."""
        np.multiply(dw, self._weight, out=self._sent[:-1])
        self._sent[-1] = self._weight
        self.ranks.add(self._sent, self._sum)
        mean: Array = self._sum[:-1]
        mean /= self._sum[-1] or 1.0
        return mean

    def totals(self) -> Totals:
        """Return the sums over all ranks since the epoch started."""
        return self._totals.copy()

    def logits(self, x: Array, batch_size: int) -> np.ndarray[Any, Any]:
        """Return the outputs, which this rank computes alone."""
        return self.inner.logits(x, batch_size)

    @property
    def profile(self) -> dict[str, float]:  # noqa: D102
        return self.inner.profile
