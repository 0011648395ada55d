"""The steps that are weighted sums along axes: means, interpolation, padding, subsampling."""

from collections.abc import Sequence
from dataclasses import dataclass
from math import prod
from typing import Any

import numpy as np

from tinyconv.backend import Array
from tinyconv.engines.gpu.program import BATCH, Program, blocks
from tinyconv.engines.gpu.step import Context, Step
from tinyconv.engines.tables import TABLES
from tinyconv.kernels.terms import Terms, over_three_axes, window_terms
from tinyconv.layers import GlobalAvgPool, Pad, Subsample2d


@dataclass
class Resampling:
    """The tables of an axis each, on the device."""

    context: Context
    planes: int  #: of a sample
    tables: Sequence[Terms]  #: of one to three axes; then of three

    def __post_init__(self) -> None:
        self.tables = over_three_axes(self.tables)
        #: elements of a plane of the result.
        self.outputs = prod(len(table.lists) for table in self.tables)
        self.sizes = {"PLANES": self.planes}  #: of the kernels of resample.cu
        parts: tuple[list[Array], list[Array]] = ([], [])
        for axis, table in zip("DHW", self.tables, strict=True):
            longest = max(1, *map(len, table.lists))
            self.sizes |= {axis: table.size, f"O{axis}": len(table.lists), f"T{axis}": longest}
            for rows, empty, column in ((parts[0], -1, 0), (parts[1], 0, 1)):
                filled = [
                    [*(term[column] for term in terms), *[empty] * (longest - len(terms))]
                    for terms in table.lists
                ]
                rows.append(np.array(filled).reshape(-1))
        upload = self.context.launcher.upload
        #: places and weights.
        self.arrays = (
            upload(np.concatenate(parts[0]).astype(np.int32)),
            upload(np.concatenate(parts[1]).astype(np.float32)),
        )

    def transposed(self) -> "Resampling":
        """Return the tables of the backward pass."""
        return Resampling(self.context, self.planes, [t.transposed() for t in self.tables])

    def add(
        self,
        program: Program,
        name: str,
        x: Array,
        y: Array,
        weight: Array | None = None,
        bias: Array | None = None,
        value: float = 0.0,
        adds: bool = False,
    ) -> None:
        """Add the call of the kernel ``resample``."""
        arguments = (x, *self.arrays, weight, bias, y, np.float32(value), np.int32(adds), BATCH)
        grid = blocks(self.planes * self.outputs)
        program.call(name, "resample", self.sizes, "resample", grid, *arguments)


class ResampleStep(Step):
    """A layer whose output is linear in each axis of its input."""

    adds_gradients = True
    is_for_images = True
    kinds = tuple(TABLES)

    def choose(self) -> None:
        planes, *size = self.input_shape
        if type(self.layer) is GlobalAvgPool:
            size = [prod(size)]
        self.resampling = Resampling(self.context, planes, self._tables(size))
        self.value = self.layer.value if isinstance(self.layer, Pad) else 0.0
        self.weight: Array | None = None
        self.bias: Array | None = None

    def _tables(self, size: Sequence[int]) -> list[Terms]:
        return TABLES[type(self.layer)](self.layer, size)

    def forward(self, program: Program) -> None:
        last = (self.weight, self.bias, self.value)
        self.resampling.add(program, self.name, self.x, self.y, *last)

    def backward(self, program: Program) -> None:
        name, adds = f"{self.name}: backward", bool(self.adds[0])
        transposed = self.resampling.transposed()
        transposed.add(program, name, self.dy, self.dx, self.weight, adds=adds)


class SubsampleStep(ResampleStep):
    """The sum of each window, times a weight of the channel, plus its bias."""

    kinds = (Subsample2d,)

    def _tables(self, size: Sequence[int]) -> list[Terms]:
        window: Any = self.layer.window(tuple(size))
        return [window_terms(window, axis) for axis in range(len(size))]

    def forward(self, program: Program) -> None:
        self.weight, self.bias = self.layer.params["weight"], self.layer.params["bias"]
        super().forward(program)

    def backward(self, program: Program) -> None:
        if self.dx is not None:
            super().backward(program)
        if not self.is_trained:
            return
        C, grads, resampling = self.shape[0], self.layer.grads, self.resampling
        program.call(
            f"{self.name}: backward",
            "resample",
            resampling.sizes,
            "resample_weights",
            lambda n: (C, 1, 1),
            *(self.dy, self.x, *resampling.arrays, grads["weight"], grads["bias"]),
            *(self.context.squares_of(C), BATCH),
        )
