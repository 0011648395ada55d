"""Batch and group normalisation, with the activation behind them, forward and backward.

Twin of ``batch_norm`` and ``group_norm`` in :mod:`tinyconv.ops.norm`. Both are made of the same
passes over images, channel by channel, and differ only in how the sums of the channels of the
samples are joined between them:

    moments     mean and sum of squares of each channel of each sample
    statistics  of a channel over the batch, or of a group of channels of a sample
    normalize   y = activation((x - mean) * scale + shift)

    sums        of dz and of dz * (x - mean), for each channel of each sample
    gradients   what they mean for dx, again over the batch or over a group
    backward    dx = inverse * (factor * dz + slope * (x - mean) + offset)

``factor`` and ``shift`` are the layer's parameters, ``inverse`` is 1 / sqrt(variance + eps), and
``scale`` is factor * inverse.

What is kept for each sample is a row of C numbers ("rows" below). So no result depends on how the
threads share the samples out.
"""

from typing import Any

import numpy as np

from tinyconv.kernels.cpu.activation import activate, deactivate
from tinyconv.kernels.cpu.kernel import images, kernel, record
from tinyconv.kernels.cpu.simd import (
    fma,
    invoke,
    load,
    load_first,
    maximum,
    pointer,
    splat,
    sqrt,
    store,
    store_first,
    words_pointer,
)

ZERO, ONE = np.float32(0), np.float32(1)

#: Images of C channels in ``lines`` = planes * ``rows`` rows of W positions. ``mean``, ``scale``,
#: ``inverse``, ``slope``, ``offset``: rows, ``stats_sample`` apart, or one for all samples if
#: that is 0. ``factor``, ``shift``: (C,). ``sum1`` and ``sum2``: rows, ``sums_sample`` apart.
ARGS = record(
    *images("x", "y", "dx", "dy"),
    *("lines", "rows", "W", "C", "factor", "shift", "mean", "scale", "inverse", "slope", "offset"),
    *("stats_sample", "sum1", "sum2", "sums_sample"),
    floats=("parameter",),
)


def moments(L: int) -> Any:
    """Make the kernel of each channel's mean (``sum1``) and sum of squares around it (``sum2``).

    The sums are of the distances from the mean of the first line, so that little cancels in
    what is left of them.
    """

    @kernel(ARGS)
    def norm_moments(a, thread, first, last):  # type: ignore[no-untyped-def]
        x, mean, square = pointer(a.x), pointer(a.sum1), pointer(a.sum2)
        C, W, lines, rows = a.C, a.W, a.lines, a.rows
        of_line, of_all = splat(np.float32(1 / W), L), splat(np.float32(1 / (lines * W)), L)
        for n in range(first, last):
            for c in range(0, C, L):
                start = n * a.x_sample + c
                pivot = splat(ZERO, L)
                for i in range(start, start + W * C, C):
                    pivot = pivot + load(x, i, L)
                pivot = pivot * of_line
                sum1, sum2 = splat(ZERO, L), splat(ZERO, L)
                for line in range(lines):
                    i = start + line // rows * a.x_plane + line % rows * a.x_row
                    s, t, q, r = splat(ZERO, L), splat(ZERO, L), splat(ZERO, L), splat(ZERO, L)
                    for _ in range(W // 2):  # two sums take turns: neither waits for the other
                        d, e = load(x, i, L) - pivot, load(x, i + C, L) - pivot
                        s, t = s + d, t + e
                        q, r = fma(d, d, q), fma(e, e, r)
                        i += 2 * C
                    if W % 2:
                        d = load(x, i, L) - pivot
                        s, q = s + d, fma(d, d, q)
                    sum1, sum2 = sum1 + (s + t), sum2 + (q + r)
                rest = sum1 * of_all
                store_first(mean, n * a.sums_sample + c, pivot + rest, C - c)
                spread = maximum(splat(ZERO, L), sum2 - sum1 * rest)
                store_first(square, n * a.sums_sample + c, spread, C - c)

    return norm_moments


def normalize(L: int, A: int) -> Any:
    """Make the kernel y = activation((x - mean) * scale + shift)."""

    @kernel(ARGS)
    def norm_normalize(a, thread, first, last):  # type: ignore[no-untyped-def]
        x, y, mean = pointer(a.x), pointer(a.y), pointer(a.mean)
        scale, shift = pointer(a.scale), pointer(a.shift)
        C, W, rows, p = a.C, a.W, a.rows, a.parameter
        for n in range(first, last):
            for line in range(a.lines):
                i = n * a.x_sample + line // rows * a.x_plane + line % rows * a.x_row
                j = n * a.y_sample + line // rows * a.y_plane + line % rows * a.y_row
                for c in range(0, C, L):
                    k = n * a.stats_sample + c
                    m, s, b = load(mean, k, L), load(scale, k, L), load(shift, c, L)
                    for w in range(c, c + W * C, C):
                        z = fma(load(x, i + w, L) - m, s, b)
                        store_first(y, j + w, activate(A, z, p), C - c)

    return norm_normalize


def sums(L: int, A: int, Y: bool) -> Any:
    """Make the kernel that turns dy into dz and sums dz and dz * (x - mean).

    The activation's slope follows from y if ``Y``, else from what y was the activation of.
    """

    @kernel(ARGS)
    def norm_sums(a, thread, first, last):  # type: ignore[no-untyped-def]
        x, y, dy, mean = pointer(a.x), pointer(a.y), pointer(a.dy), pointer(a.mean)
        scale, shift = pointer(a.scale), pointer(a.shift)
        sum1, sum2 = pointer(a.sum1), pointer(a.sum2)
        C, W, rows, p = a.C, a.W, a.rows, a.parameter
        for n in range(first, last):
            for c in range(0, C, L):
                k = n * a.stats_sample + c
                m, s, b = load(mean, k, L), load(scale, k, L), load(shift, c, L)
                total1, total2 = splat(ZERO, L), splat(ZERO, L)
                for line in range(a.lines):
                    plane, row = line // rows, line % rows
                    i = n * a.x_sample + plane * a.x_plane + row * a.x_row
                    j = n * a.y_sample + plane * a.y_plane + row * a.y_row
                    d = n * a.dy_sample + plane * a.dy_plane + row * a.dy_row
                    part1, part2 = splat(ZERO, L), splat(ZERO, L)
                    for w in range(c, c + W * C, C):
                        centred, g = load(x, i + w, L) - m, load(dy, d + w, L)
                        if A > 0:
                            v = load(y, j + w, L) if Y else fma(centred, s, b)
                            g = deactivate(A, g, v, p)
                            store_first(dy, d + w, g, C - c)
                        part1, part2 = part1 + g, fma(g, centred, part2)
                    total1, total2 = total1 + part1, total2 + part2
                k = n * a.sums_sample + c
                store_first(sum1, k, total1, C - c)
                store_first(sum2, k, total2, C - c)

    return norm_sums


def backward(L: int) -> Any:
    """Make the kernel dx = inverse * (factor * dz + slope * (x - mean) + offset)."""

    @kernel(ARGS)
    def norm_backward(a, thread, first, last):  # type: ignore[no-untyped-def]
        x, dy, dx, mean = pointer(a.x), pointer(a.dy), pointer(a.dx), pointer(a.mean)
        factor, inverse = pointer(a.factor), pointer(a.inverse)
        slope, offset = pointer(a.slope), pointer(a.offset)
        C, W, rows = a.C, a.W, a.rows
        for n in range(first, last):
            for line in range(a.lines):
                plane, row = line // rows, line % rows
                i = n * a.x_sample + plane * a.x_plane + row * a.x_row
                j = n * a.dx_sample + plane * a.dx_plane + row * a.dx_row
                d = n * a.dy_sample + plane * a.dy_plane + row * a.dy_row
                for c in range(0, C, L):
                    k = n * a.stats_sample + c
                    m, s, f = load(mean, k, L), load(inverse, k, L), load(factor, c, L)
                    t, o = load(slope, k, L), load(offset, k, L)
                    for w in range(c, c + W * C, C):
                        value = fma(f, load(dy, d + w, L), o)
                        value = fma(t, load(x, i + w, L) - m, value)
                        store_first(dx, j + w, value * s, C - c)

    return norm_backward


#: As above. ``variance``: (C,), unbiased. ``sum1``, ``sum2``: of :func:`moments`, then of
#: :func:`sums`. ``weight``, ``bias``: addresses of the parameters, or 0; ``dw``, ``db``: (C,).
#: ``n``: address of the number of samples; ``positions``: elements of a channel of a sample;
#: ``size``: channels of a group. ``function``, ``function_args``: the optimizer's kernel
#: (:mod:`update`).
STATISTICS = record(
    *("factor", "shift", "mean", "scale", "inverse", "slope", "offset", "stats_sample"),
    *("variance", "sum1", "sum2", "sums_sample", "weight", "bias", "dw", "db", "n", "positions"),
    *("C", "size"),
    *("function", "function_args", "weight_start", "bias_start"),
    floats=("eps",),
)


def parameters(L: int) -> Any:
    """Make the kernel that copies weight and bias, or 1 and 0, to ``factor`` and ``shift``."""

    @kernel(STATISTICS)
    def norm_parameters(a, thread, first, last):  # type: ignore[no-untyped-def]
        weight, bias = pointer(a.weight), pointer(a.bias)
        for c in range(first, last, L):
            factor = load_first(weight, c, a.C - c, L) if a.weight else splat(ONE, L)
            shift = load_first(bias, c, a.C - c, L) if a.bias else splat(ZERO, L)
            store(pointer(a.factor), c, factor)
            store(pointer(a.shift), c, shift)

    return norm_parameters


def batch_statistics(L: int) -> Any:
    """Make the kernel of the mean and variance of channels ``first`` to ``last`` of the batch."""

    @kernel(STATISTICS)
    def norm_batch_statistics(a, thread, first, last):  # type: ignore[no-untyped-def]
        means, squares = pointer(a.sum1), pointer(a.sum2)
        N, P = words_pointer(a.n)[0], np.float32(a.positions)
        eps, one = splat(a.eps, L), splat(ONE, L)
        elements = np.float32(N * a.positions)
        for c in range(first, last, L):
            pivot, total = load(means, c, L), splat(ZERO, L)
            for i in range(c, c + N * a.sums_sample, a.sums_sample):
                total = total + (load(means, i, L) - pivot)
            mean = pivot + total / splat(np.float32(N), L)
            square = splat(ZERO, L)
            for i in range(c, c + N * a.sums_sample, a.sums_sample):
                d = load(means, i, L) - mean
                square = square + fma(splat(P, L) * d, d, load(squares, i, L))
            inverse = one / sqrt(square / splat(elements, L) + eps)
            store(pointer(a.mean), c, mean)
            store(pointer(a.inverse), c, inverse)
            store(pointer(a.scale), c, load(pointer(a.factor), c, L) * inverse)
            store(pointer(a.variance), c, square / splat(elements - ONE, L))

    return norm_batch_statistics


def batch_gradients(L: int) -> Any:
    """Make the kernel of slope and offset of channels ``first`` to ``last``."""

    @kernel(STATISTICS)
    def norm_batch_gradients(a, thread, first, last):  # type: ignore[no-untyped-def]
        sum1, sum2 = pointer(a.sum1), pointer(a.sum2)
        N = words_pointer(a.n)[0]
        share = splat(np.float32(-1.0 / (N * a.positions)), L)
        for c in range(first, last, L):
            db, dw = splat(ZERO, L), splat(ZERO, L)
            for i in range(c, c + N * a.sums_sample, a.sums_sample):
                db, dw = db + load(sum1, i, L), dw + load(sum2, i, L)
            inverse = load(pointer(a.inverse), c, L)
            part = load(pointer(a.factor), c, L) * share
            store(pointer(a.slope), c, part * inverse * dw * inverse)
            store(pointer(a.offset), c, part * db)

    return norm_batch_gradients


def group_statistics() -> Any:
    """Make the kernel of the mean and variance of each group of ``size`` channels of a sample."""

    @kernel(STATISTICS)
    def norm_group_statistics(a, thread, first, last):  # type: ignore[no-untyped-def]
        means, squares = pointer(a.sum1), pointer(a.sum2)
        mean, scale, inverse = pointer(a.mean), pointer(a.scale), pointer(a.inverse)
        factor, size = pointer(a.factor), a.size
        for n in range(first, last):
            for group in range(0, a.C, size):
                i, j = n * a.sums_sample + group, n * a.stats_sample + group
                pivot, total = means[i], ZERO
                for c in range(size):
                    total += means[i + c] - pivot
                m = pivot + total / np.float32(size)
                square = ZERO
                for c in range(size):
                    d = means[i + c] - m
                    square += squares[i + c] + np.float32(a.positions) * d * d
                root = ONE / np.sqrt(square / np.float32(size * a.positions) + a.eps)
                for c in range(size):
                    mean[j + c], inverse[j + c] = m, root
                    scale[j + c] = factor[group + c] * root

    return norm_group_statistics


def group_gradients() -> Any:
    """Make the kernel of slope and offset of each group of a sample."""

    @kernel(STATISTICS)
    def norm_group_gradients(a, thread, first, last):  # type: ignore[no-untyped-def]
        sum1, sum2 = pointer(a.sum1), pointer(a.sum2)
        factor, slope, offset = pointer(a.factor), pointer(a.slope), pointer(a.offset)
        inverse, size = pointer(a.inverse), a.size
        share = np.float32(-1.0 / (size * a.positions))
        for n in range(first, last):
            for group in range(0, a.C, size):
                i, j = n * a.sums_sample + group, n * a.stats_sample + group
                root, total1, total2 = inverse[j], ZERO, ZERO
                for c in range(size):
                    total1 += factor[group + c] * sum1[i + c]
                    total2 += factor[group + c] * sum2[i + c]
                for c in range(size):
                    slope[j + c] = total2 * root * root * share
                    offset[j + c] = total1 * share

    return norm_group_gradients


def update(L: int) -> Any:
    """Make the kernel that hands dw and db of channels ``first`` to ``last`` to the optimizer.

    db[c] = sum over samples of sum1[n, c]
    dw[c] = sum over samples of sum2[n, c] * inverse[n, c]
    """

    @kernel(STATISTICS)
    def norm_update(a, thread, first, last):  # type: ignore[no-untyped-def]
        sum1, sum2, inverse = pointer(a.sum1), pointer(a.sum2), pointer(a.inverse)
        N = words_pointer(a.n)[0]
        for c in range(first, last, L):
            db, dw = splat(ZERO, L), splat(ZERO, L)
            for n in range(N):
                i, j = n * a.sums_sample + c, n * a.stats_sample + c
                db = db + load(sum1, i, L)
                dw = fma(load(sum2, i, L), load(inverse, j, L), dw)
            store(pointer(a.dw), c, dw)
            store(pointer(a.db), c, db)
        if a.weight:
            start = a.weight_start
            invoke(a.function, a.function_args, a.dw + 4 * first, start + first, start + last)
        if a.bias:
            start = a.bias_start
            invoke(a.function, a.function_args, a.db + 4 * first, start + first, start + last)

    return norm_update


#: ``count``: address of the number of batches; ``share``: of a batch, or less than 0 for the
#: same share of all batches.
TRACK = record("mean", "variance", "running_mean", "running_var", "count", "C", floats=("share",))


def track() -> Any:
    """Make the kernel that moves the running statistics towards those of a batch."""

    @kernel(TRACK)
    def norm_track(a, thread, first, last):  # type: ignore[no-untyped-def]
        mean, variance = pointer(a.mean), pointer(a.variance)
        running_mean, running_var = pointer(a.running_mean), pointer(a.running_var)
        count = words_pointer(a.count)
        count[0] += 1
        share = a.share if a.share >= ZERO else np.float32(1.0 / count[0])
        for c in range(a.C):
            running_mean[c] = (ONE - share) * running_mean[c] + share * mean[c]
            running_var[c] = (ONE - share) * running_var[c] + share * variance[c]

    return norm_track


def running(L: int) -> Any:
    """Make the kernel of mean and scale from running statistics.

    ``sum1`` and ``sum2`` are the running mean and variance here.
    """

    @kernel(STATISTICS)
    def norm_running(a, thread, first, last):  # type: ignore[no-untyped-def]
        for c in range(first, last, L):
            variance = load_first(pointer(a.sum2), c, a.C - c, L)
            inverse = splat(ONE, L) / sqrt(variance + splat(a.eps, L))
            store(pointer(a.scale), c, load(pointer(a.factor), c, L) * inverse)
            store(pointer(a.mean), c, load_first(pointer(a.sum1), c, a.C - c, L))

    return norm_running
