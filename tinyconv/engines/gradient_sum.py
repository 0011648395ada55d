"""The sum over all ranks that makes the gradient of a batch of those of its parts.

In host memory through the ranks' communicator, one message a step; or on their GPUs.
"""

from collections.abc import Callable
from dataclasses import dataclass

import numpy as np

from tinyconv.backend import Array
from tinyconv.engines.ranks import Ranks, Stopped


class GradientSum:
    """Adds up gradients in host memory: the one message of a training step.

    Args:
        ranks: that share the batches.
        flat: all parameters; the gradients are like them.
        stops: returns the reason to stop, if this rank has one.

    Attributes:
        share: of this rank's gradient in it.
    """

    def __init__(self, ranks: Ranks, flat: Array, stops: Callable[[], str | None]) -> None:
        self.ranks, self.stops, self.share = ranks, stops, 1.0
        # Behind the gradients: how many ranks cannot take the step, and how many want to stop.
        self._sent = np.zeros(flat.size + 2, flat.dtype)
        self._sum = np.zeros_like(self._sent)
        self.gradient = self._sum[:-2]  #: of the whole batch, after a call
        self.add = ranks.add  #: returns the sum of all ranks' arrays

    def __call__(self, dw: Array, refused: bool = False) -> bool:
        """Do what :class:`tinyconv.engines.base.Sharing` says."""
        np.multiply(dw, self.share, out=self._sent[:-2])
        self._sent[-2:] = refused, self.stops() is not None
        assert self.ranks.comm is not None
        self.ranks.comm.Allreduce(self._sent, self._sum)
        if self._sum[-1]:
            raise Stopped
        return not self._sum[-2]


@dataclass(eq=False)
class DeviceSum:
    """Adds up gradients where they lie, on a GPU a rank. The host asks who wants to stop.

    A gradient that is not finite on one rank is not on any, so all refuse the step then.
    """

    ranks: Ranks  #: that share the batches
    gradient: Array  #: of this rank's part of the batch and, after a call, of all of it
    stops: Callable[[], str | None]  #: returns the reason to stop, if this rank has one
    #: puts the sum of all ranks' arrays of the device in place of each, and returns it.
    add: Callable[[Array], Array]
    share: float = 1.0  #: of this rank's gradient in that of the whole batch

    def __call__(self, dw: Array, refused: bool = False) -> bool:
        """Do as :class:`GradientSum` does."""
        if self.ranks.add(np.array([float(self.stops() is not None)]))[0]:
            raise Stopped
        dw *= self.share
        self.add(dw)
        return True
