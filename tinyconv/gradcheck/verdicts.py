"""One check of one problem: what was compared becomes rows, a verdict, a sentence, and hints."""

import contextlib
import math
from dataclasses import replace
from typing import Any

import numpy as np

from tinyconv.gradcheck.calls import Called
from tinyconv.gradcheck.comparison import Comparison, Options
from tinyconv.gradcheck.hints import say_why
from tinyconv.gradcheck.nests import Leaf, largest
from tinyconv.gradcheck.problem import Problem, Stop, TimeUp
from tinyconv.gradcheck.report import Report, TensorReport

#: How far off a kink to look for what is right next to it, relative to the size of the inputs, at
#: so many points; and along so many directions to look for the kink.
NEARBY, POINTS_NEARBY = 2.0**-6, 8
#: Units of round-off by which a gradient in the inputs' own precision may miss the float64 one.
ROUNDING_OF_GIVEN = 1e3
#: An error below this, relative to the gradient's largest element, is no mistake in the formula
#: but the round-off of float32 (or, for float32 gradients, ten thousand units of it).
SINGLE_PRECISION = 3e-6


@np.errstate(all="ignore")  # infinite inputs, large numbers, and quotients of what may be 0
def look(problem: Problem, options: Options, hints: bool = True) -> Report:
    """Check a problem; without ``hints`` and samples, what two calls return is not compared."""
    comparison, seed = None, options.seed
    try:
        comparison = Comparison(Called(problem, seed, hints or options.samples != 0), options)
        comparison.run()
        _pardon(comparison)
    except Stop as stop:
        row = [TensorReport(stop.leaf.name, stop.leaf.shape, stop.verdict)] if stop.leaf else []
        return Report(stop.verdict, stop.message, stop.hint, tuple(row), seed)
    except TimeUp:
        if comparison is None or comparison.projection is None:
            message = f"{options.seconds:g} seconds were over before anything was compared"
            return Report("timeout", message, seed=seed, scope="nothing")
        comparison.is_cut = True
    rows = {leaf: _row(comparison, leaf) for leaf in comparison.called.checked}
    p = comparison.projection
    assert p is not None
    if all(row.verdict == "ok" for row in rows.values()) and not p.slope.kink:
        with contextlib.suppress(TimeUp):
            rows = {leaf: _as_given(comparison, leaf, row) for leaf, row in rows.items()}
    verdict, message, hint = _judged(comparison, rows)
    try:
        if verdict == "wrong" and hints and not hint:
            wrong = [leaf for leaf, row in rows.items() if row.wrong and row.verdict == verdict]
            hint = "; ".join(filter(None, [say_why(comparison, leaf) for leaf in wrong]))
    except TimeUp:
        comparison.is_cut = True
    scope = f"{sum(math.prod(row.shape) for row in rows.values())} elements by projection, "
    scope += f"{sum(row.checked for row in rows.values())} one by one"
    if problem.functions.forward_mode:
        scope, hint = f"forward mode: {scope}", hint.replace("gradient is", "tangent is")
    if comparison.is_cut:
        scope += f"; {options.seconds:g} seconds were over before the rest"
    method = "complex step" if comparison.slopes.complex_step else "central differences"
    numbers, count = (p.analytic, p.slope.value, p.slope.bar), problem.functions.evaluations
    tensors = tuple(rows.values())
    return Report(verdict, message, hint, tensors, seed, method, numbers, 0, count, scope)


def _pardon(comparison: Comparison) -> None:
    """Call wrong elements kinks, if there are kinks and they are right next to them.

    At a kink backward may return what is a slope of the function on neither side: where max-pools
    and ReLUs follow each other, a tie in one decides which way another one turns. But almost
    everywhere it returns the derivative, so next to the kink too (Bolte and Pauwels, "A
    mathematical model for automatic differentiation in machine learning", 2020). What a wrong
    formula returns is wrong on some side of the kink.
    """
    suspects, checked = comparison.wrong(), comparison.called.checked
    draws = (comparison.direction(checked, 1 + k) for k in range(POINTS_NEARBY))
    looks = (comparison.slopes.by_differences(draw, short=True) for draw in draws)
    if not any(suspects.values()) or not any(slope.kink for slope in looks):
        return
    seed, is_inside = comparison.options.seed, False  # inside the functions' domain
    try:
        for k in range(POINTS_NEARBY):
            near = comparison.called.problem.moved(checked, NEARBY, [seed, 4, k])
            with contextlib.suppress(Stop):
                nearby = comparison.at(near, seed)
                is_inside = True
                for leaf, ks in suspects.items():
                    nearby.compare(leaf, ks)
                    ks -= nearby.wrong()[leaf]
            if not any(suspects.values()):
                return
    except TimeUp:  # to be called wrong, an element must be wrong next to the kink
        comparison.is_cut = is_inside = True
    for leaf, ks in suspects.items() if is_inside else ():
        comparison.wholes.pop(leaf, None)  # then it is not wrong as a whole either
        for n, e in enumerate(comparison.elements[leaf]):
            if e.k in ks:
                comparison.elements[leaf][n] = replace(e, slope=replace(e.slope, kink=True))


# -- rows -----------------------------------------------------------------------------------------


def _row(comparison: Comparison, leaf: Leaf) -> TensorReport:
    """Return what the elements of a tensor say together, or the tensor as a whole."""
    elements, whole = comparison.elements[leaf], comparison.wholes.get(leaf)
    kinks = [e for e in elements if e.slope.kink]
    smooth = [e for e in elements if not e.slope.kink]
    wrong, top = [e for e in smooth if e.is_wrong], comparison.called.top[leaf.part]
    size = max([float(np.max(top, initial=0)), *(abs(e.slope.value) for e in smooth)])
    # A gradient that is nothing beside the function's own size needs no narrow bar, and where all
    # is rounded to float16 there are no hundredths.
    eps, natural = comparison.problem.eps_y, comparison.slopes.natural
    share, nothing = max(1e-2, 500 * eps), min(1.0, max(1e-4, 1e6 * eps))
    vague = (e.slope.bar > share * max(size, nothing * natural(e.direction)) for e in smooth)
    verdict = "kink" if kinks or (whole and whole.slope.kink) else "ok"
    if wrong:
        rounding = max(SINGLE_PRECISION, min(1e4 * comparison.called.eps, 0.05))
        most = max(abs(e.difference) for e in wrong)
        verdict = "precision" if most <= rounding * size else "wrong"
    elif comparison.is_unlocated(leaf):
        verdict = "wrong"
    elif not kinks and any(vague):
        verdict = "precision"
    row = TensorReport(leaf.name, leaf.shape, verdict, len(elements), len(wrong), len(kinks))
    if smooth:
        worst = max(smooth, key=lambda e: (e.is_wrong, abs(e.difference) / (e.tolerance or 1.0)))
        error, slope = max(abs(e.difference) for e in smooth), worst.slope
        row = replace(row, absolute_error=error, relative_error=error / size if size else 0.0)
        row = replace(row, index=leaf.index(worst.k), analytic=worst.analytic)
        row = replace(row, numeric=slope.value, bar=slope.bar)
    if kinks:
        row = replace(row, kink_index=leaf.index(kinks[0].k))
    at_kink = kinks[0] if kinks else whole
    return replace(row, left=at_kink.slope.left, right=at_kink.slope.right) if at_kink else row


def _as_given(comparison: Comparison, leaf: Leaf, row: TensorReport) -> TensorReport:
    """Compare the gradient in the precision of the inputs with the one in float64.

    Inputs may be so close to a kink that float32 arithmetic takes either side of it: then the
    gradient jumps by as much when they move by the round-off of their own type.
    """
    called, point, given = comparison.called, comparison.called.point, comparison.called.given
    if point is called.problem or not given:
        return row
    precise = leaf.of(called.vector)
    scale, top = leaf.scale(called.problem.x), largest(precise)
    error = np.abs(given[leaf].astype(np.float64) - precise)
    natural = comparison.slopes.size * max(1, 1 / scale) + comparison.slopes.unit
    tolerance = ROUNDING_OF_GIVEN * called.problem.eps_x * (top + natural)
    for seed in range(4) if not np.all(error <= tolerance) else ():
        signs = np.random.default_rng([seed, 3]).choice([-1, 1], point.x.size)
        near = point.at(point.x * (1 + 8 * called.problem.units * signs))
        jump = largest(leaf.of(called.at(near, called.dy)) - precise)
        tolerance = max(tolerance, 2 * jump)
    if not (wrong := int(np.sum(~(error <= tolerance)))):
        return row
    k = int(np.argmax(error))
    numbers = {"absolute_error": error, "relative_error": error / (top or math.inf)}
    numbers |= {"analytic": given[leaf], "numeric": precise, "bar": 0 * precise}
    at_k: dict[str, Any] = {name: float(a.flat[k]) for name, a in numbers.items()}
    at_k |= {"index": leaf.index(leaf.part.start + k), "wrong": wrong}
    return replace(row, verdict="precision", **at_k)


# -- the verdict on all of them -------------------------------------------------------------------


def _judged(comparison: Comparison, rows: dict[Leaf, TensorReport]) -> tuple[str, str, str]:
    """Return the verdict, what was seen, and the hint of what needs no look at the pattern."""
    found, p = {row.verdict for row in rows.values()}, comparison.projection
    assert p is not None
    verdict = next((v for v in ("wrong", "precision", "kink") if v in found), "ok")
    failing = [leaf for leaf, row in rows.items() if row.verdict == verdict]
    leaf = max(failing, key=lambda leaf: (rows[leaf].wrong > 0, rows[leaf].relative_error))
    row, kinks = rows[leaf], sum(rows[leaf].kinks for leaf in failing)
    says = "jvp says" if comparison.called.forward_mode else "backward says"
    derivative = f"the derivative is {row.numeric:.6g} ± {row.bar:.0e}"
    if verdict == "wrong" and row.wrong:
        seen = f"{row.name} has {row.wrong} wrong elements of {row.checked} compared; at "
        return verdict, f"{seen}{row.index} {says} {row.analytic:.6g}, {derivative}", ""
    # The time may be over before it is known why the projection fails.
    if verdict == "wrong" or (verdict == "ok" and p.is_wrong and comparison.is_cut):
        seen = f"along a direction of all inputs {says} {p.analytic:.6g}, the derivative is "
        seen += f"{p.slope.value:.6g} ± {p.slope.bar:.0e}; which elements are to blame is not known"
        return "wrong", seen, ""
    if verdict == "precision" and not row.wrong:
        seen = f"at {row.index} of {row.name} {derivative}, and no better known"
        return verdict, seen, "check in float64, or with a smaller or smoother function"
    if verdict == "precision":
        seen = f"at {row.index} of {row.name} the error is {row.relative_error:.1e} of the largest"
        return verdict, f"{seen} element", f"{row.name}: {_lost_digits(comparison, leaf)}"
    if verdict == "kink":
        seen = f"{row.name} moved as a whole is at a kink, where "
        if kinks:
            seen = f"{kinks} elements are at a kink; at {row.kink_index} of {row.name} "
        how = f"the slopes are {row.left:.6g} and {row.right:.6g}"
        if abs(row.right - row.left) <= 1e-3 * abs(row.left):
            how = "it does not show along that element, but backward is right next to it"
        return verdict, f"{seen}{how}, the rest agrees", ""
    if p.slope.kink:
        return "kink", "a kink where all inputs move together, though not one by one", ""
    return verdict, "", ""


def _lost_digits(comparison: Comparison, leaf: Leaf) -> str:
    called = comparison.called
    given = called.given[leaf] if called.given else np.zeros(0)
    if called.point is not called.problem:
        return f"right in float64, but {given.dtype} loses its digits"
    if given.dtype == np.float64 and np.array_equal(given, given.astype(np.float32)):
        return "the values are float32 numbers: a cast to float32"
    return "an intermediate result is rounded to fewer digits, or cancels"
