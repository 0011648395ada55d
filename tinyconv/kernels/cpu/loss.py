"""Losses of rows of K outputs with their gradients.

Twin of :mod:`tinyconv.losses`. Each kernel adds the loss of its samples, and how many of them are
classified correctly, to its thread's sums, and writes the gradient.
"""

import math
from typing import Any

import numpy as np
from numba.extending import overload

from tinyconv.kernels.cpu.instruction import literal
from tinyconv.kernels.cpu.kernel import INNER, inner, kernel, record
from tinyconv.kernels.cpu.simd import (
    absolute,
    all_lanes,
    doubles_pointer,
    first_lanes,
    load,
    maximum,
    pointer,
    splat,
    store_first,
    total,
    where_at_most_zero,
    where_positive,
    words_pointer,
)
from tinyconv.kernels.cpu.vector_math import exp, log1p, sigmoid

ZERO, HALF, ONE, TWO = np.float32(0), np.float32(0.5), np.float32(1), np.float32(2)

#: ``accuracy``: 0 for none, or by what it is counted.
BY_CLASS, BY_ELEMENT = 1, 2

#: Rows ``x`` and ``dx`` of K numbers. ``labels``: (N,) int64; ``targets``: (N, K); ``weight``:
#: (K,), of each class, or 0. ``scales``: 2 float64, what a sample's gradient and its loss are
#: multiplied by. ``sums``: for each thread 8 float64, of which the first gets the losses and the
#: second what is correct. ``ignored``: a label that costs nothing, if ``ignores``. ``parameter``:
#: the margin or Huber's delta; ``smoothing``: of the labels.
ARGS = record(
    *("x", "x_sample", "dx", "dx_sample", "labels", "targets", "weight", "scales", "sums", "K"),
    *("accuracy", "ignores", "ignored"),
    floats=("parameter", "smoothing"),
)


@inner
def best_of(x, start, count):  # type: ignore[no-untyped-def]
    """The place of the first of the largest numbers."""
    best = 0
    for k in range(1, count):
        if x[start + k] > x[start + best]:
            best = k
    return best


def cross_entropy(L: int) -> Any:
    """Make the kernel of ``-sum_k t[k] log softmax(x)[k]``, of class indices.

    t[k] = weight[k] ((1 - smoothing) [k = label] + smoothing / K)
    dx[k] = softmax(x)[k] sum_j t[j] - t[k]
    """

    @kernel(ARGS)
    def loss_cross_entropy(a, thread, first, last):  # type: ignore[no-untyped-def]
        x, dx, weight = pointer(a.x), pointer(a.dx), pointer(a.weight)
        labels, sums, scales = words_pointer(a.labels), doubles_pointer(a.sums), a.scales
        K, scale = a.K, np.float32(doubles_pointer(scales)[0])
        everywhere = a.smoothing / np.float32(K)
        costs, correct = 0.0, 0.0
        for n in range(first, last):
            i, j, label = n * a.x_sample, n * a.dx_sample, labels[n]
            best, t, all_targets = 0, ZERO, 0.0  # sums over classes in double, as those may be many
            if not (a.ignores and label == a.ignored):
                best = best_of(x, i, K)
                correct += best == label
                t = (ONE - a.smoothing) * (weight[label] if a.weight else ONE)
                all_targets = np.float64(t)
                if a.smoothing > ZERO:
                    for k in range(K):
                        all_targets += everywhere * (weight[k] if a.weight else ONE)
            if all_targets == 0:  # the logits may be NaN, which times 0 would be NaN
                for k in range(0, K, L):
                    store_first(dx, j + k, splat(ZERO, L), K - k)
                continue
            largest = x[i + best]
            for k in range(0, K, L):
                z = load(x, i + k, L)
                store_first(dx, j + k, exp(z - all_lanes(largest, z)), K - k)
            whole = 0.0
            for k in range(K):
                whole += dx[j + k]
            log_whole, cost = math.log(whole) + largest, 0.0
            if t > ZERO:
                cost += t * (log_whole - x[i + label])
            if a.smoothing > ZERO:
                for k in range(K):
                    share = everywhere * (weight[k] if a.weight else ONE)
                    if share > ZERO:
                        cost += share * (log_whole - x[i + k])
            part = splat(np.float32(scale * all_targets / whole), L)
            for k in range(0, K, L):
                store_first(dx, j + k, load(dx, j + k, L) * part, K - k)
            dx[j + label] -= scale * t
            if a.smoothing > ZERO:
                for k in range(K):
                    dx[j + k] -= scale * everywhere * (weight[k] if a.weight else ONE)
            costs += cost
        sums[8 * thread] += costs * doubles_pointer(scales)[1]
        sums[8 * thread + 1] += correct

    return loss_cross_entropy


def multi_margin(L: int) -> Any:
    """Make the kernel of ``sum_{k != label} max(0, margin + x[k] - x[label])``."""

    @kernel(ARGS)
    def loss_multi_margin(a, thread, first, last):  # type: ignore[no-untyped-def]
        x, dx = pointer(a.x), pointer(a.dx)
        labels, sums, scales = words_pointer(a.labels), doubles_pointer(a.sums), a.scales
        scale = np.float32(doubles_pointer(scales)[0])
        costs, correct = 0.0, 0.0
        for n in range(first, last):
            i, j, label = n * a.x_sample, n * a.dx_sample, labels[n]
            near = 0
            for k in range(a.K):
                excess = a.parameter + x[i + k] - x[i + label]
                counts = k != label and not excess <= ZERO  # NaN counts
                dx[j + k] = scale if counts else ZERO
                if counts:
                    costs += excess
                    near += 1
            dx[j + label] = -scale * np.float32(near)
            correct += best_of(x, i, a.K) == label
        sums[8 * thread] += costs * doubles_pointer(scales)[1]
        sums[8 * thread + 1] += correct

    return loss_multi_margin


def _l1_slope(x, t, p):  # type: ignore[no-untyped-def]
    d = x - t
    minus = where_positive(t - x, all_lanes(-ONE, x), d * all_lanes(ZERO, x))
    return where_positive(d, all_lanes(ONE, x), minus)


def _huber(x, t, p):  # type: ignore[no-untyped-def]
    d, half = x - t, all_lanes(HALF, x)
    bound = where_positive(t - x, all_lanes(-p, x), all_lanes(p, x))
    away = absolute(d) - all_lanes(p, x)
    return where_at_most_zero(away, d * d * half, bound * (d - bound * half))


def _huber_slope(x, t, p):  # type: ignore[no-untyped-def]
    d = x - t
    bound = where_positive(t - x, all_lanes(-p, x), all_lanes(p, x))
    return where_at_most_zero(absolute(d) - all_lanes(p, x), d, bound)


def _bce(x, t, p):  # type: ignore[no-untyped-def]
    zero = all_lanes(ZERO, x)
    return maximum(zero, x) - x * t + log1p(exp(zero - absolute(x)))


def _squared_sigmoid(x, t, p):  # type: ignore[no-untyped-def]
    d = sigmoid(x) - t
    return d * d


def _squared_sigmoid_slope(x, t, p):  # type: ignore[no-untyped-def]
    y = sigmoid(x)
    return all_lanes(TWO, x) * (y - t) * y * (all_lanes(ONE, x) - y)


#: name -> loss and slope of vectors x and t, with the parameter p.
ELEMENTS = {
    "squares": (lambda x, t, p: (x - t) * (x - t), lambda x, t, p: all_lanes(TWO, x) * (x - t)),
    "sizes": (lambda x, t, p: absolute(x - t), _l1_slope),
    "huber": (_huber, _huber_slope),
    "cross entropy of sigmoids": (_bce, lambda x, t, p: sigmoid(x) - t),
    "squares of sigmoids": (_squared_sigmoid, _squared_sigmoid_slope),
}
FUNCTIONS = tuple(ELEMENTS.values())


def cost_of(x: Any, t: Any, function: int, p: Any) -> Any:
    """Return the loss of a vector."""
    raise NotImplementedError("only inside a kernel")


def slope_of(x: Any, t: Any, function: int, p: Any) -> Any:
    """Return its derivative."""
    raise NotImplementedError("only inside a kernel")


@overload(cost_of, jit_options=INNER, prefer_literal=True)
def _cost_of(x, t, function, p):  # type: ignore[no-untyped-def]
    cost = inner(FUNCTIONS[literal(function)][0])
    return lambda x, t, function, p: cost(x, t, p)


@overload(slope_of, jit_options=INNER, prefer_literal=True)
def _slope_of(x, t, function, p):  # type: ignore[no-untyped-def]
    slope = inner(FUNCTIONS[literal(function)][1])
    return lambda x, t, function, p: slope(x, t, p)


def elements(L: int, F: int) -> Any:
    """Make the kernel of a loss of outputs one by one, number F of ``ELEMENTS``."""

    @kernel(ARGS)
    def loss_elements(a, thread, first, last):  # type: ignore[no-untyped-def]
        x, dx, targets = pointer(a.x), pointer(a.dx), pointer(a.targets)
        labels, sums, scales = words_pointer(a.labels), doubles_pointer(a.sums), a.scales
        K, p, scale = a.K, a.parameter, splat(np.float32(doubles_pointer(scales)[0]), L)
        costs, correct = 0.0, 0.0
        for n in range(first, last):
            i, j, t = n * a.x_sample, n * a.dx_sample, n * K
            part = splat(ZERO, L)
            for k in range(0, K, L):
                z, target = load(x, i + k, L), load(targets, t + k, L)
                part = part + first_lanes(cost_of(z, target, F, p), K - k)
                store_first(dx, j + k, slope_of(z, target, F, p) * scale, K - k)
            costs += total(part)
            if a.accuracy == BY_CLASS:
                correct += best_of(x, i, K) == labels[n]
            elif a.accuracy == BY_ELEMENT:
                same = 0
                for k in range(K):
                    same += (x[i + k] > ZERO) == (targets[t + k] > HALF)
                correct += same / K
        sums[8 * thread] += costs * doubles_pointer(scales)[1]
        sums[8 * thread + 1] += correct

    return loss_elements
