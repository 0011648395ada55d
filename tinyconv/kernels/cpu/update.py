"""The update rules as kernels over a stretch of the flat vector of parameters.

Twin of :mod:`tinyconv.optimizers`. They are called by the kernels that make gradients, for a
stretch that is still in the cache: ``update(args, dw, start, stop)``, with ``dw`` the address of
the gradient of parameter ``start``.
"""

from typing import Any

import numpy as np

from tinyconv.kernels.cpu.kernel import kernel, record
from tinyconv.kernels.cpu.simd import (
    doubles_pointer,
    fma,
    invoke,
    load_first,
    maximum,
    pointer,
    splat,
    sqrt,
    store_first,
    total,
)

ZERO, ONE, SMALL = np.float32(0), np.float32(1), np.float32(1e-6)

#: ``w``, ``decay`` and what the rule remembers (:mod:`tinyconv.optimizers` has the names): flat
#: vectors; ``grad``: where :func:`keep` writes. ``root_scale``: 1 / sqrt(1 - beta2^t), ``rate``:
#: lr / (1 - beta1^t) in Adam, lr in the others.
ARGS = record(
    *("w", "velocity", "mean", "square", "decay", "grad"),
    floats=(
        *("lr", "rate", "root_scale", "weight_decay", "momentum", "beta1", "beta2"),
        *("one_minus_beta1", "one_minus_beta2", "eps"),
    ),
)


def sgd(L: int, DECAY: bool, MOMENTUM: bool, NESTEROV: bool) -> Any:
    """Make the kernel of stochastic gradient descent, without the terms that are 0."""

    @kernel(ARGS)
    def update_sgd(a, dw, start, stop):  # type: ignore[no-untyped-def]
        w, velocity, decay = pointer(a.w), pointer(a.velocity), pointer(a.decay)
        dw = pointer(dw)
        lr, momentum = splat(-a.lr, L), splat(a.momentum, L)
        weight_decay = splat(a.weight_decay, L)
        for i in range(start, stop, L):
            count = stop - i
            value, g = load_first(w, i, count, L), load_first(dw, i - start, count, L)
            if DECAY:
                g = fma(weight_decay * load_first(decay, i, count, L), value, g)
            if MOMENTUM:
                v = fma(momentum, load_first(velocity, i, count, L), g)
                store_first(velocity, i, v, count)
                g = fma(momentum, v, g) if NESTEROV else v
            store_first(w, i, fma(lr, g, value), count)

    return update_sgd


def adam(L: int, DECAY: bool, DECOUPLED: bool) -> Any:
    """Make the kernel of Adam or, with decoupled weight decay, of AdamW."""

    @kernel(ARGS)
    def update_adam(a, dw, start, stop):  # type: ignore[no-untyped-def]
        w, mean, square, decay = pointer(a.w), pointer(a.mean), pointer(a.square), pointer(a.decay)
        dw = pointer(dw)
        rate, scale, eps = splat(a.rate, L), splat(a.root_scale, L), splat(a.eps, L)
        beta1, rest1 = splat(a.beta1, L), splat(a.one_minus_beta1, L)
        beta2, rest2 = splat(a.beta2, L), splat(a.one_minus_beta2, L)
        weight_decay = splat(-a.lr * a.weight_decay if DECOUPLED else a.weight_decay, L)
        for i in range(start, stop, L):
            count = stop - i
            value, g = load_first(w, i, count, L), load_first(dw, i - start, count, L)
            if DECAY:
                share = weight_decay * load_first(decay, i, count, L)
                if DECOUPLED:
                    value = fma(share, value, value)
                else:
                    g = fma(share, value, g)
            m = fma(beta1, load_first(mean, i, count, L), rest1 * g)
            v = fma(beta2, load_first(square, i, count, L), rest2 * g * g)
            store_first(mean, i, m, count)
            store_first(square, i, v, count)
            store_first(w, i, value - rate * m / fma(sqrt(v), scale, eps), count)

    return update_adam


def adagrad(L: int, DECAY: bool) -> Any:
    """Make the kernel of Adagrad."""

    @kernel(ARGS)
    def update_adagrad(a, dw, start, stop):  # type: ignore[no-untyped-def]
        w, square, decay = pointer(a.w), pointer(a.square), pointer(a.decay)
        dw = pointer(dw)
        lr, eps, weight_decay = splat(a.lr, L), splat(a.eps, L), splat(a.weight_decay, L)
        for i in range(start, stop, L):
            count = stop - i
            value, g = load_first(w, i, count, L), load_first(dw, i - start, count, L)
            if DECAY:
                g = fma(weight_decay * load_first(decay, i, count, L), value, g)
            s = fma(g, g, load_first(square, i, count, L))
            store_first(square, i, s, count)
            store_first(w, i, value - lr * g / (sqrt(s) + eps), count)

    return update_adagrad


def rmsprop(L: int, DECAY: bool, CENTERED: bool, MOMENTUM: bool) -> Any:
    """Make the kernel of RMSProp, whose alpha is ``beta2``."""

    @kernel(ARGS)
    def update_rmsprop(a, dw, start, stop):  # type: ignore[no-untyped-def]
        w, mean, square, decay = pointer(a.w), pointer(a.mean), pointer(a.square), pointer(a.decay)
        velocity, dw = pointer(a.velocity), pointer(dw)
        lr, eps, weight_decay = splat(a.lr, L), splat(a.eps, L), splat(a.weight_decay, L)
        alpha, rest, momentum = splat(a.beta2, L), splat(a.one_minus_beta2, L), splat(a.momentum, L)
        for i in range(start, stop, L):
            count = stop - i
            value, g = load_first(w, i, count, L), load_first(dw, i - start, count, L)
            if DECAY:
                g = fma(weight_decay * load_first(decay, i, count, L), value, g)
            s = fma(alpha, load_first(square, i, count, L), rest * g * g)
            store_first(square, i, s, count)
            if CENTERED:
                m = fma(alpha, load_first(mean, i, count, L), rest * g)
                store_first(mean, i, m, count)
                # Rounding may leave a variance of 0 just below it.
                s = maximum(splat(ZERO, L), s - m * m)
            r = g / (sqrt(s) + eps)
            if MOMENTUM:
                r = fma(momentum, load_first(velocity, i, count, L), r)
                store_first(velocity, i, r, count)
            store_first(w, i, value - lr * r, count)

    return update_rmsprop


#: The gradient of parameter ``start`` lies at the address ``dw``.
FLAT = record("dw", "start", "function", "function_args")


def flat() -> Any:
    """Make the kernel that hands parameters ``first`` to ``last``, from ``start`` on, to a rule."""

    @kernel(FLAT)
    def update_flat(a, thread, first, last):  # type: ignore[no-untyped-def]
        begin, end = a.start + first, a.start + last
        invoke(a.function, a.function_args, a.dw + 4 * first, begin, end)

    return update_flat


def keep(L: int) -> Any:
    """Make the kernel that writes the gradient to the flat vector of gradients.

    It serves an optimizer that has no kernel here or clips, and works on that vector afterwards.
    """

    @kernel(ARGS)
    def update_keep(a, dw, start, stop):  # type: ignore[no-untyped-def]
        grad, dw = pointer(a.grad), pointer(dw)
        for i in range(start, stop, L):
            store_first(grad, i, load_first(dw, i - start, stop - i, L), stop - i)

    return update_keep


#: ``squares``: for each thread 8 float64, of which the first is its part of the squared length of
#: ``grad``. ``clip``: the largest length.
CLIP = record("grad", "squares", "threads", "function", "function_args", floats=("clip",))


def length(L: int) -> Any:
    """Make the kernel of the sum of squares of gradients ``first`` to ``last``."""

    @kernel(CLIP)
    def update_length(a, thread, first, last):  # type: ignore[no-untyped-def]
        grad, whole = pointer(a.grad), 0.0
        for start in range(first, last, 64 * L):
            part = splat(ZERO, L)
            for i in range(start, min(start + 64 * L, last), L):
                g = load_first(grad, i, last - i, L)
                part = fma(g, g, part)
            whole += total(part)
        doubles_pointer(a.squares)[8 * thread] = whole

    return update_length


def clipped(L: int) -> Any:
    """Make the kernel that shortens gradients ``first`` to ``last`` and hands them to a rule.

    g = g min(1, clip / (length + 1e-6))
    """

    @kernel(CLIP)
    def update_clipped(a, thread, first, last):  # type: ignore[no-untyped-def]
        grad, squares, whole = pointer(a.grad), doubles_pointer(a.squares), 0.0
        for t in range(a.threads):
            whole += squares[8 * t]
        factor = splat(min(ONE, a.clip / (np.float32(np.sqrt(whole)) + SMALL)), L)
        for i in range(first, last, L):
            store_first(grad, i, load_first(grad, i, last - i, L) * factor, last - i)
        invoke(a.function, a.function_args, a.grad + 4 * first, first, last)

    return update_clipped
