"""The steps of normalisation: with its activation, and of local responses."""

from math import prod

import numpy as np

from tinyconv.engines.gpu.program import BATCH, Program, blocks
from tinyconv.engines.gpu.step import Step
from tinyconv.engines.units import BATCH_NORMS, Unit
from tinyconv.layers import LayerNorm, LocalResponseNorm


class NormStep(Step):
    """Normalisation over the batch, over groups of channels, or over the last axes of a sample."""

    family = "norm"

    def choose(self) -> None:
        layer, shape = self.layer, self.input_shape
        self.is_batch = type(layer) in BATCH_NORMS  #: over the batch
        is_tracked = self.is_batch and layer.track_running_stats
        #: by running statistics, so that nothing has to be measured.
        self.is_fixed = is_tracked and not (self.context.training and layer.trainable)
        self.rows = 1  # what the kernels take for samples, of a sample
        self.C, self.P, self.groups = shape[0], prod(shape[1:]), 0
        if type(layer) is LayerNorm:
            self.C, self.P, self.groups = prod(layer.normalized_shape), 1, 1
            self.rows = prod(shape) // self.C
        elif not self.is_batch:
            self.groups = layer.num_groups
        of_set = self.C // self.groups if self.groups else self.context.batch
        self.threads = self._threads(of_set * self.P)
        self.sizes = {
            "C": self.C,
            "P": self.P,
            "GROUPS": self.groups,
            "ACTIVATION": self.activation.code,
        }
        sets, _, _ = self._sets(self.context.batch)
        names = () if self.is_fixed else ("mean", "scale", "variance")
        self.statistics = [self.context.empty(sets) for _ in names]

    @staticmethod
    def accepts(unit: Unit) -> bool:
        # Statistics of a batch that processes share are the layer's own work.
        return getattr(unit.layers[0], "parts", None) is None

    def start(self, n: int) -> None:
        if self.is_batch and not self.is_fixed:
            self.layer.require_a_variance((n, *self.shape))

    def _threads(self, elements: int) -> int:
        """Threads for a set of so many elements: whole warps."""
        return min(256, -(-elements // 32) * 32)

    def _samples(self, n: int) -> np.int32:
        return np.int32(n * self.rows)

    def _sets(self, n: int) -> tuple[int, int, int]:
        return (self.C if self.is_batch else n * self.rows * self.groups), 1, 1

    def forward(self, program: Program) -> None:
        w, b = self.layer.params.get("weight"), self.layer.params.get("bias")
        eps = np.float32(self.layer.eps)
        if self.is_fixed:
            state = self.layer.state
            mean, variance = state["running_mean"], state["running_var"]
            arguments = (self.x, w, b, mean, variance, self.z, self.y, eps, self.parameter, BATCH)
            self.call(program, "norm_fixed", blocks(prod(self.shape)), *arguments)
            return
        arguments = (self.x, w, b, *self.statistics, self.z, self.y, eps, self.parameter)
        threads = self.threads
        self.call(program, "norm_forward", self._sets, *arguments, self._samples, threads=threads)

    def backward(self, program: Program) -> None:
        params, grads = self.layer.params, self.layer.grads
        if self.is_fixed:
            variance, eps = self.layer.state["running_var"], np.float32(self.layer.eps)
            arguments = (self.dy, self.v, params.get("weight"), variance, self.dx, eps)
            last = (self.parameter, BATCH)
            self.call(program, "norm_fixed_backward", blocks(prod(self.shape)), *arguments, *last)
            return
        mean, scale, _ = self.statistics
        channels = self.C if grads and not self.is_batch else 0

        def grid(n: int) -> tuple[int, int, int]:
            return self._sets(n)[0] + channels, 1, 1

        longest = self.context.batch * self.rows * self.P if channels else 0
        self.call(
            program,
            "norm_backward",
            grid,
            *(self.dy, self.v, self.x, params.get("weight"), mean, scale, self.dx),
            *(grads.get("weight"), grads.get("bias")),
            self.context.squares_of(self.C) if grads else None,
            *(self.parameter, self._samples),
            threads=max(self.threads, self._threads(longest)),
        )

    def update(self, program: Program) -> None:
        if not self.is_batch or not self.layer.track_running_stats:
            return
        mean, _, variance = self.statistics
        state, share = self.layer.state, self.layer.momentum
        kept = [state[f"running_{name}"] for name in ("mean", "var")]
        arrays = [mean, variance, *kept, state["num_batches_tracked"]]
        numbers = [self.C, self.P, -1.0 if share is None else share]
        self.context.tracked.append((arrays, numbers))


class ResponseStep(Step):
    """Local response normalisation."""

    kinds = (LocalResponseNorm,)
    family = "response"

    def choose(self) -> None:
        (C, *size), layer = self.shape, self.layer
        self.sizes = {"C": C, "P": prod(size)}
        self.sizes |= {"BEFORE": layer.size // 2, "AFTER": (layer.size - 1) // 2}
        self.alpha, self.beta = np.float32(layer.alpha / layer.size), np.float32(layer.beta)

    def forward(self, program: Program) -> None:
        #: what is raised to a power, for the backward pass.
        self.base = self.context.empty(*self.y.shape) if self.context.training else None
        constants = (self.alpha, self.beta, np.float32(self.layer.k))
        arguments = (self.x, self.base, self.y, *constants, BATCH)
        self.call(program, "response_forward", blocks(prod(self.shape)), *arguments)

    def backward(self, program: Program) -> None:
        arguments = (self.dy, self.x, self.base, self.dx, self.alpha, self.beta, BATCH)
        self.call(program, "response_backward", blocks(prod(self.shape)), *arguments)
