"""Local response normalisation, forward and backward.

Twin of :mod:`tinyconv.ops.local_response_norm`. Channels are neighbours in memory, so that the
sum over a window of channels is a sum of shifted vectors.
"""

from typing import Any

import numpy as np

from tinyconv.kernels.cpu.kernel import images, kernel, record
from tinyconv.kernels.cpu.simd import fma, load, pointer, splat, store_first
from tinyconv.kernels.cpu.vector_math import exp, log

#: ``base``: (N, positions, C), what is raised to the power -beta. ``window``: for each thread the
#: numbers of one position's channels between zeros, ``window_thread`` apart. ``share``: alpha over
#: the size.
ARGS = record(
    *images("x", "y", "dx", "dy"),
    *("lines", "rows", "W", "C", "base", "base_sample", "window", "window_thread", "size"),
    floats=("share", "beta", "k"),
)

ZERO = np.float32(0)


def forward(L: int) -> Any:
    """Make the kernel base = k + share * (sum of x**2 over the window), y = x * base**-beta."""

    @kernel(ARGS)
    def local_response_norm(a, thread, first, last):  # type: ignore[no-untyped-def]
        x, y, base = pointer(a.x), pointer(a.y), pointer(a.base)
        window = pointer(a.window + 4 * thread * a.window_thread)
        C, W, rows, before = a.C, a.W, a.rows, a.size // 2
        share, k, power = splat(a.share, L), splat(a.k, L), splat(-a.beta, L)
        for n in range(first, last):
            for position in range(a.lines * W):
                line, w = position // W, position % W
                i = n * a.x_sample + line // rows * a.x_plane + line % rows * a.x_row + w * C
                j = n * a.y_sample + line // rows * a.y_plane + line % rows * a.y_row + w * C
                b = n * a.base_sample + position * C
                for c in range(0, C, L):
                    value = load(x, i + c, L)
                    store_first(window, before + c, value * value, C - c)
                for c in range(0, C, L):
                    around = splat(ZERO, L)
                    for shift in range(c, c + a.size):
                        around = around + load(window, shift, L)
                    around = fma(share, around, k)
                    store_first(base, b + c, around, C - c)
                    value = load(x, i + c, L) * exp(power * log(around))
                    store_first(y, j + c, value, C - c)

    return local_response_norm


def backward(L: int) -> Any:
    """Make the kernel dx = dy base**-beta - 2 share beta x sum(dy x base**(-beta - 1)).

    The sum is over the window looked at from the other side.
    """

    @kernel(ARGS)
    def local_response_norm_backward(a, thread, first, last):  # type: ignore[no-untyped-def]
        x, dx, dy, base = pointer(a.x), pointer(a.dx), pointer(a.dy), pointer(a.base)
        window = pointer(a.window + 4 * thread * a.window_thread)
        C, W, rows, before = a.C, a.W, a.rows, (a.size - 1) // 2
        power, factor = splat(-a.beta, L), splat(np.float32(-2) * a.share * a.beta, L)
        for n in range(first, last):
            for position in range(a.lines * W):
                line, w = position // W, position % W
                plane, row = line // rows, line % rows
                i = n * a.x_sample + plane * a.x_plane + row * a.x_row + w * C
                j = n * a.dx_sample + plane * a.dx_plane + row * a.dx_row + w * C
                d = n * a.dy_sample + plane * a.dy_plane + row * a.dy_row + w * C
                b = n * a.base_sample + position * C
                for c in range(0, C, L):
                    s = load(base, b + c, L)
                    direct = load(dy, d + c, L) * exp(power * log(s))
                    store_first(dx, j + c, direct, C - c)
                    store_first(window, before + c, direct * load(x, i + c, L) / s, C - c)
                for c in range(0, C, L):
                    around = splat(ZERO, L)
                    for shift in range(c, c + a.size):
                        around = around + load(window, shift, L)
                    value = fma(factor * load(x, i + c, L), around, load(dx, j + c, L))
                    store_first(dx, j + c, value, C - c)

    return local_response_norm_backward
