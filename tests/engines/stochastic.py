"""Training in which every operation rounds to float32 up or down by chance.

What several such runs, which are equally right, differ by is what the rounding of float32 can make
of a network (Parker, "Monte Carlo arithmetic", 1997). It sees what one run cannot: a gradient that
is 0 but for rounding, a sum that overflows in one order of its terms and not in another.
"""

from collections.abc import Callable
from typing import Any

import numpy as np

import tinyconv as tc

Array = np.ndarray[Any, Any]

EPS = float(np.finfo(np.float32).eps)
LARGEST = float(np.finfo(np.float32).max)


class Rounded(np.ndarray[Any, Any]):
    """A float64 array whose operations round their results to float32, up or down by chance.

    A sum moves its terms by a unit in their last place, as the partial sums of some order do.
    """

    rng = np.random.default_rng(0)

    def __array_ufunc__(
        self, ufunc: Any, method: str, *inputs: Any, out: Any = None, **options: Any
    ) -> Any:
        plain = [np.asarray(x) if isinstance(x, Rounded) else x for x in inputs]
        is_sum = ufunc in (np.matmul, np.vecdot) or (ufunc is np.add and method == "reduce")
        call = getattr(ufunc, method)
        y = call(*(_terms(x) if is_sum else x for x in plain), **options)
        if getattr(y, "dtype", None) == np.float64:
            if is_sum:
                y = _without_order(y, call(*map(np.abs, plain), **options))
            y = _round(np.asarray(y)).view(Rounded)
        if out is None:
            return y
        out[0][...] = y
        return out[0]


def _terms(x: Any) -> Any:
    return x * (1 + EPS * Rounded.rng.uniform(-1, 1, np.shape(x)))


def _without_order(y: Any, bound: Any) -> Array:
    """Overflow by chance where that depends on the order of a sum's terms.

    Args:
        y: the sum.
        bound: that of the terms' absolute values.
    """
    y, bound = np.array(y), np.asarray(bound)
    lost = (bound > LARGEST) & np.isfinite(bound) & (np.abs(y) < bound * (1 - 1e-5))
    y[lost] += Rounded.rng.choice([0.0, np.inf, -np.inf, np.nan], int(lost.sum()))
    return y


def _round(y: Array) -> Array:
    """Return the number of float32 above or below y, the nearer one more often."""
    near = y.astype(np.float32)
    rest = y - near
    other = np.nextafter(near, np.where(rest > 0, np.inf, -np.inf).astype(np.float32))
    inexact = np.isfinite(near) & (rest != 0)
    moved = inexact & (Rounded.rng.random(y.shape) * np.abs(other - near) < np.abs(rest))
    return np.where(moved, other, near).astype(np.float64)


def round_by_chance(net: tc.Sequential, optimizer: Any, seed: int) -> None:
    """Let a float64 network and the rule that trains it compute so, by draws of ``seed``."""
    Rounded.rng = np.random.default_rng(seed)
    flat = net.parameters.flat
    flat[...] = flat.astype(np.float32)
    for layer in net.walk():
        layer.compute = _forward(layer, layer.compute)
        layer.compute_backward = _backward(layer.compute_backward)
    object.__setattr__(optimizer, "update", _update(optimizer.update))  # it is frozen


def _forward(layer: Any, compute: Callable[..., Any]) -> Callable[..., Any]:
    def run(x: Array, training: bool, step: int) -> Any:
        params = layer.params
        layer.params = {name: array.view(Rounded) for name, array in params.items()}
        try:
            return compute(x.astype(np.float32).astype(np.float64).view(Rounded), training, step)
        finally:
            layer.params = params

    return run


def _backward(compute: Callable[..., Any]) -> Callable[..., Any]:
    return lambda dy, saved: compute(np.asarray(dy).view(Rounded), saved)


def _update(update: Callable[..., None]) -> Callable[..., None]:
    def run(w: Array, dw: Array, state: dict[str, Array], *rest: Any) -> None:
        views = {name: a.view(Rounded) if a.ndim else a for name, a in state.items()}
        update(w.view(Rounded), dw.view(Rounded), views, *rest)

    return run
