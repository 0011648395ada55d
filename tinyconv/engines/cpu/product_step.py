"""What the steps of all convolutions share: products over tables, packed weights, their update."""

from collections.abc import Sequence
from math import ceil, inf
from typing import Any

import numpy as np

from tinyconv.engines.cpu.arena import Image
from tinyconv.engines.cpu.conv_dims import Product, elements_for, inside
from tinyconv.engines.cpu.epilogue import add_activation, add_activation_backward
from tinyconv.engines.cpu.program import Program
from tinyconv.engines.cpu.step import Context, Step
from tinyconv.engines.cpu.tiling import compiled
from tinyconv.engines.cpu.winograd_calls import (
    add_square_weights,
    add_squares,
    add_weight_gradient_of_squares,
)
from tinyconv.engines.units import Unit
from tinyconv.kernels.cpu import conv
from tinyconv.kernels.cpu.activation import IDENTITY, RELU
from tinyconv.kernels.cpu.kernel import address_of
from tinyconv.kernels.cpu.simd import LANES
from tinyconv.layers.base import Shape

Array = np.ndarray[Any, Any]

#: Positions that pass while a tile of a weight's gradient stays in registers.
CHUNK = 128


class ProductStep(Step):
    """A convolution of some kind.

    A product is made for the first group of channels; its tables serve all groups, which differ
    in where their channels and weights begin.

    Attributes:
        layer: the convolution.
        groups: of channels.
        weight: of the layer, with what was taken into it.
        product: what ``dw`` is made for, (outputs, elements) a group.
        dw, db: each thread's gradients, laid out as ``dw_layout`` says for :data:`conv.UPDATE`.
        places: of a channel's elements in ``dw``, in the order of the layer's weights.
        winners: of a max-pool.
        squares: transformed weights, by the identity of the product.
    """

    keeps_gradients = True
    adds_gradients = True

    layer: Any
    groups = 1
    weight: Array
    product: Product
    dz: Image
    winners: Array | None = None

    def __init__(self, unit: Unit, shapes: Sequence[Shape], context: Context) -> None:
        super().__init__(unit, shapes, context)
        self.squares: dict[int, Array] = {}

    @property
    def results(self) -> Product:
        """The product of the forward pass."""
        return self.product

    @property
    def changes_dy(self) -> bool:
        return self.activation.code != IDENTITY

    @property
    def takes_dz(self) -> bool:
        return self.activation.code == RELU and self.dz is self.dy

    def _bordered(self, dy: Image) -> Image:
        """Return where dz is: in place of dy or, where that has no such border, in a copy."""
        if dy.has_border(self.gradient_border):
            return dy
        return self.context.arena.image(self.context.batch, self.shape, self.gradient_border)

    def _add_dz(self, program: Program, dy: Image, dz: Image) -> None:
        """Add the call that makes dz of dy, if there is anything to do."""
        if not self.has_dz and (self.changes_dy or dz is not dy):
            add_activation_backward(self, program, dz)

    def _pack(
        self, program: Program, product: Product, column: int, bias: Array | None
    ) -> tuple[Array, Array]:
        """Add the calls that make a product's weights and biases, and return these."""
        take, tile = self.context.arena.take, product.tile
        channels, table = tile.padded(product.channels), self.context.arena.table
        w, b = take(self.groups * product.count * channels), take(self.groups * channels)
        order = np.argsort(product.weight_at, kind="stable")  # neighbours are faster
        places, into = table(product.weight_at[order]), table(product.into[order])
        for group in range(self.groups if product.count else 0):
            program.call(
                f"{self.name}: pack",
                compiled(conv.pack, LANES),
                conv.PACK,
                items=product.count,
                weight=address_of(self.weight) + 4 * group * (self.weight.size // self.groups),
                places=address_of(places),
                column=column,
                columns=product.channels,
                w=address_of(w) + 4 * group * product.count * channels,
                into=address_of(into),
                width=tile.width,
                w_block=product.count * tile.width,
                bias=0 if bias is None else address_of(bias) + 4 * group * product.channels,
                b=address_of(b) + 4 * group * channels,
            )
        if product.squares:
            name, context = f"{self.name}: pack", self.context
            self.squares[id(product)] = add_square_weights(context, program, name, product, w)
        return w, b

    def _kernel_of(self, product: Product) -> Any:
        tile = product.tile
        return compiled(conv.forward, tile.L, tile.V, tile.N, product.steps, product.positions)

    def _add_product(
        self,
        program: Program,
        name: str,
        product: Product,
        packed: tuple[Array, Array],
        floor: float = -inf,
        adds: bool = False,
        gate: Image | None = None,
    ) -> None:
        w, b = packed
        if adds and not product.count and gate is None:
            return
        channels = product.tile.padded(product.channels)
        values: dict[str, Any] = {"floor": floor, "adds": adds}
        for group in range(self.groups):
            place = group * product.y.C
            values |= {
                "dims": address_of(product.dims),
                "x": product.x.base + 4 * group * product.x.C,
                "w": address_of(w) + 4 * group * product.count * channels,
                "b": address_of(b) + 4 * group * channels,
                "y": product.y.base + 4 * place,
                "winners": 0 if self.winners is None else address_of(self.winners) + place,
                "gate": 0 if gate is None else gate.base + 4 * place,
            }
            if product.squares:
                self._add_squares(program, name, product, values)
            else:
                program.call(name, self._kernel_of(product), conv.FORWARD, **values)

    def _add_squares(
        self, program: Program, name: str, product: Product, values: dict[str, Any]
    ) -> None:
        """Add the call of a product of squares, which begins at the first result.

        What it finds not to be finite is made again, but for a gradient: with that, the step will
        be refused.
        """
        shared = {key: values[key] for key in ("b", "y", "winners", "adds", "gate", "floor")}
        for key, size in (("y", 4), ("gate", 4), ("winners", 1)):
            shared[key] += size * product.end if shared[key] else 0
        if product is self.results:
            shared["direct"] = self._kernel_of(product)
            shared["direct_args"] = address_of(program.record(conv.FORWARD, **values))
        add_squares(self.context, program, name, product, self.squares[id(product)], **shared)

    @property
    def _floor(self) -> float:
        """What a product does of the activation: a ReLU, or nothing."""
        return 0.0 if self.activation.code == RELU else -inf

    def _add_other_activation(self, program: Program) -> None:
        if self.activation.code not in (IDENTITY, RELU):
            add_activation(self, program)

    def _describe(self, dz: Image) -> None:
        """Tell the product's record where the other factor of ``dw`` lies."""
        z_at = self.context.arena.table(inside(dz))
        self.product.dims["z_sample"] = dz.sample
        self.product.dims["z_at"] = address_of(z_at)
        self.product.dims["positions"] = len(z_at)

    def _add_weight_gradient(self, program: Program, dz: Image) -> None:
        """Add the calls that make dw and db of what the product reads and of ``dz``."""
        product, take, threads = self.product, self.context.arena.take, self.context.threads
        tile, groups, count = product.tile, self.groups, product.count
        is_even = dz.H % 2 == dz.W % 2 == 0
        by_squares = product.squares and (is_even or dz.has_border(((0, 0), (0, 1), (0, 1))))
        R, runs = (product.run, 1) if by_squares else elements_for(product.run, count, tile.V)
        run, rows = (product.run, product.rows) if R > 1 else (1, product.elements)
        padded = ceil(run / R) * R
        block = ceil(len(rows) / runs) * runs * padded * tile.width
        channels = tile.padded(product.channels)
        self._describe(dz)
        product.dims["rows"] = address_of(self.context.arena.table(rows))
        product.dims["row_count"] = len(rows)
        product.dims["run"], product.dims["run_padded"] = run, padded
        self.dw_group, self.db_group = block * channels // tile.width, channels + LANES
        self.dw = take(threads * groups * self.dw_group)
        self.db = take(threads * groups * self.db_group)
        element = np.arange(count)
        self._keep_places((element // run * padded + element % run) * tile.width)
        self.dw_layout = {
            "dw_thread": groups * self.dw_group,
            "width": tile.width,
            "dw_block": block,
            "db_thread": groups * self.db_group,
        }
        self._keep(self.places, tile.width, product.channels)
        if by_squares:
            add_weight_gradient_of_squares(
                self.context,
                program,
                f"{self.name}: dw",
                product,
                dz,
                dw=address_of(self.dw),
                dw_thread=self.dw_layout["dw_thread"],
                db=address_of(self.db),
                db_thread=self.dw_layout["db_thread"],
                run_padded=padded,
            )
            return
        for group in range(groups):
            program.call(
                f"{self.name}: dw",
                compiled(conv.weight_gradient, tile.L, tile.V, R, runs),
                conv.WEIGHT_GRADIENT,
                dims=address_of(product.dims),
                x=product.x.base + 4 * group * product.x.C,
                dz=dz.base + 4 * group * product.channels,
                dw=address_of(self.dw) + 4 * group * self.dw_group,
                dw_thread=self.dw_layout["dw_thread"],
                db=address_of(self.db) + 4 * group * self.db_group,
                db_thread=self.dw_layout["db_thread"],
                chunk=CHUNK,
                block=ceil(CHUNK / (dz.D * dz.H * dz.W)),
            )

    def _keep_places(self, places: Array) -> None:
        """Note where element t of a channel lies in dw, in the order of the layer's weights."""
        self.places = self.context.arena.table(places)
        self.places[self.product.weight_at] = places

    def _keep(self, places: Array, width: int, channels: int) -> None:
        """Tell where the threads' gradients of the weights and biases lie.

        Args:
            places: in ``dw``, of runs of up to ``width`` gradients.
            width: of a block of channels.
            channels: in all, of a group.
        """
        layout, outputs = self.dw_layout, len(self.layer.params["weight"]) // self.groups
        table = self.context.arena.table(places)
        for group in range(self.groups):
            dw = address_of(self.dw) + 4 * group * self.dw_group
            block = layout["dw_block"]
            self._keep_sums(dw, layout["dw_thread"], table, width, channels, block)
            db = address_of(self.db) + 4 * group * self.db_group
            self._keep_biases(db, layout["db_thread"], outputs)

    def _keep_biases(self, db: int, db_thread: int, outputs: int) -> None:
        self._keep_sums(db, db_thread, self.context.arena.table([0]), outputs, outputs, 0)

    def _keep_sums(
        self, v: int, v_thread: int, places: Array, width: int, channels: int, block: int
    ) -> None:
        """Note sums for :func:`tinyconv.kernels.cpu.reach.reach_of_kept`."""
        self.kept_gradients.append(
            {
                "items": self.context.threads,
                "v": v,
                "v_owner": v_thread,
                "places": address_of(places),
                "size": len(places),
                "width": width,
                "block": block,
                "channels": channels,
            }
        )

    def update(self, program: Program) -> None:
        weight, bias = self.layer.params["weight"], self.layer.params.get("bias")
        outputs, size = len(weight) // self.groups, weight[0].size
        weight_start = self.context.place(weight)
        bias_start = -1 if bias is None else self.context.place(bias)
        for group in range(self.groups):
            first = group * outputs
            self._add_update(
                program,
                outputs,
                size,
                address_of(self.dw) + 4 * group * self.dw_group,
                address_of(self.db) + 4 * group * self.db_group,
                weight_start + first * size,
                bias_start + first * (bias is not None),
            )

    def _add_update(
        self,
        program: Program,
        outputs: int,
        size: int,
        dw: int,
        db: int,
        weight_start: int,
        bias_start: int,
    ) -> None:
        """Add the call that hands the gradients of so many outputs to the optimizer."""
        context, L = self.context, self.product.tile.L
        room = max(L * max(size, 1), outputs) + L * L + LANES
        program.call(
            f"{self.name}: update",
            compiled(conv.update, L),
            conv.UPDATE,
            items=outputs,
            grain=L,
            dw=dw,
            places=address_of(self.places),
            size=size,
            db=db,
            **self.dw_layout,
            threads=context.threads,
            sum=address_of(context.arena.take(context.threads * room)),
            sum_thread=room,
            function=context.rule[0],
            function_args=context.rule[1],
            weight_start=weight_start,
            bias_start=bias_start,
        )
