"""Pooling by itself: any window, stride and padding, channels last.

Twin of :mod:`tinyconv.ops.pool`. A max-pool whose windows do not overlap, right behind a
convolution, is done by :mod:`conv` instead.
"""

from typing import Any

import numpy as np
from numba import carray

from tinyconv.kernels.cpu.kernel import kernel, record
from tinyconv.kernels.cpu.simd import (
    all_lanes,
    bytes_pointer,
    fma,
    load,
    pointer,
    splat,
    sqrt,
    store_first,
    where_positive,
)

__all__ = ["ARGS", "BOX", "avg", "avg_backward", "box", "l2", "l2_backward", "max_", "max_backward"]

#: H, W: size of the input, which has no padding of its own; SH, SW: stride; PH, PW: padding
#: before. ``is_covered``: whether every element of x is in a window.
ARGS = record(
    *("x", "x_sample", "x_row", "y", "y_sample", "y_row", "winners"),
    *("dx", "dx_sample", "dx_row", "dy", "dy_sample", "dy_row"),
    *("C", "H", "W", "KH", "KW", "SH", "SW", "PH", "PW", "OH", "OW", "is_covered"),
)

ZERO, ONE = np.float32(0), np.float32(1)


def avg(L: int) -> Any:
    """Make the kernel of the mean; zeros of the padding count."""

    @kernel
    def avg_pool(args, thread, first, last):  # type: ignore[no-untyped-def]
        a = carray(args, 1, ARGS)[0]
        x, y, C = pointer(a.x), pointer(a.y), a.C
        share = splat(np.float32(1.0 / (a.KH * a.KW)), L)
        for n in range(first, last):
            for oh in range(a.OH):
                top = oh * a.SH - a.PH
                for ow in range(a.OW):
                    left = ow * a.SW - a.PW
                    j = n * a.y_sample + oh * a.y_row + ow * C
                    for c in range(0, C, L):
                        total = splat(ZERO, L)
                        for h in range(max(top, 0), min(top + a.KH, a.H)):
                            i = n * a.x_sample + h * a.x_row + c
                            for w in range(max(left, 0), min(left + a.KW, a.W)):
                                total = total + load(x, i + w * C, L)
                        store_first(y, j + c, total * share, C - c)

    return avg_pool


def l2(L: int) -> Any:
    """Make the kernel of the root of the sum of squares."""

    @kernel
    def l2_pool(args, thread, first, last):  # type: ignore[no-untyped-def]
        a = carray(args, 1, ARGS)[0]
        x, y, C = pointer(a.x), pointer(a.y), a.C
        for n in range(first, last):
            for oh in range(a.OH):
                top = oh * a.SH - a.PH
                for ow in range(a.OW):
                    left = ow * a.SW - a.PW
                    j = n * a.y_sample + oh * a.y_row + ow * C
                    for c in range(0, C, L):
                        total = splat(ZERO, L)
                        for h in range(max(top, 0), min(top + a.KH, a.H)):
                            i = n * a.x_sample + h * a.x_row + c
                            for w in range(max(left, 0), min(left + a.KW, a.W)):
                                value = load(x, i + w * C, L)
                                total = fma(value, value, total)
                        store_first(y, j + c, sqrt(total), C - c)

    return l2_pool


def max_(L: int) -> Any:
    """Make the kernel of the maximum, which also notes the winner's place in its window."""

    @kernel
    def max_pool(args, thread, first, last):  # type: ignore[no-untyped-def]
        a = carray(args, 1, ARGS)[0]
        x, y, winners, C = pointer(a.x), pointer(a.y), bytes_pointer(a.winners), a.C
        for n in range(first, last):
            for oh in range(a.OH):
                top = oh * a.SH - a.PH
                for ow in range(a.OW):
                    left = ow * a.SW - a.PW
                    j = n * a.y_sample + oh * a.y_row + ow * C
                    h0, w0 = max(top, 0), max(left, 0)
                    for c in range(C):
                        winner = (h0 - top) * a.KW + w0 - left
                        best = x[n * a.x_sample + h0 * a.x_row + w0 * C + c]
                        for h in range(h0, min(top + a.KH, a.H)):
                            i = n * a.x_sample + h * a.x_row + c
                            for w in range(w0, min(left + a.KW, a.W)):
                                value = x[i + w * C]
                                if value > best:
                                    best, winner = value, (h - top) * a.KW + w - left
                        y[j + c] = best
                        winners[j + c] = winner

    return max_pool


def avg_backward(L: int, OVERLAP: bool) -> Any:
    """Make the backward kernel of the mean: each element of a window gets an equal share."""

    @kernel
    def avg_pool_backward(args, thread, first, last):  # type: ignore[no-untyped-def]
        a = carray(args, 1, ARGS)[0]
        dx, dy, C = pointer(a.dx), pointer(a.dy), a.C
        share = splat(np.float32(1.0 / (a.KH * a.KW)), L)
        for n in range(first, last):
            if OVERLAP or not a.is_covered:
                for h in range(a.H):
                    i = n * a.dx_sample + h * a.dx_row
                    for k in range(0, a.W * C, L):
                        store_first(dx, i + k, splat(ZERO, L), a.W * C - k)
            for oh in range(a.OH):
                top = oh * a.SH - a.PH
                for ow in range(a.OW):
                    left = ow * a.SW - a.PW
                    j = n * a.dy_sample + oh * a.dy_row + ow * C
                    for c in range(0, C, L):
                        g = load(dy, j + c, L) * share
                        for h in range(max(top, 0), min(top + a.KH, a.H)):
                            i = n * a.dx_sample + h * a.dx_row + c
                            for w in range(max(left, 0), min(left + a.KW, a.W)):
                                if OVERLAP:
                                    value = load(dx, i + w * C, L) + g
                                else:
                                    value = g
                                store_first(dx, i + w * C, value, C - c)

    return avg_pool_backward


def l2_backward(L: int, OVERLAP: bool) -> Any:
    """Make the backward kernel of the root: dx = x dy / y, and 0 where a window is all zero."""

    @kernel
    def l2_pool_backward(args, thread, first, last):  # type: ignore[no-untyped-def]
        a = carray(args, 1, ARGS)[0]
        x, y, dx, dy, C = pointer(a.x), pointer(a.y), pointer(a.dx), pointer(a.dy), a.C
        for n in range(first, last):
            if OVERLAP or not a.is_covered:
                for h in range(a.H):
                    i = n * a.dx_sample + h * a.dx_row
                    for k in range(0, a.W * C, L):
                        store_first(dx, i + k, splat(ZERO, L), a.W * C - k)
            for oh in range(a.OH):
                top = oh * a.SH - a.PH
                for ow in range(a.OW):
                    left = ow * a.SW - a.PW
                    j = n * a.dy_sample + oh * a.dy_row + ow * C
                    k = n * a.y_sample + oh * a.y_row + ow * C
                    for c in range(0, C, L):
                        root = load(y, k + c, L)
                        ratio = load(dy, j + c, L) / where_positive(
                            root, root, all_lanes(ONE, root)
                        )
                        for h in range(max(top, 0), min(top + a.KH, a.H)):
                            i = n * a.x_sample + h * a.x_row + c
                            t = n * a.dx_sample + h * a.dx_row + c
                            for w in range(max(left, 0), min(left + a.KW, a.W)):
                                value = load(x, i + w * C, L) * ratio
                                if OVERLAP:
                                    value = value + load(dx, t + w * C, L)
                                store_first(dx, t + w * C, value, C - c)

    return l2_pool_backward


def max_backward(L: int) -> Any:
    """Make the backward kernel of the maximum: the winner of a window gets all."""

    @kernel
    def max_pool_backward(args, thread, first, last):  # type: ignore[no-untyped-def]
        a = carray(args, 1, ARGS)[0]
        dx, dy, winners, C = pointer(a.dx), pointer(a.dy), bytes_pointer(a.winners), a.C
        for n in range(first, last):
            for h in range(a.H):
                i = n * a.dx_sample + h * a.dx_row
                for k in range(0, a.W * C, L):
                    store_first(dx, i + k, splat(ZERO, L), a.W * C - k)
            for oh in range(a.OH):
                for ow in range(a.OW):
                    j = n * a.dy_sample + oh * a.dy_row + ow * C
                    k = n * a.y_sample + oh * a.y_row + ow * C
                    for c in range(C):
                        winner = winners[k + c]
                        h = oh * a.SH - a.PH + winner // a.KW
                        w = ow * a.SW - a.PW + winner % a.KW
                        dx[n * a.dx_sample + h * a.dx_row + w * C + c] += dy[j + c]

    return max_pool_backward


#: ``rows`` runs of ``count`` numbers a sample of y, from windows of KH rows and KW positions.
BOX = record(
    *("x", "x_sample", "x_row", "y", "y_sample", "y_row", "rows", "count", "KH", "KW", "C")
)


def box(L: int) -> Any:
    """Make the kernel of the mean over all windows with stride 1.

    Convolution and mean commute: the mean over PH x PW neighbouring results of a convolution is
    the convolution, with stride (PH, PW), of such means of its input. The kernel makes these
    means, and from a gradient in a border of zeros its own adjoint.
    """

    @kernel
    def box_mean(args, thread, first, last):  # type: ignore[no-untyped-def]
        a = carray(args, 1, BOX)[0]
        x, y, C = pointer(a.x), pointer(a.y), a.C
        share = splat(np.float32(1.0 / (a.KH * a.KW)), L)
        for n in range(first, last):
            for row in range(a.rows):
                i, j = n * a.x_sample + row * a.x_row, n * a.y_sample + row * a.y_row
                for k in range(0, a.count, L):
                    total = splat(ZERO, L)
                    for h in range(a.KH):
                        for w in range(a.KW):
                            total = total + load(x, i + h * a.x_row + w * C + k, L)
                    store_first(y, j + k, total * share, a.count - k)

    return box_mean
