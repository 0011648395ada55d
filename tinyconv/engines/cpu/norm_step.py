"""The step of a batch or group normalisation with its activation."""

from collections.abc import Sequence
from math import prod
from typing import Any

from tinyconv.engines.cpu.arena import Image
from tinyconv.engines.cpu.flatten_step import add_flatten, add_unflatten
from tinyconv.engines.cpu.program import Program
from tinyconv.engines.cpu.step import Context, Step, planes_of
from tinyconv.engines.cpu.tiling import compiled, lanes_for
from tinyconv.engines.units import BATCH_NORMS, Unit
from tinyconv.kernels.cpu import norm
from tinyconv.kernels.cpu.kernel import address_of
from tinyconv.kernels.cpu.simd import LANES
from tinyconv.layers.base import Shape

__all__ = ["NormStep"]


class NormStep(Step):
    """Normalisation over the batch, or over groups of channels of a sample.

    Attributes:
        is_batch: over the batch.
        is_fixed: by running statistics, so that nothing has to be measured.
    """

    def __init__(self, unit: Unit, shapes: Sequence[Shape], context: Context) -> None:
        super().__init__(unit, shapes, context)
        self.layer: Any = unit.layers[0]
        self.is_batch = type(self.layer) in BATCH_NORMS
        self.is_fixed = bool(
            self.is_batch and self.layer.track_running_stats and not context.training
        )
        self.C, self.positions = self.shape[0], prod(self.shape[1:])
        self.L = lanes_for(self.C)
        self._statistics: dict[str, Any] = {}

    def start(self, step: int) -> None:
        if self.is_batch and not self.is_fixed:
            self.layer.require_a_variance((int(self.context.n[0]), *self.shape))

    def bind(self, x: Image, dx: Image | None, y: Image, dy: Image | None) -> None:
        self.x, self.dx, self.y, self.dy = x, dx, y, dy
        self.images: tuple[Image, Image | None, Image, Image | None] = (x, dx, y, dy)
        if len(self.shape) > 4:  # rows in the order of the op: the kernels want channels last
            image, batch = (self.C, self.positions), self.context.batch
            own = [self.context.arena.image(batch, image) for _ in range(4 if dy else 2)]
            self.images = (own[0], own[1] if dx else None, own[-1], own[2] if dy else None)
        take, rows = self.context.arena.take, -(-self.C // LANES) * LANES
        of_samples = 1 if self.is_batch else self.context.batch
        names = ("mean", "scale", "inverse", "slope", "offset")
        arrays = {name: take(of_samples * rows) for name in names}
        arrays |= {name: take(self.context.batch * rows) for name in ("sum1", "sum2")}
        arrays |= {name: take(rows) for name in ("factor", "shift", "variance", "dw", "db")}
        self._statistics = {
            **{name: address_of(array) for name, array in arrays.items()},
            "stats_sample": 0 if self.is_batch else rows,
            "sums_sample": rows,
            "C": self.C,
        }

    def _call(self, program: Program, name: str, kernel: Any) -> None:
        """Add a call over images."""
        x, dx, y, dy = self.images
        is_vector = len(self.shape) == 1
        fields = norm.ARGS.names or ()
        program.call(
            name,
            kernel,
            norm.ARGS,
            **planes_of(x, "x"),
            **planes_of(y, "y"),
            **(planes_of(dx, "dx") if dx else {}),
            **(planes_of(dy, "dy") if dy else {}),
            **{key: value for key, value in self._statistics.items() if key in fields},
            lines=x.D * x.H,
            rows=x.H,
            W=1 if is_vector else x.W,
            parameter=self.activation.parameter,
        )

    def _call_small(
        self, program: Program, name: str, kernel: Any, items: int, **values: Any
    ) -> None:
        """Add a call over the rows of the samples, or over channels."""
        params = self.layer.params
        values = {
            "weight": address_of(params["weight"]) if "weight" in params else 0,
            "bias": address_of(params["bias"]) if "bias" in params else 0,
            "n": address_of(self.context.n),
            "positions": self.positions,
            "size": 0 if self.is_batch else self.C // self.layer.num_groups,
            "eps": self.layer.eps,
        } | values
        program.call(
            name,
            kernel,
            norm.STATISTICS,
            items=items,
            grain=self.L,
            **self._statistics | values,
        )

    def prepare(self, program: Program) -> None:
        name, C = f"{self.name}: parameters", self.C
        self._call_small(program, name, compiled(norm.parameters, self.L), C)
        if self.is_fixed:
            program.meet()
            state = self.layer.state
            self._call_small(
                program,
                name,
                compiled(norm.running, self.L),
                C,
                sum1=address_of(state["running_mean"]),
                sum2=address_of(state["running_var"]),
            )

    def forward(self, program: Program) -> None:
        x, _, y, _ = self.images
        if x is not self.x:
            add_unflatten(program, self.name, self.x, x)
        if not self.is_fixed:
            name = f"{self.name}: statistics"
            self._call(program, name, compiled(norm.moments, self.L))
            if self.is_batch:
                kernel = compiled(norm.batch_statistics, self.L)
                self._call_small(program, name, kernel, self.C)
            else:
                self._call_small(program, name, compiled(norm.group_statistics), 0)
        self._call(program, self.name, compiled(norm.normalize, self.L, self.activation.code))
        if y is not self.y:
            add_flatten(program, self.name, y, self.y)

    def backward(self, program: Program) -> None:
        _, dx, _, dy = self.images
        if dy is None or self.dy is None:
            return
        name, chosen = f"{self.name}: backward", self.activation
        if dy is not self.dy:
            add_unflatten(program, name, self.dy, dy)
        self._call(program, name, compiled(norm.sums, self.L, chosen.code, chosen.needs_y))
        if dx is None or self.dx is None:
            return
        if self.is_batch:
            self._call_small(program, name, compiled(norm.batch_gradients, self.L), self.C)
        else:
            self._call_small(program, name, compiled(norm.group_gradients), 0)
        self._call(program, name, compiled(norm.backward, self.L))
        if dx is not self.dx:
            add_flatten(program, name, dx, self.dx)

    def update(self, program: Program) -> None:
        layer, context = self.layer, self.context
        if layer.params:
            self._call_small(
                program,
                f"{self.name}: update",
                compiled(norm.update, self.L),
                self.C,
                function=context.rule[0],
                function_args=context.rule[1],
                weight_start=context.place(layer.params["weight"]),
                bias_start=context.place(layer.params["bias"]),
            )
        if self.is_batch and layer.track_running_stats:
            state = layer.state
            program.call(
                f"{self.name}: running statistics",
                compiled(norm.track),
                norm.TRACK,
                items=1,
                mean=self._statistics["mean"],
                variance=self._statistics["variance"],
                running_mean=address_of(state["running_mean"]),
                running_var=address_of(state["running_var"]),
                count=address_of(state["num_batches_tracked"]),
                C=self.C,
                share=-1.0 if layer.momentum is None else layer.momentum,
            )
