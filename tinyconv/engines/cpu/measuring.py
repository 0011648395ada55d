"""What a plan gets from the CPU that says how good a network is, and hands out no outputs."""

import numpy as np

from tinyconv.backend import Values
from tinyconv.engines.base import Totals
from tinyconv.engines.cpu.arena import Image
from tinyconv.engines.cpu.backend import CpuBackend
from tinyconv.layers.base import Shape
from tinyconv.losses import Targets


class CpuMeasuring(CpuBackend):
    """Memory, steps and program of one plan, which maps batches to sums of figures.

    The loss and the figures are the last calls of its one phase, so that they find the outputs of
    a block of samples in the cache, and all outputs are nowhere at once.
    """

    def outputs(self, logits: Image, shape: Shape) -> None:
        """Add the loss and the figures of the outputs."""
        self.loss_step.forward(self.program, logits, None, shape)

    def measure(self, x: Values, targets: Targets, index: Values) -> Totals:
        """Return the sums over the samples ``x`` (n, ...), whose targets are ``targets[index]``."""
        x, most, totals = np.ascontiguousarray(x, np.float32), self.context.batch, Totals()
        for first in range(0, len(x), most):
            self.loss_step.set_batch(targets, index[first : first + most])
            self.sums.fill(0)
            self.map(x[first : first + most], again=first > 0)
            self.loss_step.totals()
            totals.add(self.loss_step.take_sums())
        return totals
