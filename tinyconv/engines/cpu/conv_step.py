"""The step of a convolution with what is joined to it: a pooling, a batch norm, an activation."""

from dataclasses import replace
from math import ceil, prod
from typing import Any

import numpy as np

from tinyconv.backend import Values
from tinyconv.engines.cpu.arena import NO_BORDER, Image
from tinyconv.engines.cpu.conv_dims import (
    GROUP,
    ROWS,
    SUMS,
    Product,
    border_of_gradient,
    convolution,
    input_gradient,
    inside,
    over_three_axes,
    taps_of_gradient,
    tile_for,
)
from tinyconv.engines.cpu.depthwise_step import has_small_groups
from tinyconv.engines.cpu.product_step import ProductStep
from tinyconv.engines.cpu.program import Program
from tinyconv.engines.cpu.tiling import compiled, even, lanes_for
from tinyconv.engines.cpu.winograd_calls import PREDICTIONS, squares_of
from tinyconv.engines.units import AVG, CONVS, MAX, Unit
from tinyconv.geometry import Geometry
from tinyconv.kernels.activations import IDENTITY
from tinyconv.kernels.cpu import conv, conv_max
from tinyconv.kernels.cpu.simd import LANES, REGISTERS
from tinyconv.kernels.terms import Terms, window_terms
from tinyconv.layers.base import Layer
from tinyconv.ops.shape import pad_sources

#: Numbers of a mean that is joined: more of them cost more than the convolution saves.
MEANS = 16


class ConvStep(ProductStep):
    """Convolution with an activation.

    The convolution reads ``source``. That is x or, where x is padded with its own numbers or a mean
    comes behind, made of x by a table for each axis. For convolution and mean commute: the mean
    over neighbouring results is the convolution, with a stride, of such means of the input.
    """

    #: Whether a mean is one of its results without an activation.
    takes_means = True

    def choose(self) -> None:
        self.groups = self.layer.groups
        window = over_three_axes(self.layer.window(self.input_shape[1:]))
        means = pool_sizes(self.unit.find(AVG) if self.takes_means else None)
        self.tables, self.window = _source_of(window, means, self.layer.padding_mode)
        self.leaves_out = any(n % m for n, m in zip(window.output, means, strict=True))
        self.pooling = pool_sizes(self.unit.find(MAX))
        self.border = self.window.padding
        self._choose_runs()
        self.dx_is_like_x = self.spoils_border = self._scatters()
        if not self.dx_is_like_x:
            self.gradient_border, self.spare = border_of_gradient(self.window), 0
        self.adds_gradients = not self.tables

    @staticmethod
    def accepts(unit: Unit) -> bool:
        is_alone = prod(pool_sizes(unit.find(MAX))) == 1 and not unit.ends_in_mean
        return is_convolution(unit) and is_alone

    def bind(self, x: Image, dx: Image | None, y: Image, dy: Image | None) -> None:
        super().bind(x, dx, y, dy)
        self._place_results()
        self.source, self.dsource = x, dx
        batch, arena = self.context.batch, self.context.arena
        if self.tables:
            shape = (x.C, *self.window.size)
            self.source = arena.image(batch, shape, NO_BORDER, self.spare)
            self.dsource = None if dx is None else arena.image(batch, shape, NO_BORDER, self.spare)
        # of the first group of channels; see ProductStep
        C, O = x.C // self.groups, y.C // self.groups
        source, z = self.source.channels(0, C), self.z.channels(0, O)
        self.product = convolution(self.window, source, z, batch, arena, self.pooling)
        self.gradients = []
        if dy is not None:
            self._bind_gradient(self._place_gradient(dy))
        for product in (self.product, *self.gradients):
            self._choose_squares(product, self.pooling)

    def _choose_squares(self, product: Product, pooling: tuple[int, ...]) -> None:
        C, O = self.product.x.C, self.product.channels
        if self.groups == 1:
            # Without biases, what an activation is given may be 0 in every step; see the kernel.
            has_kink = self.activation.code != IDENTITY and product not in self.gradients
            exact = self.context.training and has_kink and "bias" not in self.layer.params
            product.squares = squares_of(self.window, C, O, *self._served, pooling, exact)

    def _place_results(self) -> None:
        """Choose where z is, if it is not as large as y."""

    def _place_gradient(self, dy: Image) -> Image:
        """Return where the gradient of z is, if it needs no border."""
        return dy

    @property
    def _served(self) -> tuple[int, int]:
        """Samples of a batch, and how many batches a weight serves before it changes."""
        return self.context.batch, 1 if self.context.training else PREDICTIONS

    def _bind_gradient(self, dz: Image) -> None:
        """Choose where the gradient of z is, and what makes dx of it."""
        self.dz = dz
        if self.dsource is None or self.dx_is_like_x:
            return
        batch, arena = self.context.batch, self.context.arena
        self.dz = self._bordered(dz)
        dz = self.dz.channels(0, self.product.channels)
        dsource = self.dsource.channels(0, self.product.x.C)
        self.gradients = input_gradient(self.window, dz, dsource, batch, arena)

    def prepare(self, program: Program) -> None:
        super().prepare(program)
        if self.dx_is_like_x and self.dy is not None and self.dsource is not None:
            self._pack_runs(program)

    def _add_input_gradient(self, program: Program) -> None:
        super()._add_input_gradient(program)
        if not self.dx_is_like_x or self.dsource is None:
            return
        dz, table = self.dz, self.context.arena.table
        # Column by column: what neighbours in a row add to overlaps, and would have to wait.
        order = np.arange(self.product.windows).reshape(-1, dz.W).T.ravel()
        group = max(1, min(self.context.batch, ceil(GROUP / self.product.windows)))
        samples = np.arange(group)[:, None]
        x_at = samples * self.dsource.sample + self.product.x_at[order]
        dz_at = samples * dz.sample + inside(dz)[order]
        adds = self.adds_gradients and self.adds[0]
        values = {"group": group, "x_at": table(x_at), "dz_at": table(dz_at)}
        rows = min(ROWS, SUMS // self.run_vectors)
        kernel = compiled(conv_max.input_gradient, self.run_lanes, self.run_vectors, rows)
        for each in range(self.groups):  # of which the first makes room for all
            values |= {"adds": adds or each > 0}
            arguments = self._run_arguments(dz, each) | values
            program.call(f"{self.name}: dx", kernel, **arguments)

    def _gate(self) -> Image | None:
        """Return x if it is the result of a ReLU whose step is to be given dz instead of dy."""
        maker = self.finishes[0]
        if maker is None or not maker.takes_dz or self.tables or not self.gradients:
            return None
        if self.dx is None or not self.x.is_laid_out_as(self.dx):
            return None
        maker.has_dz = True
        return self.x

    def _choose_runs(self) -> None:
        """Choose how the runs of a window are cut into tiles, for which x needs spare numbers."""
        window, C = self.window, self._inputs
        taps = 1 if window.dilation[2] == self.groups == 1 else window.kernel[2]
        run = C * window.kernel[2] // taps
        self.slabs = window.kernel[0] * taps
        self.run_lanes = lanes_for(run)
        vectors = ceil(run / self.run_lanes)
        self.run_vectors = self._columns_for(vectors)
        self.run_padded = ceil(vectors / self.run_vectors) * self.run_vectors * self.run_lanes
        self.spare = self.run_padded - run + LANES

    def _runs_at(self) -> Values:
        """Where element t of a channel lies in the layout (slabs, KH, run_padded)."""
        (KD, KH, KW), C = self.window.kernel, self._inputs
        kd, kh, kw, c = np.unravel_index(np.arange(KD * KH * KW * C), (KD, KH, KW, C))
        if self.slabs > KD:  # with a dilation or groups, (plane, column) is a slab
            return ((kd * KW + kw) * KH + kh) * self.run_padded + c
        return (kd * KH + kh) * self.run_padded + kw * C + c

    @property
    def _inputs(self) -> int:
        """Input channels of a group."""
        return self.input_shape[0] // self.groups

    @property
    def _channel(self) -> int:
        """Numbers of a channel's weights in that layout."""
        return self.slabs * self.window.kernel[1] * self.run_padded

    def _columns_for(self, vectors: int) -> int:
        """Return how many vectors of a run a tile has."""
        return even(vectors, (REGISTERS - 2) // 4)

    def _pack_runs(self, program: Program) -> None:
        product, O, channel = self.product, self.product.channels, self._channel
        size, C = product.count, self._inputs
        # A row is an element of the kernel of one output channel, its columns the C channels.
        taps = slice(None, None, C)
        outputs = np.arange(O)[:, None]
        table = self.context.arena.table
        places = table((outputs * size + product.weight_at[taps]).ravel())
        into = table((outputs * channel + self._runs_at()[taps]).ravel())
        self.w_runs = self.context.arena.take(self.groups * O * channel)
        for group in range(self.groups):
            program.call(
                f"{self.name}: pack",
                compiled(conv.pack, LANES),
                items=len(places),
                weight=self.weight.ravel()[group * O * size :],
                places=places,
                column=prod(self.window.kernel),
                columns=C,
                w=self.w_runs[group * O * channel :],
                into=into,
                width=C,
            )

    def _run_arguments(self, dz: Image, group: int = 0) -> dict[str, Any]:
        """What kernels over runs are told."""
        product, KH, C = self.product, self.window.kernel[1], self._inputs
        taps, table = self.slabs // self.window.kernel[0], self.context.arena.table
        weights = group * product.channels * self._channel
        return {
            "x_sample": product.x.sample,
            "x_at": product.x_at,
            "windows": product.windows,
            "O": product.channels,
            "dz": dz.array[group * product.channels :],
            "dz_sample": dz.sample,
            "dz_at": table(inside(dz)),
            "dx": None if self.dsource is None else self.dsource.array[group * C :],
            "w": None if self.dsource is None else self.w_runs[weights:],
            "slabs": self.slabs,
            "slab_at": table(product.rows.reshape(-1, KH, taps)[:, 0].ravel()),
            "KH": KH,
            "x_row": product.x.row * self.window.dilation[1],
            "run_padded": self.run_padded,
        }

    def _scatters(self) -> bool:
        """Whether dx is made by adding to it at each position of dz, as few of these as there are.

        Otherwise each position of dx is a sum over those of dz that reach it. That reads zeros
        around dz, but has all of a sum in registers, where adding loads and stores dx, once more
        for each further group. Either way each position costs something for it.
        """
        window, O, C = self.window, self.shape[0], self._inputs
        tile = tile_for(C)
        vectors = tile.padded(C) // tile.L
        gathering = taps_of_gradient(window) * O * vectors * (1.25 if tile.V == 1 else 1)
        squares = squares_of(window, C, O, *self._served)
        if squares is not None:
            products = squares.count(window.size) * squares.S**2
            gathering *= 1.5 * products / prod(window.size + window.kernel)
        positions, runs = prod(window.output), self._channel // self.run_lanes
        gathering += 20 * prod(window.size) * (self.groups - 1)
        scattering = positions * (1.2 * O * runs + (32 + 12 * runs) * (self.groups - 1))
        return scattering < gathering


def _source_of(
    window: Geometry, means: tuple[int, ...], padding_mode: str
) -> tuple[list[Terms], Geometry]:
    """Return what makes the source of x, nothing if that is x, and the window over the source."""
    axes = range(3)
    if means != (1, 1, 1):
        size = tuple(n - m + 1 for n, m in zip(window.padded, means, strict=True))
        ones = (1, 1, 1)
        boxes = Geometry(window.size, means, ones, window.padding, ones, size)
        tables = [
            Terms([[(k, w / means[axis]) for k, w in terms] for terms in table.lists], table.size)
            for axis, table in ((axis, window_terms(boxes, axis)) for axis in axes)
        ]
        output = tuple(n // m for n, m in zip(window.output, means, strict=True))
        window = replace(window, stride=means, output=output)
    elif padding_mode != "zeros" and window.is_padded:
        size = window.padded
        tables = [
            Terms([[(k, 1.0)] for k in pad_sources("plan", padding_mode, axis, n, *both)], n)
            for axis, n, both in zip(axes, window.size, window.padding, strict=True)
        ]
    else:
        return [], window
    return tables, replace(window, size=size, padding=((0, 0),) * 3)


def is_convolution(unit: Unit) -> bool:
    """Whether a unit is a convolution with what may be joined to it, whatever its max-pool."""
    layer: Any = unit.layers[0]
    if type(layer) not in CONVS or prod(pool_sizes(unit.find(AVG))) > MEANS:
        return False
    return unit.find(AVG) is None or not has_small_groups(layer)


def pool_sizes(pool: Layer | None) -> tuple[int, ...]:
    """Return the window of a pooling over three axes."""
    window = () if pool is None else tuple(pool.config()["kernel_size"])
    return (1,) * (3 - len(window)) + window
