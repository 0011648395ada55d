"""The fully connected layer with its activation: forward, input gradient, and weight gradient
together with the update.

Twin of :mod:`tinyconv.ops.linear`. Each is a matrix product that reads both factors where they
lie. A layer with a small weight works through samples, so that a thread needs nobody else's
results; one with a big weight through the rows or columns of the weight, so that each thread
reads only its part of it (``by_features``).
"""

from typing import Any

import numpy as np
from numba import carray

from tinyconv.kernels.cpu.activation import activate
from tinyconv.kernels.cpu.kernel import kernel, record
from tinyconv.kernels.cpu.simd import (
    invoke,
    load,
    load_first,
    pointer,
    store_first,
    words_pointer,
)
from tinyconv.kernels.cpu.tiles import (
    dots,
    dots_first,
    load_tile,
    outer,
    outer_first,
    store_rows,
    store_tile,
    store_totals,
    zeros,
)

__all__ = ["BACKWARD", "FORWARD", "UPDATE", "backward", "forward", "update"]

#: Numbers of a block of x in the forward pass.
PANEL = 1 << 17

#: ``n``: address of the number of samples in the batch. ``z``: laid out as y, what the activation
#: is of; y itself where nobody wants it afterwards.
FORWARD = record(
    *("x", "x_sample", "w", "b", "z", "y", "y_sample", "I", "O", "n", "by_features"),
    floats=("parameter",),
)


def forward(L: int, R: int, Q: int, REST: int, A: int) -> Any:
    """Make the kernel y = activation(x w^T + b): [N x I] * [I x O] -> [N x O].

    Rows of x and of w both run along I, so a tile holds R x Q dot products (``REST`` columns in
    the last tile) lane by lane, and nothing is transposed.
    """

    @kernel
    def linear(args, thread, first, last):  # type: ignore[no-untyped-def]
        a = carray(args, 1, FORWARD)[0]
        x, w, b, y, z = pointer(a.x), pointer(a.w), pointer(a.b), pointer(a.y), pointer(a.z)
        I, x_sample, y_sample = a.I, a.x_sample, a.y_sample
        n0, n1, o0, o1 = first, last, 0, a.O
        if a.by_features:
            n0, n1, o0, o1 = 0, words_pointer(a.n)[0], first, last
        # Blocks of x that stay in the second cache while the rows of w pass by.
        height = (min(n1 - n0, 128) + R - 1) // R * R
        pieces = (I * height + PANEL - 1) // PANEL
        width = (I + pieces - 1) // pieces
        width = (width + L - 1) // L * L
        for nb in range(n0, n1, height):
            ne = min(nb + height, n1)
            for kb in range(0, I, width):
                ke = min(kb + width, I)
                whole = kb + (ke - kb) // L * L
                add = int(kb > 0)
                for o in range(o0, o1, Q):
                    for n in range(nb, ne, R):
                        i, j = n * x_sample, o * I
                        place = n * y_sample + o
                        if o + Q <= o1:
                            acc = zeros(R, Q, L)
                            for k in range(kb, whole, L):
                                acc = dots(acc, R, x, i + k, x_sample, w, j + k, I, L)
                            if whole < ke:
                                i, j, rest = i + whole, j + whole, ke - whole
                                acc = dots_first(acc, R, x, i, x_sample, w, j, I, rest)
                            store_totals(z, place, R, y_sample, acc, ne - n, Q, add)
                        else:
                            few = zeros(R, REST, L)
                            for k in range(kb, whole, L):
                                few = dots(few, R, x, i + k, x_sample, w, j + k, I, L)
                            if whole < ke:
                                i, j, rest = i + whole, j + whole, ke - whole
                                few = dots_first(few, R, x, i, x_sample, w, j, I, rest)
                            store_totals(z, place, R, y_sample, few, ne - n, REST, add)
        for n in range(n0, n1):
            for o in range(o0, o1, L):
                i = n * y_sample + o
                value = load(z, i, L)
                if a.b:
                    value = value + load_first(b, o, o1 - o, L)
                    if a.z != a.y:
                        store_first(z, i, value, o1 - o)
                store_first(y, i, activate(value, A, a.parameter), o1 - o)

    return linear


BACKWARD = record("dy", "dy_sample", "w", "dx", "dx_sample", "I", "O", "n", "by_features")


#: Outputs whose pieces of the weight stay in the first cache, and their pages at hand, while all
#: samples pass.
OUTPUTS = 64


def backward(L: int, R: int, V: int) -> Any:
    """Make the kernel dx = dz w: [N x O] * [O x I] -> [N x I], in tiles of R samples by V vectors.

    Rows of the weight lie far apart in memory, so a block of them serves all samples before the
    next one does, and dx is a sum over the blocks.
    """
    VL = V * L

    @kernel
    def linear_backward(args, thread, first, last):  # type: ignore[no-untyped-def]
        a = carray(args, 1, BACKWARD)[0]
        dy, w, dx = pointer(a.dy), pointer(a.w), pointer(a.dx)
        I, O, dy_sample, dx_sample = a.I, a.O, a.dy_sample, a.dx_sample
        n0, n1, c0, c1 = first, last, 0, I
        if a.by_features:
            n0, n1, c0, c1 = 0, words_pointer(a.n)[0], first, last
        for o in range(0, O, OUTPUTS):
            outputs = min(OUTPUTS, O - o)
            for c in range(c0, c1, VL):
                for n in range(n0, n1, R):
                    place = n * dx_sample + c
                    acc = load_tile(dx, place, R, dx_sample, V, L) if o else zeros(R, V, L)
                    i, j = n * dy_sample + o, o * I + c
                    if c + VL <= c1:
                        for k in range(outputs):
                            acc = outer(acc, R, dy, i + k, 0, R, dy_sample, w, j + k * I)
                    else:
                        for k in range(outputs):
                            acc = outer_first(acc, R, dy, i + k, dy_sample, w, j + k * I, c1 - c)
                    store_rows(dx, place, R, dx_sample, acc, n1 - n, c1 - c)

    return linear_backward


#: ``sum``: room for the gradient of ``block`` rows of the weight for each thread. ``function``
#: and ``function_args``: the optimizer's kernel (:mod:`update`), for the flat vector from
#: ``weight_start`` on.
UPDATE = record(
    *("dy", "dy_sample", "x", "x_sample", "I", "n", "sum", "sum_thread", "block"),
    *("function", "function_args", "weight_start", "bias_start"),
)

ZERO = np.float32(0)


def update(L: int, R: int, V: int) -> Any:
    """Make the kernel dw = dz^T x: [O x N] * [N x I] -> [O x I], which hands dw to the optimizer.

    Rows ``first`` to ``last`` of dw are made in tiles of R rows by V vectors and used while they
    are in the cache; a gradient of the size of the weight is never written to memory.
    """
    VL = V * L

    @kernel
    def linear_update(args, thread, first, last):  # type: ignore[no-untyped-def]
        a = carray(args, 1, UPDATE)[0]
        dy, x = pointer(a.dy), pointer(a.x)
        address = a.sum + 4 * thread * a.sum_thread
        dw = pointer(address)
        I, n, dy_sample, x_sample = a.I, words_pointer(a.n)[0], a.dy_sample, a.x_sample
        for o0 in range(first, last, a.block):
            o1 = min(o0 + a.block, last)
            for tile in range(0, I, VL):
                c = min(tile, I - VL)
                for o in range(o0, o1, R):
                    acc = zeros(R, V, L)
                    i = c
                    for j in range(o, o + n * dy_sample, dy_sample):
                        acc = outer(acc, R, dy, j, 0, R, 1, x, i)
                        i += x_sample
                    store_tile(dw, (o - o0) * I + c, R, I, acc, VL)
            start = a.weight_start
            invoke(a.function, a.function_args, address, start + o0 * I, start + o1 * I)
        if a.bias_start >= 0:
            for o in range(first, last, L):
                bias = load(dy, o, L)
                for j in range(o + dy_sample, o + n * dy_sample, dy_sample):
                    bias = bias + load(dy, j, L)
                store_first(dw, 0, bias, last - o)
                start, stop = a.bias_start + o, a.bias_start + min(o + L, last)
                invoke(a.function, a.function_args, address, start, stop)

    return linear_update
