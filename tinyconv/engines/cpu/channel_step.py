"""What steps share whose kernels work on the channels of each position."""

from math import prod
from typing import Any

from tinyconv.engines.cpu.arena import Image
from tinyconv.engines.cpu.flatten_step import add_flatten, add_unflatten
from tinyconv.engines.cpu.program import Program
from tinyconv.engines.cpu.step import Step


class ChannelStep(Step):
    """A step on images (positions, C).

    Samples of more than four axes are rows in the order of the op; they are copied to images
    and back.

    Attributes:
        images: x, dx, y and dy as the kernels see them, by these names.
    """

    def bind(self, x: Image, dx: Image | None, y: Image, dy: Image | None) -> None:
        self.x, self.dx, self.y, self.dy = x, dx, y, dy
        buffers = {"x": x, "dx": dx, "y": y, "dy": dy}
        self.images: dict[str, Any] = {
            name: image and self._as_image(image) for name, image in buffers.items()
        }

    def _as_image(self, image: Image) -> Image:
        if len(self.shape) <= 4:
            return image
        C, *size = self.shape
        return self.context.arena.image(self.context.batch, (C, prod(size)))

    def _arguments(self) -> dict[str, Any]:
        """The buffers and their sizes."""
        x = self.images["x"]
        # The channels of a vector are the columns of its buffer.
        W = 1 if len(self.shape) == 1 else x.W
        return {**self.images, "lines": x.D * x.H, "rows": x.H, "W": W, "C": self.shape[0]}

    def forward(self, program: Program) -> None:
        x, y = self.images["x"], self.images["y"]
        add_unflatten(program, self.name, self.x, x)
        self._forward(program)
        add_flatten(program, self.name, y, self.y)

    def backward(self, program: Program) -> None:
        dx, dy, name = self.images["dx"], self.images["dy"], f"{self.name}: backward"
        add_unflatten(program, name, self.dy, dy)
        self._backward(program, name)
        if self.dx is not None:
            add_flatten(program, name, dx, self.dx)

    def _forward(self, program: Program) -> None:
        """Add the calls on images that make y."""

    def _backward(self, program: Program, name: str) -> None:
        """Add the calls on images that make dx, if anybody wants it."""
