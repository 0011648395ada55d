"""The steps of convolution and of the fully connected layer, with what follows them at once."""

from collections.abc import Sequence
from math import prod
from typing import Any

import numpy as np

from tinyconv.backend import Array
from tinyconv.engines.gpu.program import BATCH, Program
from tinyconv.engines.gpu.step import TILE_P, Buffer, Context, Product, Step, activation_of
from tinyconv.engines.units import AVG, BATCH_NORMS, MAX, Unit
from tinyconv.geometry import Geometry, sliding_window
from tinyconv.kernels.gpu.activations import IDENTITY
from tinyconv.layers.base import Shape

__all__ = ["ConvStep", "LinearStep", "window_sizes"]


def window_sizes(window: Geometry) -> dict[str, int]:
    """Return the macros of a window over one, two or three axes, as one over three."""
    values = {
        "": (window.size, 1),
        "O": (window.output, 1),
        "K": (window.kernel, 1),
        "S": (window.stride, 1),
        "L": (window.dilation, 1),
        "P": (tuple(before for before, _ in window.padding), 0),
    }
    sizes: dict[str, int] = {}
    for prefix, (along, fill) in values.items():
        filled = (fill,) * (3 - len(along)) + tuple(along)
        sizes |= {f"{prefix}{axis}": n for axis, n in zip("DHW", filled, strict=True)}
    return sizes


class ConvStep(Step):
    """The convolution, its activation, and a pool of windows side by side before or behind that.

    Attributes:
        C, O, groups: channels.
        inputs, taps, outputs: positions of the input, of the kernel and of the convolution.
        windows, side: those of the pool, and the elements of one; outputs and 1 without a pool.
        chosen: (batch, O, windows) uint8, which element of a window was the maximum.
    """

    gathers = adds_gradients = True

    def __init__(self, unit: Unit, shapes: Sequence[Shape], context: Context) -> None:
        super().__init__(unit, shapes, context)
        window = self._window()
        (self.C, self.O, self.groups), size = self._channels(), window.output
        self.inputs, self.taps = prod(window.size), prod(window.kernel)
        self.sizes = {"C": self.C, "O": self.O, "GROUPS": self.groups, **window_sizes(window)}
        pool: Any = unit.find((*MAX, *AVG))
        side = (1,) * len(size) if pool is None else pool.window(size).kernel
        self.windows = prod(n // k for n, k in zip(size, side, strict=True))
        self.side = prod(side)
        filled = zip("DHW", (1,) * (3 - len(side)) + tuple(side), strict=True)
        self.sizes |= {f"Q{axis}": n for axis, n in filled}
        self.sizes["MEAN"] = type(pool) in AVG
        self.has_maximum = type(pool) in MAX

    @staticmethod
    def accepts(unit: Unit) -> bool:
        pool: Any = unit.find((*MAX, *AVG))
        takes = unit.find(BATCH_NORMS) is None
        takes = takes and unit.layers[0].padding_mode == "zeros"  # type: ignore[attr-defined]
        takes = takes and (pool is None or prod(pool.kernel_size) <= TILE_P)
        # Only what increases may change places with a maximum.
        swaps = len(unit.layers) == 3 and type(unit.layers[2]) in MAX
        chosen = activation_of(unit.layers[1]) if swaps else IDENTITY
        return takes and chosen is not None and chosen.increases

    def _window(self) -> Geometry:
        window: Geometry = self.layer._window(self.input_shape[1:])
        return window

    def _channels(self) -> tuple[int, int, int]:
        return self.input_shape[0], self.layer.out_channels, self.layer.groups

    def connect(
        self, xs: Sequence[Buffer], dxs: Sequence[Buffer | None], y: Buffer, dy: Buffer | None
    ) -> None:
        super().connect(xs, dxs, y, dy)
        self.sizes |= {"ACTIVATION": self.activation.code, "GATHER": self.gather}
        self.chosen: Array | None = None
        if self.has_maximum and dy is not None:
            shape = (self.context.batch, self.O, self.windows)
            self.chosen = self.context.empty(*shape, dtype=np.uint8)

    def forward(self, program: Program) -> None:
        P, K = self.windows * self.side, self.C // self.groups * self.taps
        product = self._product(self.O, P, K, used=TILE_P // self.side * self.side)
        weight, bias = self.layer.params["weight"], self.layer.params.get("bias")
        program.call(
            self.name,
            "conv",
            self.sizes,
            "conv_forward",
            lambda n: (product.blocks(n), 1, 1),
            *(self.x, *self.source, weight, bias, self.z, self.y, self.chosen),
            *(self.context.parts, np.int32(product.parts), self.parameter, BATCH),
        )

    def _product(
        self, rows: int, P: int, K: int, of_batch: str = "P", used: int = TILE_P
    ) -> Product:
        """Return the product for each group that has so many rows in all groups."""
        return Product(self.context, rows // self.groups, P, K, self.groups, of_batch, used)

    def backward(self, program: Program) -> None:
        grads = self.layer.grads
        arrays = (self.dy, self.v, self.chosen, self.x, *self.source)
        weight, adds = self.layer.params["weight"], bool(self.adds and self.adds[0])
        self.add_backward(
            program,
            f"{self.name}: backward",
            *(*arrays, weight, None, None, grads["weight"], grads.get("bias")),
            dx=self.dx,
            adds=adds,
        )

    def add_backward(
        self,
        program: Program,
        name: str,
        *arrays: Array | None,
        dx: Array | None,
        adds: bool = False,
    ) -> None:
        """Add the call of conv_backward; ``arrays`` are its first arguments, up to db."""
        columns, K = self.C // self.groups * self.taps + 1, self.windows * self.side
        weights = self._product(self.O, columns, K, of_batch="K")
        P, K = self.inputs, self.O // self.groups * self.taps
        inputs = self._product(self.C, P, K)
        makes_weights = arrays[-2] is not None
        squares = self.context.squares_of(weights.tiles) if makes_weights else None

        def grid(n: int) -> tuple[int, int, int]:
            of_weights = weights.blocks(n) if makes_weights else 0
            return of_weights + (0 if dx is None else inputs.blocks(n)), 1, 1

        parts = self.context.parts, np.int32(weights.parts), np.int32(inputs.parts)
        last = (squares, dx, np.int32(adds), *parts, self.parameter, BATCH)
        program.call(name, "conv", self.sizes, "conv_backward", grid, *arrays, *last)


class LinearStep(ConvStep):
    """The fully connected layer, the convolution of one position, and its activation."""

    @staticmethod
    def accepts(unit: Unit) -> bool:
        return unit.find(BATCH_NORMS) is None

    def _window(self) -> Geometry:
        return sliding_window("linear", (1,), kernel=(1,))

    def _channels(self) -> tuple[int, int, int]:
        return self.input_shape[0], self.shape[0], 1
