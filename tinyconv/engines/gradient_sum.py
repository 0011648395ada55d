"""The sum over all ranks that makes the gradient of a batch of those of its parts."""

from collections.abc import Callable

import numpy as np

from tinyconv.backend import Array
from tinyconv.engines.ranks import Ranks, Stopped

__all__ = ["GradientSum"]


class GradientSum:
    """Adds up gradients in host memory: the one message of a training step.

    Args:
        ranks: that share the batches.
        flat: all parameters; the gradients are like them.
        stops: returns the reason to stop, if this rank has one.

    Attributes:
        gradient: of the whole batch, after a call.
        share: of this rank's gradient in it.
    """

    def __init__(self, ranks: Ranks, flat: Array, stops: Callable[[], str | None]) -> None:
        self.ranks, self.stops, self.share = ranks, stops, 1.0
        # Behind the gradients: how many ranks cannot take the step, and how many want to stop.
        self._sent = np.zeros(flat.size + 2, flat.dtype)
        self._sum = np.zeros_like(self._sent)
        self.gradient = self._sum[:-2]

    def __call__(self, dw: Array, refused: bool = False) -> bool:
        """Add up what all ranks hand over; return whether all of them can take the step.

        Args:
            dw: (P,), the gradient of this rank's part of the batch.
            refused: whether this rank cannot take the step.

        Raises:
            Stopped: a rank wants to stop.
        """
        np.multiply(dw, self.share, out=self._sent[:-2])
        self._sent[-2:] = refused, self.stops() is not None
        assert self.ranks.comm is not None
        self.ranks.comm.Allreduce(self._sent, self._sum)
        if self._sum[-1]:
            raise Stopped
        return not self._sum[-2]
