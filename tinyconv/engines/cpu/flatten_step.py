"""The step of a change of shape."""

from tinyconv.engines.cpu.arena import Image
from tinyconv.engines.cpu.program import Program
from tinyconv.engines.cpu.step import Step, planes_of
from tinyconv.engines.cpu.tiling import compiled
from tinyconv.engines.units import Unit
from tinyconv.kernels.cpu import batch
from tinyconv.kernels.cpu.simd import LANES
from tinyconv.layers import Flatten

__all__ = ["FlattenStep"]


class FlattenStep(Step):
    """Images to rows; nothing to do where y is x itself."""

    is_view = True

    @staticmethod
    def accepts(unit: Unit) -> bool:
        return type(unit.layers[0]) is Flatten

    def _arguments(self, image: Image, rows: Image) -> dict[str, int]:
        return {
            **planes_of(image, "image"),
            "rows": rows.origin,
            "rows_sample": rows.sample,
            "C": image.C,
            "D": image.D,
            "H": image.H,
            "W": image.W,
        }

    def forward(self, program: Program) -> None:
        if self.y.origin == self.x.origin:
            return
        program.call(
            self.name,
            compiled(batch.flatten, LANES),
            batch.IMAGE,
            **self._arguments(self.x, self.y),
        )

    def backward(self, program: Program) -> None:
        if self.dx is None or self.y.origin == self.x.origin:
            return
        assert self.dy is not None
        program.call(
            f"{self.name}: backward",
            compiled(batch.flatten_backward, LANES),
            batch.IMAGE,
            **self._arguments(self.dx, self.dy),
        )
