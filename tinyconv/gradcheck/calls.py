"""The first calls of both functions, and everything that can be wrong about calling them."""

import contextlib
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import numpy as np

from tinyconv.gradcheck.problem import DOUBLE, FloatArray, Problem, Stop, rounding_differs, scale_of
from tinyconv.gradcheck.shapes import explain_shape

__all__ = ["Called", "call", "call_forward", "draw_dy", "first", "is_stale"]


@dataclass(frozen=True)
class Called:
    """What the functions return at the point of the check."""

    dy: FloatArray
    y: FloatArray
    checked: list[int]  #: the inputs that have a gradient
    gradients: list[Any]  #: in float64 where backward does that
    given_gradients: list[Any]  #: in the precision of the inputs as given
    point: list[Any]  #: the inputs that ``gradients`` belong to
    point_elsewhere: list[Any]  #: another point, where both functions were called before
    y_elsewhere: FloatArray | None  #: None each where a function refused
    elsewhere: list[Any]  #: the gradients there, for the same dy
    shared: list[list[int]]  #: pairs of inputs whose gradients lie in the same memory


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
    _require_numbers(problem)
    point = elsewhere(problem)
    y_elsewhere, gradients_elsewhere = _call_elsewhere(problem, point, seed)
    y = call_forward(problem)
    if y_elsewhere is not None and y_elsewhere.shape != y.shape:
        y_elsewhere, gradients_elsewhere = None, [None] * len(point)
    dy = np.where(problem.dead, 0.0, draw_dy(y.shape, seed))
    if problem.eps_numeric > 1e-4:  # float16 holds fewer digits of dy
        dy = dy.astype(np.float16).astype(np.float64)
    gradients = problem.gradients(dy, problem.given)
    shared = _shared(problem)
    _check_shapes(problem, gradients, dy, y)
    checked = [i for i in problem.floating if gradients[i] is not None]
    if not checked:
        raise Stop("shape", "backward returned no gradient of a floating-point input")
    if repeat:
        _check_repeats(problem, y, gradients, dy)

    precise_y = problem.choose_precision(y)
    precise, point_here = gradients, problem.given
    if problem.base is not problem.given:
        promoted = _promoted(problem, checked, dy)
        if promoted is not None:
            precise, point_here = promoted, problem.base
    return Called(
        dy=dy,
        y=precise_y.astype(np.float64),
        checked=checked,
        gradients=precise,
        given_gradients=gradients,
        point=point_here,
        point_elsewhere=point,
        y_elsewhere=y_elsewhere,
        elsewhere=gradients_elsewhere,
        shared=shared,
    )


def call_forward(problem: Problem) -> Any:
    """Return forward's output for the inputs as given; stop if it cannot be differentiated."""
    _require_numbers(problem)
    y = problem.value(problem.given)
    if y.dtype.kind != "f":
        raise Stop("shape", f"forward returned {y.dtype}, expected floating-point numbers")
    if np.all(np.isfinite(y)):
        return y
    infinite = any(np.any(np.isinf(problem.given[i])) for i in problem.floating)
    if np.any(np.isnan(y)) or not infinite:
        where = first(~np.isfinite(y))
        raise Stop("nonfinite", f"forward returned {y[where]} at {where}")
    return problem.ignore_infinite(y)


def _require_numbers(problem: Problem) -> None:
    if not problem.floating:
        raise Stop("shape", "no input holds floating-point numbers")


def is_stale(problem: Problem, called: Called, i: int) -> bool:
    """Tell whether gradient i is right for the other point, where backward was called first.

    It must be wrong here: the gradient of a linear function is the same everywhere.
    """
    g = called.elsewhere[i]
    if g is None or not np.array_equal(g, called.given_gradients[i]):
        return False
    v = np.random.default_rng(0).choice([-1.0, 1.0], g.shape) * scale_of(called.point_elsewhere[i])
    h = 2.0**-17 if g.dtype == np.float64 else 2.0**-8
    return agrees_roughly(problem, called.point_elsewhere, i, g, called.dy, v, h)


def agrees_roughly(
    problem: Problem, at: list[Any], i: int, g: Any, dy: FloatArray, v: FloatArray, h: float
) -> bool:
    """Tell whether ``<g, v>`` is a central difference, to three digits."""

    def value(t: float) -> Any:
        point = list(at)
        point[i] = point[i] + (t * v).astype(point[i].dtype)
        return problem.value(point)

    numeric = float(np.sum(dy * (value(h) - value(-h)))) / (2 * h)
    terms = g * v
    return abs(numeric - float(np.sum(terms))) <= 1e-3 * float(np.sum(np.abs(terms)))


def first(where: Any) -> tuple[int, ...]:
    """Return the index of the first element that is true."""
    return tuple(int(k) for k in np.argwhere(where)[0])


def elsewhere(problem: Problem) -> list[Any]:
    """Return another point: the inputs in reverse order, and smaller by a quarter."""
    return [
        (a.reshape(-1)[::-1].reshape(a.shape) * 0.75).astype(a.dtype)
        if i in problem.floating
        else a
        for i, a in enumerate(problem.given)
    ]


def _call_elsewhere(
    problem: Problem, point: list[Any], seed: int
) -> tuple[FloatArray | None, list[Any]]:
    y = None
    # The other point may be outside the functions' domain: a complaint is no finding.
    with contextlib.suppress(ArithmeticError, LookupError, TypeError, ValueError, RuntimeError):
        y = problem.value(point)
        if not np.all(np.isfinite(y)):
            return None, [None] * len(point)
        return y, problem.gradients(draw_dy(y.shape, seed), point)
    return y, [None] * len(point)


def _shared(problem: Problem) -> list[list[int]]:
    """Return the pairs of gradients that lie in the same memory."""
    arrays = [(i, g) for i, g in enumerate(problem.results) if isinstance(g, np.ndarray) and g.size]
    return [
        [i, k]
        for place, (i, a) in enumerate(arrays)
        for k, b in arrays[place + 1 :]
        if a.flags.writeable and a.shape == b.shape and np.may_share_memory(a, b)
    ]


def _check_shapes(problem: Problem, gradients: list[Any], dy: FloatArray, y: FloatArray) -> None:
    for i in problem.floating:
        g, x, name = gradients[i], problem.given[i], problem.names[i]
        if g is None:
            continue
        if g.dtype.kind != "f":
            raise Stop("shape", f"the gradient of {name} is {g.dtype}, expected floats", "", i)
        if g.shape != x.shape:
            message = f"the gradient of {name} has shape {g.shape}, expected {x.shape}"
            h = 2.0**-17 if x.dtype == np.float64 else 2.0**-8

            def is_right(candidate: Any, i: int = i, x: Any = x, h: float = h) -> bool:
                rng = np.random.default_rng(0)
                draws = [rng.choice([-1.0, 1.0], x.shape) * scale_of(x) for _ in range(2)]
                draws = [np.where(np.isfinite(x), v, 0) for v in draws]
                return all(
                    agrees_roughly(problem, problem.given, i, candidate, dy, v, h) for v in draws
                )

            raise Stop("shape", message, explain_shape(name, g, x.shape, dy, is_right), i)


def _check_repeats(problem: Problem, y: Any, gradients: list[Any], dy: Any) -> None:
    again = problem.value(problem.given)
    if rounding_differs(y, again, float(np.finfo(y.dtype).eps)):
        raise Stop("nondeterministic", *_two_calls("forward", y, again, problem.value, problem))
    second = problem.gradients(dy, problem.given)
    for i, (a, b) in enumerate(zip(gradients, second, strict=True)):
        if a is None or (b is not None and not rounding_differs(a, b, problem.eps_analytic)):
            continue

        def once_more(arrays: list[Any], i: int = i) -> Any:
            return problem.gradients(dy, arrays)[i]

        who = f"backward's gradient of {problem.names[i]}"
        raise Stop("nondeterministic", *_two_calls(who, a, b, once_more, problem), tensor=i)
    third = second
    # A backward may well refuse a second call after one forward; if it takes it, it must mean it.
    with contextlib.suppress(Exception):
        third = problem.backward_again(dy, problem.given)
    for i, (a, b) in enumerate(zip(second, third, strict=True)):
        if a is not None and b is not None and rounding_differs(a, b, problem.eps_analytic):
            message = f"backward's gradient of {problem.names[i]} differs in a second call"
            hint = "backward overwrites what forward saved: it works in place on a shared array"
            raise Stop("nondeterministic", f"{message} after one forward pass", hint, i)


def _two_calls(
    who: str, once: Any, twice: Any, function: Callable[[list[Any]], Any], problem: Problem
) -> tuple[str, str]:
    third = function(problem.given)
    if np.array_equal(twice, third, equal_nan=True):
        hint = "the call after one with other inputs differs: it uses values of the call before"
    elif twice is not None and third is not None and np.allclose(third - twice, twice - once):
        hint = "it adds up from call to call: start from zero in every call"
    else:
        hint = "every call differs: it draws random numbers; save what forward drew, or pass a seed"
    return f"{who} differs between two calls with the same arguments", hint


def _promoted(problem: Problem, checked: list[int], dy: FloatArray) -> list[Any] | None:
    """Return the gradients in float64, None if backward does not do that."""
    try:
        gradients = problem.gradients(dy, problem.base)
    except (TypeError, ValueError, RuntimeError):
        return None
    for i in checked:
        g = gradients[i]
        if g is None or g.dtype != np.float64:
            return None
    problem.eps_analytic = DOUBLE
    return gradients
