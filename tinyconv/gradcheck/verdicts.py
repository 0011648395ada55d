"""One check of one problem: what was compared becomes rows, a verdict, a sentence, and hints."""

import contextlib
import math
from dataclasses import replace

import numpy as np

from tinyconv.gradcheck.calls import call
from tinyconv.gradcheck.comparison import Comparison, Options
from tinyconv.gradcheck.evidence import Axes
from tinyconv.gradcheck.hints import say_why
from tinyconv.gradcheck.numbers import largest, scale_of
from tinyconv.gradcheck.problem import Leaf, Problem, Stop, TimeUp
from tinyconv.gradcheck.report import Report, TensorReport

__all__ = ["look"]

#: How far off a kink to look for what is right next to it, relative to the size of the inputs, at
#: so many points; and along so many directions to look for the kink.
NEARBY, POINTS_NEARBY = 2.0**-6, 8
#: Units of round-off by which a gradient in the inputs' own precision may miss the float64 one.
ROUNDING_OF_GIVEN = 1e3
#: An error below this, relative to the gradient's largest element, is no mistake in the formula
#: but the round-off of float32 (or, for float32 gradients, ten thousand units of it).
SINGLE_PRECISION = 3e-6


def look(problem: Problem, options: Options, axes: Axes, repeat: bool = True) -> Report:
    """Check a problem; ``axes`` are names of axes, ``repeat`` asks for second calls."""
    comparison = None
    try:
        comparison = Comparison(call(problem, options.seed, repeat), options)
        comparison.run()
        _pardon(comparison)
    except Stop as stop:
        leaf, verdict = stop.leaf, stop.verdict
        tensors = () if leaf is None else (TensorReport(leaf.name, leaf.shape, verdict),)
        return Report(verdict, stop.message, stop.hint, tensors, options.seed)
    except TimeUp:
        if comparison is None or comparison.projection is None:
            message = f"{options.seconds:g} seconds were over before anything was compared"
            return Report("timeout", message, seed=options.seed, scope="nothing")
        comparison.is_cut = True
    rows = {leaf: _row(comparison, leaf) for leaf in comparison.called.checked}
    p = comparison.projection
    assert p is not None
    if all(row.verdict == "ok" for row in rows.values()) and not p.slope.kink:
        with contextlib.suppress(TimeUp):
            rows = {leaf: _as_given(comparison, leaf, row) for leaf, row in rows.items()}
    verdict, message, hint = _judged(comparison, rows, axes)
    scope = "forward mode: " * problem.functions.forward_mode
    scope += f"{sum(math.prod(row.shape) for row in rows.values())} elements by projection, "
    scope += f"{sum(row.checked for row in rows.values())} one by one"
    if comparison.is_cut:
        scope += f"; {options.seconds:g} seconds were over before the rest"
    return Report(
        verdict,
        message,
        hint,
        tuple(rows.values()),
        options.seed,
        "complex step" if comparison.slopes.complex_step else "central differences",
        (p.analytic, p.slope.value, p.slope.bar),
        evaluations=problem.functions.evaluations,
        scope=scope,
    )


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
    if not suspects or not any(map(comparison.slopes.shows_kink, draws)):
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
                wrong = {(leaf, n) for leaf, ns in nearby.wrong().items() for n in ns}
                suspects = {a: [n for n in ns if (a, n) not in wrong] for a, ns in suspects.items()}
            if not any(suspects.values()):
                return
    except TimeUp:  # to be called wrong, an element must be wrong next to the kink
        comparison.is_cut = is_inside = True
    for leaf, ks in suspects.items() if is_inside else ():
        comparison.call_kinks(leaf, ks)


# -- rows -----------------------------------------------------------------------------------------


def _row(comparison: Comparison, leaf: Leaf) -> TensorReport:
    """Return what the elements of a tensor say together, or the tensor as a whole."""
    elements, whole = comparison.elements[leaf], comparison.wholes.get(leaf)
    kinks = [e for e in elements if e.slope.kink]
    smooth = [e for e in elements if not e.slope.kink]
    wrong, size = [e for e in smooth if e.is_wrong], comparison.size(leaf)
    verdict = "kink" if kinks else "ok"
    if wrong:
        rounding = max(SINGLE_PRECISION, min(1e4 * comparison.mode.eps, 0.05))
        most = max(abs(e.difference) for e in wrong)
        verdict = "precision" if most <= rounding * size else "wrong"
    elif comparison.is_unlocated(leaf):
        verdict = "wrong"
    elif not kinks and any(comparison.says_nothing(e, size) for e in smooth):
        verdict = "precision"
    elif whole and whole.slope.kink:
        verdict = "kink"
    row = TensorReport(leaf.name, leaf.shape, verdict, len(elements), len(wrong), len(kinks))
    if smooth:
        worst = max(smooth, key=lambda e: (e.is_wrong, abs(e.difference) / (e.tolerance or 1.0)))
        error = max(abs(e.difference) for e in smooth)
        row = replace(
            row,
            absolute_error=error,
            relative_error=error / size if size else 0.0,
            index=leaf.index(worst.k),
            analytic=worst.analytic,
            numeric=worst.slope.value,
            bar=worst.slope.bar,
        )
    if kinks:
        left, right = kinks[0].slope.left, kinks[0].slope.right
        return replace(row, kink_index=leaf.index(kinks[0].k), left=left, right=right)
    return replace(row, left=whole.slope.left, right=whole.slope.right) if whole else row


def _as_given(comparison: Comparison, leaf: Leaf, row: TensorReport) -> TensorReport:
    """Compare the gradient in the precision of the inputs with the one in float64."""
    called, mode = comparison.called, comparison.mode
    if mode.problem is called.problem or not called.given:
        return row
    given = called.given[called.problem.leaves.index(leaf)].astype(np.float64)
    precise, error = leaf.of(mode.vector), np.abs(given - leaf.of(mode.vector))
    scale, top = scale_of(leaf.of(called.problem.x)), largest(leaf.of(mode.vector))
    natural = comparison.slopes.natural(np.array([scale])) / scale
    wrong = int(np.sum(~(error <= ROUNDING_OF_GIVEN * called.problem.eps_x * (top + natural))))
    if not wrong:
        return row
    # Inputs may be so close to a kink that float32 arithmetic takes either side of it: then the
    # gradient jumps when they move by the round-off of their own type.
    x, units, jumps = mode.problem.x, 8 * called.problem.units, False
    for seed in range(4):
        signs = np.random.default_rng([seed, 3]).choice([-1, 1], x.size)
        near = mode.problem.at(x * (1 + units * signs))
        jumps |= largest(mode.gradient(leaf, called.dy, near, ()) - precise) > 1e-3 * top
    k = int(np.argmax(np.where(np.isnan(error), np.inf, error)))
    return replace(
        row,
        verdict="kink" if jumps else "precision",
        wrong=0 if jumps else wrong,
        kinks=wrong if jumps else 0,
        index=leaf.index(leaf.part.start + k),
        absolute_error=float(error.flat[k]),
        relative_error=float(error.flat[k]) / (top or math.inf),
        analytic=float(given.flat[k]),
        numeric=float(precise.flat[k]),
        bar=0.0,
    )


# -- the verdict on all of them -------------------------------------------------------------------


def _judged(
    comparison: Comparison, rows: dict[Leaf, TensorReport], axes: Axes
) -> tuple[str, str, str]:
    """Return the verdict, what was seen, and the hints."""
    found = {row.verdict for row in rows.values()}
    verdict = next((v for v in ("wrong", "precision", "kink") if v in found), "ok")
    failing = [leaf for leaf, row in rows.items() if row.verdict == verdict]
    worst = max((rows[leaf] for leaf in failing), key=lambda row: row.relative_error)
    p, who = comparison.projection, "backward"
    assert p is not None
    if comparison.problem.functions.forward_mode:
        who = "jvp"
    if verdict == "wrong" and any(rows[leaf].wrong for leaf in failing):
        seen = f"{worst.name} has {worst.wrong} wrong elements of {worst.checked} compared; at "
        seen += f"{worst.index} {who} says {worst.analytic:.6g}, the derivative is "
        seen, hints = f"{seen}{worst.numeric:.6g} ± {worst.bar:.0e}", list[str]()
        try:
            hints += (say_why(comparison, leaf, axes) for leaf in failing)
        except TimeUp:
            comparison.is_cut = True
        hint = "; ".join(filter(None, hints))
        return verdict, seen, hint.replace("gradient is", "tangent is") if who == "jvp" else hint
    # The time may be over before it is known why the projection fails.
    if verdict == "wrong" or (verdict == "ok" and p.is_wrong and comparison.is_cut):
        seen = f"along a direction of all inputs {who} says {p.analytic:.6g}, the derivative is "
        seen += (
            f"{p.slope.value:.6g} ± {p.slope.bar:.0e}; which elements are to blame was not found"
        )
        return "wrong", seen, ""
    if verdict == "precision":
        return verdict, *_explain_precision(comparison, failing[0], rows[failing[0]])
    if verdict == "kink":
        return verdict, _explain_kink([rows[leaf] for leaf in failing]), ""
    if comparison.options.is_linear:
        return _judged_adjoint(comparison)
    if p.slope.kink:
        return "kink", "a kink where all inputs move together, though not one by one", ""
    return verdict, "", ""


def _judged_adjoint(comparison: Comparison) -> tuple[str, str, str]:
    called, x = comparison.called, comparison.problem.x
    terms, others = called.dy * called.ys[0], x * comparison.mode.vector
    one, other, sizes = (
        np.sum(terms),
        np.sum(others),
        np.sum(np.abs(terms)) + np.abs(np.sum(others)),
    )
    if abs(one - other) <= 1e3 * called.problem.eps_x * sizes:
        return "ok", "<A(x), u> = <x, A_T(u)>", ""
    hint = "A_T is right for the derivative of A, which is not linear: it adds a constant, say"
    return "wrong", f"<A(x), u> is {one:.6g}, <x, A_T(u)> is {other:.6g}", hint


def _explain_kink(rows: list[TensorReport]) -> str:
    row, slopes = rows[0], f"{rows[0].left:.6g} and {rows[0].right:.6g}"
    if not row.kinks:
        return f"{row.name} moved as a whole is at a kink, with slopes {slopes}"
    if row.kink_index is None:
        return f"{row.name} is at a kink, which {row.kinks} gradients show in float32 only"
    seen = f"at {row.kink_index} of {row.name}"
    if abs(row.right - row.left) > 1e-3 * abs(row.left):
        seen += f" the slopes are {slopes}"
    else:
        seen += " it does not show along that element, but backward is right next to it"
    return f"{sum(row.kinks for row in rows)} elements are at a kink; {seen}, the rest agrees"


def _explain_precision(comparison: Comparison, leaf: Leaf, row: TensorReport) -> tuple[str, str]:
    called, at = comparison.called, f"at {row.index} of {row.name}"
    if not row.wrong:
        seen = f"the numeric derivative {at} is only known as {row.numeric:.3g} ± {row.bar:.0e}"
        return seen, "check in float64, or with a smaller or smoother function"
    hint = f"{row.name}: an intermediate result is rounded to fewer digits, or cancels"
    if called.given:
        given = called.given[called.problem.leaves.index(leaf)]
        with np.errstate(over="ignore"):
            is_single = np.array_equal(given, given.astype(np.float32))
        if comparison.mode.problem is not called.problem:
            hint = f"{row.name}: right in float64, but {given.dtype} loses its digits"
        elif is_single and given.dtype == np.float64:
            hint = f"{row.name}: the values are float32 numbers: a cast to float32"
    return f"{at} the error is {row.relative_error:.1e} of the largest element", hint
