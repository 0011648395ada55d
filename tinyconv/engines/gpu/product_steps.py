"""The steps of convolution and of the fully connected layer, with what follows them at once."""

from collections.abc import Sequence
from math import prod
from typing import Any

import numpy as np

from tinyconv.backend import Array
from tinyconv.engines.gpu.element_steps import add_activation_backward
from tinyconv.engines.gpu.program import BATCH, Program, blocks
from tinyconv.engines.gpu.resample_step import Resampling
from tinyconv.engines.gpu.step import TILE_P, Buffer, Product, Step
from tinyconv.engines.tables import padding_tables
from tinyconv.engines.units import AVG, BATCH_NORMS, MAX, NORM_POOLS, Unit
from tinyconv.geometry import Geometry, sliding_window
from tinyconv.kernels.activations import IDENTITY, Chosen
from tinyconv.layers import GlobalMaxPool


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

    def choose(self) -> None:
        window = self._window()
        self.padding: Resampling | None = None
        mode = getattr(self.layer, "padding_mode", "zeros")
        if mode != "zeros" and window.is_padded:
            size, pairs = window.size, window.padding
            tables = padding_tables(mode, pairs, size)
            self.padding = Resampling(self.context, self.input_shape[0], tables)
            size = tuple(n + sum(pair) for n, pair in zip(size, pairs, strict=True))
            geometry = (window.kernel, window.stride, 0, window.dilation)
            window = sliding_window(self.name, size, *geometry)
            self.gathers = False
        self.size = window.size
        (self.C, self.O, self.groups), size = self._channels(), window.output
        self.inputs, self.taps = prod(window.size), prod(window.kernel)
        self.sizes = {"C": self.C, "O": self.O, "GROUPS": self.groups, **window_sizes(window)}
        pool: Any = self.unit.find((*MAX, *AVG))
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
        takes = unit.find(BATCH_NORMS) is None and not unit.ends_in_mean
        takes = takes and (pool is None or prod(pool.kernel_size) <= TILE_P)
        # Only what increases may change places with a maximum.
        swaps = len(unit.layers) == 3 and type(unit.layers[2]) in MAX
        chosen = Step.activation_of(unit.layers[1]) if swaps else Chosen()
        return takes and chosen is not None and chosen.increases

    def _window(self) -> Geometry:
        window: Geometry = self.layer.window(self.input_shape[1:])
        return window

    def _channels(self) -> tuple[int, int, int]:
        return self.input_shape[0], self.layer.out_channels, self.layer.groups

    def connect(
        self, xs: Sequence[Buffer], dxs: Sequence[Buffer | None], y: Buffer, dy: Buffer | None
    ) -> None:
        super().connect(xs, dxs, y, dy)
        self.sizes |= {"ACTIVATION": self.activation.code, "GATHER": self.gather}
        # What the kernels take for x and dx: not these, if those have to be padded.
        self.image, self.dimage, self.dimage_adds = self.x, self.dx, bool(self.adds[0])
        if self.padding is not None:
            shape = (self.context.batch, self.C, *self.size)
            self.image, self.dimage_adds = self.context.empty(*shape), False
            self.dimage = None if self.dx is None else self.context.empty(*shape)
        self.chosen: Array | None = None
        if self.has_maximum and dy is not None:
            shape = (self.context.batch, self.O, self.windows)
            self.chosen = self.context.empty(*shape, dtype=np.uint8)

    def forward(self, program: Program) -> None:
        if self.padding is not None:
            self.padding.add(program, f"{self.name}: padding", self.x, self.image)
        params = self.layer.params
        arrays = params["weight"], params.get("bias"), self.z, self.y, self.chosen
        self.add_forward(program, self.name, self.image, *self.source, *arrays)

    def add_forward(self, program: Program, name: str, *arrays: Array | None) -> None:
        """Add the call of conv_forward; ``arrays`` are its first arguments, up to ``chosen``."""
        P, K = self.windows * self.side, self.C // self.groups * self.taps
        product = self._product(self.O, P, K, used=TILE_P // self.side * self.side)
        program.call(
            name,
            "conv",
            self.sizes,
            "conv_forward",
            lambda n: (product.blocks(n), 1, 1),
            *arrays,
            *(self.context.parts, np.int32(product.parts), self.parameter, BATCH),
        )

    def _product(
        self, rows: int, P: int, K: int, of_batch: str = "P", used: int = TILE_P
    ) -> Product:
        """Return the product for each group that has so many rows in all groups."""
        return Product(self.context, rows // self.groups, P, K, self.groups, of_batch, used)

    def backward(self, program: Program) -> None:
        grads, weight, name = self.layer.grads, self.layer.params["weight"], self.name
        self.add_backward(
            program,
            f"{name}: backward",
            *(self.dy, self.v, self.chosen, self.image, *self.source, weight, None, None),
            *(grads.get("weight"), grads.get("bias")),
            dx=self.dimage,
        )
        if self.padding is not None and self.dx is not None:
            name, adds = f"{name}: padding, backward", bool(self.adds[0])
            self.padding.transposed().add(program, name, self.dimage, self.dx, adds=adds)

    def add_backward(
        self,
        program: Program,
        name: str,
        *arrays: Array | None,
        dx: Array | None,
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
        last = (squares, dx, np.int32(self.dimage_adds), *parts, self.parameter, BATCH)
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


class TransposedStep(ConvStep):
    """The transposed convolution, with the kernels of the convolution from y to x."""

    gathers = adds_gradients = False

    @staticmethod
    def accepts(unit: Unit) -> bool:
        return True

    def _channels(self) -> tuple[int, int, int]:
        return self.layer.out_channels, self.input_shape[0], self.layer.groups

    def forward(self, program: Program) -> None:
        self.sizes |= {"ACTIVATION": 0, "BEHIND": self.activation.code}
        params = self.layer.params
        arrays = (self.x, self.x, None, None, None, None, params["weight"], params.get("bias"))
        self.add_backward(program, self.name, *arrays, self.z, None, None, dx=self.y)

    def backward(self, program: Program) -> None:
        dy, name, grads = self.dy, f"{self.name}: backward", self.layer.grads
        if self.activation.code != IDENTITY:
            dy = self.context.empty(*self.y.shape)
            add_activation_backward(program, name, self.activation, self.dy, self.v, dy)
        weight = self.layer.params["weight"]
        nothing = (None, None)
        if self.is_trained:
            arrays = (self.x, self.x, None, dy, *nothing, weight, *nothing, grads["weight"], None)
            self.add_backward(program, name, *arrays, dx=None)
        if "bias" in grads:
            sizes = {"PLANES": self.C, "OD": 1, "OH": 1, "OW": self.inputs}
            squares = self.context.squares_of(self.C)
            channels = (self.C, 1, 1)
            program.call(
                name,
                "resample",
                sizes,
                "resample_weights",
                lambda n: channels,
                *(dy, None, None, None, None, grads["bias"], squares, BATCH),
            )
        if self.dx is not None:
            self.add_forward(program, name, dy, *nothing, weight, *nothing, self.dx, None)


class PoolStep(Step):
    """The maximum or a norm of windows; a whole plane is one window."""

    kinds = (*MAX, *NORM_POOLS, GlobalMaxPool)
    family = "pool"

    def choose(self) -> None:
        planes, *size = self.input_shape
        if type(self.layer) is GlobalMaxPool:
            window = sliding_window("pool", (prod(size),), kernel=(prod(size),))
        else:
            window = self.layer.window(tuple(size))
        self.sizes = {"PLANES": planes, **window_sizes(window)}
        self.is_norm = type(self.layer) in NORM_POOLS
        if self.is_norm:
            self.power = np.float32(getattr(self.layer, "norm_type", 2))
        else:
            self.argmax = self.context.empty(self.context.batch, *self.shape, dtype=np.int32)

    def forward(self, program: Program) -> None:
        last, kernel = (self.power, "pool_norm") if self.is_norm else (self.argmax, "pool_max")
        self.call(program, kernel, blocks(prod(self.shape)), self.x, self.y, last, BATCH)

    def backward(self, program: Program) -> None:
        grid = blocks(prod(self.input_shape))
        if self.is_norm:
            arguments = (self.x, self.y, self.dx, self.power, BATCH)
            self.call(program, "pool_norm_backward", grid, self.dy, *arguments)
        else:
            self.call(program, "pool_max_backward", grid, self.dy, self.argmax, self.dx, BATCH)
