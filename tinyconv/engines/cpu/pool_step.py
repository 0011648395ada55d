"""The step of a pooling that no convolution took in."""

from collections.abc import Sequence
from typing import Any

from tinyconv.engines.cpu.program import Program
from tinyconv.engines.cpu.step import Context, Step, rows_of
from tinyconv.engines.cpu.tiling import compiled
from tinyconv.engines.units import Unit
from tinyconv.kernels.cpu import pool
from tinyconv.kernels.cpu.kernel import address_of
from tinyconv.kernels.cpu.simd import LANES
from tinyconv.layers import AvgPool2d, L2Pool2d, MaxPool2d
from tinyconv.layers.base import Shape

__all__ = ["PoolStep"]


class PoolStep(Step):
    """A pooling by itself."""

    def __init__(self, unit: Unit, shapes: Sequence[Shape], context: Context) -> None:
        super().__init__(unit, shapes, context)
        (layer,) = unit.layers
        self.kind = {"MaxPool2d": "max", "AvgPool2d": "avg", "L2Pool2d": "l2"}[type(layer).__name__]
        self.layer: Any = layer

    @staticmethod
    def accepts(unit: Unit) -> bool:
        """Whole windows alone, equal padding before and after, all of them counted."""
        layer: Any = unit.layers[0]
        return (
            type(layer) in (MaxPool2d, AvgPool2d, L2Pool2d)
            and set(layer.dilation) == {1}
            and not layer.ceil_mode
            and all(isinstance(p, int) for p in layer.padding)
            and getattr(layer, "count_include_pad", True)
        )

    def _arguments(self) -> dict[str, int]:
        C, H, W = self.input_shape
        (KH, KW), (SH, SW), (PH, PW) = (
            self.layer.kernel_size,
            self.layer.stride,
            self.layer.padding,
        )
        values = {
            **rows_of(self.x, "x"),
            **rows_of(self.y, "y"),
            "C": C,
            "H": H,
            "W": W,
            "KH": KH,
            "KW": KW,
            "SH": SH,
            "SW": SW,
            "PH": PH,
            "PW": PW,
            "OH": self.shape[1],
            "OW": self.shape[2],
            "is_covered": SH <= KH
            and SW <= KW
            and self.shape[1] * SH >= H + PH - (KH - SH)
            and self.shape[2] * SW >= W + PW - (KW - SW),
        }
        if self.kind == "max":
            values["winners"] = address_of(self.winners) + (self.y.origin - self.y.base) // 4
        return values

    def forward(self, program: Program) -> None:
        if self.kind == "max":
            self.winners = self.context.arena.take(self.y.array.size, "uint8")
        maker = {"max": pool.max_, "avg": pool.avg, "l2": pool.l2}[self.kind]
        program.call(self.name, compiled(maker, LANES), pool.ARGS, **self._arguments())

    def backward(self, program: Program) -> None:
        if self.dx is None:
            return
        assert self.dy is not None
        constants = [LANES]
        if self.kind != "max":
            stride, window = self.layer.stride, self.layer.kernel_size
            constants.append(any(s < k for s, k in zip(stride, window, strict=True)))
        makers = {"max": pool.max_backward, "avg": pool.avg_backward, "l2": pool.l2_backward}
        maker = makers[self.kind]
        program.call(
            f"{self.name}: backward",
            compiled(maker, *constants),
            pool.ARGS,
            **self._arguments(),
            **rows_of(self.dx, "dx"),
            **rows_of(self.dy, "dy"),
        )
