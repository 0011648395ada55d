"""Convolution in any number of dimensions, alone or with the max-pool that follows it.

Twin of :mod:`tinyconv.ops.conv` and, in the forward pass, of the max-pool of
:mod:`tinyconv.ops.pool`; the backward pass of the pair is :mod:`conv_max`.

Images are channels-last here, (N, D, H, W, C), zero padding included. Where things lie is told by
tables of int32, made once by the step:

- a *position* is where a window of the convolution begins: ``x_at[p]``;
- an *element* is a place in a window, relative to its beginning: ``elements[t]``, with t counting
  (KD, KH, KW, C) in this order.

So y[p, o] = sum over t of x[x_at[p] + elements[t]] * w[t, o], whatever the number of dimensions,
the stride and the dilation: a matrix product whose left side is read where it lies. Elements that
are neighbours in x are a *run* of KW * C numbers, or of C with a dilation.

Groups of few channels are not treated one by one. There every product is lane by lane: a vector
holds neighbouring outputs of one position, and for each of the I inputs of a group the vector of x
is brought into the order in which an output finds its group's input in its own lane.

The same product makes dx: with stride 1 it is a convolution of dz in a border of zeros, and with
a larger one there is such a convolution for each remainder of h and w by the stride.
"""

from typing import Any

import numpy as np

from tinyconv.kernels.cpu.kernel import kernel, record, record_at
from tinyconv.kernels.cpu.products import add_scaled, outer, products
from tinyconv.kernels.cpu.simd import (
    bytes_pointer,
    ints_pointer,
    invoke,
    load_first,
    pointer,
    splat,
    store,
    store_first,
)
from tinyconv.kernels.cpu.tiles import (
    apart,
    at_least,
    entries,
    gated,
    load_tile,
    plus,
    store_tile,
    sum_of,
    transpose,
    window_best,
)

#: The sizes of a convolution (ConvDims), which all its kernels share.
#:
#: ``*_sample``: numbers from one sample to the next. ``x_at``, ``y_at``: for each *part* of the
#: windows of the pooling, or the positions if there is none, those of ``group`` samples one after
#: the other, so that tiles are full. Windows of a part meet the same elements with numbers of x and
#: not zeros. ``parts``: for each of ``part_count`` its first window, how many it has, its
#: first span, and the one behind its last. ``spans``: the first of ``steps`` and the one behind the
#: last of each. ``steps``: entries of ``elements``, each for as many elements as the forward kernel
#: takes at a time. ``block``: a multiple of the group, whose x fit the second cache.
#: ``positions_at``, ``z_at``: the ``positions`` in x and in dz. ``rows``: where each of the
#: ``row_count`` runs begins, relative to a position.
DIMS = record(
    *("x_sample", "x_at", "elements", "steps", "y_sample", "y_at", "parts", "part_count", "spans"),
    *(
        "group",
        "O",
        "positions_at",
        "z_sample",
        "z_at",
        "positions",
        "rows",
        "row_count",
        "run",
        "run_padded",
        "block",
    ),
)

#: ``w`` (blocks of V * L channels, elements, V * L), padded with zeros. ``floor``: 0 makes the
#: ReLU of the result, minus infinity leaves it as it is. ``adds``: whether y is added to.
#: ``gate``: 0, or what is laid out as y, which becomes 0 where the gate is not positive.
#: ``direct``, ``direct_args``: 0, or what is asked if a sum is not finite: the same with all
#: elements for every window, as 0 times an infinite weight is NaN.
FORWARD = record(
    *("dims", "x", "w", "b", "y", "winners", "adds", "gate", "direct", "direct_args"),
    floats=("floor",),
)

ONE, ZERO = np.float32(1), np.float32(0)


def forward(L: int, V: int, N: int, S: int, P: int, O: int = 0) -> Any:
    """Make the kernel y = max(floor, max_pool(conv(x, w) + b)).

    A tile holds N windows of P positions for V vectors of output channels, so that pooling happens
    in registers; P is 1 without pooling. It takes S elements of a run at a time. The weights of a
    block of channels stay in the cache for a block of samples, and these for all such weights.
    In groups of few channels O of a group are outputs, S inputs, elements are those of one channel,
    and a window's channels come one after the other: none needs what another one reads.
    """
    VL, same = V * L, (0,) * (N * P)

    @kernel(FORWARD)
    def conv(a, thread, first, last):  # type: ignore[no-untyped-def]
        d = record_at(a.dims, DIMS)
        x_at, y_at, elements = ints_pointer(d.x_at), ints_pointer(d.y_at), ints_pointer(d.elements)
        parts, spans = ints_pointer(d.parts), ints_pointer(d.spans)
        b, is_doubtful = pointer(a.b), False
        width = d.O if O else VL  # of the channels that a tile's windows meet before the next
        for n0 in range(first, last, d.block):
            n1 = min(n0 + d.block, last)
            for block in range(0, d.O, width):
                w = pointer(a.w + 4 * block * S * d.steps)
                for n in range(n0, n1, d.group):
                    samples, place = min(d.group, n1 - n), n * d.y_sample + block
                    x = pointer(a.x + 4 * n * d.x_sample)
                    y, winners = pointer(a.y + 4 * place), bytes_pointer(a.winners + place)
                    for part in range(0, 4 * d.part_count, 4):
                        start = d.group * parts[part]
                        end = start + samples * parts[part + 1]
                        for tile in range(start, end, N):
                            rows = entries(x_at, tile, end - 1, N, P)
                            for c in range(0, width, VL):
                                acc, count = load_tile(b, block + c, same, V, L), d.O - block - c
                                for span in range(parts[part + 2], parts[part + 3]):
                                    j = (c * d.steps + spans[2 * span] * VL) * S
                                    for step in range(spans[2 * span], spans[2 * span + 1]):
                                        if O:
                                            i = elements[step] + c * S // O
                                            acc = products(acc, x, i, rows, w, j, S, O, 0)
                                        else:
                                            acc = outer(acc, x, elements[step], rows, w, j, S)
                                        j += S * VL
                                if a.direct and sum_of(acc) * ZERO != ZERO:
                                    is_doubtful = True
                                out = entries(y_at, tile, end - 1, N, 1)
                                best = at_least(window_best(winners, out, acc, P, count), a.floor)
                                if a.adds:
                                    best = plus(best, load_tile(y, c, out, V, L))
                                if a.gate:
                                    gate = pointer(a.gate + 4 * place)
                                    best = gated(best, load_tile(gate, c, out, V, L))
                                store_tile(y, c, out, best, count)
        if is_doubtful:
            invoke(a.direct, a.direct_args, thread, first, last)

    return conv


#: Each thread owns a piece of ``dw`` (blocks of V * L channels, ``row_count``, ``run_padded``,
#: V * L) and ``db``, at ``thread`` times the distance named ``*_thread``. ``chunk``: positions,
#: and ``block``: samples, whose x and dz fit the first cache.
WEIGHT_GRADIENT = record("dims", "x", "dz", "dw", "dw_thread", "db", "db_thread", "chunk", "block")


def weight_gradient(L: int, V: int, R: int, runs: int, O: int = 0) -> Any:
    """Make the kernel dw[t, o] += sum over positions of x[p + t] * dz[p, o], and db likewise.

    A tile holds R elements of a run, or all of several runs, by V vectors of channels while all
    positions of a chunk pass. The last tile may hold the last run more than once. In groups of few
    channels a run is the R inputs of a group, which has O outputs, at one tap.
    """
    VL, G = V * L, R * runs
    one, own = (0,), tuple(range(0, G * VL, VL))

    @kernel(WEIGHT_GRADIENT)
    def conv_weight_gradient(a, thread, first, last):  # type: ignore[no-untyped-def]
        d = record_at(a.dims, DIMS)
        x, dz = pointer(a.x), pointer(a.dz)
        dw, db = pointer(a.dw + 4 * thread * a.dw_thread), pointer(a.db + 4 * thread * a.db_thread)
        x_at, z_at = ints_pointer(d.positions_at), ints_pointer(d.z_at)
        rows = ints_pointer(d.rows)
        for n0 in range(first, last, a.block):
            n1 = min(n0 + a.block, last)
            for p0 in range(0, d.positions, a.chunk):
                p1, target = min(p0 + a.chunk, d.positions), 0
                for o in range(0, d.O, VL):
                    bias = load_tile(db, o, one, V, L)
                    for n in range(n0, n1):
                        j = n * d.z_sample + o
                        for p in range(p0, p1):
                            bias = add_scaled(bias, ONE, dz, j + z_at[p], one)
                    store_tile(db, o, one, bias, VL)
                    for row in range(0, d.row_count, runs):
                        at = entries(rows, row, d.row_count - 1, runs, 1)
                        each = apart(at, 1, R)
                        for q in range(0, d.run_padded, R):
                            acc = load_tile(dw, target, own, V, L)
                            for n in range(n0, n1):
                                i = n * d.x_sample + q
                                if O:
                                    i += o * R // O
                                j = n * d.z_sample + o
                                for p in range(p0, p1):
                                    k, z = i + x_at[p], j + z_at[p]
                                    if O:
                                        acc = products(acc, x, k, at, dz, z, R, O, 1)
                                    else:
                                        acc = outer(acc, x, k, each, dz, z, 1)
                            store_tile(dw, target, own, acc, VL)
                            target += G * VL

    return conv_weight_gradient


#: ``places`` and ``into``: where the first column of a row lies in ``weight`` and goes in ``w``.
#: The next columns follow ``column`` apart in ``weight`` and side by side in ``w``, where a block
#: of ``width`` of them begins ``w_block`` behind the one before.
PACK = record(
    *("weight", "places", "column", "columns", "w", "into", "width", "w_block", "bias", "b")
)


def pack(L: int) -> Any:
    """Make the kernel that arranges rows ``first`` to ``last`` of the weights for another kernel.

    What a row and a column are is the other kernel's affair: elements and output channels in the
    forward pass, for one. Up to L rows that are neighbours in ``weight`` and go to places in equal
    distances are transposed, L columns at a time.
    """

    @kernel(PACK)
    def conv_pack(a, thread, first, last):  # type: ignore[no-untyped-def]
        weight, w, column = pointer(a.weight), pointer(a.w), a.column
        places, into = ints_pointer(a.places), ints_pointer(a.into)
        row = first
        while row < last:
            place, goal, count, step = places[row], into[row], 1, 0
            if row + 1 < last:
                step = into[row + 1] - goal
            while count < min(L, last - row) and (
                places[row + count] == place + count and into[row + count] == goal + count * step
            ):
                count += 1
            for block in range(0, a.columns, a.width):
                i, j = place + block * column, goal + block // a.width * a.w_block
                columns = min(a.width, a.columns - block)
                if count > 1:
                    for c in range(0, columns, L):
                        rest = min(L, columns - c)
                        transpose(weight, i + c * column, column, rest, w, j + c, step, count, L)
                else:
                    for c in range(columns):
                        w[j + c] = weight[i + c * column]
            row += count
        if first == 0 and a.bias:
            b, bias = pointer(a.b), pointer(a.bias)
            for c in range(a.columns):
                b[c] = bias[c]

    return conv_pack


#: ``places``: for each of the ``size`` weights of a channel, in their order in the flat vector,
#: where a thread's ``dw`` has it; channels come in blocks of ``width`` at a distance of
#: ``dw_block``. ``sum``: room for the gradients of L channels for each thread, and behind them for
#: a square of L. ``function`` and ``function_args``: the optimizer's kernel (:mod:`update`), from
#: ``weight_start`` on.
UPDATE = record(
    *("dw", "dw_thread", "places", "size", "width", "dw_block", "db", "db_thread", "threads"),
    *("sum", "sum_thread", "function", "function_args", "weight_start", "bias_start"),
)


def update(L: int) -> Any:
    """Make the kernel that adds up the threads' gradients of channels ``first`` to ``last``.

    It hands them to the optimizer and leaves zeros for the next step. Where channels lie side by
    side, L of them are taken at a time, and squares of L channels and weights transposed.
    """

    @kernel(UPDATE)
    def conv_update(a, thread, first, last):  # type: ignore[no-untyped-def]
        address, places, size = a.sum + 4 * thread * a.sum_thread, ints_pointer(a.places), a.size
        total, square = pointer(address), pointer(address + 4 * L * max(size, 1))
        across = L if a.width > 1 else 1
        for o in range(first, last, across):
            channel, count = o // a.width * a.dw_block + o % a.width, min(across, last - o)
            if a.width > 1:
                for k in range(0, size, L):
                    weights = min(L, size - k)
                    for r in range(weights):
                        i = channel + places[k + r]
                        sums = splat(ZERO, L)
                        for t in range(a.threads):
                            dw = pointer(a.dw + 4 * t * a.dw_thread)
                            sums = sums + load_first(dw, i, count, L)
                            store_first(dw, i, splat(ZERO, L), count)
                        store(square, r * L, sums)
                    transpose(square, 0, L, weights, total, k, size, count, L)
            else:
                for k in range(size):
                    total[k] = ZERO
                    for t in range(a.threads):
                        dw = pointer(a.dw + 4 * (t * a.dw_thread + channel))
                        total[k] += dw[places[k]]
                        dw[places[k]] = ZERO
            start = a.weight_start + o * size
            invoke(a.function, a.function_args, address, start, start + count * size)
        for o in range(first, last):
            total[o - first] = ZERO
            for t in range(a.threads):
                db = pointer(a.db + 4 * t * a.db_thread)
                total[o - first] += db[o]
                db[o] = ZERO
        if a.bias_start >= 0:
            start, stop = a.bias_start + first, a.bias_start + last
            invoke(a.function, a.function_args, address, start, stop)

    return conv_update
