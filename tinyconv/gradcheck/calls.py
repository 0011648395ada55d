"""The first calls of both functions, and everything that can be wrong about calling them."""

import contextlib
from dataclasses import dataclass
from typing import Any

import numpy as np

from tinyconv.gradcheck.numbers import first, rounding_differs, scale_of
from tinyconv.gradcheck.problem import DOUBLE, HALF, FloatArray, Leaf, Problem, Stop
from tinyconv.gradcheck.shapes import explain_shape
from tinyconv.gradcheck.sides import Gradients, Tangents

__all__ = ["COMPLAINTS", "Called", "call", "draw_dy", "elsewhere", "is_stale"]

#: What functions raise outside their domain, or of shapes that do not fit, which is no finding.
COMPLAINTS = (ArithmeticError, LookupError, TypeError, ValueError, RuntimeError)


@dataclass(frozen=True)
class Called:
    """What the functions return at the point of the check."""

    dy: FloatArray
    y: FloatArray
    checked: list[Leaf]  #: those that have a gradient
    side: Gradients | Tangents  #: in float64 where backward does that
    given: list[Any]  #: the gradients in the precision of the inputs as given
    y_elsewhere: FloatArray | None  #: at another point, None where a function refused
    elsewhere: list[Any]  #: the gradients there, for the same dy
    shared: list[set[str]]  #: pairs of inputs whose gradients lie in the same memory


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
    if not problem.leaves:
        raise Stop("shape", "no input holds floating-point numbers")
    nothing: list[Any] = [None] * len(problem.leaves)
    y_elsewhere, gradients_elsewhere = None, nothing
    if not problem.forward_mode:
        y_elsewhere, gradients_elsewhere = _call_elsewhere(problem, seed)
    y = _call_forward(problem)
    if y_elsewhere is not None and y_elsewhere.shape != y.shape:
        y_elsewhere, gradients_elsewhere = None, nothing
    dy = np.where(problem.dead, 0.0, draw_dy(y.shape, seed))
    if problem.eps_numeric > HALF:  # float16 holds fewer digits of dy
        dy = dy.astype(np.float16).astype(np.float64)
    if problem.forward_mode:
        precise_y = problem.choose_precision(y).astype(np.float64)
        tangents = Tangents(problem, dy, precise_y, repeat)
        return Called(dy, precise_y, problem.leaves, tangents, [], None, nothing, [])

    gradients = problem.gradients(dy, problem.x)
    shared = _shared(problem)
    _check_shapes(problem, gradients, dy)
    checked = [leaf for leaf, g in zip(problem.leaves, gradients, strict=True) if g is not None]
    if not checked:
        raise Stop("shape", "backward returned no gradient of a floating-point input")
    if repeat:
        _check_repeats(problem, y, gradients, dy)
    precise_y = problem.choose_precision(y).astype(np.float64)
    promoted = _promoted(problem, gradients, dy) if problem.precise else None
    side = Gradients(problem, dy, promoted or gradients, precise=promoted is not None)
    rest = y_elsewhere, gradients_elsewhere, shared
    return Called(dy, precise_y, checked, side, gradients, *rest)


def _call_forward(problem: Problem) -> Any:
    """Return forward's output for the inputs as given; stop if it cannot be differentiated."""
    y = problem.value(problem.x)
    if y.dtype.kind != "f":
        raise Stop("shape", f"forward returned {y.dtype}, expected floating-point numbers")
    if np.all(np.isfinite(y)):
        return y
    if np.any(np.isnan(y)) or not np.any(np.isinf(problem.x)):
        where = first(~np.isfinite(y))
        raise Stop("nonfinite", f"forward returned {y[where]} at {where}")
    problem.dead = np.isinf(y)
    return np.where(problem.dead, 0, y)


def elsewhere(problem: Problem) -> FloatArray:
    """Return another point: each input in reverse order, and smaller by a quarter."""
    x = np.concatenate([problem.x[leaf.part][::-1] for leaf in problem.leaves])
    return x * 0.75


def _call_elsewhere(problem: Problem, seed: int) -> tuple[FloatArray | None, list[Any]]:
    y, x = None, elsewhere(problem)
    nothing: list[Any] = [None] * len(problem.leaves)
    with contextlib.suppress(*COMPLAINTS):
        y = problem.value(x)
        if not np.all(np.isfinite(y)):
            return None, nothing
        return y, problem.gradients(draw_dy(y.shape, seed), x)
    return y, nothing


def is_stale(problem: Problem, called: Called, leaf: Leaf) -> bool:
    """Tell whether a gradient is right for the other point, where backward was called first.

    It must be wrong here: the gradient of a linear function is the same everywhere.
    """
    k = problem.leaves.index(leaf)
    g = called.elsewhere[k]
    if g is None or not np.array_equal(g, called.given[k]):
        return False
    return _agrees_roughly(problem, elsewhere(problem), leaf, g, called.dy, draws=1)


def _agrees_roughly(
    problem: Problem, x: FloatArray, leaf: Leaf, g: Any, dy: FloatArray, draws: int
) -> bool:
    """Tell whether ``<g, v>`` is a central difference at x, to three digits."""
    rng, at = np.random.default_rng(0), leaf.of(x)
    h = 2.0**-17 if leaf.dtype == np.float64 else 2.0**-8

    def value(t: float, v: FloatArray) -> Any:
        moved = x.copy()
        moved[leaf.part] += t * v.reshape(-1)
        return problem.value(moved)

    for _ in range(draws):
        v = rng.choice([-1.0, 1.0], at.shape) * scale_of(at)
        v = np.where(np.isfinite(at), v, 0)
        numeric = float(np.sum(dy * (value(h, v) - value(-h, v)))) / (2 * h)
        terms = g * v
        if not abs(numeric - float(np.sum(terms))) <= 1e-3 * float(np.sum(np.abs(terms))):
            return False
    return True


def _shared(problem: Problem) -> list[set[str]]:
    """Return the pairs of inputs whose gradients lie in the same memory."""
    named = [(leaf.name, problem.results[leaf.place]) for leaf in problem.leaves]
    arrays = [(name, g) for name, g in named if isinstance(g, np.ndarray) and g.size]
    return [
        {name, other}
        for k, (name, a) in enumerate(arrays)
        for other, b in arrays[k + 1 :]
        if a.flags.writeable and a.shape == b.shape and np.may_share_memory(a, b)
    ]


def _check_shapes(problem: Problem, gradients: list[Any], dy: FloatArray) -> None:
    for leaf, g in zip(problem.leaves, gradients, strict=True):
        if g is not None and g.dtype.kind != "f":
            message = f"the gradient of {leaf.name} is {g.dtype}, expected floats"
            raise Stop("shape", message, leaf=leaf)
        if g is not None and g.shape != leaf.shape:
            message = f"the gradient of {leaf.name} has shape {g.shape}, expected {leaf.shape}"

            def is_right(candidate: Any, leaf: Leaf = leaf) -> bool:
                return _agrees_roughly(problem, problem.x, leaf, candidate, dy, draws=2)

            raise Stop(
                "shape", message, explain_shape(leaf.name, g, leaf.shape, dy, is_right), leaf
            )


def _check_repeats(problem: Problem, y: Any, gradients: list[Any], dy: FloatArray) -> None:
    again = problem.value(problem.x)
    if rounding_differs(y, again, float(np.finfo(y.dtype).eps)):
        calls = y, again, problem.value(problem.x)
        raise Stop("nondeterministic", *_two_calls("forward", *calls))
    second = problem.gradients(dy, problem.x)
    for k, (leaf, a, b) in enumerate(zip(problem.leaves, gradients, second, strict=True)):
        if a is None or (b is not None and not rounding_differs(a, b, problem.eps_analytic)):
            continue
        once_more = problem.gradients(dy, problem.x)[k]
        who = f"backward's gradient of {leaf.name}"
        raise Stop("nondeterministic", *_two_calls(who, a, b, once_more, dy), leaf=leaf)
    third = second
    # A backward may well refuse a second call after one forward; if it takes it, it must mean it.
    with contextlib.suppress(Exception):
        third = problem.gradients(dy, problem.x, again=True)
    for leaf, a, b in zip(problem.leaves, second, third, strict=True):
        if a is not None and b is not None and rounding_differs(a, b, problem.eps_analytic):
            message = f"backward's gradient of {leaf.name} differs in a second call"
            hint = "backward overwrites what forward saved: it works in place on a shared array"
            raise Stop("nondeterministic", f"{message} after one forward pass", hint, leaf)


def _two_calls(
    who: str, once: Any, twice: Any, third: Any, dy: FloatArray | None = None
) -> tuple[str, str]:
    if np.array_equal(twice, third, equal_nan=True):
        hint = "the call after one with other inputs differs: it uses values of the call before"
    elif twice is not None and third is not None and np.allclose(third - twice, twice - once):
        hint = "it adds up from call to call: start from zero in every call"
    elif dy is not None and _is_masked(dy, once, twice, third):
        hint = (
            "every call differs, by where it is zero alone: it has the mask of another call, or "
            "draws random numbers of its own; keep the mask that this call of forward drew"
        )
    else:
        hint = "every call differs: it draws random numbers; save what forward drew, or pass a seed"
    return f"{who} differs between two calls with the same arguments", hint


def _is_masked(dy: FloatArray, *calls: Any) -> bool:
    """Tell whether each call passes dy on, times one number for all, where it is not zero."""
    if any(g is None or g.shape != dy.shape for g in calls):
        return False
    with np.errstate(all="ignore"):
        ratios = np.concatenate([(g / dy)[g != 0] for g in calls])
    few = all(0 < np.count_nonzero(g) < g.size for g in calls[1:])
    return few and bool(np.ptp(ratios) <= 1e-6 * np.max(np.abs(ratios)))


def _promoted(problem: Problem, gradients: list[Any], dy: FloatArray) -> list[Any] | None:
    """Return the gradients in float64, None if backward does not do that."""
    try:
        promoted = problem.gradients(dy, problem.x, precise=True)
    except (TypeError, ValueError, RuntimeError):
        return None
    pairs = zip(gradients, promoted, strict=True)
    if any(a is not None and (b is None or b.dtype != np.float64) for a, b in pairs):
        return None
    problem.eps_analytic = DOUBLE
    return promoted
