"""What a step of a plan is on the CPU: its buffers are images, its calls kernels."""

from collections.abc import Sequence
from dataclasses import dataclass, field, replace
from typing import Any

import numpy as np

from tinyconv.backend import Array
from tinyconv.engines.cpu.arena import NO_BORDER, Arena, Border, Image
from tinyconv.engines.step import UnitStep
from tinyconv.engines.units import Unit
from tinyconv.kernels.cpu.kernel import address_of
from tinyconv.layers.base import Layer, Shape


@dataclass(eq=False)
class Context:
    """What the steps of a plan share.

    Attributes:
        batch: samples at most.
        threads: threads that share the work.
        training: whether there is a backward pass.
        flat: all parameters.
        flat_grad: all gradients, filled for layers without kernels only.
        arena: the memory.
        n: int64 array of one, the samples of the running batch.
        step: number of the running training step.
        rule: the arguments of a kernel that are the optimizer's kernel and its arguments.
    """

    batch: int
    threads: int
    training: bool
    flat: Array
    flat_grad: Array
    arena: Arena = field(default_factory=Arena)
    n: Array = field(default_factory=lambda: np.zeros(1, np.int64))
    step: int = 0
    rule: dict[str, Any] = field(default_factory=dict)
    _room: Array = field(default_factory=lambda: np.zeros(0, np.float32))

    def room(self, count: int) -> tuple[int, int]:
        """Return the address of ``count`` numbers for each thread, and how far apart they are.

        They are there for the moment of a call, and all calls use the same.
        """
        if self._room.size // self.threads < count:
            self._room = self.arena.take(self.threads * count)
        return address_of(self._room), self._room.size // self.threads

    def place(self, parameter: Array | None) -> int:
        """Return where a parameter begins in the flat vector, -1 for none."""
        return -1 if parameter is None else (address_of(parameter) - address_of(self.flat)) // 4

    def rule_of(self, layer: Layer) -> dict[str, Any]:
        """Return :attr:`rule`, and where the weight and the bias of a layer begin."""
        places = {f"{name}_start": layer.params.get(name) for name in ("weight", "bias")}
        return self.rule | {name: self.place(values) for name, values in places.items()}


class Step(UnitStep):
    """A unit with its buffers on the CPU.

    Attributes:
        x, y: the first input and the output.
        xs: all inputs.
        dx, dxs: where the gradients of the inputs go; None where nobody wants one.
        dy: where the gradient of the output will be; None in a plan without training.
        has_dz: whether a reader has made dz of dy: see :attr:`takes_dz`.
        kept_gradients: where threads or samples have what gradients are sums of, after
            ``backward``: arguments of :func:`tinyconv.kernels.cpu.reach.reach_of_kept`.
        z: laid out as y, what the activation is of; y itself unless the slope needs it.
    """

    border: Border = NO_BORDER
    #: Whether it reads nothing but the numbers of its inputs, which may be the caller's own then.
    reads_in_place = False
    gradient_border: Border = NO_BORDER
    context: Context
    has_dz = False
    dx: Any  #: An image or None, likewise dy.
    dy: Any

    def __init__(self, unit: Unit, shapes: Sequence[Shape], context: Context) -> None:
        self.kept_gradients: list[dict[str, Any]] = []
        super().__init__(unit, shapes, context)

    @property
    def sources(self) -> list[Array]:
        """What ``prepare`` makes something of: parameters and statistics."""
        return [a for layer in self.unit.layers for a in (layer.params | layer.state).values()]

    @property
    def takes_dz(self) -> bool:
        """Whether a reader may write 0 to dy where y is not positive, instead of this step."""
        return False

    @property
    def multiplied(self) -> tuple[Image, Image]:
        """What gradients are sums of products of: x and, once ``backward`` has made it, dz."""
        assert self.dy is not None
        return self.x, self.dy

    def connect(
        self, xs: Sequence[Image], dxs: Sequence[Image | None], y: Image, dy: Image | None
    ) -> None:
        """Take all inputs' buffers; a gradient's buffer is laid out as its input's."""
        self.xs, self.dxs = xs, dxs
        self.bind(xs[0], dxs[0], y, dy)

    def bind(self, x: Image, dx: Image | None, y: Image, dy: Image | None) -> None:
        """Take the buffers of the first input, its gradient, the output and its gradient."""
        self.x, self.dx, self.y, self.dy = x, dx, y, dy
        self.z = y
        if self.activation.needs_z and dy is not None:
            self.z = replace(y, array=self.context.arena.take(y.array.size))

    @property
    def keeps_slopes(self) -> bool:
        """Whether z holds the slopes once y is made."""
        return self.z is not self.y

    def keep_gradient(
        self,
        v: Array,
        channels: int,
        items: int,
        v_owner: int = 0,
        places: Sequence[int] | Array = (0,),
        **blocks: int,
    ) -> None:
        """Say that ``items`` threads, or all samples for 0, keep sums that gradients are sums of.

        The others are arguments of :func:`tinyconv.kernels.cpu.reach.reach_of_kept`.
        """
        table = self.context.arena.table(places)
        owners = {"items": items, "v": v, "v_owner": v_owner}
        sizes = {"size": len(table), "width": channels, "channels": channels}
        self.kept_gradients.append({**owners, "places": table, **sizes, **blocks})

    def start(self, step: int) -> None:
        """Set what depends on the number of the training step."""


def axes(prefix: str, sizes: Sequence[int]) -> dict[str, int]:
    """The arguments that are sizes along the three axes of a plane."""
    return {f"{prefix}{axis}": n for axis, n in zip("DHW", sizes, strict=True)}


def sizes_of(image: Image) -> dict[str, int]:
    """The arguments that are the sizes of a buffer."""
    return {"C": image.C, **axes("", image.size)}


def runs_of(image: Image) -> dict[str, int]:
    """The arguments of a kernel that walks over a buffer row by row."""
    return {"planes": image.D, "rows": image.H, "count": image.W * image.C}
