"""The step of a local response normalisation."""

from math import prod
from typing import Any

from tinyconv.engines.cpu.arena import Image
from tinyconv.engines.cpu.channel_step import ChannelStep
from tinyconv.engines.cpu.program import Program
from tinyconv.engines.cpu.tiling import compiled, lanes_for
from tinyconv.kernels.cpu import local_response_norm


class LocalResponseNormStep(ChannelStep):
    """Each channel damped by its neighbours."""

    def bind(self, x: Image, dx: Image | None, y: Image, dy: Image | None) -> None:
        super().bind(x, dx, y, dy)
        layer, context, take = self.layer, self.context, self.context.arena.take
        self.L = lanes_for(self.shape[0])
        numbers = prod(self.shape)
        self._values: dict[str, Any] = {
            "base": take(context.batch * numbers),
            "base_sample": numbers,
            "size": layer.size,
            "share": layer.alpha / layer.size,
            "beta": layer.beta,
            "k": layer.k,
        }

    def _call(self, program: Program, name: str, kernel: Any) -> None:
        # Each has windows of its own, as they begin elsewhere among the zeros.
        thread = self.shape[0] + self._values["size"] + self.L
        window = self.context.arena.take(self.context.threads * thread)
        values = self._arguments() | self._values
        program.call(name, kernel, window=window, window_thread=thread, **values)

    def _forward(self, program: Program) -> None:
        self._call(program, self.name, compiled(local_response_norm.forward, self.L))

    def _backward(self, program: Program, name: str) -> None:
        self._call(program, name, compiled(local_response_norm.backward, self.L))
