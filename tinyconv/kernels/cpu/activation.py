"""Activations of vectors and of runs of memory, and the kernels for those that stand alone.

Twin of :mod:`tinyconv.ops.activation`. A backward pass needs only the output y.
"""

from enum import IntEnum
from typing import Any

import numpy as np
from numba import carray, types
from numba.core.errors import RequireLiteralValue
from numba.extending import overload

from tinyconv.kernels.cpu.kernel import kernel, record
from tinyconv.kernels.cpu.simd import (
    all_lanes,
    load,
    maximum,
    pointer,
    store,
    store_first,
    where_positive,
)
from tinyconv.kernels.cpu.vector_math import (
    sigmoid,
    tanh,
)

__all__ = ["ROWS", "Activation", "activate_run", "backward", "backward_run", "forward"]


class Activation(IntEnum):
    """Which function; a kernel's closure holds the number, so that one kernel computes one."""

    IDENTITY = 0
    RELU = 1
    SIGMOID = 2
    TANH = 3


ZERO, ONE = np.float32(0), np.float32(1)


def activate(z: Any, activation: int) -> Any:
    """Return the activation of a vector."""
    raise NotImplementedError("only inside a kernel")


def slope(y: Any, activation: int) -> Any:
    """Return the derivative as a function of the output, for a vector."""
    raise NotImplementedError("only inside a kernel")


@overload(activate, prefer_literal=True)
def _activate(z, activation):  # type: ignore[no-untyped-def]
    if not isinstance(activation, types.IntegerLiteral):
        raise RequireLiteralValue("activation")
    return (
        lambda z, activation: z,
        lambda z, activation: maximum(all_lanes(ZERO, z), z),
        lambda z, activation: sigmoid(z),
        lambda z, activation: tanh(z),
    )[activation.literal_value]


@overload(slope, prefer_literal=True)
def _slope(y, activation):  # type: ignore[no-untyped-def]
    if not isinstance(activation, types.IntegerLiteral):
        raise RequireLiteralValue("activation")
    return (
        lambda y, activation: all_lanes(ONE, y),
        lambda y, activation: where_positive(y, all_lanes(ONE, y), all_lanes(ZERO, y)),
        lambda y, activation: y * (all_lanes(ONE, y) - y),
        lambda y, activation: all_lanes(ONE, y) - y * y,
    )[activation.literal_value]


def activate_run(y: Any, start: int, count: int, activation: int, lanes: int) -> Any:
    """Replace ``count`` numbers from ``y[start]`` on by their activation."""
    raise NotImplementedError("only inside a kernel")


def backward_run(dy: Any, i: int, y: Any, j: int, count: int, activation: int, lanes: int) -> Any:
    """Multiply ``count`` numbers from ``dy[i]`` on by the slope at the outputs from ``y[j]`` on."""
    raise NotImplementedError("only inside a kernel")


@overload(activate_run, prefer_literal=True)
def _activate_run(y, start, count, activation, lanes):  # type: ignore[no-untyped-def]
    if not isinstance(activation, types.IntegerLiteral) or not isinstance(
        lanes, types.IntegerLiteral
    ):
        raise RequireLiteralValue("activation and lanes")
    A, L = activation.literal_value, lanes.literal_value
    if A == Activation.IDENTITY:
        return lambda y, start, count, activation, lanes: None

    def run(y, start, count, activation, lanes):  # type: ignore[no-untyped-def]
        whole = start + count // L * L
        for i in range(start, whole, L):
            store(y, i, activate(load(y, i, L), A))
        if whole < start + count:
            store_first(y, whole, activate(load(y, whole, L), A), start + count - whole)

    return run


@overload(backward_run, prefer_literal=True)
def _backward_run(dy, i, y, j, count, activation, lanes):  # type: ignore[no-untyped-def]
    if not isinstance(activation, types.IntegerLiteral) or not isinstance(
        lanes, types.IntegerLiteral
    ):
        raise RequireLiteralValue("activation and lanes")
    A, L = activation.literal_value, lanes.literal_value
    if A == Activation.IDENTITY:
        return lambda dy, i, y, j, count, activation, lanes: None

    def run(dy, i, y, j, count, activation, lanes):  # type: ignore[no-untyped-def]
        whole = count // L * L
        for k in range(0, whole, L):
            store(dy, i + k, load(dy, i + k, L) * slope(load(y, j + k, L), A))
        if whole < count:
            value = load(dy, i + whole, L) * slope(load(y, j + whole, L), A)
            store_first(dy, i + whole, value, count - whole)

    return run


#: Arguments of a kernel over ``rows`` runs of ``count`` numbers a sample.
ROWS = record(
    *("x", "x_sample", "x_row", "y", "y_sample", "y_row"),
    *("dx", "dx_sample", "dx_row", "dy", "dy_sample", "dy_row", "rows", "count"),
)


def forward(L: int, A: int) -> Any:
    """Make the kernel y = activation(x), for activations that no other step takes in."""

    @kernel
    def activation(args, thread, first, last):  # type: ignore[no-untyped-def]
        a = carray(args, 1, ROWS)[0]
        x, y = pointer(a.x), pointer(a.y)
        for n in range(first, last):
            for row in range(a.rows):
                i, j = n * a.x_sample + row * a.x_row, n * a.y_sample + row * a.y_row
                for k in range(0, a.count, L):
                    store_first(y, j + k, activate(load(x, i + k, L), A), a.count - k)

    return activation


def backward(L: int, A: int) -> Any:
    """Make the kernel dx = dy * slope(y); dx and dy may be one array."""

    @kernel
    def activation_backward(args, thread, first, last):  # type: ignore[no-untyped-def]
        a = carray(args, 1, ROWS)[0]
        y, dx, dy = pointer(a.y), pointer(a.dx), pointer(a.dy)
        for n in range(first, last):
            for row in range(a.rows):
                i, j = n * a.dx_sample + row * a.dx_row, n * a.y_sample + row * a.y_row
                d = n * a.dy_sample + row * a.dy_row
                for k in range(0, a.count, L):
                    value = load(dy, d + k, L) * slope(load(y, j + k, L), A)
                    store_first(dx, i + k, value, a.count - k)

    return activation_backward
