"""The backward pass of a convolution and the max-pool behind it, which exploits that dz is sparse.

Twin of :mod:`tinyconv.ops.conv` and :mod:`tinyconv.ops.pool`. Of each window of the pooling only
the winner carries gradient, and only where the activation is alive. With ``x_at[w, p]``, where
position p of window w begins in x (:mod:`conv`), and the gradient g of a winner there,

    dw[o, :] = sum of g * x[x_at[w, p] : ...]       over the winners (w, p) of channel o
    dx[x_at[w, p] : ...] += g * w[o, :]             over the channels o that won at (w, p)

and every term consists of runs: ``slabs`` times KH of them, where those of a slab lie ``x_row``
apart. A slab is a plane of the window or, with a dilation, an element of its rows. The weights
here, and dw, are (O, slabs, KH, run up to whole tiles).
"""

from typing import Any

import numpy as np
from numba import literally

from tinyconv.kernels.cpu.kernel import kernel, njit, record
from tinyconv.kernels.cpu.products import add_scaled, outer
from tinyconv.kernels.cpu.simd import (
    bytes_pointer,
    first_bit,
    fma,
    ints_pointer,
    load,
    load_first,
    nonzero_lanes,
    pointer,
    splat,
    store,
    total,
)
from tinyconv.kernels.cpu.tiles import (
    add_in_turn,
    apart,
    entries,
    load_tile,
    plus,
    store_tile,
    zeros,
)

#: ``x_at``: of each window its ``area`` positions. ``y_at``, ``dz_at``: the windows in y, whose
#: places the winners share, and in dz. ``slab_at``: where each slab begins, relative to a position.
#: Each thread owns a piece of ``dw``, ``db`` and the lists, at ``thread`` times the distance named
#: ``*_thread``. ``block``: samples whose input fits the first cache. ``list_channel``: room for
#: the winners of one channel.
BACKWARD = record(
    *("x", "x_sample", "x_at", "area", "windows", "O", "winners", "y_sample", "y_at"),
    *("dz", "dz_sample", "dz_at", "dx", "w", "slabs", "slab_at", "KH", "x_row", "run_padded"),
    *("dw", "dw_thread", "db", "db_thread", "block"),
    *("places", "values", "counts", "list_thread", "list_channel", "counts_thread"),
)

ZERO = np.float32(0)


@njit()
def nan_if_not_finite(x, start, stop, L):  # type: ignore[no-untyped-def]
    """0, or NaN if any number from ``x[start]`` on is infinite or NaN.

    A dense backward pass multiplies every number of x, by 0 if need be, and 0 times infinity is
    NaN. What is left out here must spoil dw as well, so that the step is refused.
    """
    lanes = splat(ZERO, literally(L))
    for i in range(start, stop, L):
        lanes = fma(load(x, i, literally(L)), splat(ZERO, literally(L)), lanes)
    return total(lanes)


@njit()
def list_winners(a, n, window, n0, places, values, counts, L, by_channel):  # type: ignore[no-untyped-def]
    """List the channels that won in a window and are alive.

    For each channel, if ``by_channel``: ``places`` gets where the winner's position begins in x,
    from sample n0 on. Otherwise for each position: ``places`` gets where the channel's weights
    begin. ``values`` gets the gradient of the winner, ``counts`` how many are in the list.
    """
    dz, winners, x_at = pointer(a.dz), bytes_pointer(a.winners), ints_pointer(a.x_at)
    i = n * a.dz_sample + ints_pointer(a.dz_at)[window]
    row = n * a.y_sample + ints_pointer(a.y_at)[window]
    for block in range(0, a.O, L):
        bits = nonzero_lanes(load_first(dz, i + block, a.O - block, literally(L)))
        while bits:
            o = block + first_bit(bits)
            bits &= bits - 1
            position = winners[row + o]
            if literally(by_channel):
                k = o * a.list_channel + counts[o]
                counts[o] += 1
                places[k] = (n - n0) * a.x_sample + x_at[window * a.area + position]
            else:
                k = position * a.O + counts[position]
                counts[position] += 1
                places[k] = o * a.slabs * a.KH * a.run_padded
            values[k] = dz[i + o]


@njit()
def add_listed(y, i, y_row, x, j, x_row, listed, R, V, L):  # type: ignore[no-untyped-def]
    """Add multiples of x to R rows of V vectors from ``y[i]`` on, which lie ``y_row`` apart.

    Entry k of the list adds ``values[k]`` times the rows from ``x[j + places[k]]`` on.
    """
    places, values, first, last = listed
    own, others = apart((0,), y_row, literally(R)), apart((0,), x_row, literally(R))
    acc = load_tile(y, i, own, literally(V), literally(L))
    for k in range(first, last):
        acc = add_scaled(acc, values[k], x, j + places[k], others)
    store_tile(y, i, own, acc, V * L)


@njit()
def add_runs(a, y, i, x, j, listed, R, REST, V, L, to_weight):  # type: ignore[no-untyped-def]
    """Add what is listed to all runs from ``y[i]`` on: of the weights, or of a window of dx.

    What is added lies in a window of x from ``x[j]`` on, or in the weights.
    """
    slab_at, padded = ints_pointer(a.slab_at), a.run_padded
    for slab in range(a.slabs):
        for kh in range(0, a.KH, R):
            weight, image = (slab * a.KH + kh) * padded, slab_at[slab] + kh * a.x_row
            to, source, to_row, row = i + image, j + weight, a.x_row, padded
            if literally(to_weight):
                to, source, to_row, row = i + weight, j + image, padded, a.x_row
            for q in range(0, padded, V * L):
                if kh + R <= a.KH:
                    add_listed(y, to + q, to_row, x, source + q, row, listed, R, V, L)
                else:
                    add_listed(y, to + q, to_row, x, source + q, row, listed, REST, V, L)


def backward(L: int, V: int, R: int, REST: int) -> Any:
    """Make the backward kernel, in tiles of R kernel rows, or REST the last time, by V vectors.

    There is a dx if the record has an address for it; its border gets what nobody reads.
    """

    @kernel(BACKWARD)
    def conv_max_backward(a, thread, first, last):  # type: ignore[no-untyped-def]
        x, dx, w, x_at = pointer(a.x), pointer(a.dx), pointer(a.w), ints_pointer(a.x_at)
        dw, db = pointer(a.dw + 4 * thread * a.dw_thread), pointer(a.db + 4 * thread * a.db_thread)
        places = ints_pointer(a.places + 4 * thread * a.list_thread)
        values = pointer(a.values + 4 * thread * a.list_thread)
        counts = ints_pointer(a.counts + 4 * thread * a.counts_thread)
        for n0 in range(first, last, a.block):
            n1 = min(n0 + a.block, last)
            dw[0] += nan_if_not_finite(x, n0 * a.x_sample, n1 * a.x_sample, L)
            for o in range(a.O):
                counts[o] = 0
            for n in range(n0, n1):
                for window in range(a.windows):
                    list_winners(a, n, window, n0, places, values, counts, L, 1)
            for o in range(a.O):
                begin, bias = o * a.list_channel, ZERO
                end = begin + counts[o]
                for k in range(begin, end):
                    bias += values[k]
                db[o] += bias
                listed = places, values, begin, end
                weight = o * a.slabs * a.KH * a.run_padded
                add_runs(a, dw, weight, x, n0 * a.x_sample, listed, R, REST, V, L, 1)
            if a.dx:
                for i in range(n0 * a.x_sample, n1 * a.x_sample, L):
                    store(dx, i, splat(ZERO, L))
                for n in range(n0, n1):
                    for window in range(a.windows):
                        for position in range(a.area):
                            counts[position] = 0
                        list_winners(a, n, window, n0, places, values, counts, L, 0)
                        for position in range(a.area):
                            begin = position * a.O
                            end = begin + counts[position]
                            if begin < end:
                                start = n * a.x_sample + x_at[window * a.area + position]
                                listed = places, values, begin, end
                                add_runs(a, dx, start, w, 0, listed, R, REST, V, L, 0)

    return conv_max_backward


#: ``x_at`` and ``dz_at`` list the windows of ``group`` samples one after the other, so that tiles
#: are full where a sample has few; the rest is that of :data:`BACKWARD`.
INPUT_GRADIENT = record(
    *("x_sample", "x_at", "windows", "group", "O", "dz", "dz_sample", "dz_at", "dx", "w", "slabs"),
    *("slab_at", "KH", "x_row", "run_padded", "adds"),
)


def input_gradient(L: int, V: int, N: int) -> Any:
    """Make the kernel of dx alone, of a dz that is dense: every channel won everywhere.

    For a convolution without a max-pool; what is in dx stays if the record ``adds``. A tile holds
    what V vectors of a run get from N windows, which are added to dx in turn, for they overlap.
    """
    VL = V * L

    @kernel(INPUT_GRADIENT)
    def conv_input_gradient(a, thread, first, last):  # type: ignore[no-untyped-def]
        x_at, dz_at, slab_at = ints_pointer(a.x_at), ints_pointer(a.dz_at), ints_pointer(a.slab_at)
        w, O, KH, padded, channel = pointer(a.w), a.O, a.KH, a.run_padded, a.slabs * a.KH
        channel *= padded
        for n in range(first, last, a.group):
            dx, dz = pointer(a.dx + 4 * n * a.x_sample), pointer(a.dz + 4 * n * a.dz_sample)
            samples = min(a.group, last - n)
            windows = samples * a.windows
            if not a.adds:
                for i in range(0, samples * a.x_sample, L):
                    store(dx, i, splat(ZERO, L))
            for line in range(a.slabs * KH):
                for q in range(0, padded, VL):
                    i = slab_at[line // KH] + line % KH * a.x_row + q
                    for tile in range(0, windows, N):
                        rows = entries(dz_at, tile, windows - 1, N, 1)
                        acc, j = zeros(N, V, L), line * padded + q
                        for o in range(O):
                            acc = outer(acc, dz, o, rows, w, j, 1)
                            j += channel
                        places = entries(x_at, tile, windows - 1, N, 1)
                        add_in_turn(dx, i, places, acc, windows - tile)

    return conv_input_gradient


def small_backward(L: int, V: int, R: int) -> Any:
    """Make the backward kernel without dx, for weights of R kernel rows of V vectors a channel.

    Where that is one small tile (of one input channel, say), lists of the winners that are alive
    would take longer to make than they save: all are gone through. Two tiles take turns, so that
    a sum need not wait for the one before it.
    """
    VL = V * L
    own = tuple(range(0, R * VL, VL))

    @kernel(BACKWARD)
    def conv_max_small_backward(a, thread, first, last):  # type: ignore[no-untyped-def]
        x, dz, winners = pointer(a.x), pointer(a.dz), bytes_pointer(a.winners)
        x_at, y_at, dz_at = ints_pointer(a.x_at), ints_pointer(a.y_at), ints_pointer(a.dz_at)
        dw, db = pointer(a.dw + 4 * thread * a.dw_thread), pointer(a.db + 4 * thread * a.db_thread)
        rows = apart((0,), a.x_row, R)
        for n0 in range(first, last, a.block):
            n1 = min(n0 + a.block, last)
            dw[0] += nan_if_not_finite(x, n0 * a.x_sample, n1 * a.x_sample, L)
            for o in range(a.O):
                acc, other = load_tile(dw, o * R * VL, own, V, L), zeros(R, V, L)
                bias = ZERO
                for n in range(n0, n1):
                    for window in range(a.windows):
                        g = dz[n * a.dz_sample + dz_at[window] + o]
                        winner = winners[n * a.y_sample + y_at[window] + o]
                        i = n * a.x_sample + x_at[window * a.area + winner]
                        bias += g
                        acc, other = other, add_scaled(acc, g, x, i, rows)
                db[o] += bias
                store_tile(dw, o * R * VL, own, plus(acc, other), VL)

    return conv_max_small_backward
