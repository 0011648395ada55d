"""What the steps of all convolutions share: products over tables, packed weights, their update."""

from collections.abc import Sequence
from math import ceil, inf, prod
from typing import Any

import numpy as np

from tinyconv.backend import Values
from tinyconv.engines.cpu.arena import Image
from tinyconv.engines.cpu.conv_dims import Product, elements_for, inside, set_dims
from tinyconv.engines.cpu.epilogue import add_activation, add_activation_backward, add_fold
from tinyconv.engines.cpu.program import Program
from tinyconv.engines.cpu.resample_step import add_resample
from tinyconv.engines.cpu.step import Step
from tinyconv.engines.cpu.tiling import compiled
from tinyconv.engines.cpu.winograd_calls import (
    add_square_weights,
    add_squares,
    add_weight_gradient_of_squares,
)
from tinyconv.geometry import Geometry
from tinyconv.kernels.activations import IDENTITY, RELU
from tinyconv.kernels.cpu import conv
from tinyconv.kernels.cpu.simd import LANES
from tinyconv.kernels.terms import Terms, transposed

#: Positions that pass while a tile of a weight's gradient stays in registers.
CHUNK = 128


class ProductStep(Step):
    """A convolution of some kind.

    A product is made for the first group of channels; its tables serve all groups, which differ
    in where their channels and weights begin.

    Attributes:
        layer: the convolution.
        window: of it, over three axes.
        source, dsource: what it reads, and the gradient of that: x and dx or, if there are any,
            what ``tables`` for each axis make of x.
        groups: of channels.
        weight: of the layer, with what was taken into it.
        product: what ``dw`` is made for, (outputs, elements) a group.
        gradients: the products that make ``dsource``.
        packed: weights and biases of the product, then of the gradients.
        dw, db: each thread's gradients, ``dw_group`` and ``db_group`` numbers a group, laid out as
            ``dw_layout`` says for :data:`conv.UPDATE`.
        places: of a channel's elements in ``dw``, in the order of the layer's weights.
        winners: of a max-pool.
    """

    keeps_gradients = True
    adds_gradients = True
    #: Whether the kernel of dw makes dx, too.
    dw_makes_dx = False

    layer: Any
    window: Geometry
    tables: Sequence[Terms] = ()
    source: Image
    dsource: Image | None
    groups = 1
    weight: Values
    product: Product
    gradients: list[Product]
    packed: list[tuple[Values, Values]]
    dz: Image
    winners: Values | None = None

    def prepare(self, program: Program) -> None:
        self.weight, bias = add_fold(self, program)
        size, K = self.weight[0].size, prod(self.window.kernel)
        self.packed = [self._pack(program, self.results, size, bias)]
        self.packed += [self._pack(program, product, K, None) for product in self.gradients]

    def forward(self, program: Program) -> None:
        if self.tables:
            name = f"{self.name}: source"
            add_resample(self.context, program, name, self.x, self.source, self.tables)
        product, packed = self.results, self.packed[0]
        self._add_product(program, self.name, product, packed, self._floor, may_repeat=True)
        self._add_other_activation(program)

    def backward(self, program: Program) -> None:
        self._add_dz(program, self.dy, self.dz)
        if self.is_trained or self.dw_makes_dx:
            self._add_weight_gradient(program, self.dz)
        self._add_input_gradient(program)
        if self.tables and self.dsource is not None:
            name, tables = f"{self.name}: source backward", transposed(self.tables)
            add_resample(self.context, program, name, self.dsource, self.dx, tables)

    def _add_input_gradient(self, program: Program) -> None:
        """Add the calls that make the gradient of the source."""
        name, adds, gate = f"{self.name}: dx", self.adds_gradients and self.adds[0], self._gate()
        for product, packed in zip(self.gradients, self.packed[1:], strict=True):
            self._add_product(program, name, product, packed, adds=adds, gate=gate)

    def _gate(self) -> Image | None:
        """Return x if it is the result of a ReLU whose step is to be given dz instead of dy."""
        return None

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
            add_activation_backward(self, program, f"{self.name}: activation backward", dz)

    def _pack(
        self, program: Program, product: Product, column: int, bias: Values | None
    ) -> tuple[Values, Values]:
        """Add the calls that make a product's weights and biases, and return these."""
        take, channels = self.context.arena.take, product.tile.padded(product.channels)
        w, b = take(self.groups * product.count * channels), take(self.groups * channels)
        weight, size = self.weight.ravel(), self.weight.size // self.groups
        parts = [
            {
                "weight": weight[group * size :],
                "w": w[group * product.count * channels :],
                "bias": behind(bias, group * product.channels),
                "b": b[group * channels :],
            }
            for group in range(self.groups)
        ]
        self._add_packs(program, product, column, product.channels, parts)
        if product.squares:
            name, context = f"{self.name}: pack", self.context
            add_square_weights(context, program, name, product, w)
        return w, b

    def _add_packs(
        self,
        program: Program,
        product: Product,
        column: int,
        columns: int,
        parts: Sequence[dict[str, Any]],
    ) -> None:
        """Add a call for each part of a product's weights, of so many columns."""
        table, width = self.context.arena.table, product.tile.width
        order = np.argsort(product.weight_at, kind="stable")  # neighbours are faster
        places, into = table(product.weight_at[order]), table(product.into[order])
        for part in parts if product.count else ():
            program.call(
                f"{self.name}: pack",
                compiled(conv.pack, LANES),
                items=product.count,
                places=places,
                column=column,
                columns=columns,
                into=into,
                width=width,
                w_block=product.count * width,
                **part,
            )

    def _kernel_of(self, product: Product) -> Any:
        tile = product.tile
        return compiled(conv.forward, tile.L, tile.V, tile.N, product.steps, product.positions)

    def _add_product(
        self,
        program: Program,
        name: str,
        product: Product,
        packed: tuple[Values, Values],
        floor: float = -inf,
        adds: bool = False,
        gate: Image | None = None,
        may_repeat: bool = False,
    ) -> None:
        """Add the calls of a product, for each group of channels.

        If ``may_repeat``, results of which one is not finite are made again with all products, of
        the zeros around x as well. With such a gradient, the step will be refused anyway.
        """
        w, b = packed
        if adds and not product.count and gate is None:
            return
        channels = product.tile.padded(product.channels)
        for group in range(self.groups):
            place = group * product.y.C
            values: dict[str, Any] = {
                "floor": floor,
                "adds": adds,
                "dims": product.dims,
                "x": product.x.array[group * product.x.C :],
                "w": w[group * product.count * channels :],
                "b": b[group * channels :],
                "y": product.y.array[place:],
                "winners": behind(self.winners, place),
                "gate": None if gate is None else gate.array[place:],
            }
            kernel = self._kernel_of(product)
            if may_repeat and (product.squares or product.whole is not product.dims):
                values["direct_args"] = program.record(kernel, **values | {"dims": product.whole})
                values["direct"] = kernel
            if product.squares:
                self._add_squares(program, name, product, values)
            else:
                program.call(name, kernel, **values)

    def _add_squares(
        self, program: Program, name: str, product: Product, values: dict[str, Any]
    ) -> None:
        """Add the call of a product of squares, which begins at the first result."""
        names = ("b", "adds", "floor", "direct", "direct_args")
        shared = {key: values[key] for key in names if key in values}
        for key in ("y", "winners", "gate"):
            shared[key] = behind(values[key], product.end)
        exact = self.context.training and "bias" in self.layer.params
        add_squares(self.context, program, name, product, **shared, exact=exact)

    @property
    def _floor(self) -> float:
        """What a product does of the activation: a ReLU, or nothing."""
        return 0.0 if self.activation.code == RELU else -inf

    def _add_other_activation(self, program: Program) -> None:
        if self.activation.code not in (IDENTITY, RELU):
            add_activation(self, program, f"{self.name}: activation")

    def _describe(self, dz: Image) -> None:
        """Tell the product's record where the other factor of ``dw`` lies."""
        z_at, arena = inside(dz), self.context.arena
        set_dims(self.product.dims, arena, z_sample=dz.sample, z_at=z_at, positions=len(z_at))

    def _add_weight_gradient(self, program: Program, dz: Image) -> None:
        """Add the calls that make dw and db of what the product reads and of ``dz``."""
        product, tile = self.product, self.product.tile
        count, name = product.count, f"{self.name}: dw"
        by_squares = product.squares is not None
        R, runs = (product.run, 1) if by_squares else elements_for(product.run, count, tile.V)
        run, rows = (product.run, product.rows) if R > 1 else (1, product.elements)
        padded = ceil(run / R) * R
        block = ceil(len(rows) / runs) * runs * padded * tile.width
        channels = tile.padded(product.channels)
        self._describe(dz)
        sizes = {"row_count": len(rows), "run": run, "run_padded": padded}
        set_dims(product.dims, self.context.arena, rows=rows, **sizes)
        self._take_gradients(block * channels // tile.width, channels + LANES, tile.width, block)
        element = np.arange(count)
        self._keep_places((element // run * padded + element % run) * tile.width)
        self._keep(self.places, tile.width, product.channels)
        if by_squares:
            gradients = self._gradients()
            add_weight_gradient_of_squares(
                self.context, program, name, product, dz, padded, **gradients
            )
            return
        for group in range(self.groups):
            program.call(
                name,
                compiled(conv.weight_gradient, tile.L, tile.V, R, runs),
                dims=product.dims,
                x=product.x.array[group * product.x.C :],
                dz=dz.array[group * product.channels :],
                **self._gradients(group),
                chunk=CHUNK,
                block=ceil(CHUNK / (dz.D * dz.H * dz.W)),
            )

    def _take_gradients(self, dw: int, db: int, width: int, block: int) -> None:
        """Take memory for each thread's gradients.

        Args:
            dw: numbers for the weights of a group.
            db: for its biases.
            width: channels side by side in ``dw``.
            block: how far such blocks of channels are apart.
        """
        take, all_groups = self.context.arena.take, self.context.threads * self.groups
        self.dw, self.db = take(all_groups * dw), take(all_groups * db)
        self.dw_group, self.db_group = dw, db
        self.dw_layout = {"width": width, "dw_block": block}

    def _gradients(self, group: int = 0) -> dict[str, Any]:
        """Return the arguments that say where the threads have dw and db of a group."""
        return {
            "dw": self.dw[group * self.dw_group :],
            "dw_thread": self.groups * self.dw_group,
            "db": self.db[group * self.db_group :],
            "db_thread": self.groups * self.db_group,
        }

    def _keep_places(self, places: Values) -> None:
        """Note where element t of a channel lies in dw, in the order of the layer's weights."""
        self.places = self.context.arena.table(places)
        self.places[self.product.weight_at] = places

    def _keep(self, places: Values, width: int, channels: int) -> None:
        """Tell where the threads' gradients of the weights and biases lie.

        Args:
            places: in ``dw``, of runs of up to ``width`` gradients.
            width: of a block of channels.
            channels: in all, of a group.
        """
        block, outputs = self.dw_layout["dw_block"], len(self.layer.params["weight"]) // self.groups
        threads = self.context.threads
        for group in range(self.groups):
            dw, dw_thread, db, db_thread = self._gradients(group).values()
            self.keep_gradient(dw, channels, threads, dw_thread, places, width=width, block=block)
            self.keep_gradient(db, outputs, threads, db_thread)

    def update(self, program: Program) -> None:
        self._add_updates(program, self.layer.params.get("bias"))

    def _add_updates(self, program: Program, bias: Values | None) -> None:
        """Add the calls that hand what was kept of dw, and of db if it is there, to the rule."""
        weight = self.layer.params["weight"]
        outputs = len(weight) // self.groups
        for group in range(self.groups):
            own = slice(group * outputs, (group + 1) * outputs)
            own_bias = None if bias is None else bias[own]
            self._add_update(program, weight[own], own_bias, **self._gradients(group))

    def _add_update(
        self, program: Program, weight: Values, bias: Values | None, **gradients: Any
    ) -> None:
        """Add the call that hands the gradients of some outputs to the optimizer."""
        context, L, outputs, size = self.context, self.product.tile.L, len(weight), weight[0].size
        room = max(L * max(size, 1), outputs) + L * L + LANES
        program.call(
            f"{self.name}: update",
            compiled(conv.update, L),
            items=outputs,
            grain=L,
            places=self.places,
            size=size,
            **gradients,
            **self.dw_layout,
            threads=context.threads,
            sum=context.arena.take(context.threads * room),
            sum_thread=room,
            **context.rule,
            weight_start=context.place(weight),
            bias_start=context.place(bias),
        )


def behind(array: Values | None, start: int) -> Values | None:
    """Return what follows the first ``start`` numbers, if there is anything."""
    return None if array is None else array[start:]
