"""The steps that are weighted sums along axes: means, interpolation, padding, cropping."""

from collections.abc import Callable, Sequence
from math import ceil
from typing import Any

from tinyconv.engines.cpu.arena import Image
from tinyconv.engines.cpu.program import Program
from tinyconv.engines.cpu.step import Context, Step, planes_of
from tinyconv.engines.cpu.tiling import compiled, even, lanes_for
from tinyconv.engines.units import Unit
from tinyconv.geometry import spread_pairs
from tinyconv.kernels.cpu import resample
from tinyconv.kernels.cpu.kernel import address_of
from tinyconv.kernels.cpu.simd import LANES
from tinyconv.kernels.cpu.terms import AXES, Terms, over_three_axes, window_terms
from tinyconv.layers import (
    AvgPool1d,
    AvgPool2d,
    AvgPool3d,
    Crop,
    GlobalAvgPool,
    Layer,
    Pad,
    Upsample,
)
from tinyconv.layers.base import Shape
from tinyconv.ops.pool import elements_seen
from tinyconv.ops.shape import pad_sources
from tinyconv.ops.upsample import upsample_taps

__all__ = ["ResampleStep", "add_resample", "channel_tiles", "places_of"]


def channel_tiles(C: int) -> tuple[int, int]:
    """Return the lanes of a vector, and how many of them a tile has, for C channels."""
    L = lanes_for(C)
    return L, even(ceil(C / L), 4)


def places_of(context: Context, tables: Sequence[Terms]) -> dict[str, int]:
    """Return the arguments that describe the tables of three axes, and keep these alive."""
    values: dict[str, int] = {}
    for axis, table in zip(AXES, tables, strict=True):
        context.arena.arrays += [table.starts, table.places, table.weights]
        values |= table.arguments(axis)
    return values


def add_resample(
    context: Context,
    program: Program,
    name: str,
    x: Image,
    y: Image,
    tables: Sequence[Terms],
    value: float = 0.0,
) -> None:
    """Add the call that makes y, each element the sum of its terms or ``value`` without any."""
    room = x.W * x.C + 4 * LANES
    program.call(
        name,
        compiled(resample.resample, *channel_tiles(y.C)),
        resample.ARGS,
        **planes_of(x, "x"),
        x_count=x.W * x.C,
        **planes_of(y, "y"),
        C=y.C,
        D=y.D,
        H=y.H,
        W=y.W,
        room=address_of(context.arena.take(context.threads * room)),
        room_thread=room,
        value=value,
        **places_of(context, tables),
    )


class ResampleStep(Step):
    """A layer whose output is linear in each axis of its input."""

    def __init__(self, unit: Unit, shapes: Sequence[Shape], context: Context) -> None:
        super().__init__(unit, shapes, context)
        (layer,) = unit.layers
        self.tables = over_three_axes(TABLES[type(layer)](layer, self.input_shape[1:]))
        self.value = layer.value if isinstance(layer, Pad) else 0.0

    @staticmethod
    def accepts(unit: Unit) -> bool:
        return type(unit.layers[0]) in TABLES

    @staticmethod
    def takes(shapes: Sequence[Shape]) -> bool:
        return len(shapes[0]) <= 4  # an image has three axes at most

    def forward(self, program: Program) -> None:
        tables, value = self.tables, self.value
        add_resample(self.context, program, self.name, self.x, self.y, tables, value)

    def backward(self, program: Program) -> None:
        if self.dx is None:
            return
        assert self.dy is not None
        tables = [table.transposed() for table in self.tables]
        name = f"{self.name}: backward"
        add_resample(self.context, program, name, self.dy, self.dx, tables)


# The tables of each kind of layer, one for each axis of a plane.


def _means(layer: Any, size: Sequence[int]) -> list[Terms]:
    window, tables = layer.window(tuple(size)), []
    for axis in range(len(size)):
        counts = elements_seen(window, axis, layer.count_include_pad)
        lists = window_terms(window, axis).lists
        shares = [
            [(place, 1 / count) for place, _ in terms]
            for terms, count in zip(lists, counts, strict=True)
        ]
        tables.append(Terms(shares, size[axis]))
    return tables


def _mean_of_all(layer: Layer, size: Sequence[int]) -> list[Terms]:
    return [Terms([[(place, 1 / n) for place in range(n)]], n) for n in size]


def _interpolation(layer: Any, size: Sequence[int]) -> list[Terms]:
    tables = []
    for n, m in zip(size, layer.output_shape((1, *size))[1:], strict=True):
        mode = "nearest" if layer.mode == "nearest" else "linear"
        tables.append(Terms(upsample_taps(n, m, mode, bool(layer.align_corners)), n))
    return tables


def _padding(layer: Any, size: Sequence[int]) -> list[Terms]:
    tables = []
    for axis, (lo, hi) in enumerate(spread_pairs("pad", "padding", layer.padding, len(size))):
        n = size[axis]
        if layer.mode == "zeros":
            lists = [*[[]] * lo, *[[(place, 1.0)] for place in range(n)], *[[]] * hi]
        else:
            sources = pad_sources("pad", layer.mode, axis, n, lo, hi)
            lists = [[(place, 1.0)] for place in sources]
        tables.append(Terms(lists, n))
    return tables


def _cropping(layer: Any, size: Sequence[int]) -> list[Terms]:
    pairs = spread_pairs("crop", "cropping", layer.cropping, len(size))
    return [
        Terms([[(place, 1.0)] for place in range(lo, n - hi)], n)
        for n, (lo, hi) in zip(size, pairs, strict=True)
    ]


TABLES: dict[type[Layer], Callable[[Any, Sequence[int]], list[Terms]]] = {
    AvgPool1d: _means,
    AvgPool2d: _means,
    AvgPool3d: _means,
    GlobalAvgPool: _mean_of_all,
    Upsample: _interpolation,
    Pad: _padding,
    Crop: _cropping,
}
