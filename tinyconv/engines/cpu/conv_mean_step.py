"""The step of a convolution, an activation and the mean-pool behind it."""

from math import prod
from typing import Any

from tinyconv.engines.cpu.arena import NO_BORDER, Image
from tinyconv.engines.cpu.conv_step import ConvStep, pool_sizes
from tinyconv.engines.cpu.program import Program
from tinyconv.engines.cpu.step import axes
from tinyconv.engines.cpu.tiling import compiled
from tinyconv.engines.units import AVG, CONVS, Unit
from tinyconv.kernels.activations import IDENTITY, RELU
from tinyconv.kernels.cpu import activation_pool
from tinyconv.kernels.cpu.simd import LANES


class ConvMeanStep(ConvStep):
    """Convolution with an activation, and the mean of windows side by side.

    What the convolution writes, z, is larger than y. One pass over it makes the activations and
    their means, and one the gradient of z.
    """

    takes_means = False

    @staticmethod
    def accepts(unit: Unit) -> bool:
        layer: Any = unit.layers[0]
        return unit.ends_in_mean and type(layer) in CONVS and layer.groups == 1

    @property
    def changes_dy(self) -> bool:
        return False

    def _place_results(self) -> None:
        self.z = self._large(NO_BORDER)

    def _place_gradient(self, dy: Image) -> Image:
        return self._large(self.gradient_border)

    def _large(self, border: Any) -> Image:
        shape = self.y.C, *self.window.output
        return self.context.arena.image(self.context.batch, shape, border)

    def _add_other_activation(self, program: Program) -> None:
        code = IDENTITY if self.activation.code == RELU else self.activation.code
        kernel = compiled(activation_pool.mean_of, LANES, code, int(self.keeps_slopes))
        self._add(program, "mean", kernel, x=self.z, y=self.y)

    def _add_dz(self, program: Program, dy: Image, dz: Image) -> None:
        constants = (IDENTITY, 1) if self.keeps_slopes else (self.activation.code, 0)
        kernel = compiled(activation_pool.mean_of_backward, LANES, *constants)
        self._add(program, "mean backward", kernel, v=self.z, dy=dy, dx=dz)

    @property
    def keeps_slopes(self) -> bool:
        return self.activation.needs_z and self.dy is not None

    def _add(self, program: Program, what: str, kernel: Any, **images: Any) -> None:
        sizes = pool_sizes(self.unit.find(AVG))
        room, room_thread = self.context.room(self.z.W * self.z.C + 2 * LANES)
        program.call(
            f"{self.name}: {what}",
            kernel,
            **images,
            C=self.y.C,
            **axes("O", self.y.size),
            **axes("K", sizes),
            room=room,
            room_thread=room_thread,
            share=1 / prod(sizes),
            parameter=self.activation.parameter,
        )
