"""The fully connected layer with its activation: forward, input gradient, and weight gradient
together with the update.

Twin of :mod:`tinyconv.ops.linear`. Each is a matrix product. A layer with a small weight works
through samples, so that a thread needs nobody else's results; one with a big weight through the
rows of the weight, so that each thread reads and changes only its own, which stay in the cache of
its core (``by_features``).

All but the forward pass of samples that would leave lanes empty, which takes dot products along
the rows of both factors, make tiles of R rows by V vectors as sums of outer products: a column of R
numbers of one factor by a row of the other, of which a *panel*, as wide as a tile, stays in the
first cache while all tiles need it.
"""

from typing import Any

import numpy as np

from tinyconv.kernels.cpu.activation import activate, deactivate
from tinyconv.kernels.cpu.kernel import inner, kernel, record
from tinyconv.kernels.cpu.products import dots, outer, store_totals
from tinyconv.kernels.cpu.simd import (
    invoke,
    load,
    load_first,
    pointer,
    prefetch,
    splat,
    store,
    store_first,
    words_pointer,
)
from tinyconv.kernels.cpu.tiles import (
    apart,
    load_tile,
    multiples,
    store_tile,
    transpose,
    zeros,
)

#: Rows of a panel; of a narrow one of the forward pass, as many numbers at most.
DEPTH, PANEL = 128, 6656
#: Columns of the gradient of a weight that are made before the optimizer gets them.
WIDTH = 256
#: Numbers in a line of the cache.
LINE = 16
TILES = 10
#: Outputs whose rows of w stay in the second cache, and numbers of each, while samples pass.
OUTPUTS, LENGTH = 64, 1024
#: From one copied sample to the next: rows a page apart would be in each other's way in a cache.
ROW = LENGTH + LINE

#: ``n``: address of the number of samples in the batch. ``z``: laid out as y, what the activation
#: is of; y itself where nobody wants it afterwards. ``factors``: 0, or what the sums of each output
#: are multiplied by before the bias is added. ``wide``: samples of a panel of
#: :func:`forward_batch`, 0 where there are no panels. For :func:`forward_batch`, of each thread:
#: ``panels``, room for I numbers of all its samples, their number rounded up to whole panels;
#: ``sums``, for TILES * R numbers of each.
FORWARD = record(
    *("x", "x_sample", "w", "b", "factors", "z", "y", "y_sample", "I", "O", "n", "by_features"),
    *("wide", "panels", "panels_thread", "sums", "sums_thread"),
    floats=("parameter",),
)


@inner
def fills_panels(a):  # type: ignore[no-untyped-def]
    """Whether a batch is :func:`forward_batch`'s, as at most an eighth of its lanes are empty.

    The sums of the two differ in the last bits, so the batch chooses, not the plan that it meets.
    """
    n = words_pointer(a.n)[0]
    return a.wide > 0 and 8 * n >= 7 * a.wide * ((n + a.wide - 1) // a.wide)


def forward(L: int, R: int, Q: int) -> Any:
    """Make the kernel z = x w^T: [N x I] * [I x O] -> [N x O], for any number of samples.

    A tile holds R x Q dot products, lane by lane. Rows of w pass by two tiles' samples, which stay
    in the first cache. Nothing is read but what x holds: it may be the caller's.
    """
    BLOCK = OUTPUTS // Q * Q

    @kernel(FORWARD)
    def linear(a, thread, first, last):  # type: ignore[no-untyped-def]
        if fills_panels(a):
            return
        x, w, z = pointer(a.x), pointer(a.w), pointer(a.z)
        room = pointer(a.panels + 4 * thread * a.panels_thread)
        I, x_sample, y_sample = a.I, a.x_sample, a.y_sample
        n0, n1, o0, o1 = first, last, 0, a.O
        if a.by_features:
            n0, n1, o0, o1 = 0, words_pointer(a.n)[0], first, last
        pieces = (I + LENGTH - 1) // LENGTH
        width = (I + pieces * L - 1) // (pieces * L) * L
        # Vectors as long as a line of the cache lie in two of them each if samples begin anywhere:
        # a copy on lines pays where it meets many outputs.
        copies = L == LINE and o1 - o0 >= OUTPUTS // 2 and (a.x % (4 * LINE) or x_sample % LINE)
        for kb in range(0, I, width):
            ke = min(kb + width, I)
            whole = kb + (ke - kb) // L * L
            for ob in range(o0, o1, BLOCK):
                for nb in range(n0, n1, 2 * R):
                    ne, rows, start, row = min(nb + 2 * R, n1), x, nb * x_sample, x_sample
                    if copies:
                        rows, start, row = room, -kb, ROW
                    for n in range(nb, ne if copies else nb):
                        for k in range(kb, whole, L):
                            values = load(x, n * x_sample + k, L)
                            store(room, (n - nb) * ROW + k - kb, values)
                    for o in range(ob, min(ob + BLOCK, o1), Q):
                        for n in range(nb, ne, R):
                            i, j, count, units = start + (n - nb) * row, o * I, n1 - n, o1 - o
                            at, to = multiples(row, R, count), multiples(I, Q, units)
                            acc = zeros(R, Q, L)
                            for k in range(kb, whole, L):
                                acc = dots(acc, rows, i + k, at, w, j + k, to, L)
                            if whole < ke:
                                i, j, k = n * x_sample + whole, j + whole, ke - whole
                                acc = dots(acc, x, i, multiples(x_sample, R, count), w, j, to, k)
                            place, at = n * y_sample + o, multiples(y_sample, R, count)
                            store_totals(z, place, at, acc, units, int(kb > 0))

    return linear


def finish(L: int, A: int) -> Any:
    """Make the kernel y = activation(factors * z + b), in which z becomes the slope if kept."""

    @kernel(FORWARD)
    def linear_finish(a, thread, first, last):  # type: ignore[no-untyped-def]
        b, y, z, factors = pointer(a.b), pointer(a.y), pointer(a.z), pointer(a.factors)
        for n in range(first, last):
            for o in range(0, a.O, L):
                i = n * a.y_sample + o
                value = load(z, i, L)
                if a.factors:
                    value = value * load_first(factors, o, a.O - o, L)
                if a.b:
                    value = value + load_first(b, o, a.O - o, L)
                if a.z != a.y:
                    slope = deactivate(A, splat(np.float32(1), L), value, a.parameter)
                    store_first(z, i, slope, a.O - o)
                store_first(y, i, activate(A, value, a.parameter), a.O - o)

    return linear_finish


def forward_batch(L: int, R: int, V: int) -> Any:
    """Make the kernel z^T = w x^T: [O x I] * [I x N] -> [O x N], for samples that fill lanes.

    x is transposed first, z in the end. So the weight, the largest factor, is read as it lies.
    """
    VL = V * L
    ROWS = TILES * R
    MOST = PANEL // VL
    own = tuple(range(0, R * VL, VL))

    @kernel(FORWARD)
    def linear_forward_batch(a, thread, first, last):  # type: ignore[no-untyped-def]
        if not fills_panels(a):
            return
        x, w, z = pointer(a.x), pointer(a.w), pointer(a.z)
        panels = pointer(a.panels + 4 * thread * a.panels_thread)
        sums = pointer(a.sums + 4 * thread * a.sums_thread)
        I, x_sample, y_sample = a.I, a.x_sample, a.y_sample
        n0, n1, o0, o1 = first, last, 0, a.O
        if a.by_features:
            n0, n1, o0, o1 = 0, words_pointer(a.n)[0], first, last
        # Panels hold up to ``depth`` rows of VL samples; what is behind the last meets nobody.
        count, pieces = (n1 - n0 + VL - 1) // VL, (I + MOST - 1) // MOST
        depth = (I + pieces * LINE - 1) // (pieces * LINE) * LINE
        share = (depth // LINE + count - 1) // count * LINE
        for ob in range(o0, o1, ROWS):
            oe = min(ob + ROWS, o1)
            for kb in range(0, I, depth):
                ke = min(kb + depth, I)
                # Panels that no other outputs need are written over by the next.
                place = kb * count * VL if o1 - o0 > ROWS else 0
                for n in range(0, count * VL if ob == o0 else 0, L):
                    panel, v = place + n // VL * (ke - kb) * VL, n % VL
                    for k in range(kb, ke, L):
                        i, j = (n0 + n) * x_sample + k, panel + (k - kb) * VL + v
                        transpose(x, i, x_sample, n1 - n0 - n, panels, j, VL, ke - k, L)
                for p in range(count):
                    panel = place + p * (ke - kb) * VL
                    for o in range(ob, oe, R):
                        rows = multiples(I, R, oe - o)
                        # Each panel fetches a share of what comes next of these rows, or of others.
                        ahead = o * I + ke if ke < I else (o + ROWS) * I
                        for k in range(p * share, min(p * share + share, depth), LINE):
                            for r in range(R):
                                prefetch(w, ahead + r * I + k)
                        tile = (p * ROWS + o - ob) * VL
                        acc = load_tile(sums, tile, own, V, L) if kb else zeros(R, V, L)
                        i = o * I + kb
                        for k in range(ke - kb):
                            acc = outer(acc, w, i + k, rows, panels, panel + k * VL, 1)
                        store_tile(sums, tile, own, acc, VL)
            for n in range(0, count * VL, L):
                place, v = n // VL * ROWS, n % VL
                for o in range(ob, oe, L):
                    i, j = (place + o - ob) * VL + v, (n0 + n) * y_sample + o
                    transpose(sums, i, VL, oe - o, z, j, y_sample, n1 - n0 - n, L)

    return linear_forward_batch


#: ``panel``: room for DEPTH rows of a panel for each thread. ``parts``: where threads behind the
#: first write what is to be added to dx, ``part`` numbers apart; if they share samples, dx and 0.
BACKWARD = record(
    *("dy", "dy_sample", "w", "dx", "dx_sample", "parts", "part", "I", "O", "n", "by_features"),
    "panel",
)


def backward(L: int, R: int, V: int) -> Any:
    """Make the kernel dx = dz w: [N x O] * [O x I] -> [N x I], a sum over blocks of outputs.

    By features, each thread sums over its own outputs.
    """
    VL = V * L

    @kernel(BACKWARD)
    def linear_backward(a, thread, first, last):  # type: ignore[no-untyped-def]
        dy, w = pointer(a.dy), pointer(a.w)
        dx = pointer(a.parts + 4 * (thread - 1) * a.part if thread > 0 else a.dx)
        panel = pointer(a.panel + 4 * thread * DEPTH * VL)
        I, dy_sample, dx_sample = a.I, a.dy_sample, a.dx_sample
        n0, n1, o0, o1 = first, last, 0, a.O
        if a.by_features:
            n0, n1, o0, o1 = 0, words_pointer(a.n)[0], first, last
        for start in range(0, I, WIDTH):
            stop = min(start + WIDTH, I)
            for o in range(o0, o1, DEPTH):
                depth = min(DEPTH, o1 - o)
                for c in range(start, stop, VL):
                    # Rows of the weight lie far apart, and no vector may leave the last one.
                    for k in range(depth):
                        for v in range(0, VL, L):
                            row = load_first(w, (o + k) * I + c + v, I - c - v, L)
                            store(panel, k * VL + v, row)
                    # What comes next: a panel, of whose lines this one has touched the first, and
                    # later its factor, of which a line of each sample is fetched with each panel.
                    ahead, line = o * I + c + VL + LINE - 1, (c - start) // VL * LINE
                    if c + VL >= stop:
                        ahead = (o + DEPTH) * I + start if o + DEPTH < o1 else o0 * I + stop
                    share = depth * R // (n1 - n0) + 1
                    for n in range(n0, n1, R):
                        for r in range(R if line < DEPTH else 0):
                            prefetch(dy, (n + r) * dy_sample + o + DEPTH + line)
                        for _ in range(min(share, depth)):
                            for v in range(0, VL, LINE):
                                prefetch(w, ahead + v)
                            ahead += I
                        at, rows = multiples(dx_sample, R, n1 - n), multiples(dy_sample, R, n1 - n)
                        place = n * dx_sample + c
                        acc = load_tile(dx, place, at, V, L) if o > o0 else zeros(R, V, L)
                        i = n * dy_sample + o
                        for k in range(depth):
                            acc = outer(acc, dy, i + k, rows, panel, k * VL, 1)
                        store_tile(dx, place, at, acc, I - c)

    return linear_backward


#: Room for each thread: ``panels`` for WIDTH numbers of all samples, ``columns`` for its share of
#: dy and R numbers of all samples more, ``sum`` for the gradient of R rows of WIDTH numbers of the
#: weight. ``function`` and ``function_args``: the optimizer's kernel (:mod:`update`), for
#: the flat vector from ``weight_start`` on.
UPDATE = record(
    *("dy", "dy_sample", "x", "x_sample", "w", "I", "n", "panels", "panels_thread", "columns"),
    *("columns_thread", "sum", "sum_thread", "function", "function_args"),
    *("weight_start", "bias_start"),
)


def update(L: int, R: int, V: int) -> Any:
    """Make the kernel dw = dz^T x: [O x N] * [N x I] -> [O x I], which hands dw to the optimizer.

    Rows ``first`` to ``last`` of dw are made and used R at a time, while they are in the first
    cache; a gradient of the size of the weight is never written to memory.
    """
    VL, side = V * L, tuple(range(R))

    @kernel(UPDATE)
    def linear_update(a, thread, first, last):  # type: ignore[no-untyped-def]
        dy, x, w = pointer(a.dy), pointer(a.x), pointer(a.w)
        address = a.sum + 4 * thread * a.sum_thread
        dw, panel = pointer(address), pointer(a.panels + 4 * thread * a.panels_thread)
        columns = pointer(a.columns + 4 * thread * a.columns_thread)
        I, N, dy_sample, x_sample = a.I, words_pointer(a.n)[0], a.dy_sample, a.x_sample
        for o in range(first, last, R):
            for n in range(N):
                # What is written beyond R numbers is written over by the next.
                store(columns, (o - first) * N + n * R, load(dy, n * dy_sample + o, L))
        packs = last - first >= 4 * R
        for c in range(0, I, WIDTH):
            width = min(WIDTH, I - c)
            if packs:
                for tile in range(0, width, VL):
                    for n in range(N):
                        for v in range(0, VL, L):
                            row = load(x, n * x_sample + c + tile + v, L)
                            store(panel, tile * N + n * VL + v, row)
            for o in range(first, last, R):
                stop = min(o + R, last)
                for tile in range(0, width, VL):
                    for r in range(R):
                        for v in range(0, VL, LINE):
                            prefetch(w, (o + r) * I + c + tile + v)
                    factor, j, step = panel, tile * N, VL
                    if not packs:
                        factor, j, step = x, c + tile, x_sample
                    acc, i = zeros(R, V, L), (o - first) * N
                    for n in range(N):
                        acc = outer(acc, columns, i + n * R, side, factor, j + n * step, 1)
                    store_tile(dw, tile, apart((0,), width, R), acc, width - tile)
                if width == I:
                    start, end = a.weight_start + o * I, a.weight_start + stop * I
                    invoke(a.function, a.function_args, address, start, end)
                else:
                    for row in range(o, stop):
                        start, sums = a.weight_start + row * I + c, address + 4 * (row - o) * width
                        invoke(a.function, a.function_args, sums, start, start + width)
        if a.bias_start >= 0:
            for o in range(first, last, L):
                bias = load(dy, o, L)
                for j in range(o + dy_sample, o + N * dy_sample, dy_sample):
                    bias = bias + load(dy, j, L)
                store_first(dw, 0, bias, last - o)
                start, stop = a.bias_start + o, a.bias_start + min(o + L, last)
                invoke(a.function, a.function_args, address, start, stop)

    return linear_update
