"""Convolution, alone or with the max-pool that follows it, forward and backward.

Twin of :mod:`tinyconv.ops.conv` and of the max-pool of :mod:`tinyconv.ops.pool`.

Images are channels-last here, (N, H, W, C), zero padding included. A kernel row of one window is
then a *run* of KW * C neighbouring numbers, read straight from the input: no column buffer. With
a dilation, a run is the C channels of one kernel element, and there are KW of them (``taps``).
Below, ``taps`` is 1 and ``run`` is KW * C unless the convolution is dilated.

Weights come in two packings, both made by :func:`pack`, padded with zeros:

- ``w``  (KH, taps, run, O up to whole tiles): a vector holds output channels, for the forward;
- ``wd`` (O, taps, KH, run up to whole tiles): a vector holds a piece of a run, for the backward.

Gradients of the weights are summed by each thread for itself, in the packing of its kernel.
"""

from typing import Any

import numpy as np
from numba import carray

from tinyconv.kernels.cpu.activation import RELU, activate_run, backward_run
from tinyconv.kernels.cpu.kernel import kernel, record
from tinyconv.kernels.cpu.simd import (
    bytes_pointer,
    ints_pointer,
    invoke,
    load_first,
    pointer,
    splat,
    store,
)
from tinyconv.kernels.cpu.tiles import (
    add_rows,
    add_scaled,
    first_bit,
    load_tile,
    nonzero_lanes,
    outer,
    rectified,
    store_tile,
    window_best,
    zeros,
)

__all__ = [
    "BACKWARD",
    "FORWARD",
    "PACK",
    "UPDATE",
    "dense_backward",
    "forward",
    "max_backward",
    "pack",
    "small_max_backward",
    "update",
]

#: ``*_sample``, ``*_row``: distance in numbers between samples and between rows of an image.
#: ``x_tap``: between taps; ``x_down`` and ``x_along``: between windows of the convolution.
#: OH, OW: size of the output, after a pooling. ``z``: laid out as y, what the activation is of;
#: y itself where nobody wants it afterwards.
FORWARD = record(
    *("x", "x_sample", "x_row", "x_tap", "x_down", "x_along", "w", "b", "z"),
    *("y", "y_sample", "y_row", "winners", "KH", "taps", "run", "O", "OH", "OW"),
    floats=("parameter",),
)


def forward(L: int, V: int, PH: int, PW: int, N: int, A: int, O: int) -> Any:
    """Make the kernel y = activation(max_pool(conv(x, w) + b)).

    A tile holds all PH * PW positions of N pooling windows that lie side by side, for V vectors
    of output channels, so that pooling happens in registers. Without pooling, PH = PW = 1.

    The last tile of a row starts early enough to end with the row, and computes some windows a
    second time. An increasing activation may come after the maximum even where the network has
    it before.
    """
    R, W, VL = PH * PW * N, PW * N, V * L

    @kernel
    def conv(args, thread, first, last):  # type: ignore[no-untyped-def]
        a = carray(args, 1, FORWARD)[0]
        x, w, b, y, z = pointer(a.x), pointer(a.w), pointer(a.b), pointer(a.y), pointer(a.z)
        winners = bytes_pointer(a.winners)
        OW, run, KH, taps = a.OW, a.run, a.KH, a.taps
        x_row, x_tap, x_down, x_along = a.x_row, a.x_tap, a.x_down, a.x_along
        blocks = (O + VL - 1) // VL
        for n in range(first, last):
            for oh in range(a.OH):
                row = n * a.y_sample + oh * a.y_row
                for tile in range((OW + N - 1) // N):
                    ow = min(tile * N, OW - N)
                    start = n * a.x_sample + oh * PH * x_down + ow * PW * x_along
                    for block in range(blocks):
                        o = block * VL
                        acc = load_tile(b, o, R, 0, V, L)
                        j = o
                        for kh in range(KH):
                            for tap in range(taps):
                                i = start + kh * x_row + tap * x_tap
                                for q in range(i, i + run):
                                    acc = outer(acc, R, x, q, x_down, W, x_along, w, j)
                                    j += blocks * VL
                        place = row + ow * O + o
                        best = window_best(winners, place, O, PH, PW, N, acc, O - o)
                        if A == RELU:
                            best = rectified(best)
                        store_tile(z, place, N, O, best, O - o)
                if A != RELU:
                    activate_run(z, row, y, row, OW * O, A, a.parameter, L)

    return conv


#: As above, but ``y`` is z where the activation's slope needs that. ``dy`` (N, OH, OW, O) becomes
#: dz. Each thread owns a piece of ``dw``, ``db`` and the lists, at ``thread`` times the distance
#: named ``*_thread``. ``run_padded``: of ``wd``, and of the sparse ``dw``, whose packing it shares;
#: the dense ``dw`` is (KH, taps, ``dw_rows``, ``dw_row``), that is (..., run and then some, O and
#: then some). ``block``: samples whose input fits the first cache.
BACKWARD = record(
    *("x", "x_sample", "x_row", "x_tap", "x_down", "x_along", "wd", "run_padded"),
    *("y", "y_sample", "y_row", "dy", "dy_sample", "dy_row", "winners", "dx"),
    *("dw", "dw_thread", "dw_rows", "dw_row", "db", "db_thread", "block"),
    *("positions", "values", "counts", "list_thread", "list_channel", "counts_thread"),
    *("KH", "taps", "run", "O", "OH", "OW"),
    floats=("parameter",),
)

ONE, ZERO = np.float32(1), np.float32(0)


def max_backward(L: int, V: int, R: int, REST: int, PH: int, PW: int, A: int, DX: bool) -> Any:
    """Make the backward kernel of convolution and max-pool, which exploits that dz is sparse.

    Of each window only the winner carries gradient, and only where the activation is alive. For
    each channel the winners of a block of samples are listed with their gradient. Then

        dw[o, kh, :] = sum of g * x[h + kh, w : w + KW, :]    over the list of channel o
        dx[h + kh, w : w + KW, :] += g * w[o, kh, :]          over the channels that won at (h, w)

    and every term is a run. A tile holds R kernel rows (``REST`` the last time) of V vectors.
    """
    VL = V * L

    @kernel
    def conv_max_backward(args, thread, first, last):  # type: ignore[no-untyped-def]
        a = carray(args, 1, BACKWARD)[0]
        x, y, dy, wd, dx = pointer(a.x), pointer(a.y), pointer(a.dy), pointer(a.wd), pointer(a.dx)
        winners = bytes_pointer(a.winners)
        dw, db = pointer(a.dw + 4 * thread * a.dw_thread), pointer(a.db + 4 * thread * a.db_thread)
        positions = ints_pointer(a.positions + 4 * thread * a.list_thread)
        values = pointer(a.values + 4 * thread * a.list_thread)
        counts = ints_pointer(a.counts + 4 * thread * a.counts_thread)
        O, OH, OW, KH, taps, padded = a.O, a.OH, a.OW, a.KH, a.taps, a.run_padded
        x_sample, x_row, x_tap, x_down, x_along = a.x_sample, a.x_row, a.x_tap, a.x_down, a.x_along
        capacity = a.list_channel
        for n0 in range(first, last, a.block):
            n1 = min(n0 + a.block, last)
            x0 = n0 * x_sample
            for n in range(n0, n1):
                for oh in range(OH):
                    i, row = n * a.dy_sample + oh * a.dy_row, n * a.y_sample + oh * a.y_row
                    backward_run(dy, i, y, row, OW * O, A, a.parameter, L)

            for o in range(O):
                counts[o] = 0
            for n in range(n0, n1):
                for oh in range(OH):
                    i, row = n * a.dy_sample + oh * a.dy_row, n * a.y_sample + oh * a.y_row
                    for ow in range(OW):
                        start = n * x_sample - x0 + oh * PH * x_down + ow * PW * x_along
                        for block in range(0, O, L):
                            place = i + ow * O + block
                            bits = nonzero_lanes(load_first(dy, place, O - block, L))
                            while bits:
                                o = block + first_bit(bits)
                                bits &= bits - 1
                                winner = winners[row + ow * O + o]
                                count = counts[o]
                                counts[o] = count + 1
                                positions[o * capacity + count] = (
                                    start + winner // PW * x_down + winner % PW * x_along
                                )
                                values[o * capacity + count] = dy[i + ow * O + o]

            for o in range(O):
                count = counts[o]
                listed = o * capacity
                bias = ZERO
                for k in range(listed, listed + count):
                    bias += values[k]
                db[o] += bias
                for tap in range(taps):
                    for kh in range(0, KH, R):
                        source = x0 + tap * x_tap + kh * x_row
                        target = ((o * taps + tap) * KH + kh) * padded
                        for q in range(0, padded, VL):
                            if kh + R <= KH:
                                acc = load_tile(dw, target + q, R, padded, V, L)
                                for k in range(listed, listed + count):
                                    i = source + q + positions[k]
                                    acc = add_scaled(acc, R, values[k], x, i, x_row)
                                store_tile(dw, target + q, R, padded, acc, VL)
                            else:
                                rest = load_tile(dw, target + q, REST, padded, V, L)
                                for k in range(listed, listed + count):
                                    i = source + q + positions[k]
                                    rest = add_scaled(rest, REST, values[k], x, i, x_row)
                                store_tile(dw, target + q, REST, padded, rest, VL)

            if DX:
                for n in range(n0, n1):
                    for i in range(n * x_sample, (n + 1) * x_sample, L):
                        store(dx, i, splat(ZERO, L))
                    for oh in range(OH):
                        for ow in range(OW):
                            # The lists are used again: which channels won at each position.
                            for p in range(PH * PW):
                                counts[p] = 0
                            i = n * a.dy_sample + oh * a.dy_row + ow * O
                            row = n * a.y_sample + oh * a.y_row + ow * O
                            for block in range(0, O, L):
                                bits = nonzero_lanes(load_first(dy, i + block, O - block, L))
                                while bits:
                                    o = block + first_bit(bits)
                                    bits &= bits - 1
                                    p = winners[row + o]
                                    place = p * O + counts[p]
                                    counts[p] += 1
                                    positions[place] = o * taps * KH * padded
                                    values[place] = dy[i + o]
                            corner = n * x_sample + oh * PH * x_down + ow * PW * x_along
                            for p in range(PH * PW):
                                count = counts[p]
                                if count == 0:
                                    continue
                                listed = p * O
                                start = corner + p // PW * x_down + p % PW * x_along
                                for tap in range(taps):
                                    for kh in range(0, KH, R):
                                        target = start + tap * x_tap + kh * x_row
                                        source = (tap * KH + kh) * padded
                                        for q in range(0, padded, VL):
                                            if kh + R <= KH:
                                                acc = load_tile(dx, target + q, R, x_row, V, L)
                                                for k in range(listed, listed + count):
                                                    j = source + q + positions[k]
                                                    acc = add_scaled(
                                                        acc, R, values[k], wd, j, padded
                                                    )
                                                store_tile(dx, target + q, R, x_row, acc, VL)
                                            else:
                                                rest = load_tile(dx, target + q, REST, x_row, V, L)
                                                for k in range(listed, listed + count):
                                                    j = source + q + positions[k]
                                                    rest = add_scaled(
                                                        rest, REST, values[k], wd, j, padded
                                                    )
                                                store_tile(dx, target + q, REST, x_row, rest, VL)

    return conv_max_backward


def small_max_backward(L: int, V: int, R: int, PH: int, PW: int, A: int) -> Any:
    """Make the backward kernel of convolution and max-pool that needs no dx, of a small ``w[o]``.

    Where all R kernel rows of V vectors are one small tile (of one input channel, say), lists of
    the winners that are alive would take longer to make than they save: all are gone through.
    Two tiles take turns, so that a sum need not wait for the one before it.
    """
    VL = V * L

    @kernel
    def conv_small_max_backward(args, thread, first, last):  # type: ignore[no-untyped-def]
        a = carray(args, 1, BACKWARD)[0]
        x, y, dy = pointer(a.x), pointer(a.y), pointer(a.dy)
        winners = bytes_pointer(a.winners)
        dw, db = pointer(a.dw + 4 * thread * a.dw_thread), pointer(a.db + 4 * thread * a.db_thread)
        O, OH, OW = a.O, a.OH, a.OW
        x_sample, x_row, x_down, x_along = a.x_sample, a.x_row, a.x_down, a.x_along
        for n0 in range(first, last, a.block):
            n1 = min(n0 + a.block, last)
            for n in range(n0, n1):
                for oh in range(OH):
                    i, row = n * a.dy_sample + oh * a.dy_row, n * a.y_sample + oh * a.y_row
                    backward_run(dy, i, y, row, OW * O, A, a.parameter, L)
            for o in range(O):
                target = o * R * VL
                acc, other = load_tile(dw, target, R, VL, V, L), zeros(R, V, L)
                bias = ZERO
                for n in range(n0, n1):
                    for oh in range(OH):
                        i = n * a.dy_sample + oh * a.dy_row + o
                        row = n * a.y_sample + oh * a.y_row + o
                        start = n * x_sample + oh * PH * x_down
                        for _ in range(OW // 2):
                            winner = winners[row]
                            j = start + winner // PW * x_down + winner % PW * x_along
                            acc = add_scaled(acc, R, dy[i], x, j, x_row)
                            winner = winners[row + O]
                            j = start + winner // PW * x_down + winner % PW * x_along
                            j += PW * x_along
                            other = add_scaled(other, R, dy[i + O], x, j, x_row)
                            bias += dy[i] + dy[i + O]
                            i += 2 * O
                            row += 2 * O
                            start += 2 * PW * x_along
                        if OW % 2:
                            winner = winners[row]
                            j = start + winner // PW * x_down + winner % PW * x_along
                            acc = add_scaled(acc, R, dy[i], x, j, x_row)
                            bias += dy[i]
                db[o] += bias
                store_tile(dw, target, R, VL, acc, VL)
                add_rows(dw, target, R, VL, other, R)

    return conv_small_max_backward


def dense_backward(L: int, VO: int, RQ: int, LQ: int, VQ: int, RP: int, A: int, DX: bool) -> Any:
    """Make the backward kernel of a convolution alone, whose dz has no zeros worth a search.

        dw[kh, q, o] = sum over positions of x[position, kh, q] * dz[position, o]
        dx[position, kh, q] += sum over o of dz[position, o] * w[o, kh, q]

    The first in tiles of RQ elements of a run by VO vectors of L channels, the second in tiles of
    RP positions of a row by VQ vectors of LQ elements of a run.
    """
    VOL, VQL = VO * L, VQ * LQ

    @kernel
    def conv_backward(args, thread, first, last):  # type: ignore[no-untyped-def]
        a = carray(args, 1, BACKWARD)[0]
        x, y, dy, wd, dx = pointer(a.x), pointer(a.y), pointer(a.dy), pointer(a.wd), pointer(a.dx)
        dw, db = pointer(a.dw + 4 * thread * a.dw_thread), pointer(a.db + 4 * thread * a.db_thread)
        O, OH, OW, KH, taps, padded = a.O, a.OH, a.OW, a.KH, a.taps, a.run_padded
        x_sample, x_row, x_tap, x_down, x_along = a.x_sample, a.x_row, a.x_tap, a.x_down, a.x_along
        dy_row = a.dy_row
        for n0 in range(first, last, a.block):
            n1 = min(n0 + a.block, last)
            for n in range(n0, n1):
                for oh in range(OH):
                    i = n * a.dy_sample + oh * dy_row
                    row = n * a.y_sample + oh * a.y_row
                    backward_run(dy, i, y, row, OW * O, A, a.parameter, L)
            for o in range(0, a.dw_row, VOL):
                bias = load_tile(db, o, 1, 0, VO, L)
                for n in range(n0, n1):
                    for oh in range(OH):
                        i = n * a.dy_sample + oh * dy_row + o
                        for position in range(i, i + OW * O, O):
                            bias = add_scaled(bias, 1, ONE, dy, position, 0)
                store_tile(db, o, 1, 0, bias, VOL)
                for kh in range(KH):
                    for tap in range(taps):
                        offset = kh * x_row + tap * x_tap
                        target = (kh * taps + tap) * a.dw_rows * a.dw_row + o
                        for q in range(0, a.run, RQ):
                            place = target + q * a.dw_row
                            acc = load_tile(dw, place, RQ, a.dw_row, VO, L)
                            for n in range(n0, n1):
                                for oh in range(OH):
                                    i = n * x_sample + oh * x_down + offset + q
                                    j = n * a.dy_sample + oh * dy_row + o
                                    for _ in range(OW):
                                        acc = outer(acc, RQ, x, i, 0, RQ, 1, dy, j)
                                        i += x_along
                                        j += O
                            store_tile(dw, place, RQ, a.dw_row, acc, VOL)
            if DX:
                for i in range(n0 * x_sample, n1 * x_sample, LQ):
                    store(dx, i, splat(ZERO, LQ))
                for kh in range(KH):
                    for tap in range(taps):
                        for q in range(0, padded, VQL):
                            source = (tap * KH + kh) * padded + q
                            for n in range(n0, n1):
                                for oh in range(OH):
                                    for ow in range(0, OW, RP):
                                        i = n * a.dy_sample + oh * dy_row + ow * O
                                        piece = zeros(RP, VQ, LQ)
                                        j = source
                                        for o in range(i, i + O):
                                            piece = outer(piece, RP, dy, o, 0, RP, O, wd, j)
                                            j += taps * KH * padded
                                        place = n * x_sample + oh * x_down + ow * x_along
                                        place += kh * x_row + tap * x_tap + q
                                        add_rows(dx, place, RP, x_along, piece, OW - ow)

    return conv_backward


PACK = record("weight", "bias", "w", "w_row", "wd", "b", "C", "KH", "KW", "taps", "run_padded")


def pack() -> Any:
    """Make the kernel that fills both packings of channels ``first`` to ``last``."""

    @kernel
    def conv_pack(args, thread, first, last):  # type: ignore[no-untyped-def]
        a = carray(args, 1, PACK)[0]
        weight, w, wd, b = pointer(a.weight), pointer(a.w), pointer(a.wd), pointer(a.b)
        C, KH, KW, taps, padded, w_row = a.C, a.KH, a.KW, a.taps, a.run_padded, a.w_row
        size = C * KH * KW
        bias = pointer(a.bias)
        if a.bias:
            for o in range(first, last):
                b[o] = bias[o]
        for kh in range(KH):
            for kw in range(KW):
                tap, within = (kw, 0) if taps > 1 else (0, kw)
                for c in range(C):
                    source = (c * KH + kh) * KW + kw
                    target = ((kh * KW + kw) * C + c) * w_row
                    for o in range(first, last):
                        w[target + o] = weight[o * size + source]
        if a.wd:
            for o in range(first, last):
                for kh in range(KH):
                    for kw in range(KW):
                        tap, within = (kw, 0) if taps > 1 else (0, kw)
                        target = ((o * taps + tap) * KH + kh) * padded + within * C
                        source = o * size + kh * KW + kw
                        for c in range(C):
                            wd[target + c] = weight[source + c * KH * KW]

    return conv_pack


#: ``dw_channel``, ``dw_kh``, ``dw_tap``, ``dw_q``: distances in a thread's ``dw``. ``sum``: room
#: for the gradient of one channel for each thread. ``function`` and ``function_args``: the
#: optimizer's kernel (:mod:`update`), for the flat vector from ``weight_start`` on.
UPDATE = record(
    *("dw", "dw_thread", "dw_channel", "dw_kh", "dw_tap", "dw_q", "db", "db_thread", "threads"),
    *("sum", "sum_thread", "C", "KH", "KW", "taps", "size"),
    *("function", "function_args", "weight_start", "bias_start"),
)


def update() -> Any:
    """Make the kernel that adds up the threads' gradients of channels ``first`` to ``last``.

    It hands them to the optimizer and leaves zeros for the next step.
    """

    @kernel
    def conv_update(args, thread, first, last):  # type: ignore[no-untyped-def]
        a = carray(args, 1, UPDATE)[0]
        total = pointer(a.sum + 4 * thread * a.sum_thread)
        C, KH, KW = a.C, a.KH, a.KW
        for o in range(first, last):
            for t in range(a.threads):
                dw = pointer(a.dw + 4 * (t * a.dw_thread + o * a.dw_channel))
                for kh in range(KH):
                    for kw in range(KW):
                        if a.taps > 1:
                            i = kh * a.dw_kh + kw * a.dw_tap
                        else:
                            i = kh * a.dw_kh + kw * C * a.dw_q
                        j = kh * KW + kw
                        for c in range(C):
                            g = dw[i + c * a.dw_q]
                            dw[i + c * a.dw_q] = ZERO
                            k = j + c * KH * KW
                            total[k] = g if t == 0 else total[k] + g
            start = a.weight_start + o * a.size
            invoke(
                a.function,
                a.function_args,
                a.sum + 4 * thread * a.sum_thread,
                start,
                start + a.size,
            )
        for o in range(first, last):
            g = ZERO
            for t in range(a.threads):
                db = pointer(a.db + 4 * t * a.db_thread)
                g += db[o]
                db[o] = ZERO
            total[o - first] = g
        if a.bias_start >= 0:
            start = a.bias_start + first
            stop = a.bias_start + last
            invoke(a.function, a.function_args, a.sum + 4 * thread * a.sum_thread, start, stop)

    return conv_update
