"""Convolution of each channel by itself, or of groups of few channels.

Twin of :mod:`tinyconv.ops.conv` with as many groups as channels. The tables, the packing of the
weights and their update are those of :mod:`conv`, for one channel: position p of x and tap t of
the kernel give y[p, c] = sum over t of x[x_at[p] + elements[t] + c] * w[t, c]. A vector holds
neighbouring channels of one position, and every product is lane by lane. The gradient of x is
the same product, of dz.

In groups of I inputs and O outputs there are I such products for a tap: for each the vector of x
is brought into the order in which an output finds its group's input in its own lane.
"""

from typing import Any

import numpy as np

from tinyconv.kernels.cpu.conv import DIMS, FORWARD
from tinyconv.kernels.cpu.kernel import kernel, record, record_at
from tinyconv.kernels.cpu.scattered import (
    add_at,
    entries,
    products_at,
    store_at,
)
from tinyconv.kernels.cpu.simd import ints_pointer, invoke, pointer
from tinyconv.kernels.cpu.tiles import add_scaled, at_least, load_tile, products, store_tile, sum_of

ONE, ZERO = np.float32(1), np.float32(0)


def forward(L: int, V: int, N: int, I: int, O: int) -> Any:
    """Make the kernel y = max(floor, sum over taps of w[tap] * x[position + tap] + b).

    Arguments and packing are those of :func:`conv.forward`, except that ``O`` of the sizes is the
    number of channels, each of which has a kernel of ``steps`` taps with I elements. A tile holds N
    positions by V vectors of channels.
    """
    VL = V * L

    @kernel(FORWARD)
    def depthwise(a, thread, first, last):  # type: ignore[no-untyped-def]
        d = record_at(a.dims, DIMS)
        x_at, y_at, elements = ints_pointer(d.x_at), ints_pointer(d.y_at), ints_pointer(d.elements)
        parts, spans = ints_pointer(d.parts), ints_pointer(d.spans)
        w, b, C, taps, is_doubtful = pointer(a.w), pointer(a.b), d.O, d.steps, False
        for n in range(first, last, d.group):
            x, y = pointer(a.x + 4 * n * d.x_sample), a.y + 4 * n * d.y_sample
            for part in range(0, 4 * d.part_count, 4):
                start = d.group * parts[part]
                end = start + min(d.group, last - n) * parts[part + 1]
                for tile in range(start, end, N):
                    rows = entries(x_at, tile, end - 1, N, 1)
                    out = entries(y_at, tile, end - 1, N, 1)
                    for c in range(0, C, VL):
                        acc, i = load_tile(b, c, N, 0, V, L), c * I // O
                        for span in range(parts[part + 2], parts[part + 3]):
                            j = (c * taps + spans[2 * span] * VL) * I
                            for tap in range(spans[2 * span], spans[2 * span + 1]):
                                acc = products_at(acc, x, rows, elements[tap] + i, w, j, I, O)
                                j += VL * I
                        if a.direct and sum_of(acc) * ZERO != ZERO:
                            is_doubtful = True
                        acc = at_least(acc, a.floor)
                        if a.adds:
                            acc = add_at(acc, pointer(y + 4 * c), out)
                        store_at(pointer(y + 4 * c), out, acc, C - c)
        if is_doubtful:
            invoke(a.direct, a.direct_args, thread, first, last)

    return depthwise


#: ``blocks`` of RH x RW taps, ``down`` and ``along`` apart in x; where the first of each lies is
#: listed in ``corners``. Each thread owns a piece of ``dw`` (blocks, RH * RW * I, w_row) and of
#: ``db``, at ``thread`` times the distance named ``*_thread``. ``chunk``: positions whose x and dz
#: fit the first cache.
WEIGHT_GRADIENT = record(
    *("dims", "x", "dz", "corners", "blocks", "down", "along", "chunk"),
    *("dw", "dw_thread", "w_row", "db", "db_thread"),
)


def weight_gradient(L: int, V: int, RH: int, RW: int, I: int, O: int) -> Any:
    """Make the kernel dw[tap] += sum over positions of x[position + tap] * dz[position].

    A tile holds a block of taps, each with I elements, by V vectors of channels while all positions
    of a chunk pass. Blocks may reach beyond the kernel; nobody looks at what they find there.
    """
    VL, R = V * L, RH * RW * I

    @kernel(WEIGHT_GRADIENT)
    def depthwise_weight_gradient(a, thread, first, last):  # type: ignore[no-untyped-def]
        d = record_at(a.dims, DIMS)
        x_at, z_at = ints_pointer(d.positions_at), ints_pointer(d.z_at)
        corners = ints_pointer(a.corners)
        dw, db = pointer(a.dw + 4 * thread * a.dw_thread), pointer(a.db + 4 * thread * a.db_thread)
        w_row, down, along = a.w_row, a.down, a.along
        for n in range(first, last):
            for p0 in range(0, d.positions, a.chunk):
                p1 = min(p0 + a.chunk, d.positions)
                for c in range(0, d.O, VL):
                    x = pointer(a.x + 4 * (n * d.x_sample + c * I // O))
                    dz = pointer(a.dz + 4 * (n * d.z_sample + c))
                    bias = load_tile(db, c, 1, 0, V, L)
                    for p in range(p0, p1):
                        bias = add_scaled(bias, 1, ONE, dz, z_at[p], 0)
                    store_tile(db, c, 1, 0, bias, VL)
                    for block in range(a.blocks):
                        place, corner = block * R * w_row + c, corners[block]
                        acc = load_tile(dw, place, R, w_row, V, L)
                        for p in range(p0, p1):
                            i = x_at[p] + corner
                            acc = products(acc, R, x, i, down, RW, along, dz, z_at[p], I, O)
                        store_tile(dw, place, R, w_row, acc, VL)

    return depthwise_weight_gradient
