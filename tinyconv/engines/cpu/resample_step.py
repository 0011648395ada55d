"""The steps that are weighted sums along axes: means, interpolation, padding, cropping."""

from collections.abc import Sequence
from math import ceil

from tinyconv.engines.cpu.arena import Image
from tinyconv.engines.cpu.program import Program
from tinyconv.engines.cpu.step import Context, Step, sizes_of
from tinyconv.engines.cpu.tiling import compiled, even, lanes_for
from tinyconv.engines.tables import TABLES
from tinyconv.kernels.cpu import resample
from tinyconv.kernels.cpu.simd import LANES
from tinyconv.kernels.terms import Terms, arguments_of, over_three_axes, transposed
from tinyconv.layers import Pad


def channel_tiles(C: int) -> tuple[int, int]:
    """Return the lanes of a vector, and how many of them a tile has, for C channels."""
    L = lanes_for(C)
    return L, even(ceil(C / L), 4)


def add_resample(
    context: Context,
    program: Program,
    name: str,
    x: Image,
    y: Image,
    tables: Sequence[Terms],
    value: float = 0.0,
) -> None:
    """Add the call that makes y, each element the sum of its terms or ``value`` without any."""
    room = x.W * x.C + 4 * LANES
    program.call(
        name,
        compiled(resample.resample, *channel_tiles(y.C)),
        x=x,
        x_count=x.W * x.C,
        y=y,
        **sizes_of(y),
        room=context.arena.take(context.threads * room),
        room_thread=room,
        value=value,
        **arguments_of(tables),
        w_runs=tables[2].runs,
    )


class ResampleStep(Step):
    """A layer whose output is linear in each axis of its input."""

    is_for_images = True
    kinds = tuple(TABLES)

    def choose(self) -> None:
        layer = self.layer
        self.tables = over_three_axes(TABLES[type(layer)](layer, self.input_shape[1:]))
        self.value = layer.value if isinstance(layer, Pad) else 0.0

    def forward(self, program: Program) -> None:
        tables, value = self.tables, self.value
        add_resample(self.context, program, self.name, self.x, self.y, tables, value)

    def backward(self, program: Program) -> None:
        name, tables = f"{self.name}: backward", transposed(self.tables)
        add_resample(self.context, program, name, self.dy, self.dx, tables)
