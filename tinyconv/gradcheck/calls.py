"""The first calls of both functions, and everything that can be wrong about calling them."""

import contextlib
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import numpy as np

from tinyconv.gradcheck.callables import FloatArray, Problem, Stop, rounding_differs, scale_of
from tinyconv.gradcheck.hints import explain_shape

__all__ = ["Called", "call", "draw_dy", "first", "is_stale"]


@dataclass(frozen=True)
class Called:
    """What the functions return at the point of the check."""

    dy: FloatArray
    y: FloatArray
    checked: list[int]  #: the inputs that have a gradient
    gradients: list[Any]  #: in float64 where backward does that
    given_gradients: list[Any]  #: in the precision of the inputs as given
    point_elsewhere: list[Any]  #: another point, where both functions were called before
    y_elsewhere: FloatArray | None  #: None each where a function refused
    elsewhere: list[Any]  #: the gradients there, for the same dy

    @property
    def is_promoted(self) -> bool:
        """Whether the gradients are those of float64 copies of the inputs."""
        return self.gradients is not self.given_gradients

    def point(self, problem: Problem) -> list[Any]:
        """Return the inputs that ``gradients`` belong to."""
        return problem.base if self.is_promoted else problem.given

    def dy_dtype(self, problem: Problem) -> Any:
        """Return the dtype of dy that goes with that point."""
        return np.float64 if self.is_promoted else problem.y_dtype


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
    point = _elsewhere(problem)
    y_elsewhere, elsewhere = _call_elsewhere(problem, point, seed)
    y = problem.value(problem.given)
    if y.dtype.kind != "f":
        raise Stop("shape", f"forward returned {y.dtype}, expected floating-point numbers")
    if not np.all(np.isfinite(y)):
        where = first(~np.isfinite(y))
        raise Stop("nonfinite", f"forward returned {y[where]} at {where}")
    if y_elsewhere is not None and y_elsewhere.shape != y.shape:
        y_elsewhere, elsewhere = None, [None] * len(point)
    given_dy = draw_dy(y.shape, seed).astype(y.dtype)
    dy = given_dy.astype(np.float64)
    gradients = problem.gradients(given_dy, problem.given)
    _check_shapes(problem, gradients, dy, y)
    checked = [i for i in problem.floating if gradients[i] is not None]
    if not checked:
        raise Stop("shape", "backward returned no gradient of a floating-point input")
    if repeat:
        _check_repeats(problem, y, gradients, given_dy)

    precise_y = problem.choose_precision(y)
    precise = gradients
    if problem.base is not problem.given:
        precise = _promoted(problem, checked, dy) or gradients
    return Called(
        dy=dy,
        y=precise_y.astype(np.float64),
        checked=checked,
        gradients=precise,
        given_gradients=gradients,
        point_elsewhere=point,
        y_elsewhere=y_elsewhere,
        elsewhere=elsewhere,
    )


def is_stale(problem: Problem, called: Called, i: int) -> bool:
    """Tell whether gradient i is right for the other point, where backward was called first.

    It must be wrong here: the gradient of a linear function is the same everywhere.
    """
    g = called.elsewhere[i]
    if g is None or not np.array_equal(g, called.given_gradients[i]):
        return False
    v = np.random.default_rng(0).choice([-1.0, 1.0], g.shape) * scale_of(called.point_elsewhere[i])
    h = 2.0**-17 if g.dtype == np.float64 else 2.0**-8

    def value(t: float) -> FloatArray:
        point = list(called.point_elsewhere)
        point[i] = point[i] + t * v.astype(point[i].dtype)
        return np.asarray(problem.value(point))

    numeric = float(np.sum(called.dy * (value(h) - value(-h)))) / (2 * h)
    terms = g * v
    return abs(numeric - float(np.sum(terms))) <= 1e-3 * float(np.sum(np.abs(terms)))


def first(where: Any) -> tuple[int, ...]:
    """Return the index of the first element that is true."""
    return tuple(int(k) for k in np.argwhere(where)[0])


def _elsewhere(problem: Problem) -> list[Any]:
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
        return y, problem.gradients(draw_dy(y.shape, seed).astype(y.dtype), point)
    return y, [None] * len(point)


def _check_shapes(problem: Problem, gradients: list[Any], dy: FloatArray, y: FloatArray) -> None:
    for i in problem.floating:
        g, x, name = gradients[i], problem.given[i], problem.names[i]
        if g is None:
            continue
        if g.shape != x.shape:
            message = f"the gradient of {name} has shape {g.shape}, expected {x.shape}"
            raise Stop("shape", message, explain_shape(name, g, x.shape, dy, y), i)
        if g.dtype.kind != "f":
            raise Stop("shape", f"the gradient of {name} is {g.dtype}, expected floats", "", i)


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
    problem.eps_analytic = float(np.finfo(np.float64).eps)
    return gradients
