"""Data parallelism: processes share each batch, and all of them take the same step.

Every process, a *rank*, holds the whole network. It computes the gradient of its part of the
batch; one sum over all ranks makes the gradient of the whole batch of these; and every rank takes
the same step with it. With losses that are means,

    dw = sum_r t[r] / t dw[r]

where t[r] is what the mean of rank r divides by, and t is what that of the whole batch does. So any
number of ranks trains as one process does, up to rounding.

Source: Li et al., "PyTorch distributed" (2020), section 3, without the buckets: one flat vector
holds all gradients here.
"""

from dataclasses import dataclass
from typing import Any

from tinyconv.backend import Array, Values
from tinyconv.engines.base import Engine, Net, Totals
from tinyconv.engines.gradient_sum import DeviceSum, GradientSum
from tinyconv.engines.ranks import Ranks
from tinyconv.engines.units import BATCH_NORMS
from tinyconv.losses import CrossEntropyLoss, Loss, Targets
from tinyconv.ops.norm import Parts


@dataclass(eq=False)
class SharedEngine(Engine):
    """Trains on this rank's part of each batch by another engine, in step with all ranks."""

    net: Net
    inner: Engine  #: of this rank
    ranks: Ranks  #: that share the batches
    #: adds up their gradients; see :func:`tinyconv.engines.choose.sum_for`.
    gradient_sum: GradientSum | DeviceSum
    sync_batch_norm: bool = False  #: whether batch norms take the statistics of the whole batch

    def __post_init__(self) -> None:
        self._layers = list(self.net.walk())
        norms = (layer for layer in self._layers if isinstance(layer, BATCH_NORMS))
        self._norms: list[Any] = [*norms] if self.sync_batch_norm else []

    def _begin(self) -> None:
        self._counts_alike = _counts_alike(self.loss)
        self.inner.sharing = self.gradient_sum
        goal = (self.loss, self.optimizer, self.metrics)
        self.inner.start_training(*goal, verbose=self._verbose, profile=self._is_profiling)
        self.optimizer_state = self.inner.optimizer_state
        self.start_epoch(Totals())

    def start_epoch(self, totals: Totals) -> None:
        """Let the sums over all ranks begin at ``totals``: those of the first one do."""
        self._totals = totals.copy() if self.ranks.is_first else Totals()
        self.inner.start_epoch(Totals())

    def train_step(self, x: Array, y: Targets, index: Values, step: int, lr: float) -> None:  # noqa: D102
        N, ranks = len(index), self.ranks
        if ranks.size <= N and self._counts_alike and y.sample_weight is None:
            part = ranks.part(N)
            self.gradient_sum.share = len(index[part]) / N
            self._step(x, y, index, part, step, lr)
            return
        # The figures of such a batch are weighted one by one.
        self._totals = self.totals()
        self.inner.start_epoch(Totals())
        flat, part, copies = self.net.parameters.flat, ranks.part(N), 1
        if ranks.size > N:  # no part would be left for some: each rank does all of the batch
            part, copies = slice(0, N), ranks.size
        whole, own = y.batch(index, flat), y.batch(index[part], flat)
        share = self.loss.divisor(*own) / (self.loss.divisor(*whole) or 1.0) / copies
        # A rank none of whose samples counts has no gradient, and may have any share but 0.
        self.gradient_sum.share = share or 1.0
        self._step(x, y, index, part, step, lr)
        local = self.inner.totals()
        sums = {name: value / copies for name, value in local.sums.items()}
        self.inner.start_epoch(Totals(sums, local.samples / copies, local.divisor / copies))

    def _step(self, x: Array, y: Targets, index: Values, part: slice, step: int, lr: float) -> None:
        """Train on the samples ``index[part]`` of a batch, and tell the layers where these lie."""
        N, is_part = len(index), part != slice(0, len(index))
        total = self.gradient_sum
        parts = Parts(N, total.share, total.add if is_part else lambda values: values)
        for layer in self._layers:
            layer.first_sample = part.start
        for norm in self._norms:
            norm.parts = parts
        try:
            self.inner.train_step(x, y, index[part], step, lr)
        finally:
            for layer in self._layers:
                layer.first_sample = 0
            for norm in self._norms:
                norm.parts = None

    def totals(self) -> Totals:
        """Return the sums over what this rank has seen of the epoch."""
        totals = self._totals.copy()
        totals.add(self.inner.totals())
        return totals

    def logits(self, x: Array, batch_size: int) -> Values:
        """Return the outputs, which this rank computes alone."""
        return self.inner.logits(x, batch_size)

    @property
    def profile(self) -> dict[str, float]:  # noqa: D102
        return self.inner.profile


def _counts_alike(loss: Loss) -> bool:
    """Whether a mean divides by the number of positions, whatever the targets are."""
    own = (
        getattr(type(loss), name) in (getattr(Loss, name), getattr(CrossEntropyLoss, name))
        for name in ("counts", "samples", "divisor")
    )
    return all(own) and loss.ignore_index is None and getattr(loss, "weight", None) is None
