"""The step of a change of shape."""

from tinyconv.engines.cpu.arena import Image
from tinyconv.engines.cpu.program import Program
from tinyconv.engines.cpu.step import Step, sizes_of
from tinyconv.engines.cpu.tiling import compiled
from tinyconv.kernels.cpu import batch
from tinyconv.kernels.cpu.simd import LANES


def add_flatten(program: Program, name: str, image: Image, rows: Image) -> None:
    """Add the call that copies images to rows in the order of the op, if these are two places."""
    _copy(program, name, False, image, rows)


def add_unflatten(program: Program, name: str, rows: Image, image: Image) -> None:
    """Add the call that copies rows in the order of the op to images, if these are two places."""
    _copy(program, name, True, image, rows)


def _copy(program: Program, name: str, is_back: bool, image: Image, rows: Image) -> None:
    if image.origin != rows.origin:
        kernel = compiled(batch.flatten, LANES, is_back)
        program.call(name, kernel, image=image, rows=rows, **sizes_of(image))


class FlattenStep(Step):
    """Numbers in the order (C, D, H, W) take another shape; images do so by way of rows."""

    def choose(self) -> None:
        # Rows may be the very memory of an image, but not the other way about.
        self.is_view = not 2 <= len(self.shape) <= 4

    def forward(self, program: Program) -> None:
        self._add(program, self.name, self.x, self.y)

    def backward(self, program: Program) -> None:
        self._add(program, f"{self.name}: backward", self.dy, self.dx)

    def _add(self, program: Program, name: str, x: Image, y: Image) -> None:
        """Add the calls that copy x to rows and rows to y; where one is rows, a call is enough."""
        if x.origin == y.origin:
            return
        context, count = self.context, (y.C * y.D * y.H * y.W,)
        x_rows, y_rows = x.flattened(), y.flattened()
        rows = y_rows or x_rows or context.arena.image(context.batch, count)
        if y_rows is not None or x_rows is None:
            add_flatten(program, name, x, rows)
        if y_rows is None:
            add_unflatten(program, name, rows, y)
