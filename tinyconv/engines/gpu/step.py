"""What a step of a plan on the GPU is: a unit with its buffers, which adds calls to a program."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from functools import cached_property
from typing import Any

import numpy as np

from tinyconv.backend import Array
from tinyconv.engines.gpu.program import Grid, Launcher, Program
from tinyconv.engines.step import UnitStep

#: Of matrix products: the tiles of common.cuh, and the blocks of a product of several parts, which
#: are two for each multiprocessor of a large GPU.
TILE_M, TILE_P, MOST_BLOCKS = 32, 64, 264
#: Terms of a sum that a block has at least.
LEAST_TERMS = 64


@dataclass
class Buffer:
    """Memory for a batch of samples, channels first."""

    array: Array  #: (batch, ...), contiguous
    is_input: bool = False  #: whether it is the input of the network

    def flattened(self) -> "Buffer":
        """Return the same numbers, a row a sample."""
        return Buffer(self.array.reshape(len(self.array), -1), self.is_input)

    def without_border(self) -> "Buffer":
        """Return the same memory: there are no borders."""
        return self

    def has_border(self, wanted: Any) -> bool:
        """Whether the border is at least as wide as another; nobody wants any."""
        return True


@dataclass
class Context:
    """What the steps of a plan share."""

    launcher: Launcher  #: of the device
    batch: int  #: samples at most
    training: bool  #: whether there is a backward pass
    #: int64, see :class:`tinyconv.engines.gpu.backend.GpuTraining`; empty in prediction.
    counters: dict[str, Array]
    #: for each dropout layer, the key of its mask as a function of the step; row k of ``keys`` is
    #: of the k-th.
    key_of: list[Callable[[int], int]]
    keys: Array | None = None  #: (layers, steps) uint64; see there too
    sources: Array | None = None  #: of the batch, see :class:`tinyconv.engines.gpu.sources.Sources`
    gather: int = 0  #: what kernels find there, see Images in common.cuh; 0 in prediction
    #: whether a step reads the batch from its buffer; others fetch it themselves.
    reads_batch: bool = False
    slots: int = 0  #: how many sums of squares of gradients the kernels make that make gradients
    squares: Array | None = None  #: where they go; made when all are known
    #: of each batch norm with running statistics, arrays and numbers that track_statistics of
    #: update.cu takes.
    tracked: list[tuple[list[Array], list[float]]] = field(default_factory=list)
    step: int = 0  #: number of the running training step, for layers that run by their own methods

    def empty(self, *shape: int, dtype: Any = np.float32) -> Array:
        """Return memory of the device."""
        return self.launcher.empty(shape, dtype)

    @cached_property
    def parts(self) -> Array:
        """Memory for two products of several parts: Parts of common.cuh, twice."""
        parts = self.empty(2 * MOST_BLOCKS * (1 + TILE_M * TILE_P), dtype=np.int32)
        self.launcher.write(parts, np.int32(0))
        return parts

    def squares_of(self, count: int) -> Callable[[int], Array]:
        """Return the argument that is where a kernel puts so many sums of squares."""
        first = self.slots
        self.slots += count

        def place(n: int) -> Array:
            assert self.squares is not None
            return self.squares[first:]

        return place


class Step(UnitStep):
    """A unit with its buffers on the GPU, which has no use for borders around images.

    Attributes:
        xs, y: inputs and output.
        dy: where the gradient of the output will be; None in a plan without training.
        x, dx: the first of the inputs and of their gradients.
    """

    #: Gradients of parameters are made in the backward pass, not in the update.
    keeps_gradients = True
    #: Whether the kernels can fetch the network's input from the data.
    gathers = False
    #: The file of the kernels that :meth:`call` adds, and the sizes that are compiled into them.
    family: str
    sizes: dict[str, int]
    context: Context

    @property
    def changes_dy(self) -> bool:  # noqa: D102
        return False

    def connect(
        self, xs: Sequence[Buffer], dxs: Sequence[Buffer | None], y: Buffer, dy: Buffer | None
    ) -> None:
        """Take the buffers."""
        self.xs = [x.array for x in xs]
        #: where the gradients of the inputs go; None where nobody wants one.
        self.dxs = [None if dx is None else dx.array for dx in dxs]
        self.x, self.dx = self.xs[0], self.dxs[0]
        self.y, self.dy = y.array, None if dy is None else dy.array
        keeps = self.activation.needs_z and dy is not None
        #: what the activation is of, where its slope needs that; else None.
        self.z = self.context.empty(*self.y.shape) if keeps else None
        self.v = self.y if self.z is None else self.z  #: what the slope is computed from, z or y
        context, reads = self.context, any(x.is_input for x in xs) and not self.is_view
        #: where the batch lies in the data, for kernels that fetch their input from there; of
        #: nothing where they read x.
        self.source: tuple[Array | None, Array | None] = (None, None)
        #: 0 if they read x, else see :class:`Context`.
        self.gather = context.gather if reads and self.gathers else 0
        if self.gather:
            self.source = context.sources, context.counters["place"]
        else:
            context.reads_batch |= reads

    def call(
        self, program: Program, kernel: str, grid: Grid, *arguments: Any, threads: int | None = None
    ) -> None:
        """Add a kernel; of the backward pass, if its name ends so."""
        name = f"{self.name}: backward" if kernel.endswith("_backward") else self.name
        program.call(name, self.family, self.sizes, kernel, grid, *arguments, threads=threads)

    @property
    def parameter(self) -> np.float32:
        """Of the activation."""
        return np.float32(self.activation.parameter)

    def start(self, n: int) -> None:
        """Check a batch of n samples."""


@dataclass
class Product:
    """The blocks of matrix products [M x K] * [K x P], as tiled_product of common.cuh has them."""

    context: Context
    M: int  #: rows
    P: int  #: columns of a sample, or of all samples
    K: int  #: terms of a sum of a sample, or of all samples
    groups: int = 1  #: independent products
    of_batch: str = "P"  #: which of P and K is multiplied by the size of the batch
    used: int = TILE_P  #: columns of a tile

    def __post_init__(self) -> None:
        self.tiles = self._tiles(self.context.batch)  #: of a full batch
        terms = self.K * (self.context.batch if self.of_batch == "K" else 1)
        #: of each sum: as many as keep the device busy.
        self.parts = max(1, min(MOST_BLOCKS // self.tiles, terms // LEAST_TERMS))

    def _tiles(self, n: int) -> int:
        P = self.P * (n if self.of_batch == "P" else 1)
        return -(-self.M // TILE_M) * -(-P // self.used) * self.groups

    def blocks(self, n: int) -> int:
        """Return the number of blocks for a batch of n samples."""
        return self._tiles(n) * self.parts
