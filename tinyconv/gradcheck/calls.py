"""The first calls of both functions, everything that can be wrong about calling them, and what they
say: the derivative at one point as a linear map.

Reverse mode returns ``J^T dy`` for a dy, forward mode ``J v`` for a v; second order is reverse mode
of another function. What is compared is always the form ``<dy, J v>``.
"""

import contextlib
import itertools
from collections.abc import Iterator, Sequence
from functools import cached_property
from typing import Any

import numpy as np

from tinyconv.gradcheck.nests import FloatArray, Leaf, largest, length
from tinyconv.gradcheck.problem import DOUBLE, HALF, Direction, Gradients, Problem, Stop

#: Inputs and dy grow or shrink by so many units of round-off, all by the same, which keeps ties
#: ties and zeros zeros. So many times the change counts; in float16 that would be a fifth of the
#: gradient itself.
UNITS, TIMES = ((4, 0), (-8, 4), (12, -4), (-20, 0)), 8
UNITS_OF_HALF, TIMES_OF_HALF = ((1, 0), (-2, 1), (3, -1)), 2
#: Beside dy, derivatives that are smaller may be differences of numbers next to 1.
SMALL = 1e-2
#: What functions raise outside their domain, or of shapes that do not fit, which is no finding.
COMPLAINTS = (ArithmeticError, LookupError, TypeError, ValueError, RuntimeError)


class Called:
    """What both functions return at the point of the check; stops if that tells no derivative.

    What they remember from call to call shows, because they are called at another point first, and
    twice if ``repeat``: values kept from the first call make the gradient wrong, values kept from
    the last call make two calls differ.

    ``vector`` holds the gradients that backward returned for dy in a row, zeros for leaves that are
    not checked. A jvp is asked for one direction at a time; then it has the root mean square of a
    leaf's elements, as it is known from one direction of random signs.
    """

    def __init__(self, problem: Problem, seed: int, repeat: bool):
        self.problem, self.forward_mode = problem, problem.functions.forward_mode
        #: forward's output, and unless it refused that at another point
        self.ys: list[FloatArray] = []
        self.given: Gradients = {}  #: in the precision of the inputs as given
        self.elsewhere: Gradients = {}  #: at the other point, for the same dy
        self.checked = problem.leaves  #: those that have a gradient
        if not problem.leaves:
            raise Stop("shape", "no input holds floating-point numbers")
        with contextlib.suppress(*COMPLAINTS):
            other = elsewhere(problem)
            self.ys = [] if self.forward_mode else [other.value()]
            for y in self.ys:
                self.elsewhere = other.gradients(draw_dy(y.shape, seed), forward_first=False)
        y = problem.value()
        if y.dtype.kind != "f":
            raise Stop("shape", f"forward returned {y.dtype}, expected floating-point numbers")
        if (found := _blemish(y)) and (np.any(np.isnan(y)) or not np.any(np.isinf(problem.x))):
            raise Stop("nonfinite", f"forward returned {found}")
        problem.dead = np.isinf(y) if found else False
        y = np.where(problem.dead, 0, y)
        if any(a.shape != y.shape or _blemish(a) for a in self.ys):
            self.ys, self.elsewhere = [], {}
        self.dy = np.where(problem.dead, 0.0, draw_dy(y.shape, seed))
        if problem.eps_y > HALF:  # float16 holds fewer digits of dy
            self.dy = self.dy.astype(np.float16).astype(np.float64)
        if not self.forward_mode:
            self.given = problem.gradients(self.dy, forward_first=False)
            self._check_given(y, repeat)
        #: the problem in the precision of the numeric side, in float64 if forward takes it
        self.numeric, y = _precise(problem, y)
        self.ys = [y, *self.ys]
        #: the problem in the precision of the gradients compared, and its unit round-off
        self.point, self.eps, gradients = problem, problem.eps_x, self.given
        if self.numeric is not problem and not self.forward_mode:
            with contextlib.suppress(TypeError, ValueError, RuntimeError):
                promoted = self.numeric.gradients(self.dy, forward_first=False)
                if all(g is None or g.dtype == np.float64 for g in promoted.values()):
                    self.point, self.eps, gradients = self.numeric, DOUBLE, promoted
        self.vector = self._sizes(repeat) if self.forward_mode else self._row(gradients)

    def _check_given(self, y: FloatArray, repeat: bool) -> None:
        self.checked = [leaf for leaf, g in self.given.items() if g is not None]
        for leaf in self.checked:
            _check_shape(self.problem, leaf, self.given[leaf], self.dy)
        if not self.checked:
            raise Stop("shape", "backward returned no gradient of a floating-point input")
        if repeat:
            _check_repeats(self.problem, y, self.given, self.dy)

    def _sizes(self, repeat: bool) -> FloatArray:
        self.point = self.numeric
        signs = np.random.default_rng(9).choice([-1.0, 1.0], self.point.x.size)
        self._signs = np.where(np.isfinite(self.point.x), signs, 0.0)
        t = self._tangent(self.point, slice(None), self._signs)
        self.eps = max(self.point.eps_y, float(np.finfo(t.dtype).eps))
        again = self._tangent(self.point, slice(None), self._signs) if repeat else t
        if _rounding_differs(t, again, self.eps):
            raise Stop("nondeterministic", "jvp differs between two calls")
        return self.at(self.point, self.dy)

    def _tangent(self, near: Problem, where: Any, v: Any) -> Any:
        every = np.zeros_like(near.x)
        every[where] = v
        t = near.tangent(every)
        if t.shape != near.y_shape:
            raise Stop("shape", f"jvp returned shape {t.shape}, expected {near.y_shape}")
        if found := _blemish(t):
            raise Stop("nonfinite", f"the tangent of y is {found}")
        return t

    def _row(self, gradients: Gradients) -> FloatArray:
        row = np.zeros_like(self.problem.x)
        for leaf, g in gradients.items():
            row[leaf.part] = 0 if g is None else g.reshape(-1)
        return row

    def at(self, near: Problem, dy: FloatArray, ks: Any = None) -> FloatArray:
        """Return the gradient for any dy anywhere.

        Of a jvp only the coordinates ``ks``, the others NaN; without ``ks`` the sizes.
        """
        if not self.forward_mode:
            is_here = near is self.point and dy is self.dy
            return self.vector if is_here else self._row(near.gradients(dy))
        sizes: list[Any] = [(leaf.part, self._signs[leaf.part]) for leaf in near.leaves]
        g = np.full_like(near.x, 0.0 if ks is None else np.nan)
        for where, v in sizes if ks is None else [(k, 1.0) for k in ks]:
            t = self._tangent(near, where, v)
            g[where] = np.sum(dy * t) / np.sqrt(max(1, np.size(v)))
        return g

    def terms(self, direction: Direction, dy: FloatArray | None = None) -> FloatArray:
        """Return numbers whose sum is the derivative of ``<dy, y>`` along a direction."""
        dy = self.dy if dy is None else dy
        if self.forward_mode:
            t = self._tangent(self.point, direction.where, direction.v)
            return np.asarray(dy * t.astype(np.float64))
        return np.asarray(self.at(self.point, dy)[direction.where] * direction.v)

    def is_fine(self, direction: Direction, far: float, near: float) -> bool:
        """Tell whether small outputs and gradients answer to the last digits of x.

        If they do, or change so little that they need not, or stay as they are up to the step
        ``far`` as well, and outputs have one slope from ``far`` to ``near``, they were not rounded
        next to 1 on the way, as the log of a number close to 1 is.
        """
        size = length(self.vector[direction.where] * direction.v)
        if size >= SMALL * length(self.dy):
            return False

        def change(t: float) -> tuple[FloatArray, FloatArray]:
            """Return by how much outputs and gradients change with a step."""
            step = np.zeros_like(self.vector)
            step[direction.where] = t * direction.v
            y, point = self.numeric.at(self.numeric.x + step).value(), self.point
            return y - self.ys[0], self.at(point.at(point.x + step), self.dy) - self.vector

        def answers(changes: Sequence[FloatArray], a: FloatArray) -> Any:
            """Return which numbers answer, or change by less than their last digits."""
            is_flat = 8 * np.abs(changes[2] - changes[3]) <= far * np.abs(a)
            return (changes[0] + changes[1] != 0) | (is_flat & (changes[2] != 0))

        with contextlib.suppress(Stop, *COMPLAINTS):
            steps = 8 * self.eps, 64 * self.eps, far, -far, near, -near
            ys, gs = zip(*(change(t) for t in steps), strict=True)
            y_answers, g_answers = answers(ys, self.ys[0]), answers(gs, self.vector)
            slopes = (ys[2] - ys[3]) / (2 * far), (ys[4] - ys[5]) / (2 * near)
            is_one = largest(slopes[0] - slopes[1]) <= 8 * far**2 * largest(slopes[0])
            if is_one and np.all(y_answers | (ys[2] == 0)) and np.all(g_answers | (gs[2] == 0)):
                return not np.any(self.terms(direction, self.dy * ~y_answers))
        return False

    @cached_property
    def top(self) -> FloatArray:
        """The largest derivative of the leaf that each coordinate belongs to."""
        return self._largest(self.vector)

    def _largest(self, vector: FloatArray) -> FloatArray:
        return self._row({a: np.full(a.size, largest(a.of(vector))) for a in self.problem.leaves})

    def wobble(self, direction: Direction) -> float:
        """Return some times the distance by which rounding moves the derivative, at most."""
        wobbles = self._wobbles[direction.where] * np.abs(direction.v)
        return float(np.sum(wobbles)) / direction.unit

    @cached_property
    def _wobbles(self) -> FloatArray:
        """What rounding moves derivatives by, measured when it first matters."""
        point, wobbles, is_half = self.point, np.zeros_like(self.vector), self.eps > HALF
        for units, dy_units in UNITS_OF_HALF if is_half else UNITS:
            near = point.at(point.x * (1 + units * point.units))
            change = np.abs(self.at(near, self.dy * (1 + dy_units * self.eps)) - self.vector)
            change[~(change < 1e3 * np.sqrt(self.eps) * self.top)] = 0  # more is no rounding
            wobbles = np.maximum(wobbles, self._largest(change))
        if self.forward_mode:  # of a leaf's mean, whose single elements may move by more
            wobbles = wobbles * self._row({a: np.full(a.size, a.size**0.5) for a in point.leaves})
        return np.asarray((TIMES_OF_HALF if is_half else TIMES) * wobbles)


def draw_dy(shape: tuple[int, ...], seed: int = 0) -> FloatArray:
    """Return the gradient that a check sends into backward: random signs, 0.5 <= |dy| < 1.5.

    Its elements are multiples of 2^-22, which float32 represents exactly.
    """
    rng = np.random.default_rng([seed, 0])
    sizes = rng.integers(2**21, 3 * 2**21, size=shape) / 2**22
    return np.asarray(rng.choice([-1.0, 1.0], size=shape) * sizes)


def _precise(problem: Problem, y: Any) -> tuple[Problem, FloatArray]:
    """Return the problem of the numeric side and its output: in float64, if forward takes it."""
    # Any error means the same: this function is made for one precision.
    with contextlib.suppress(Exception):
        promoted = problem.at(problem.x, np.float64) if problem.eps_x > DOUBLE else problem
        precise = promoted.value() if promoted is not problem else y
        if precise.dtype == np.float64 and np.all(np.isfinite(precise)):
            return promoted, precise
    return problem, y.astype(np.float64)


def elsewhere(problem: Problem) -> Problem:
    """Return the problem at another point: each input in reverse order, smaller by a quarter."""
    return problem.at(0.75 * np.concatenate([problem.x[a.part][::-1] for a in problem.leaves]))


# -- values that are remembered from call to call -------------------------------------------------


def is_stale(called: Called, leaf: Leaf) -> bool:
    """Tell whether a wrong gradient is right at the other point alone, where backward was first."""
    given, before = called.given.get(leaf), called.elsewhere.get(leaf)
    if given is None or before is None or not np.array_equal(before, given):
        return False
    problem, dy = called.problem, called.dy
    is_right_there = _agrees_roughly(elsewhere(problem), leaf, given, dy)
    return is_right_there and not _agrees_roughly(problem, leaf, given, dy)


def _agrees_roughly(problem: Problem, leaf: Leaf, g: Any, dy: FloatArray) -> bool:
    """Tell whether ``<g, v>`` is a central difference along two directions, to three digits."""
    rng, at, errors = np.random.default_rng(0), leaf.of(problem.x), list[Any]()
    h = 2.0**-17 if leaf.dtype == np.float64 else 2.0**-8
    for _ in range(2):
        v = np.where(np.isfinite(at), rng.choice([-1.0, 1.0], at.shape) * leaf.scale(problem.x), 0)
        above, below = (problem.evaluate({leaf: at + t * v}) for t in (h, -h))
        error = np.sum(dy * (above - below)) / (2 * h) - np.sum(g * v)
        errors.append(np.abs(error) - 1e-3 * np.sum(np.abs(g * v)))
    return bool(np.max(errors) <= 0)


def _check_repeats(problem: Problem, y: Any, gradients: Gradients, dy: FloatArray) -> None:
    again = problem.value()
    if _rounding_differs(y, again, problem.eps_y):
        raise Stop("nondeterministic", *_two_calls("forward", None, y, again, problem.value()))
    second = once_more = problem.gradients(dy, forward_first=False)
    for leaf, a in gradients.items():
        if a is not None and _rounding_differs(a, second[leaf], problem.eps_x):
            who, third = f"backward's gradient of {leaf.name}", problem.gradients(dy)[leaf]
            raise Stop("nondeterministic", *_two_calls(who, dy, a, second[leaf], third), leaf=leaf)
    # A backward may well refuse a second call after one forward; if it takes it, it must mean it.
    with contextlib.suppress(Exception):
        once_more = problem.gradients(dy, forward_first=False)
    for leaf, a in second.items():
        if a is not None and _rounding_differs(a, once_more[leaf], problem.eps_x):
            seen = f"backward's gradient of {leaf.name} differs in a second call after one forward"
            hint = "backward overwrites what forward saved: it works in place on a shared array"
            raise Stop("nondeterministic", f"{seen} pass", hint, leaf)


def _two_calls(who: str, dy: Any, once: Any, twice: Any, third: Any) -> tuple[str, str]:
    """Return what was seen, and what makes calls differ like that."""
    hint = "every call differs: it draws random numbers; save what forward drew, or pass a seed"
    calls = [g for g in (once, twice, third) if g is not None]
    if np.array_equal(twice, third, equal_nan=True):
        hint = "the call after one with other inputs differs: it uses values of the call before"
    elif len(calls) == 3 and np.allclose(third - twice, twice - once):
        hint = "it adds up from call to call: start from zero in every call"
    elif len(calls) == 3 and dy is not None and once.shape == dy.shape:
        # A mask passes dy on, times one number for all, where it is not zero.
        ratios = np.concatenate([g[g != 0] / dy[g != 0] for g in calls])
        few = all(0 < np.count_nonzero(g) < g.size for g in calls[1:])
        if few and np.ptp(ratios) <= 1e-6 * np.max(np.abs(ratios)):
            hint = "every call differs, by where it is zero alone: it has the mask of another "
            hint += "call, or draws random numbers of its own; keep the mask that forward drew"
    return f"{who} differs between two calls with the same arguments", hint


# -- shapes ---------------------------------------------------------------------------------------


def _check_shape(problem: Problem, leaf: Leaf, g: Any, dy: FloatArray) -> None:
    message = f"the gradient of {leaf.name} "
    if g.dtype.kind != "f":
        raise Stop("shape", f"{message}is {g.dtype}, expected floats", leaf=leaf)
    if g.shape != leaf.shape:
        ways = _reshaped(g, leaf.shape)
        hints = [f"{leaf.name}: {s}" for s, c in ways if _agrees_roughly(problem, leaf, c, dy)]
        for axes in axis_sets(dy):
            if dy.sum(axis=axes).shape == g.shape and np.allclose(dy.sum(axis=axes), g):
                text = f"the gradient is dy summed over axes {axes}, which are the wrong ones"
                hints.append(f"{leaf.name}: {text}")
        message += f"has shape {g.shape}, expected {leaf.shape}"
        raise Stop("shape", message, (hints or [""])[0], leaf)


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
    if g.ndim == len(shape) and all(n >= m for n, m in zip(g.shape, shape, strict=True)):
        cut = [(n - m) // 2 for n, m in zip(g.shape, shape, strict=True)]
        inner = g[tuple(slice(d, d + m) for d, m in zip(cut, shape, strict=True))]
        axes = tuple(np.flatnonzero(np.not_equal(g.shape, shape)).tolist())
        yield f"right with the padding along axes {axes} cut off", inner


def _blemish(a: Any) -> str:
    """Return the first element that is not finite, and where it is; "" if all are."""
    bad = np.argwhere(~np.isfinite(a))
    where = tuple(map(int, bad[0])) if len(bad) else ()
    return f"{a[where]} at {where}" if len(bad) else ""


def _rounding_differs(a: Any, b: Any, eps: float) -> bool:
    """Tell whether two results differ by more than the order of a parallel sum explains."""
    if b is None or a.shape != b.shape or np.any(np.isfinite(a) != np.isfinite(b)):
        return True
    difference = largest(np.where(np.isfinite(a), a, 0) - np.where(np.isfinite(b), b, 0))
    return difference > 1e3 * eps * max(largest(a), largest(b))


def axis_sets(a: Any) -> Iterator[tuple[int, ...]]:
    """Yield every set of axes, the small ones first."""
    counts = range(1, min(a.ndim, 4) + 1)
    return itertools.chain(*(itertools.combinations(range(a.ndim), n) for n in counts))


def axis_orders(a: Any) -> Iterator[tuple[int, ...]]:
    """Yield every order of axes but their own, of few."""
    orders = itertools.permutations(range(a.ndim)) if a.ndim <= 4 else iter(())
    return (order for order in orders if order != tuple(range(a.ndim)))
