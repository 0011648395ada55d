"""The sizes of a convolution, and the tables that say where its numbers lie.

A *product* is what :func:`tinyconv.kernels.cpu.conv.forward` computes: y[p, o] is the sum over
elements t of x[x_at[p] + elements[t]] * w[t, o]. The convolution itself is one, and so are the
convolutions of dz that make dx. Its tables are made once; its record of sizes (``ConvDims``) is
what all kernels of a convolution share.
"""

import itertools
from collections.abc import Sequence
from dataclasses import dataclass
from math import ceil, prod
from typing import Any, NamedTuple

import numpy as np

from tinyconv.backend import Values
from tinyconv.engines.cpu.arena import Arena, Border, Image
from tinyconv.engines.cpu.parts import parts_of, tables_of
from tinyconv.engines.cpu.tiling import even, lanes_for
from tinyconv.geometry import Geometry
from tinyconv.kernels.cpu import conv
from tinyconv.kernels.cpu.kernel import address_of
from tinyconv.kernels.cpu.simd import REGISTERS

#: Vectors of sums in a tile. Ten rows of it are as many as their places find registers.
SUMS, ROWS = (24 if REGISTERS >= 32 else 12), 10
#: Sums that are on their way at a time: a tile of fewer waits for them.
PENDING = 8
#: Bytes of x that pass by all weights at a time.
SECOND_CACHE = 512 << 10
#: Times as many samples where windows are in parts, of which each reads a piece of x.
PARTS = 4
#: Windows that a group of samples has at least, so that a last tile hardly counts.
GROUP = 64


@dataclass(frozen=True)
class Tile:
    """How a kernel covers its output: ``N`` windows by ``V`` vectors of ``L`` channels."""

    L: int
    V: int
    N: int

    @property
    def width(self) -> int:
        """Channels of a block."""
        return self.V * self.L

    def padded(self, channels: int) -> int:
        """Channels in whole blocks."""
        return ceil(channels / self.width) * self.width


def tile_for(channels: int, positions: int = 1) -> Tile:
    """Return the tile for so many channels, and windows of so many positions."""
    L = lanes_for(channels)
    vectors = ceil(channels / L)
    # A tile one vector wide loads a number for every sum, which is slower by about a quarter.
    cost = {V: ceil(vectors / V) * V * (1.25 if V == 1 else 1) for V in (3, 2, 1)}
    V = min((V for V in cost if V * positions <= SUMS or V == 1), key=cost.__getitem__)
    return Tile(L, V, max(1, min(ROWS, SUMS // V) // positions))


class Squares(NamedTuple):
    """Tiles of ``R`` x ``R`` results of windows of ``K`` x ``K``: see ``kernels.cpu.winograd``."""

    R: int
    K: int

    @property
    def S(self) -> int:
        """Rows of what a tile reads."""
        return self.R + self.K - 1

    def count(self, results: Sequence[int]) -> int:
        """Return how many tiles hold so many results over three axes."""
        return ceil(results[1] / self.R) * ceil(results[2] / self.R)


def elements_for(run: int, count: int, V: int) -> tuple[int, int]:
    """Return how many elements of a run a tile of a weight's gradient holds, and of how many runs.

    As many of one run as it can or two thirds of that, whichever leaves less room in the last tile:
    so that a network needs few kernels. Or, where runs are short, several of them, whole, or single
    elements as if each were a run.

    Args:
        run: elements of a run.
        count: elements in all.
        V: vectors of channels.

    >>> elements_for(SUMS, 9 * SUMS, 1) == (SUMS, 1), elements_for(3, 9, 1)
    (True, (3, 3))
    """
    most, runs = SUMS // V, count // run
    choices = [(min(run, most), 1), (min(run, most * 2 // 3), 1)]
    if 2 * V * run < REGISTERS:
        choices.append((run, even(runs, (REGISTERS - 2 - V) // (V * run))))
    if V > 1:  # a register for each element, too
        choices.append((1, even(count, min(ROWS, most))))

    def cost(choice: tuple[int, int]) -> float:
        R, G = choice
        tiles = ceil(runs / G) * ceil(run / R) if R > 1 else ceil(count / G)
        return tiles * max(R * G * V, PENDING)

    return min(choices, key=cost)


def over_three_axes(window: Geometry) -> Geometry:
    """Return a window over one or two axes as one over three.

    >>> from tinyconv.geometry import sliding_window
    >>> over_three_axes(sliding_window("demo", (5,), kernel=(2,))).output
    (1, 1, 4)
    """
    ones = (1,) * (3 - len(window.size))
    return Geometry(
        size=(*ones, *window.size),
        kernel=(*ones, *window.kernel),
        stride=(*ones, *window.stride),
        padding=(*(((0, 0),) * len(ones)), *window.padding),
        dilation=(*ones, *window.dilation),
        output=(*ones, *window.output),
    )


def set_dims(dims: Values, arena: Arena, **values: int | Values) -> None:
    """Write sizes and tables, which the arena keeps, to a record of :data:`conv.DIMS`."""
    for name, value in values.items():
        is_table = isinstance(value, np.ndarray)
        dims[name] = address_of(arena.table(value)) if is_table else value


class Product:
    """One product with its tables.

    Args:
        x: what is read.
        starts: for each axis of x the positions of each window (windows, positions).
        taps: for each axis how far the taps of a window are from its position.
        y: what is written.
        y_at: where the result of each window goes in y.
        weight_at: where element t of the first channel of the result lies in the weight.
        batch: samples at most.
        arena: keeps the tables.

    Attributes:
        tile: how the kernel covers the result.
        channels: of the result.
        elements: of a window, relative to a position.
        run: how many of them are neighbours each time.
        steps: how many elements it takes at a time.
        windows: how many there are, of so many ``positions``.
        x_at: their positions, window after window, in x.
        dims: the record of sizes; ``whole``: the same with all elements for each window.
        rows: where each run begins, relative to a position.
        start, end: where the first window begins in x, and its result in y.
        squares: the tiles if ``kernels.cpu.winograd`` makes it.
        transformed: the arguments of its kernel that are the weights, once they are packed.
    """

    transformed: dict[str, Any]
    squares: Squares | None = None

    def __init__(
        self,
        x: Image,
        starts: Sequence[Values],
        taps: Sequence[Values],
        y: Image,
        y_at: Values,
        weight_at: Values,
        batch: int,
        arena: Arena,
    ) -> None:
        planes, rows, columns = (
            at * stride for at, stride in zip(starts, (x.plane, x.row, x.step), strict=True)
        )
        x_at = (
            x.first
            + planes[:, None, None, :, None, None]
            + rows[:, None, None, :, None]
            + columns[:, None, None, :]
        ).ravel()
        elements = (_grid(x, taps, 0)[:, None] + np.arange(x.C)).ravel()
        is_run = len(taps[2]) > 0 and x.step == x.C and bool(np.all(np.diff(taps[2]) == 1))
        run = x.C * (len(taps[2]) if is_run else 1)
        self.positions = len(x_at) // len(y_at)
        self.tile = tile_for(y.C, self.positions)
        most_steps = 5 if self.tile.V < 3 and REGISTERS >= 32 else 2
        self.steps = max(s for s in range(1, most_steps + 1) if run % s == 0)
        self.x, self.y, self.channels, self.run = x, y, y.C, run
        self.elements = elements
        self.count, self.windows = len(elements), len(y_at)
        self.start, self.end = int(x_at[0]) + int(elements[0] if len(elements) else 0), int(y_at[0])
        self.x_at, self.y_at = arena.table(x_at), arena.table(y_at)
        self.rows, self.weight_at = arena.table(elements[::run]), arena.table(weight_at)
        self.into = arena.table(np.arange(self.count) * self.tile.width)
        reaches = [
            np.any((places >= 0) & (places < size), axis=1)
            for places, size in zip(map(np.add.outer, starts, taps), x.size, strict=True)
        ]
        self._set_records(reaches, x_at.reshape(-1, self.positions), y_at[:, None], batch, arena)

    def _set_records(
        self, reaches: Sequence[Values], x_at: Values, y_at: Values, batch: int, arena: Arena
    ) -> None:
        """Make the records of sizes for windows in parts, and for whole ones.

        Args:
            reaches: see :func:`tinyconv.engines.cpu.parts.parts_of`.
            x_at: (windows, positions), in x.
            y_at: (windows, 1), in y.
            batch: samples at most.
            arena: keeps the tables.
        """
        x, y = self.x, self.y
        in_cache = max(1, SECOND_CACHE // (4 * x.step * prod(x.size)))  # samples without zeros
        together = min(batch, PARTS * in_cache)
        parts = parts_of(reaches, together, self.tile.N)
        group = together if len(parts) > 1 else min(batch, ceil(GROUP / self.windows))
        samples = np.arange(max(1, group))[:, None, None]
        places_in_x, places_in_y = (
            np.concatenate([(samples * sample + table[own]).ravel() for own, _ in parts])
            for sample, table in ((x.sample, x_at), (y.sample, y_at))
        )
        table, spans = tables_of(parts, x.C, self.steps)
        self.dims = np.zeros(1, conv.DIMS)
        set_dims(
            self.dims,
            arena,
            x_sample=x.sample,
            y_sample=y.sample,
            steps=self.count // self.steps,
            parts=table,
            part_count=len(parts),
            spans=spans,
            group=len(samples),
            block=max(1, in_cache // len(samples)) * len(samples),
            O=y.C,
            x_at=places_in_x,
            y_at=places_in_y,
            positions_at=x_at.ravel(),
            elements=self.elements[:: self.steps],
        )
        self.whole = self.dims
        if len(parts) > 1:
            self.whole = self.dims.copy()
            parts = [(own, np.ones_like(met)) for own, met in parts]
            table, spans = tables_of(parts, x.C, self.steps)
            set_dims(self.whole, arena, parts=table, spans=spans)
        arena.arrays += [self.dims, self.whole]

    def of_each_channel(self, channels: int, inputs: int, apart: int, arena: Arena) -> "Product":
        """Let the tables, made for one channel, serve all, in groups of few.

        Args:
            channels: of the result.
            inputs: of a group.
            apart: how far these are in the weight.
            arena: keeps the tables.
        """
        L = lanes_for(channels)
        V = even(ceil(channels / L), max(1, 4 // inputs))
        self.channels, self.tile = channels, Tile(L, V, max(1, min(8, SUMS // V)))
        self.weight_at = arena.table(self.weight_at[:, None] + apart * np.arange(inputs)).ravel()
        self.count = len(self.weight_at)
        self.into = arena.table(np.arange(self.count) * self.tile.width)
        self.dims["O"] = self.whole["O"] = channels
        return self


def _grid(image: Image, axes: Sequence[Values], first: int) -> Values:
    """Return where the numbers at all combinations of three axes' indices lie, row by row."""
    strides = (image.plane, image.row, image.step)
    planes, rows, columns = (at * stride for at, stride in zip(axes, strides, strict=True))
    at: Values = first + planes[:, None, None] + rows[:, None] + columns
    return at.ravel()


def inside(image: Image) -> Values:
    """Return where each position of an image lies in its buffer."""
    return _grid(image, [np.arange(n) for n in (image.D, image.H, image.W)], image.first)


def convolution(
    window: Geometry,
    x: Image,
    y: Image,
    batch: int,
    arena: Arena,
    pooling: Sequence[int] = (1, 1, 1),
) -> Product:
    """Return the convolution of x by a window over three axes.

    ``pooling`` of its results lie in one window of y, row by row.
    """
    starts = [
        np.arange(n * p).reshape(n, p) * stride - before
        for n, p, stride, (before, _) in zip(
            (y.D, y.H, y.W), pooling, window.stride, window.padding, strict=True
        )
    ]
    taps = [np.arange(k) * d for k, d in zip(window.kernel, window.dilation, strict=True)]
    K, channels = prod(window.kernel), np.arange(x.C)
    weight_at = (np.arange(K)[:, None] + K * channels).ravel()
    return Product(x, starts, taps, y, inside(y), weight_at, batch, arena)


@dataclass(frozen=True)
class _Phase:
    """The positions of one axis of x with one remainder by the stride.

    Position ``at[i]`` gets, for each tap j, w[taps[j]] times dz[base[i] + ways[j]].
    """

    at: Values
    base: Values
    taps: Values
    ways: Values


def _phases(window: Geometry, axis: int) -> list[_Phase]:
    """Return the phases of an axis.

    Position h gets w[k] dz[(h + padding - k dilation) / stride] for every k where that is whole.
    """
    size, stride, dilation = window.size[axis], window.stride[axis], window.dilation[axis]
    before = window.padding[axis][0]
    descending = np.arange(window.kernel[axis])[::-1]
    phases = []
    for first in range(min(stride, size)):
        at = np.arange(first, size, stride)
        rest = (first + before) % stride
        taps = descending[(descending * dilation - rest) % stride == 0]
        phases.append(_Phase(at, (at + before) // stride, taps, (rest - taps * dilation) // stride))
    return phases


def border_of_gradient(window: Geometry) -> Border:
    """Return the zeros around dz that :func:`input_gradient` reads."""
    border = []
    for axis in range(3):
        last = window.output[axis] - 1
        ends = [0, last]
        for phase in _phases(window, axis):
            if len(phase.taps):
                ends += [int(phase.base[0] + phase.ways[0]), int(phase.base[-1] + phase.ways[-1])]
        border.append((-min(ends), max(ends) - last))
    return tuple(border)


def taps_of_gradient(window: Geometry) -> int:
    """Return the products for a channel of dx and one of dz, zeros around dz included."""
    axes = ([len(p.at) * len(p.taps) for p in _phases(window, axis)] for axis in range(3))
    return prod(map(sum, axes))


def input_gradient(
    window: Geometry, dz: Image, dx: Image, batch: int, arena: Arena
) -> list[Product]:
    """Return the convolutions of dz that together make all of dx, one for each phase."""
    (_, KH, KW), O = window.kernel, dz.C
    size = dx.C * prod(window.kernel)
    products = []
    for phases in itertools.product(*(_phases(window, axis) for axis in range(3))):
        (kd, kh, kw), ways = ([phase.taps for phase in phases], [phase.ways for phase in phases])
        taps = ((kd[:, None, None] * KH + kh[:, None]) * KW + kw).ravel()
        products.append(
            Product(
                dz,
                [phase.base[:, None] for phase in phases],
                ways,
                dx,
                _grid(dx, [phase.at for phase in phases], dx.first),
                (taps[:, None] + size * np.arange(O)).ravel(),
                batch,
                arena,
            )
        )
    return products
