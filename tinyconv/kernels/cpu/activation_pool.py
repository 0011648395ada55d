"""An activation and the pooling behind it, in one pass over windows side by side.

Twin of :mod:`tinyconv.ops.activation` and of the maximum and the mean of :mod:`tinyconv.ops.pool`.
"""

from typing import Any

import numpy as np

from tinyconv.kernels.activations import IDENTITY
from tinyconv.kernels.cpu.activation import activate, deactivate
from tinyconv.kernels.cpu.kernel import images, kernel, record
from tinyconv.kernels.cpu.simd import (
    bytes_pointer,
    load,
    pointer,
    splat,
    store,
    store_bytes,
    store_first,
    where_better,
    where_positive,
)

ZERO, ONE = np.float32(0), np.float32(1)

#: ``x``: (N, OD * KD, OH * KH, OW * KW, C), in windows of (KD, KH, KW) side by side. ``slope`` and
#: the bytes of ``winners`` are laid out as y; ``slope`` is 0 where nobody wants one.
MAX = record(
    *images("x", "y"),
    *("winners", "slope", "C", "OD", "OH", "OW"),
    floats=("parameter",),
)


def maximum_of(L: int, A: int, KD: int, KH: int, KW: int) -> Any:
    """Make the kernel y = max over each window of activation(x).

    For activations that do not increase: these fall, then rise, so that their maximum is at the
    largest or the smallest x of the window, and the first of the two if it is at both. ``winners``
    gets which position that is, ``slope`` the slope there.
    """

    @kernel(MAX)
    def activation_maximum(a, thread, first, last):  # type: ignore[no-untyped-def]
        x, y, winners, slope = (
            pointer(a.x),
            pointer(a.y),
            bytes_pointer(a.winners),
            pointer(a.slope),
        )
        C, x_plane, x_row, p = a.C, a.x_plane, a.x_row, a.parameter
        for n in range(first, last):
            for line in range(a.OD * a.OH):
                plane, row = line // a.OH, line % a.OH
                corner = n * a.x_sample + plane * KD * x_plane + row * KH * x_row
                j = n * a.y_sample + plane * a.y_plane + row * a.y_row
                for w in range(a.OW):
                    for c in range(0, C, L):
                        i = corner + w * KW * C + c
                        high, of_high = load(x, i, L), splat(ZERO, L)
                        low, of_low, position = high, of_high, splat(ZERO, L)
                        for k in range(1, KD * KH * KW):
                            d, h = k // (KH * KW), k // KW % KH
                            z = load(x, i + d * x_plane + h * x_row + k % KW * C, L)
                            position = position + splat(ONE, L)
                            of_high = where_better(z, high, position, of_high)
                            high = where_better(z, high, z, high)
                            of_low = where_positive(low - z, position, of_low)
                            low = where_positive(low - z, z, low)
                        after = of_high - of_low
                        z, other = (
                            where_positive(after, low, high),
                            where_positive(after, high, low),
                        )
                        best, value = activate(A, z, p), activate(A, other, p)
                        winner = where_positive(after, of_low, of_high)
                        last = where_positive(after, of_high, of_low)
                        place = j + w * C + c
                        winner = where_better(value, best, last, winner)
                        store_bytes(winners, place, winner, C - c)
                        store_first(y, place, where_better(value, best, value, best), C - c)
                        if a.slope:  # of both, which share with their values what takes time
                            dz = deactivate(A, splat(ONE, L), z, p)
                            other = deactivate(A, splat(ONE, L), other, p)
                            store_first(slope, place, where_better(value, best, other, dz), C - c)

    return activation_maximum


#: ``x``: as that of :data:`MAX`, with more rows and columns if these fill no window; ``v`` is the
#: same memory in the backward pass, and dx is as large. ``room``: for each thread, a row of them.
#: ``share``: of one number in the mean.
MEAN = record(
    *images("x", "y", "v", "dx", "dy"),
    *("C", "OD", "OH", "OW", "KD", "KH", "KW", "room", "room_thread"),
    floats=("share", "parameter"),
)


def mean_of(L: int, A: int, S: int) -> Any:
    """Make the kernel y = mean over each window of activation(x).

    It leaves the activations or, if S, the slopes in the place of x. The rows of a window become
    one, in full vectors however few the channels are; then its elements are added up and written
    whole: what is too much becomes the next element.
    """

    @kernel(MEAN)
    def activation_mean(a, thread, first, last):  # type: ignore[no-untyped-def]
        x, y, room = pointer(a.x), pointer(a.y), pointer(a.room + 4 * thread * a.room_thread)
        C, KH, KW, p, share = a.C, a.KH, a.KW, a.parameter, splat(a.share, L)
        count = a.OW * KW * C
        for n in range(first, last):
            for line in range(a.OD * a.OH):
                plane, row = line // a.OH, line % a.OH
                corner = n * a.x_sample + plane * a.KD * a.x_plane + row * KH * a.x_row
                for k in range(0, count, L):
                    total = splat(ZERO, L)
                    for d in range(a.KD):
                        i = corner + d * a.x_plane + k
                        for _ in range(KH):
                            z = load(x, i, L)
                            value = activate(A, z, p)
                            total = total + value
                            if S:
                                value = deactivate(A, splat(ONE, L), z, p)
                            if A != IDENTITY:
                                store_first(x, i, value, count - k)
                            i += a.x_row
                    store(room, k, total * share)
                j = n * a.y_sample + plane * a.y_plane + row * a.y_row
                for w in range(a.OW):
                    for c in range(0, C, L):
                        i = w * KW * C + c
                        total = load(room, i, L)
                        for _ in range(1, KW):
                            i += C
                            total = total + load(room, i, L)
                        store_first(y, j + w * C + c, total, (a.OW - w) * C - c)

    return activation_mean


def mean_of_backward(L: int, A: int, S: int) -> Any:
    """Make the kernel dx = share * dy * slope(v) or, if S, share * dy * v, for dy of the window."""

    @kernel(MEAN)
    def activation_mean_backward(a, thread, first, last):  # type: ignore[no-untyped-def]
        v, dx, dy = pointer(a.v), pointer(a.dx), pointer(a.dy)
        room, share = pointer(a.room + 4 * thread * a.room_thread), splat(a.share, L)
        C, KH, KW, p = a.C, a.KH, a.KW, a.parameter
        count = a.OW * KW * C
        for n in range(first, last):
            for line in range(a.OD * a.OH):
                plane, row = line // a.OH, line % a.OH
                j, k = n * a.dy_sample + plane * a.dy_plane + row * a.dy_row, 0
                for w in range(a.OW):
                    for _ in range(KW):
                        for c in range(0, C, L):
                            store(room, k + c, load(dy, j + w * C + c, L) * share)
                        k += C
                for d in range(plane * a.KD, (plane + 1) * a.KD):
                    for h in range(row * KH, (row + 1) * KH):
                        i = n * a.dx_sample + d * a.dx_plane + h * a.dx_row
                        j = n * a.v_sample + d * a.v_plane + h * a.v_row
                        for k in range(0, count, L):
                            g, value = load(room, k, L), load(v, j + k, L)
                            dz = g * value if S else deactivate(A, g, value, p)
                            store_first(dx, i + k, dz, count - k)

    return activation_mean_backward
