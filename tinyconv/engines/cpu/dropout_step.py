"""The step of dropout."""

from collections.abc import Sequence
from math import ceil, prod

import numpy as np

from tinyconv.engines.cpu.arena import Image
from tinyconv.engines.cpu.program import Program
from tinyconv.engines.cpu.step import Context, Step, planes_of, sizes_of
from tinyconv.engines.cpu.tiling import compiled
from tinyconv.engines.units import Unit
from tinyconv.kernels.cpu import batch
from tinyconv.kernels.cpu.kernel import address_of
from tinyconv.layers.base import Shape


class DropoutStep(Step):
    """Dropout; in prediction, where it drops nothing, a factor for all."""

    def __init__(self, unit: Unit, shapes: Sequence[Shape], context: Context) -> None:
        super().__init__(unit, shapes, context)
        self.key = np.zeros(1, np.uint64)

    def start(self, step: int) -> None:
        self.key[0] = self.layer.mask_key(step, prod(self.shape))

    def _arguments(self) -> dict[str, int]:
        return {
            **sizes_of(self.x),
            "factor": address_of(self.factor),
            "factor_sample": prod(self.shape),
        }

    def forward(self, program: Program) -> None:
        kept, in_prediction = self.layer.scales
        size = self.context.batch * prod(self.shape)
        if not self.context.training:
            self.factor = np.full(size, in_prediction, np.float32)
            self._add_product(program, self.name, self.x, self.y)
            return
        self.factor = self.context.arena.take(size)
        # uniform >= p, with both sides multiplied by 2**24, which is exact
        least = ceil(float(np.float32(self.layer.p)) * 2**24)
        program.call(
            self.name,
            compiled(batch.dropout),
            batch.DROPOUT,
            **self._arguments(),
            **planes_of(self.x, "x"),
            **planes_of(self.y, "y"),
            key=address_of(self.key),
            least=least,
            scale=kept,
        )

    def backward(self, program: Program) -> None:
        if self.dx is None:
            return
        assert self.dy is not None
        self._add_product(program, f"{self.name}: backward", self.dy, self.dx)

    def _add_product(self, program: Program, name: str, x: Image, y: Image) -> None:
        program.call(
            name,
            compiled(batch.multiply),
            batch.DROPOUT,
            **self._arguments(),
            **planes_of(x, "x"),
            **planes_of(y, "y"),
        )
