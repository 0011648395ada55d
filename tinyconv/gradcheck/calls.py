"""The first calls of both functions, and everything that can be wrong about calling them."""

import contextlib
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from tinyconv.gradcheck.modes import Forward, Reverse
from tinyconv.gradcheck.nests import FloatArray, Leaf
from tinyconv.gradcheck.numbers import axis_orders, axis_sets, blemish, rounding_differs, scale_of
from tinyconv.gradcheck.problem import DOUBLE, HALF, Problem, Stop

__all__ = ["COMPLAINTS", "Called", "call", "draw_dy", "elsewhere", "is_stale"]

#: What functions raise outside their domain, or of shapes that do not fit, which is no finding.
COMPLAINTS = (ArithmeticError, LookupError, TypeError, ValueError, RuntimeError)


@dataclass(frozen=True)
class Called:
    """What the functions return at the point of the check."""

    problem: Problem  #: as given
    numeric: Problem  #: in the precision of the numeric side
    mode: Reverse
    dy: FloatArray
    ys: list[FloatArray]  #: forward's output, and unless it refused that at another point
    checked: list[Leaf]  #: those that have a gradient
    given: Sequence[Any] = ()  #: the gradients in the precision of the inputs as given
    elsewhere: Sequence[Any] = ()  #: the gradients at the other point, for the same dy


def draw_dy(shape: tuple[int, ...], seed: int = 0) -> FloatArray:
    """Return the gradient that a check sends into backward: random signs, 0.5 <= |dy| < 1.5.

    Its elements are multiples of 2^-22, which float32 represents exactly.

    >>> float(abs(draw_dy((100,))).min()) >= 0.5
    True
    """
    rng = np.random.default_rng([seed, 0])
    sizes = rng.integers(2**21, 3 * 2**21, size=shape) / 2**22
    return np.asarray(rng.choice([-1.0, 1.0], size=shape) * sizes)


def call(problem: Problem, seed: int, repeat: bool) -> Called:
    """Call both functions, at another point first, and twice if ``repeat``.

    What they remember from call to call then shows: values kept from the first call make the
    gradient wrong, values kept from the last call make two calls differ.

    Raises:
        Stop: a function changes its inputs, is not deterministic, or returns wrong shapes; or
            forward returns numbers that are not finite.
    """
    leaves, is_forward_mode = problem.leaves, problem.functions.forward_mode
    if not leaves:
        raise Stop("shape", "no input holds floating-point numbers")
    ys: list[FloatArray] = []
    gradients_elsewhere: list[Any] = []
    if not is_forward_mode:
        other = elsewhere(problem)
        with contextlib.suppress(*COMPLAINTS):
            ys = [other.value()]
            gradients_elsewhere = other.gradients(draw_dy(ys[0].shape, seed), forward_first=False)
    y = problem.value()
    if y.dtype.kind != "f":
        raise Stop("shape", f"forward returned {y.dtype}, expected floating-point numbers")
    if (found := blemish(y)) and (np.any(np.isnan(y)) or not np.any(np.isinf(problem.x))):
        raise Stop("nonfinite", f"forward returned {found}")
    problem.dead = np.isinf(y) if found else False
    y = np.where(problem.dead, 0, y)
    if not (ys and ys[0].shape == y.shape and np.all(np.isfinite(ys[0]))):
        ys, gradients_elsewhere = [], []
    dy = np.where(problem.dead, 0.0, draw_dy(y.shape, seed))
    if problem.eps_y > HALF:  # float16 holds fewer digits of dy
        dy = dy.astype(np.float16).astype(np.float64)
    if is_forward_mode:
        numeric, y = _precise(problem, y)
        return Called(problem, numeric, Forward(numeric, dy, repeat), dy, [y], leaves)
    gradients = problem.gradients(dy, forward_first=False)
    checked = [leaf for leaf, g in zip(leaves, gradients, strict=True) if g is not None]
    for leaf in checked:
        _check_shape(problem, leaf, gradients[leaves.index(leaf)], dy)
    if not checked:
        raise Stop("shape", "backward returned no gradient of a floating-point input")
    if repeat:
        _check_repeats(problem, y, gradients, dy)
    numeric, y = _precise(problem, y)
    mode, promoted = Reverse(problem, dy, problem.eps_x, gradients), None
    if numeric is not problem:
        with contextlib.suppress(TypeError, ValueError, RuntimeError):
            promoted = numeric.gradients(dy, forward_first=False)
    if promoted and all(g is None or g.dtype == np.float64 for g in promoted):
        mode = Reverse(numeric, dy, DOUBLE, promoted)
    return Called(problem, numeric, mode, dy, [y, *ys], checked, gradients, gradients_elsewhere)


def _precise(problem: Problem, y: Any) -> tuple[Problem, FloatArray]:
    """Return the problem of the numeric side and its output: in float64, if forward takes it.

    float32 inputs are promoted, exactly; should forward refuse them, or answer in float32 all the
    same, then the numeric side has that type's precision.
    """
    if problem.eps_x > DOUBLE:
        # Any error means the same: this function is made for one precision.
        with contextlib.suppress(Exception):
            promoted = problem.at(problem.x, np.float64)
            precise = promoted.value()
            if precise.dtype == np.float64 and np.all(np.isfinite(precise)):
                return promoted, precise
    return problem, y.astype(np.float64)


def elsewhere(problem: Problem) -> Problem:
    """Return the problem at another point: each input in reverse order, smaller by a quarter."""
    return problem.at(0.75 * np.concatenate([problem.x[a.part][::-1] for a in problem.leaves]))


# -- values that are remembered from call to call -------------------------------------------------


def is_stale(called: Called, leaf: Leaf) -> bool:
    """Tell whether a gradient is right for the other point, where backward was called first.

    It must be wrong here: the gradient of a linear function is the same everywhere.
    """
    k, there = called.problem.leaves.index(leaf), elsewhere(called.problem)
    g = called.elsewhere[k] if called.elsewhere else None
    is_same = g is not None and np.array_equal(g, called.given[k])
    return is_same and _agrees_roughly(there, leaf, g, called.dy)


def _agrees_roughly(problem: Problem, leaf: Leaf, g: Any, dy: FloatArray, draws: int = 1) -> bool:
    """Tell whether ``<g, v>`` is a central difference, to three digits."""
    rng, at = np.random.default_rng(0), leaf.of(problem.x)
    h = 2.0**-17 if leaf.dtype == np.float64 else 2.0**-8
    for _ in range(draws):
        v = np.where(np.isfinite(at), rng.choice([-1.0, 1.0], at.shape) * scale_of(at), 0)
        above, below = (problem.evaluate({leaf: at + t * v}) for t in (h, -h))
        numeric, terms = float(np.sum(dy * (above - below))) / (2 * h), g * v
        if not abs(numeric - float(np.sum(terms))) <= 1e-3 * float(np.sum(np.abs(terms))):
            return False
    return True


def _check_repeats(problem: Problem, y: Any, gradients: list[Any], dy: FloatArray) -> None:
    again = problem.value()
    if rounding_differs(y, again, problem.eps_y):
        raise Stop("nondeterministic", *_two_calls("forward", None, y, again, problem.value()))
    second = problem.gradients(dy, forward_first=False)
    for k, (leaf, a, b) in enumerate(zip(problem.leaves, gradients, second, strict=True)):
        if a is not None and (b is None or rounding_differs(a, b, problem.eps_x)):
            who, third = f"backward's gradient of {leaf.name}", problem.gradients(dy)[k]
            raise Stop("nondeterministic", *_two_calls(who, dy, a, b, third), leaf=leaf)
    once_more = second
    # A backward may well refuse a second call after one forward; if it takes it, it must mean it.
    with contextlib.suppress(Exception):
        once_more = problem.gradients(dy, forward_first=False)
    for leaf, a, b in zip(problem.leaves, second, once_more, strict=True):
        if a is not None and b is not None and rounding_differs(a, b, problem.eps_x):
            seen = f"backward's gradient of {leaf.name} differs in a second call after one forward"
            hint = "backward overwrites what forward saved: it works in place on a shared array"
            raise Stop("nondeterministic", f"{seen} pass", hint, leaf)


def _two_calls(who: str, dy: Any, once: Any, twice: Any, third: Any) -> tuple[str, str]:
    """Return what was seen, and what makes calls differ like that."""
    hint = "every call differs: it draws random numbers; save what forward drew, or pass a seed"
    if np.array_equal(twice, third, equal_nan=True):
        hint = "the call after one with other inputs differs: it uses values of the call before"
    elif twice is not None and third is not None and np.allclose(third - twice, twice - once):
        hint = "it adds up from call to call: start from zero in every call"
    elif all(
        g is not None and dy is not None and g.shape == dy.shape for g in (once, twice, third)
    ):
        # A mask passes dy on, times one number for all, where it is not zero.
        with np.errstate(all="ignore"):
            ratios = np.concatenate([(g / dy)[g != 0] for g in (once, twice, third)])
        few = all(0 < np.count_nonzero(g) < g.size for g in (twice, third))
        if few and np.ptp(ratios) <= 1e-6 * np.max(np.abs(ratios)):
            hint = "every call differs, by where it is zero alone: it has the mask of another "
            hint += "call, or draws random numbers of its own; keep the mask that forward drew"
    return f"{who} differs between two calls with the same arguments", hint


# -- shapes ---------------------------------------------------------------------------------------


def _check_shape(problem: Problem, leaf: Leaf, g: Any, dy: FloatArray) -> None:
    if g.dtype.kind != "f":
        message = f"the gradient of {leaf.name} is {g.dtype}, expected floats"
        raise Stop("shape", message, leaf=leaf)
    if g.shape != leaf.shape:
        message = f"the gradient of {leaf.name} has shape {g.shape}, expected {leaf.shape}"
        ways = _reshaped(g, leaf.shape)
        hints = [s for s, c in ways if _agrees_roughly(problem, leaf, c, dy, draws=2)]
        hints += [
            f"the gradient is dy summed over axes {axes}, which are the wrong ones"
            for axes in axis_sets(dy)
            if dy.sum(axis=axes).shape == g.shape and np.allclose(dy.sum(axis=axes), g)
        ]
        raise Stop("shape", message, f"{leaf.name}: {hints[0]}" if hints else "", leaf)


def _reshaped(g: Any, shape: tuple[int, ...]) -> Iterator[tuple[str, Any]]:
    """Yield how a gradient may get its shape, and the gradient after that."""
    for axes in axis_sets(g):
        total = g.sum(axis=axes)
        if total.size == np.prod(shape) and g.size != total.size:
            # Broadcasting aligns the last axes; those in front of them are summed over.
            how = f"right summed over axes {axes}: broadcasting was not undone"
            yield how, total.reshape(shape)
    if [n for n in g.shape if n != 1] == [n for n in shape if n != 1]:
        yield "right without its axes of length 1: they are left over or lost", g.reshape(shape)
    for order in axis_orders(g):
        if tuple(g.shape[k] for k in order) == shape:
            yield f"right with its axes in the order {order}: it is transposed", g.transpose(order)
    off = [n - m for n, m in zip(g.shape, shape, strict=False)]
    if g.ndim == len(shape) and min(off) >= 0:
        cut = tuple(slice(d // 2, d // 2 + m) for d, m in zip(off, shape, strict=True))
        axes = tuple(k for k, d in enumerate(off) if d)
        yield f"right with the padding along axes {axes} cut off", g[cut]
