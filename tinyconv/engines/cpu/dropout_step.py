"""The step of dropout."""

from math import ceil, prod
from typing import Any

import numpy as np

from tinyconv.engines.cpu.arena import Image
from tinyconv.engines.cpu.program import Program
from tinyconv.engines.cpu.step import Step, sizes_of
from tinyconv.engines.cpu.tiling import compiled
from tinyconv.kernels.cpu import batch
from tinyconv.kernels.cpu.kernel import Kernel


class DropoutStep(Step):
    """Dropout; in prediction, where it drops nothing, a factor for all."""

    def choose(self) -> None:
        self.key = np.zeros(1, np.uint64)

    def start(self, step: int) -> None:
        self.key[0] = self.layer.mask_key(step, prod(self.shape))

    def forward(self, program: Program) -> None:
        kept, in_prediction = self.layer.scales
        size = self.context.batch * prod(self.shape)
        if not self.context.training:
            self.factor = np.full(size, in_prediction, np.float32)
            self._add(program, self.name, compiled(batch.multiply), self.x, self.y)
            return
        self.factor = self.context.arena.take(size)
        # uniform >= p, with both sides multiplied by 2**24, which is exact
        least = ceil(float(np.float32(self.layer.p)) * 2**24)
        kernel, options = compiled(batch.dropout), {"key": self.key, "least": least, "scale": kept}
        self._add(program, self.name, kernel, self.x, self.y, **options)

    def backward(self, program: Program) -> None:
        name = f"{self.name}: backward"
        self._add(program, name, compiled(batch.multiply), self.dy, self.dx)

    def _add(
        self, program: Program, name: str, kernel: Kernel, x: Image, y: Image, **options: Any
    ) -> None:
        options |= {"factor": self.factor, "factor_sample": prod(self.shape)}
        program.call(name, kernel, x=x, y=y, **sizes_of(x), **options)
