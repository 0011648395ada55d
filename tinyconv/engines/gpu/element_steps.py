"""The steps that treat elements one by one: activation, dropout, change of shape, joints."""

from math import ceil, prod

import numpy as np

from tinyconv.backend import Array
from tinyconv.engines.gpu.program import BATCH, Program, blocks
from tinyconv.engines.gpu.step import Step
from tinyconv.engines.step import SideBySideStep, SumStep
from tinyconv.engines.units import ACTIVATIONS
from tinyconv.kernels.activations import Chosen
from tinyconv.layers import Dropout, Flatten, Reshape


def _call(
    program: Program, name: str, kernel: str, count: int, *given: object, of: Chosen | None = None
) -> None:
    """Add a kernel over ``count`` elements of each sample, which ends in an activation or not."""
    sizes, last = {"COUNT": count}, [] if of is None else [np.float32(of.parameter)]
    if of is not None:
        sizes["ACTIVATION"] = of.code
    program.call(name, "elements", sizes, kernel, blocks(count), *given, *last, BATCH)


def _copy(
    program: Program, name: str, x: Array, y: Array, x_first: int = 0, y_first: int = 0
) -> None:
    """Add the call y = x, if these are two places.

    The smaller of the two is a part of each sample of the other, from its ``first`` number on.
    """
    if program.launcher.address(x) != program.launcher.address(y):
        sizes = prod(x.shape[1:]), prod(y.shape[1:])
        places = (x, *map(np.int32, (sizes[0], x_first)), y, *map(np.int32, (sizes[1], y_first)))
        _call(program, name, "copy_part", min(sizes), *places)


def add_arrays(
    program: Program,
    name: str,
    x: Array,
    other: Array,
    z: Array | None,
    y: Array,
    activation: Chosen = Chosen(),  # noqa: B008 - which nobody can change
) -> None:
    """Add the call z = x + other, y = activation(z)."""
    _call(program, name, "add_forward", prod(y.shape[1:]), x, other, z, y, of=activation)


def add_activation_backward(
    program: Program, name: str, activation: Chosen, dy: Array, v: Array, dz: Array
) -> None:
    """Add the call dz = dy f'(z)."""
    _call(program, name, "activation_backward", prod(dy.shape[1:]), dy, v, dz, of=activation)


class ActivationStep(Step):
    """An activation that no other step took in."""

    kinds = ACTIVATIONS

    def forward(self, program: Program) -> None:
        self.z = None
        self.v = self.x if self.activation.needs_z else self.y
        arrays, chosen = (self.x, self.y), self.activation
        _call(program, self.name, "activation_forward", prod(self.shape), *arrays, of=chosen)

    def backward(self, program: Program) -> None:
        name = f"{self.name}: backward"
        add_activation_backward(program, name, self.activation, self.dy, self.v, self.dx)


class DropoutStep(Step):
    """Dropout; in prediction, where it drops nothing, a factor for all."""

    kinds = (Dropout,)

    def choose(self) -> None:
        context = self.context
        self.place = len(context.key_of)
        context.key_of.append(lambda step: self.layer.mask_key(step, prod(self.shape)))

    def forward(self, program: Program) -> None:
        kept, in_prediction = self.layer.scales
        count = prod(self.shape)
        if not self.context.training:
            factor = np.float32(in_prediction)
            _call(program, self.name, "scale", count, self.x, self.y, factor)
            return
        assert self.context.keys is not None
        # uniform >= p, with both sides multiplied by 2**24, which is exact
        least = ceil(float(np.float32(self.layer.p)) * 2**24)
        keys, tick = self.context.keys[self.place], self.context.counters["tick"]
        self._draw = (keys, tick, np.int32(least), np.float32(kept))
        _call(program, self.name, "dropout", count, self.x, self.y, *self._draw)

    def backward(self, program: Program) -> None:
        name, count = f"{self.name}: backward", prod(self.shape)
        _call(program, name, "dropout", count, self.dy, self.dx, *self._draw)


class FlattenStep(Step):
    """A change of shape, which leaves the numbers where they are."""

    kinds = (Flatten, Reshape)
    is_view = True

    def backward(self, program: Program) -> None:
        _copy(program, f"{self.name}: backward", self.dy, self.dx)


class AddStep(SumStep, Step):
    """The sum of all inputs, two or more, with an activation behind it."""

    def forward(self, program: Program) -> None:
        total, *others, last = self.xs
        for other in others:
            add_arrays(program, self.name, total, other, None, self.y)
            total = self.y
        add_arrays(program, self.name, total, last, self.z, self.y, self.activation)

    def backward(self, program: Program) -> None:
        dy, name = self.dy, f"{self.name}: backward"
        if self.changes_dy:
            add_activation_backward(program, name, self.activation, dy, self.v, dy)
        for dx, adds in zip(self.dxs, self.adds, strict=True):
            if dx is not None and adds:
                add_arrays(program, name, dy, dx, None, dx)
            elif dx is not None:
                _copy(program, name, dy, dx)


class ConcatStep(SideBySideStep, Step):
    """All inputs side by side along the channels."""

    def forward(self, program: Program) -> None:
        first = 0
        for x in self.xs:
            _copy(program, self.name, x, self.y, y_first=first)
            first += prod(x.shape[1:])

    def backward(self, program: Program) -> None:
        first = 0
        for x, dx in zip(self.xs, self.dxs, strict=True):
            if dx is not None:
                _copy(program, f"{self.name}: backward", self.dy, dx, x_first=first)
            first += prod(x.shape[1:])
