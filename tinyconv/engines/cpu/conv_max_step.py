"""The step of a convolution and the max-pool behind it: see ``kernels.cpu.conv_max``."""

from math import ceil, prod

import numpy as np

from tinyconv.engines.cpu.arena import Image
from tinyconv.engines.cpu.conv_dims import PENDING, Product, convolution
from tinyconv.engines.cpu.conv_step import ConvStep, is_convolution, pool_sizes
from tinyconv.engines.cpu.product_step import behind
from tinyconv.engines.cpu.program import Program
from tinyconv.engines.cpu.step import axes
from tinyconv.engines.cpu.tiling import compiled, even, rows_for
from tinyconv.engines.units import ACTIVATIONS, MAX, Unit
from tinyconv.kernels.cpu import activation_pool, conv_max
from tinyconv.kernels.cpu.simd import LANES, REGISTERS

#: Bytes that a block of samples may read in the backward pass.
FIRST_CACHE = 32 << 10
#: Positions of a window that is joined: more of them find no registers.
POOLED = 9


class ConvMaxStep(ConvStep):
    """Convolution with a max-pool of windows side by side and an activation.

    A maximum is taken before the activation that is in front of it, unless that does not increase:
    then all results of the convolution are written, and the maximum is one of activations.

    Attributes:
        dense: the results in that case.
    """

    dense: Image | None = None

    dw_makes_dx = True

    def choose(self) -> None:
        super().choose()
        self.adds_gradients = False

    def bind(self, x: Image, dx: Image | None, y: Image, dy: Image | None) -> None:
        super().bind(x, dx, y, dy)
        is_in_front = type(self.unit.layers[1]) in ACTIVATIONS
        if is_in_front and not self.activation.increases:
            batch, arena = self.context.batch, self.context.arena
            self.dense = arena.image(batch, (y.C, *self.window.output))
            self._results = convolution(self.window, self.source, self.dense, batch, arena)
            self._choose_squares(self._results, (1, 1, 1))

    @property
    def results(self) -> Product:
        return self.product if self.dense is None else self._results

    @staticmethod
    def accepts(unit: Unit) -> bool:
        return (
            is_convolution(unit)
            and unit.layers[0].config()["groups"] == 1
            and 1 < prod(pool_sizes(unit.find(MAX))) <= POOLED
        )

    def _scatters(self) -> bool:
        return True

    def _columns_for(self, vectors: int) -> int:
        """Return how many vectors make a tile that takes the least time of its loads.

        For a winner these are its place, its gradient, and a vector for each sum; few sums wait for
        each other.
        """
        KH = self.window.kernel[1]

        def cost(V: int) -> int:
            tiles = [min(rows_for(V, KH), KH - row) for row in range(0, KH, rows_for(V, KH))]
            return ceil(vectors / V) * sum(max(PENDING, 2 + rows * V) for rows in tiles)

        return min(range(1, min(vectors, REGISTERS - 2) + 1), key=cost)

    def _add_input_gradient(self, program: Program) -> None:
        """Add nothing: the kernel of dw makes dx, too."""

    def forward(self, program: Program) -> None:
        self.winners = self.context.arena.take(self.z.array.size, "uint8")
        super().forward(program)

    def _add_other_activation(self, program: Program) -> None:
        if self.dense is None:
            super()._add_other_activation(program)
            return
        y, chosen = self.y, self.activation
        program.call(
            f"{self.name}: activation",
            compiled(activation_pool.maximum_of, LANES, chosen.code, *self.pooling),
            x=self.dense,
            y=y,
            winners=behind(self.winners, y.first),
            slope=None if self.z is y else self.z,
            parameter=chosen.parameter,
            C=y.C,
            **axes("O", y.size),
        )

    def _add_weight_gradient(self, program: Program, dz: Image) -> None:
        product, take, threads = self.product, self.context.arena.take, self.context.threads
        x, O, size = product.x, product.channels, self._channel
        L, V, KH = self.run_lanes, self.run_vectors, self.window.kernel[1]
        R = even(KH, rows_for(V, KH))
        is_one_tile = (size, self.slabs) == (R * V * L, 1)
        if is_one_tile and R * V <= 8 and self.dsource is None:
            kernel = compiled(conv_max.small_backward, L, V, R)
        else:
            kernel = compiled(conv_max.backward, L, V, R, KH % R or R)
        sample = 4 * (x.sample + dz.sample) + self.z.sample  # and its winners
        block = max(1, min(16, FIRST_CACHE // sample))
        channel = block * product.windows + 1
        listed = max(O * channel, product.positions * O) + 16
        counts = max(O, product.positions) + 16
        self._keep_places(self._runs_at())
        self._take_gradients(O * size, O + LANES, width=1, block=size)
        # Here the runs of all channels are what lies side by side.
        runs = np.arange(O * size // self.run_padded) * self.run_padded
        self._keep(runs, product.run, product.run)
        program.call(
            f"{self.name}: backward",
            kernel,
            **self._run_arguments(dz),
            x=x.array,
            area=product.positions,
            winners=self.winners,
            y_sample=self.z.sample,
            y_at=product.y_at,
            **self._gradients(),
            block=block,
            places=take(threads * listed, "int32"),
            values=take(threads * listed),
            list_thread=listed,
            list_channel=channel,
            counts=take(threads * counts, "int32"),
            counts_thread=counts,
        )
