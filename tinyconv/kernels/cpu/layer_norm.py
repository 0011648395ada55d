"""Layer normalisation with the activation behind it, forward and backward.

Twin of ``layer_norm`` in :mod:`tinyconv.ops.norm`. A sample is ``sets`` runs of ``count``
neighbouring numbers, in the order of the op, and each run is normalised by itself.
"""

from typing import Any

import numpy as np

from tinyconv.kernels.cpu.activation import activate, deactivate
from tinyconv.kernels.cpu.kernel import kernel, record
from tinyconv.kernels.cpu.simd import (
    first_lanes,
    fma,
    invoke,
    load,
    load_first,
    pointer,
    splat,
    store_first,
    total,
    words_pointer,
)

ZERO, ONE = np.float32(0), np.float32(1)

#: ``mean``, ``inverse`` (1 / sqrt(variance + eps)): (N, sets). ``weight``, ``bias``: (count,), or
#: 0. ``n``: address of the number of samples. ``gradient``: room for L numbers for each thread.
#: ``function``, ``function_args``: the optimizer's kernel (:mod:`update`).
ARGS = record(
    *("x", "x_sample", "y", "y_sample", "dx", "dx_sample", "dy", "dy_sample", "sets", "count"),
    *("mean", "inverse", "weight", "bias", "n", "gradient"),
    *("function", "function_args", "weight_start", "bias_start"),
    floats=("parameter", "eps"),
)


def forward(L: int, A: int) -> Any:
    """Make the kernel y = activation(weight * (x - mean) * inverse + bias)."""

    @kernel(ARGS)
    def layer_norm(a, thread, first, last):  # type: ignore[no-untyped-def]
        x, y, weight, bias = pointer(a.x), pointer(a.y), pointer(a.weight), pointer(a.bias)
        mean, inverse = pointer(a.mean), pointer(a.inverse)
        count, sets, p = a.count, a.sets, a.parameter
        whole, share = count // (2 * L) * (2 * L), np.float32(1 / count)
        for n in range(first, last):
            for part in range(sets):
                i, j = n * a.x_sample + part * count, n * a.y_sample + part * count
                s, t = splat(ZERO, L), splat(ZERO, L)
                for k in range(0, whole, 2 * L):  # two sums: neither waits for the other
                    s, t = s + load(x, i + k, L), t + load(x, i + k + L, L)
                for k in range(whole, count, L):
                    s = s + load_first(x, i + k, count - k, L)
                m = total(s + t) * share
                centre = splat(m, L)
                s, t = splat(ZERO, L), splat(ZERO, L)
                for k in range(0, whole, 2 * L):
                    d, e = load(x, i + k, L) - centre, load(x, i + k + L, L) - centre
                    s, t = fma(d, d, s), fma(e, e, t)
                for k in range(whole, count, L):
                    d = first_lanes(load(x, i + k, L) - centre, count - k)
                    s = fma(d, d, s)
                root = ONE / np.sqrt(total(s + t) * share + a.eps)
                mean[n * sets + part], inverse[n * sets + part] = m, root
                scale = splat(root, L)
                for k in range(0, count, L):
                    z = (load(x, i + k, L) - centre) * scale
                    if a.weight:
                        z = z * load_first(weight, k, count - k, L)
                    if a.bias:
                        z = z + load_first(bias, k, count - k, L)
                    store_first(y, j + k, activate(A, z, p), count - k)

    return layer_norm


def backward(L: int, A: int, Y: bool, DX: bool) -> Any:
    """Make the kernel that turns dy into dz and, if ``DX``, makes dx of it.

        dx = inverse * (weight * dz - mean of that - h * mean of h * weight * dz)

    with h = (x - mean) * inverse. The activation's slope follows from y if ``Y``, else from what
    y was the activation of.
    """

    @kernel(ARGS)
    def layer_norm_backward(a, thread, first, last):  # type: ignore[no-untyped-def]
        x, y, weight, bias = pointer(a.x), pointer(a.y), pointer(a.weight), pointer(a.bias)
        dx, dy = pointer(a.dx), pointer(a.dy)
        mean, inverse = pointer(a.mean), pointer(a.inverse)
        count, sets, p = a.count, a.sets, a.parameter
        share = np.float32(1 / count)
        for n in range(first, last):
            for part in range(sets):
                i, j = n * a.x_sample + part * count, n * a.y_sample + part * count
                d, t = n * a.dy_sample + part * count, n * a.dx_sample + part * count
                centre = splat(mean[n * sets + part], L)
                root = splat(inverse[n * sets + part], L)
                sum1, sum2 = splat(ZERO, L), splat(ZERO, L)
                for k in range(0, count, L):
                    h = (load(x, i + k, L) - centre) * root
                    g = load_first(dy, d + k, count - k, L)
                    if a.weight:
                        w = load_first(weight, k, count - k, L)
                    else:
                        w = splat(ONE, L)
                    if A > 0:
                        if Y:
                            v = load(y, j + k, L)
                        else:
                            v = h * w
                            if a.bias:
                                v = v + load_first(bias, k, count - k, L)
                        g = deactivate(A, g, v, p)
                        store_first(dy, d + k, g, count - k)
                    g = first_lanes(g * w, count - k)
                    sum1, sum2 = sum1 + g, fma(g, first_lanes(h, count - k), sum2)
                if DX:
                    mean1, mean2 = splat(total(sum1) * share, L), splat(total(sum2) * share, L)
                    for k in range(0, count, L):
                        h = (load(x, i + k, L) - centre) * root
                        g = load(dy, d + k, L)
                        if a.weight:
                            g = g * load_first(weight, k, count - k, L)
                        store_first(dx, t + k, (g - mean1 - h * mean2) * root, count - k)

    return layer_norm_backward


def update(L: int) -> Any:
    """Make the kernel that hands dw and db of elements ``first`` to ``last`` to the optimizer.

    db = sum of dz over the samples and their runs
    dw = sum of dz * (x - mean) * inverse
    """

    @kernel(ARGS)
    def layer_norm_update(a, thread, first, last):  # type: ignore[no-untyped-def]
        x, dy, mean, inverse = pointer(a.x), pointer(a.dy), pointer(a.mean), pointer(a.inverse)
        sets, count, N = a.sets, a.count, words_pointer(a.n)[0]
        address = a.gradient + 4 * thread * L
        gradient = pointer(address)
        for k in range(first, last, L):
            stop = min(k + L, last)
            db, dw = splat(ZERO, L), splat(ZERO, L)
            for n in range(N):
                for part in range(sets):
                    i, d = n * a.x_sample + part * count + k, n * a.dy_sample + part * count + k
                    g, row = load(dy, d, L), n * sets + part
                    db = db + g
                    h = (load(x, i, L) - splat(mean[row], L)) * splat(inverse[row], L)
                    dw = fma(g, h, dw)
            start = a.weight_start
            store_first(gradient, 0, dw, stop - k)
            invoke(a.function, a.function_args, address, start + k, start + stop)
            if a.bias:
                start = a.bias_start
                store_first(gradient, 0, db, stop - k)
                invoke(a.function, a.function_args, address, start + k, start + stop)

    return layer_norm_update
