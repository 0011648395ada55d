"""The step of a fully connected layer with its activation."""

from dataclasses import replace
from math import ceil
from typing import Any

from tinyconv.backend import Array
from tinyconv.engines.cpu.arena import Image
from tinyconv.engines.cpu.element_steps import add_image
from tinyconv.engines.cpu.epilogue import add_activation_backward, add_factors
from tinyconv.engines.cpu.program import Program
from tinyconv.engines.cpu.step import Step
from tinyconv.engines.cpu.tiling import compiled, even, lanes_for, rows_for
from tinyconv.kernels.cpu import linear
from tinyconv.kernels.cpu.simd import LANES, REGISTERS

#: Bytes of a weight from which on threads share its rows rather than the samples, and likewise in
#: a prediction of whole panels, or of so many samples, for each thread, as each core's cache keeps
#: all of the weight.
SHARED_WEIGHT, KEPT_WEIGHT, KEPT_SAMPLES = 256 << 10, 1 << 20, 16
#: A tile of the forward pass of many samples: outputs, and vectors of samples; those of a panel.
OUTPUTS, VECTORS = rows_for(2, 13), 2
WIDE = VECTORS * LANES
#: Tiles of dot products, samples by outputs: the fastest, and one that fits other numbers. R * Q
#: sums, Q of one factor and one of the other have to fit the registers.
DOTS = ((4, 6), (5, 4)) if REGISTERS >= 32 else ((4, 3), (5, 2))


class LinearStep(Step):
    """The fully connected layer and its activation."""

    def choose(self) -> None:
        context = self.context
        (self.I,), (self.O,) = self.input_shape, self.shape
        self.reads_in_place, size = not context.training, 4 * self.I * self.O
        self.share = ceil(context.batch / context.threads)
        self.is_big = size >= SHARED_WEIGHT
        # Transposing samples pays where many outputs need them, sums of lanes where they are long.
        self.has_panels = self.is_big and self.I < 2 * self.O and 8 * context.batch >= 7 * WIDE
        least = 7 * WIDE // 8 if self.has_panels else KEPT_SAMPLES
        is_kept = not context.training and size < KEPT_WEIGHT and self.share >= least
        self.by_features = self.is_big and not is_kept

    @property
    def sources(self) -> list[Array]:
        return [a for a in super().sources if a is not self.layer.params["weight"]]

    def prepare(self, program: Program) -> None:
        self.factors, self.bias = add_factors(self, program)

    def forward(self, program: Program) -> None:
        context, bias = self.context, self.bias
        height = context.batch if self.by_features else self.share
        tiles = ((even(height, R), Q) for R, Q in DOTS)
        R, Q = min(tiles, key=lambda tile: ceil(height / tile[0]) * tile[0])
        if height == 1:
            Q = 8
        values: dict[str, Any] = {
            "items": self.O if self.by_features else 0,
            "grain": linear.LINE,  # so that no line of the cache is written by two threads
            "x": self.x,
            "w": self.layer.params["weight"],
            "b": bias,
            "factors": self.factors,
            "z": self.z,
            "y": self.y,
            "I": self.I,
            "O": self.O,
            "n": context.n,
            "wide": WIDE if self.has_panels else 0,
            "by_features": self.by_features,
            "parameter": self.activation.parameter,
        }
        if self.by_features:
            program.meet()
        if self.has_panels:
            filled = ceil(height / WIDE) * WIDE
            room, sums = self.I * filled, linear.TILES * OUTPUTS * filled
            values |= {"panels_thread": room, "sums_thread": sums}
            values |= {"panels": self._room(room), "sums": self._room(sums)}
            products = compiled(linear.forward_batch, LANES, OUTPUTS, VECTORS)
            program.call(self.name, products, **values)
        room, panels_thread = context.room(2 * R * linear.ROW)
        values |= {"panels": room, "panels_thread": panels_thread}
        products = compiled(linear.forward, lanes_for(self.I), R, Q)
        program.call(self.name, products, **values)
        if bias is not None or self.activation.code:
            finish = compiled(linear.finish, LANES, self.activation.code)
            # By samples: beside each other, threads take lines of the cache from each other.
            program.call(f"{self.name}: bias", finish, **values | {"items": 0})

    def backward(self, program: Program) -> None:
        if self.activation.code:
            add_activation_backward(self, program, f"{self.name}: activation backward", self.dy)
        if self.dx is None:
            return
        dx, threads, name = self.dx, self.context.threads, f"{self.name}: backward"
        V = min(4 if REGISTERS >= 32 else 3, ceil(self.I / LANES))
        # Sums over a thread's own rows cost another pass over dx, and spare one over the weight.
        by_features = self.by_features and max(self.context.batch, threads) <= self.O
        size = dx.array.size
        parts: list[Image] = []
        if by_features:
            program.meet()
            room = self.context.arena.take((threads - 1) * size)
            parts = [replace(dx, array=room[t * size :]) for t in range(threads - 1)]
        program.call(
            name,
            compiled(linear.backward, LANES, min(rows_for(V), 6), V),
            items=self.O if by_features else 0,
            dy=self.dy,
            w=self.layer.params["weight"],
            dx=dx,
            parts=(parts or [dx])[0].origin,
            part=size if parts else 0,
            I=self.I,
            O=self.O,
            n=self.context.n,
            by_features=by_features,
            panel=self._room(linear.DEPTH * V * LANES),
        )
        for part in parts:
            add_image(program, name, part, dx)

    def _room(self, numbers: int) -> Array:
        """Return room for so many numbers for each thread."""
        return self.context.arena.take(self.context.threads * numbers)

    def update(self, program: Program) -> None:
        context, width = self.context, min(self.I, linear.WIDTH)
        # Tall tiles leave fewer columns empty; wide ones touch fewer rows of the weight at a time,
        # whose coming from memory is most of the time of few samples.
        tall = (self.is_big and context.batch >= WIDE) or REGISTERS < 32
        V = min(VECTORS if tall else 4, ceil(self.I / LANES))
        R = rows_for(V, OUTPUTS if tall else 6)
        sums = max(R * width, LANES)
        panels = context.batch * linear.WIDTH
        grain = linear.LINE if self.by_features else R  # the rows of the forward pass
        columns = context.batch * (ceil(self.O / context.threads) + 2 * grain + R)
        program.call(
            f"{self.name}: update",
            compiled(linear.update, LANES, R, V),
            items=self.O,
            grain=grain,
            dy=self.dy,
            x=self.x,
            w=self.layer.params["weight"],
            I=self.I,
            n=context.n,
            panels=self._room(panels),
            panels_thread=panels,
            columns=self._room(columns),
            columns_thread=columns,
            sum=self._room(sums),
            sum_thread=sums,
            **context.rule_of(self.layer),
        )
