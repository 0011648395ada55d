"""Convolution of each channel by itself, forward and backward.

Twin of :mod:`tinyconv.ops.conv` with as many groups as channels. Images are channels-last, so a
vector holds neighbouring channels of one position, and every product is lane by lane.

A kernel element is a *tap*. Taps are listed, with the distance of what each one reads from the
corner of the window: one kernel serves any number of axes and any dilation. The gradient of x is
a convolution too, of dy in a border of zeros: with stride s the elements of x fall into phases,
s along each axis, and each phase sees taps of its own. So :func:`forward` computes it, a phase a
call, writing every s-th element.

Weights (C, K) are packed as (taps, C and then some), see :func:`pack`.
"""

from typing import Any

import numpy as np
from numba import carray

from tinyconv.kernels.cpu.activation import activate_run, backward_run
from tinyconv.kernels.cpu.kernel import kernel, record
from tinyconv.kernels.cpu.simd import (
    invoke,
    load,
    load_first,
    pointer,
    splat,
    store_first,
    words_pointer,
)
from tinyconv.kernels.cpu.tiles import add_scaled, load_tile, products, store_tile

__all__ = [
    "FORWARD",
    "PACK",
    "STAGE",
    "UPDATE",
    "WEIGHTS",
    "forward",
    "pack",
    "stage",
    "update",
    "weights",
]

#: ``*_forth``, ``*_down``, ``*_along``: from one position to the next along each axis, in x from
#: one window to the next. ``offsets``: of each tap. (OD, OH, OW): positions of y. ``z``: laid out
#: as y, what the activation is of; y itself where nobody needs it.
FORWARD = record(
    *("x", "x_sample", "x_forth", "x_down", "x_along", "offsets", "taps", "w", "w_row", "b"),
    *("z", "y", "y_sample", "y_forth", "y_down", "y_along", "C", "OD", "OH", "OW"),
    floats=("parameter",),
)

ZERO, ONE = np.float32(0), np.float32(1)


def forward(L: int, V: int, R: int, A: int) -> Any:
    """Make the kernel y = activation(sum over taps of w[tap] * x[position + tap] + b).

    A tile holds R positions of a row by V vectors of L channels. The last tile of a row starts
    early enough to end with the row, so R must not exceed OW.
    """
    VL = V * L

    @kernel
    def depthwise(args, thread, first, last):  # type: ignore[no-untyped-def]
        a = carray(args, 1, FORWARD)[0]
        x, w, b, z, y = pointer(a.x), pointer(a.w), pointer(a.b), pointer(a.z), pointer(a.y)
        offsets = words_pointer(a.offsets)
        C, OW, taps, w_row, x_along, y_along = a.C, a.OW, a.taps, a.w_row, a.x_along, a.y_along
        for n in range(first, last):
            for p in range(a.OD):
                for q in range(a.OH):
                    source = n * a.x_sample + p * a.x_forth + q * a.x_down
                    target = n * a.y_sample + p * a.y_forth + q * a.y_down
                    for tile in range(0, OW, R):
                        r = min(tile, OW - R)
                        for c in range(0, C, VL):
                            acc = load_tile(b, c, R, 0, V, L)
                            i, j = source + r * x_along + c, c
                            for tap in range(taps):
                                k = i + offsets[tap]
                                acc = products(acc, R, x, k, 0, R, x_along, w, j)
                                j += w_row
                            store_tile(z, target + r * y_along + c, R, y_along, acc, C - c)
                    activate_run(z, target, y, target, OW * C, A, a.parameter, L)

    return depthwise


#: ``rows`` rows of ``count`` numbers a plane; dz lies in a border of zeros. ``v``: what the slope
#: is a function of, see :mod:`activation`.
STAGE = record(
    *("dy", "dy_sample", "dy_plane", "dy_row", "v", "v_sample", "v_plane", "v_row"),
    *("dz", "dz_sample", "dz_plane", "dz_row", "planes", "rows", "count"),
    floats=("parameter",),
)


def stage(L: int, A: int) -> Any:
    """Make the kernel dz = dy * slope(v)."""

    @kernel
    def depthwise_stage(args, thread, first, last):  # type: ignore[no-untyped-def]
        a = carray(args, 1, STAGE)[0]
        dy, v, dz, count = pointer(a.dy), pointer(a.v), pointer(a.dz), a.count
        for n in range(first, last):
            for p in range(a.planes):
                for q in range(a.rows):
                    i = n * a.dy_sample + p * a.dy_plane + q * a.dy_row
                    j = n * a.v_sample + p * a.v_plane + q * a.v_row
                    k = n * a.dz_sample + p * a.dz_plane + q * a.dz_row
                    for c in range(0, count, L):
                        store_first(dz, k + c, load(dy, i + c, L), count - c)
                    backward_run(dz, k, v, j, count, A, a.parameter, L)

    return depthwise_stage


#: Taps come in ``blocks`` of RH x RW, ``x_tap_down`` and ``x_tap_along`` apart, the first of a
#: block at its ``offsets``. Each thread owns a piece of ``dw`` (blocks, RH * RW, ``w_row``) and
#: ``db``, at ``thread`` times the distance named ``*_thread``.
WEIGHTS = record(
    *("x", "x_sample", "x_forth", "x_down", "x_along", "x_tap_down", "x_tap_along"),
    *("offsets", "blocks", "dz", "dz_sample", "dz_plane", "dz_row"),
    *("dw", "dw_thread", "db", "db_thread", "w_row", "C", "OD", "OH", "OW"),
)


def weights(L: int, V: int, RH: int, RW: int) -> Any:
    """Make the kernel dw[tap] += sum over positions of x[position + tap] * dz[position].

    A tile holds the sums of a block of taps for V vectors of channels. Blocks may reach beyond
    the kernel; nobody looks at what they find there.
    """
    VL, R = V * L, RH * RW

    @kernel
    def depthwise_weights(args, thread, first, last):  # type: ignore[no-untyped-def]
        a = carray(args, 1, WEIGHTS)[0]
        x, dz, offsets = pointer(a.x), pointer(a.dz), words_pointer(a.offsets)
        dw, db = pointer(a.dw + 4 * thread * a.dw_thread), pointer(a.db + 4 * thread * a.db_thread)
        C, OW, x_along, w_row = a.C, a.OW, a.x_along, a.w_row
        down, along = a.x_tap_down, a.x_tap_along
        for c in range(0, C, VL):
            bias = load_tile(db, c, 1, 0, V, L)
            for n in range(first, last):
                for p in range(a.OD):
                    for q in range(a.OH):
                        j = n * a.dz_sample + p * a.dz_plane + q * a.dz_row + c
                        for k in range(j, j + OW * C, C):
                            bias = add_scaled(bias, 1, ONE, dz, k, 0)
            store_tile(db, c, 1, 0, bias, VL)
            for block in range(a.blocks):
                place = block * R * w_row + c
                acc = load_tile(dw, place, R, w_row, V, L)
                for n in range(first, last):
                    for p in range(a.OD):
                        for q in range(a.OH):
                            i = n * a.x_sample + p * a.x_forth + q * a.x_down + offsets[block] + c
                            j = n * a.dz_sample + p * a.dz_plane + q * a.dz_row + c
                            for _ in range(OW):
                                acc = products(acc, R, x, i, down, RW, along, dz, j)
                                i += x_along
                                j += C
                store_tile(dw, place, R, w_row, acc, VL)

    return depthwise_weights


#: ``order``: for each packed tap, its place among the K of the weight.
PACK = record("weight", "bias", "w", "w_row", "b", "order", "taps", "K")


def pack() -> Any:
    """Make the kernel that packs channels ``first`` to ``last`` of the weight and the bias."""

    @kernel
    def depthwise_pack(args, thread, first, last):  # type: ignore[no-untyped-def]
        a = carray(args, 1, PACK)[0]
        weight, w, b, order = pointer(a.weight), pointer(a.w), pointer(a.b), words_pointer(a.order)
        for tap in range(a.taps):
            source, target = order[tap], tap * a.w_row
            for c in range(first, last):
                w[target + c] = weight[c * a.K + source]
        if a.bias:
            for c in range(first, last):
                b[c] = pointer(a.bias)[c]

    return depthwise_pack


#: ``slots``: for each of the K taps, its place in ``dw``. ``sum``: room for the gradient of one
#: channel for each thread. ``function`` and ``function_args``: the optimizer's kernel
#: (:mod:`update`), for the flat vector from ``weight_start`` on.
UPDATE = record(
    *("dw", "dw_thread", "db", "db_thread", "w_row", "threads", "slots", "K", "sum", "sum_thread"),
    *("function", "function_args", "weight_start", "bias_start"),
)


def update(L: int) -> Any:
    """Make the kernel that adds up the threads' gradients of channels ``first`` to ``last``.

    It hands them to the optimizer and leaves zeros for the next step.
    """

    @kernel
    def depthwise_update(args, thread, first, last):  # type: ignore[no-untyped-def]
        a = carray(args, 1, UPDATE)[0]
        address = a.sum + 4 * thread * a.sum_thread
        total, slots, K = pointer(address), words_pointer(a.slots), a.K
        for c in range(first, last):
            for tap in range(K):
                g = ZERO
                for t in range(a.threads):
                    dw = pointer(a.dw + 4 * t * a.dw_thread)
                    g += dw[slots[tap] * a.w_row + c]
                    dw[slots[tap] * a.w_row + c] = ZERO
                total[tap] = g
            start = a.weight_start + c * K
            invoke(a.function, a.function_args, address, start, start + K)
        for c in range(first, last, L):
            bias = splat(ZERO, L)
            for t in range(a.threads):
                db = pointer(a.db + 4 * t * a.db_thread)
                bias = bias + load_first(db, c, last - c, L)
                store_first(db, c, splat(ZERO, L), last - c)
            if a.bias_start >= 0:
                store_first(total, 0, bias, last - c)
                start, stop = a.bias_start + c, a.bias_start + min(c + L, last)
                invoke(a.function, a.function_args, address, start, stop)

    return depthwise_update
