"""Losses of rows of K outputs with their gradients, and the figures beside them.

Twin of :mod:`tinyconv.losses` and :mod:`tinyconv.metrics`. A sample has one row, or one for each
position of an image. What is here is done to a row; one kernel walks over them.
"""

import math
from collections.abc import Callable
from typing import Any

import numpy as np

from tinyconv.kernels.cpu.kernel import choice, images, inner, kernel, record
from tinyconv.kernels.cpu.simd import (
    absolute,
    all_lanes,
    doubles_pointer,
    first_lanes,
    largest,
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
MINUS_INFINITY = np.float32(-np.inf)

#: Images ``x`` and ``dx`` with a row of K numbers at each position. Of every row ``labels``, int64,
#: or ``targets``, K numbers; ``ignored``: a label that costs nothing, if ``ignores``. ``often``:
#: how often each sample counts. ``weight``: (K,), of each class. ``scales``: 2 float64, what
#: a gradient and what a loss are multiplied by. ``sums``: for each thread 8 float64, whose first
#: gets the losses. ``parameter``: the margin, Huber's delta, or k; ``smoothing``: of the labels.
#: Where ``dx`` is 0, no gradient is asked for.
ARGS = record(
    *images("x", "dx"),
    *("x_step", "dx_step", "D", "H", "W", "K", "labels", "targets", "ignores", "ignored"),
    *("often", "weight", "scales", "sums"),
    floats=("parameter", "smoothing"),
)

#: Vectors that are added up before their lanes are, in double, as there may be many classes.
PART = 8


@inner
def _largest_of(x, start, count, L):  # type: ignore[no-untyped-def]
    """The largest of so many numbers."""
    most = splat(MINUS_INFINITY, L)
    for k in range(0, count, L):
        is_there = first_lanes(splat(ONE, L), count - k)
        most = maximum(most, where_positive(is_there, load(x, start + k, L), most))
    return largest(most)


@inner
def _spread_of(a, r, k, L, is_hard):  # type: ignore[no-untyped-def]
    """What of t, from class k on, is not the label's alone."""
    share = splat(a.smoothing / np.float32(a.K), L)
    if not is_hard:
        share = share + splat(ONE - a.smoothing, L) * load(pointer(a.targets), r * a.K + k, L)
    return first_lanes(share * load(pointer(a.weight), k, L), a.K - k)


def _cross_entropy(a, i, j, r, once, L, is_hard):  # type: ignore[no-untyped-def]
    """``-sum_k t[k] log softmax(x)[k]``, with labels where ``is_hard``, else probabilities p.

    t[k] = weight[k] ((1 - smoothing) p[k] + smoothing / K), where a label means p[label] = 1
    dx[k] = softmax(x)[k] sum_j t[j] - t[k]
    """
    x, dx, K, label = pointer(a.x), pointer(a.dx), a.K, words_pointer(a.labels)[r]
    spreads, zero = a.smoothing > ZERO or not is_hard, splat(ZERO, L)
    most = _largest_of(x, i, K, L)
    t, all_targets, whole, cost = ZERO, 0.0, 0.0, 0.0
    for start in range(0, K, PART * L):
        powers, shares, costs = zero, zero, zero
        for k in range(start, min(start + PART * L, K), L):
            below = load(x, i + k, L) - splat(most, L)
            powers = powers + first_lanes(exp(below), K - k)
            if spreads:
                share = _spread_of(a, r, k, L, is_hard)
                shares = shares + share
                costs = costs + where_positive(share, zero - share * below, zero)
        whole += total(powers)
        if spreads:
            all_targets += total(shares)
            cost += total(costs)
    if is_hard and not (a.ignores and label == a.ignored):
        t = (ONE - a.smoothing) * pointer(a.weight)[label]
        all_targets += t
    elif is_hard:
        all_targets = 0.0
    has_slope = a.dx != 0
    if once == ZERO or all_targets == 0:  # the logits may be NaN, which times 0 would be NaN
        if has_slope:
            for k in range(0, K, L):
                store_first(dx, j + k, zero, K - k)
        return 0.0
    if t > ZERO:
        cost += t * (most - x[i + label])
    cost += math.log(whole) * all_targets
    if not has_slope:
        return cost
    scale = np.float32(doubles_pointer(a.scales)[0]) * once
    factor = splat(np.float32(scale * all_targets / whole), L)
    for k in range(0, K, L):
        slope = exp(load(x, i + k, L) - splat(most, L)) * factor
        if spreads:
            slope = slope - _spread_of(a, r, k, L, is_hard) * splat(scale, L)
        store_first(dx, j + k, slope, K - k)
    if is_hard:
        dx[j + label] -= scale * t
    return cost


def _multi_margin(a, i, j, r, once, L, F):  # type: ignore[no-untyped-def]
    """``sum_{k != label} max(0, margin + x[k] - x[label])``."""
    x, dx, label = pointer(a.x), pointer(a.dx), words_pointer(a.labels)[r]
    scale = np.float32(doubles_pointer(a.scales)[0]) * once
    cost, near, has_slope = 0.0, 0, a.dx != 0
    for k in range(a.K):
        excess = a.parameter + x[i + k] - x[i + label]
        counts = k != label and not excess <= ZERO  # NaN counts
        if has_slope:
            dx[j + k] = scale if counts else ZERO
        if counts:
            cost += excess
            near += 1
    if has_slope:
        dx[j + label] = -scale * np.float32(near)
    return cost


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
cost_of, slope_of = (choice(functions) for functions in zip(*ELEMENTS.values(), strict=True))


def _elements(a, i, j, r, once, L, F):  # type: ignore[no-untyped-def]
    """The loss of outputs one by one, number F of ``ELEMENTS``."""
    x, dx, targets = pointer(a.x), pointer(a.dx), pointer(a.targets)
    scale = splat(np.float32(doubles_pointer(a.scales)[0]) * once, L)
    part, has_slope = splat(ZERO, L), a.dx != 0
    for k in range(0, a.K, L):
        z, target = load(x, i + k, L), load(targets, r * a.K + k, L)
        part = part + first_lanes(cost_of(F, z, target, a.parameter), a.K - k)
        if has_slope:
            store_first(dx, j + k, slope_of(F, z, target, a.parameter) * scale, a.K - k)
    return np.float64(total(part))


def _on_its_side(a, i, j, r, once, L, F):  # type: ignore[no-untyped-def]
    """How many outputs are above 0 where the target is above 1/2, and not where it is not."""
    x, targets, same = pointer(a.x), pointer(a.targets), 0
    for k in range(a.K):
        same += (x[i + k] > ZERO) == (targets[r * a.K + k] > HALF)
    return np.float64(same)


def _among_the_best(a, i, j, r, once, L, F):  # type: ignore[no-untyped-def]
    """1 where the label is among the k largest outputs, of equal ones the first; else 0."""
    x, label, before = pointer(a.x), words_pointer(a.labels)[r], 0
    if a.ignores and label == a.ignored:
        return 0.0
    own = x[i + label]
    for k in range(a.K):
        other = x[i + k]
        if own == own:
            before += not other <= own or (k < label and other == own)  # NaN is above all
        else:
            before += k < label and other != other
    return 1.0 if before < a.parameter else 0.0


def _with(function: Callable[..., Any], constant: int) -> Callable[..., Any]:
    function = inner(function)
    return lambda a, i, j, r, once, L: function(a, i, j, r, once, L, constant)


#: name -> what is done to row r, at x[i] and dx[j], of a sample that counts ``once``; it returns
#: a loss or a figure.
ROWS = {
    "cross entropy": _with(_cross_entropy, True),
    "cross entropy of probabilities": _with(_cross_entropy, False),
    "margins": _with(_multi_margin, 0),
    **{name: _with(_elements, place) for place, name in enumerate(ELEMENTS)},
    "on its side": _with(_on_its_side, 0),
    "among the best": _with(_among_the_best, 0),
}
row_of = choice(tuple(ROWS.values()))


def of_rows(L: int, ROW: int) -> Any:
    """Make the kernel that adds up number ROW of ``ROWS``, over all rows of a batch."""

    @kernel(ARGS)
    def loss_of_rows(a, thread, first, last):  # type: ignore[no-untyped-def]
        often, sums, H, W = pointer(a.often), doubles_pointer(a.sums), a.H, a.W
        whole = 0.0
        for n in range(first, last):
            part, r = 0.0, n * a.D * H * W
            for plane in range(a.D):
                for h in range(H):
                    x = n * a.x_sample + plane * a.x_plane + h * a.x_row
                    dx = n * a.dx_sample + plane * a.dx_plane + h * a.dx_row
                    for w in range(W):
                        i, j = x + w * a.x_step, dx + w * a.dx_step
                        part += row_of(ROW, a, i, j, r, often[n], L)
                        r += 1
            whole += part * often[n]
        sums[8 * thread] += whole * doubles_pointer(a.scales)[1]

    return loss_of_rows
