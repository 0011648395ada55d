"""The update rules as kernels over a stretch of the flat vector of parameters.

Twin of :mod:`tinyconv.optimizers`. They are called by the kernels that make gradients, for a
stretch that is still in the cache: ``update(args, dw, start, stop)``, with ``dw`` the address of
the gradient of parameter ``start``.
"""

from typing import Any

from numba import carray

from tinyconv.kernels.cpu.kernel import kernel, record
from tinyconv.kernels.cpu.simd import fma, invoke, load_first, pointer, splat, store_first

__all__ = ["ARGS", "FLAT", "flat", "keep", "sgd"]

#: ``w``, ``velocity``, ``decay``: the flat vectors; ``grad``: where :func:`keep` writes.
ARGS = record("w", "velocity", "decay", "grad", floats=("lr", "momentum", "weight_decay"))


def sgd(L: int, MOMENTUM: bool, NESTEROV: bool, DECAY: bool) -> Any:
    """Make the kernel of stochastic gradient descent, without the terms that are 0."""

    @kernel
    def update_sgd(args, dw, start, stop):  # type: ignore[no-untyped-def]
        a = carray(args, 1, ARGS)[0]
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


#: The gradient of parameter ``start`` lies at the address ``dw``.
FLAT = record("dw", "start", "function", "function_args")


def flat() -> Any:
    """Make the kernel that hands parameters ``first`` to ``last``, from ``start`` on, to a rule."""

    @kernel
    def update_flat(args, thread, first, last):  # type: ignore[no-untyped-def]
        a = carray(args, 1, FLAT)[0]
        begin, end = a.start + first, a.start + last
        invoke(a.function, a.function_args, a.dw + 4 * first, begin, end)

    return update_flat


def keep(L: int) -> Any:
    """Make the kernel that writes the gradient to the flat vector of gradients.

    It serves an optimizer that has no kernel here and works on that vector afterwards.
    """

    @kernel
    def update_keep(args, dw, start, stop):  # type: ignore[no-untyped-def]
        a = carray(args, 1, ARGS)[0]
        grad, dw = pointer(a.grad), pointer(dw)
        for i in range(start, stop, L):
            store_first(grad, i, load_first(dw, i - start, stop - i, L), stop - i)

    return update_keep
