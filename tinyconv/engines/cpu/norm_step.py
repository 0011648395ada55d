"""The step of a batch or group normalisation with its activation."""

from collections.abc import Callable
from math import prod
from typing import Any

import numpy as np

from tinyconv.engines.cpu.arena import Image
from tinyconv.engines.cpu.channel_step import ChannelStep
from tinyconv.engines.cpu.program import Program
from tinyconv.engines.cpu.tiling import compiled, lanes_for
from tinyconv.engines.units import BATCH_NORMS
from tinyconv.kernels.activations import IDENTITY
from tinyconv.kernels.cpu import norm
from tinyconv.kernels.cpu.simd import LANES
from tinyconv.layers import GroupNorm


class NormStep(ChannelStep):
    """Normalisation over the batch, or over groups of channels of a sample.

    Attributes:
        is_batch: over the batch.
        is_fixed: by running statistics, so that nothing has to be measured.
        is_shared: over a batch of which this process has a part. Its kernels make the sums over
            the part; what these mean is then worked out in Python, with those of the other parts.
    """

    keeps_gradients = True
    kinds = (*BATCH_NORMS, GroupNorm)

    def choose(self) -> None:
        self.is_batch = type(self.layer) in BATCH_NORMS
        is_tracked = self.is_batch and self.layer.config()["track_running_stats"]
        self.is_fixed = is_tracked and not (self.context.training and self.layer.trainable)
        parts = getattr(self.layer, "parts", None)
        self.is_shared = self.context.training and parts is not None and not self.is_fixed
        self.C, self.positions = self.shape[0], prod(self.shape[1:])
        self.L = lanes_for(self.C)
        self._statistics: dict[str, Any] = {}

    @property
    def changes_dy(self) -> bool:
        return self.activation.code != IDENTITY

    def start(self, step: int) -> None:
        if self.is_batch and not self.is_fixed:
            self.layer.require_a_variance((int(self.context.n[0]), *self.shape))

    def bind(self, x: Image, dx: Image | None, y: Image, dy: Image | None) -> None:
        super().bind(x, dx, y, dy)
        take, rows = self.context.arena.take, -(-self.C // LANES) * LANES
        of_samples = 1 if self.is_batch else self.context.batch
        names = ("mean", "scale", "inverse", "slope", "offset")
        arrays = {name: take(of_samples * rows) for name in names}
        arrays |= {name: take(self.context.batch * rows) for name in ("sum1", "sum2")}
        arrays |= {name: take(rows) for name in ("factor", "shift", "variance", "dw", "db")}
        self._arrays = arrays
        self._statistics = {
            **arrays,
            "stats_sample": 0 if self.is_batch else rows,
            "sums_sample": rows,
            "C": self.C,
        }
        for name in ("sum1", "sum2") if self.layer.params else ():
            self.keep_gradient(arrays[name], self.C, items=0, v_owner=rows)

    def _call(self, program: Program, name: str, kernel: Any) -> None:
        """Add a call over images."""
        values = self._arguments() | self._statistics | {"parameter": self.activation.parameter}
        fields = norm.ARGS.names or ()
        program.call(name, kernel, **{k: v for k, v in values.items() if k in fields})

    def _call_small(
        self, program: Program, name: str, kernel: Any, items: int, **values: Any
    ) -> None:
        """Add a call over the rows of the samples, or over channels."""
        params = self.layer.params
        common = {
            "weight": params.get("weight"),
            "bias": params.get("bias"),
            "n": self.context.n,
            "positions": self.positions,
            "size": 0 if self.is_batch else self.C // self.layer.num_groups,
            "eps": self.layer.eps,
        }
        values = self._statistics | common | values
        program.call(name, kernel, items=items, grain=self.L, **values)

    def _join_sums(
        self,
        program: Program,
        name: str,
        by_python: Callable[[int], None],
        of_batch: Callable[[int], Any],
        of_group: Callable[[], Any],
    ) -> None:
        """Add the call that works out what the sums of the samples mean, with one of the three."""
        if self.is_shared:
            program.python(name, by_python)
        elif self.is_batch:
            self._call_small(program, name, compiled(of_batch, self.L), self.C)
        else:
            self._call_small(program, name, compiled(of_group), 0)

    def prepare(self, program: Program) -> None:
        name, state = f"{self.name}: parameters", self.layer.state
        self._call_small(program, name, compiled(norm.parameters, self.L), self.C)
        if self.is_fixed:
            program.meet()
            sums = {"sum1": state["running_mean"], "sum2": state["running_var"]}
            self._call_small(program, name, compiled(norm.running, self.L), self.C, **sums)

    def _forward(self, program: Program) -> None:
        if not self.is_fixed:
            name = f"{self.name}: statistics"
            self._call(program, name, compiled(norm.moments, self.L))
            kernels = norm.batch_statistics, norm.group_statistics
            self._join_sums(program, name, self._share_statistics, *kernels)
        self._call(program, self.name, compiled(norm.normalize, self.L, self.activation.code))

    def _backward(self, program: Program, name: str) -> None:
        chosen = self.activation
        self._call(program, name, compiled(norm.sums, self.L, chosen.code, chosen.needs_y))
        if self.dx is None:
            return
        if self.is_fixed:  # dx = scale dz
            ones = self.context.arena.take(self._statistics["sums_sample"])
            ones[...] = 1
            fixed = {"inverse": self._statistics["scale"], "factor": ones}
            self._statistics = self._statistics | fixed
        else:
            kernels = norm.batch_gradients, norm.group_gradients
            self._join_sums(program, name, self._share_gradients, *kernels)
        self._call(program, name, compiled(norm.backward, self.L))

    def _rows(self, name: str, n: int) -> np.ndarray[Any, Any]:
        """Return what a kernel has summed of each channel (n, C), float64."""
        rows = self._statistics["sums_sample"]
        values = self._arrays[name][: n * rows].reshape(n, rows)[:, : self.C]
        return values.astype(np.float64)

    def _share_statistics(self, n: int) -> None:
        """Do what the kernel ``batch_statistics`` does, over all parts of the batch."""
        parts, P = self.layer.parts, self.positions
        means, squares, count = self._rows("sum1", n), self._rows("sum2", n), parts.samples * P
        mean = parts.add_up(P * means.sum(0)) / count
        square = parts.add_up((squares + P * (means - mean) ** 2).sum(0))
        inverse = 1 / np.sqrt(square / count + self.layer.eps)
        values = {"mean": mean, "inverse": inverse, "variance": square / max(1, count - 1)}
        values["scale"] = self._arrays["factor"][: self.C] * inverse
        self._set(values)

    def _share_gradients(self, n: int) -> None:
        """Do what the kernel ``batch_gradients`` does, over all parts of the batch."""
        parts, C = self.layer.parts, self.C
        sums = np.stack([self._rows(name, n).sum(0) for name in ("sum1", "sum2")])
        db, dw = parts.add_up(sums * parts.share) / parts.share
        part = self._arrays["factor"][:C] * (-1.0 / (parts.samples * self.positions))
        self._set({"slope": part * dw * self._arrays["inverse"][:C] ** 2, "offset": part * db})

    def _set(self, values: dict[str, np.ndarray[Any, Any]]) -> None:
        for name, array in values.items():
            self._arrays[name][: self.C] = array

    def update(self, program: Program) -> None:
        layer = self.layer
        if layer.params:
            name, kernel = f"{self.name}: update", compiled(norm.update, self.L)
            self._call_small(program, name, kernel, self.C, **self.context.rule_of(layer))
        if self.is_batch and layer.track_running_stats:
            program.defer(lambda: self._track(program))

    def _track(self, program: Program) -> None:
        """Add what a step must not do that another process refuses."""
        layer, state = self.layer, self.layer.state
        program.call(
            f"{self.name}: running statistics",
            compiled(norm.track),
            items=1,
            mean=self._statistics["mean"],
            variance=self._statistics["variance"],
            running_mean=state["running_mean"],
            running_var=state["running_var"],
            count=state["num_batches_tracked"],
            C=self.C,
            share=-1.0 if layer.momentum is None else layer.momentum,
        )
