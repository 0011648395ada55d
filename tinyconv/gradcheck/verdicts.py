"""From what was compared to a verdict, what was seen, and the hints."""

import math
from dataclasses import replace
from typing import Any

import numpy as np

from tinyconv.gradcheck.comparison import Comparison
from tinyconv.gradcheck.inquiry import say_why
from tinyconv.gradcheck.numbers import largest, scale_of
from tinyconv.gradcheck.problem import Leaf, TimeUp
from tinyconv.gradcheck.report import TensorReport
from tinyconv.gradcheck.sides import Gradients

__all__ = ["check_given", "judge", "scope_of"]

#: Units of round-off by which a gradient in the inputs' own precision may miss the float64 one.
ROUNDING_OF_GIVEN = 1e3
#: The verdicts of tensors, from the one that decides over all others.
WORST_FIRST = ("wrong", "precision", "kink")


def scope_of(comparison: Comparison) -> str:
    """Return what was checked, in words."""
    rows = comparison.rows.values()
    text = "forward mode: " if comparison.problem.forward_mode else ""
    text += f"{sum(math.prod(row.shape) for row in rows)} elements by projection, "
    text += f"{sum(row.checked for row in rows)} one by one"
    if comparison.is_cut:
        text += f"; {comparison.options.seconds:g} seconds were over before the rest"
    return text


def check_given(comparison: Comparison, leaf: Leaf) -> TensorReport:
    """Compare the gradient in the precision of the inputs with the one in float64."""
    row, side, problem = comparison.rows[leaf], comparison.side, comparison.problem
    if not isinstance(side, Gradients) or not side.precise:
        return row
    given = comparison.called.given[problem.leaves.index(leaf)].astype(np.float64)
    precise = leaf.of(side.vector)
    natural = comparison.natural_size(scale_of(leaf.of(problem.x)))
    slack = ROUNDING_OF_GIVEN * problem.eps_given * (largest(precise) + natural)
    error = np.abs(given - precise)
    wrong = int(np.sum(~(error <= slack)))
    if not wrong:
        return row
    flat = int(np.argmax(np.where(np.isnan(error), np.inf, error)))
    at_kink = _jumps_within_rounding(comparison, side, leaf)
    return replace(
        row,
        verdict="kink" if at_kink else "precision",
        wrong=0 if at_kink else wrong,
        kinks=wrong if at_kink else 0,
        index=leaf.index(leaf.part.start + flat),
        absolute_error=float(error.flat[flat]),
        relative_error=float(error.flat[flat]) / (largest(precise) or math.inf),
        analytic=float(given.flat[flat]),
        numeric=float(precise.flat[flat]),
        bar=0.0,
    )


def _jumps_within_rounding(comparison: Comparison, side: Gradients, leaf: Leaf) -> bool:
    """Tell whether a gradient jumps when the inputs move by the round-off of their own dtype.

    Then float32 inputs are so close to a kink that float32 arithmetic may take either side.
    """
    x = comparison.problem.x
    g = leaf.of(side.vector)
    eps = np.concatenate([np.full(each.size, each.eps) for each in comparison.problem.leaves])
    for seed in range(4):
        signs = np.random.default_rng([seed, 3]).choice([-1, 1], x.size)
        moved = side.whole(leaf, comparison.called.dy, x * (1 + 8 * eps * signs))
        if largest(moved - g) > 1e-3 * largest(g):
            return True
    return False


def judge(comparison: Comparison, axes: dict[str, tuple[str, ...]]) -> tuple[str, str, list[str]]:
    """Return the verdict, what was seen, and the hints."""
    by_verdict = {
        v: [leaf for leaf, row in comparison.rows.items() if row.verdict == v] for v in WORST_FIRST
    }
    verdict = next((v for v in WORST_FIRST if by_verdict[v]), "ok")
    failing = by_verdict.get(verdict, [])
    rows = [comparison.rows[leaf] for leaf in failing]
    who = "jvp" if comparison.problem.forward_mode else "backward"
    if verdict == "wrong" and any(row.wrong for row in rows):
        worst = max(rows, key=lambda row: row.relative_error)
        message = (
            f"{worst.name} has {worst.wrong} wrong elements of {worst.checked} compared; at "
            f"{worst.index} {who} says {worst.analytic:.6g}, "
            f"the derivative is {worst.numeric:.6g} ± {worst.bar:.0e}"
        )
        hints: list[str] = []
        try:
            for leaf in failing:
                hints.append(say_why(comparison, leaf, axes))
        except TimeUp:
            comparison.is_cut = True
        if who == "jvp":
            hints = [hint.replace("the gradient is", "the tangent is") for hint in hints]
        return verdict, message, hints
    # The time may be over before it is known why the projection fails.
    is_unlocated = comparison.projection_fails and comparison.is_cut
    if comparison.projection and (verdict == "wrong" or (verdict == "ok" and is_unlocated)):
        analytic, numeric, bar = comparison.projection
        message = (
            f"along a direction of all inputs {who} says {analytic:.6g}, the derivative is "
            f"{numeric:.6g} ± {bar:.0e}; which elements are to blame was not found"
        )
        return "wrong", message, []
    if verdict == "precision":
        return verdict, *_explain_precision(comparison, failing[0])
    if verdict == "kink":
        return verdict, _explain_kink(rows), []
    if comparison.kink_of_all:
        return "kink", "a kink where all inputs move together, though not one by one", []
    return verdict, "", []


def _explain_kink(rows: list[TensorReport]) -> str:
    row = rows[0]
    if not row.kinks:
        slopes = f"{row.left:.6g} and {row.right:.6g}"
        return f"{row.name} moved as a whole is at a kink, with slopes {slopes}"
    if row.kink_index is None:
        return f"{row.name} is at a kink, which {row.kinks} gradients show in float32 only"
    seen = f"at {row.kink_index} of {row.name}"
    if abs(row.right - row.left) > 1e-3 * abs(row.left):
        seen += f" the slopes are {row.left:.6g} and {row.right:.6g}"
    else:
        seen += " it does not show along that element, but backward is right next to it"
    return f"{sum(row.kinks for row in rows)} elements are at a kink; {seen}, the rest agrees"


def _explain_precision(comparison: Comparison, leaf: Leaf) -> tuple[str, list[str]]:
    row, side = comparison.rows[leaf], comparison.side
    at = f"at {row.index} of {row.name}"
    if not row.wrong:
        message = f"the numeric derivative {at} is only known as {row.numeric:.3g} ± {row.bar:.0e}"
        return message, ["check in float64, or with a smaller or smoother function"]
    message = f"{at} the error is {row.relative_error:.1e} of the largest element"
    cancels = f"{row.name}: an intermediate result is rounded to fewer digits, or cancels"
    if not isinstance(side, Gradients):
        return message, [cancels]
    given: Any = comparison.called.given[comparison.problem.leaves.index(leaf)]
    if side.precise:
        return message, [f"{row.name}: right in float64, but {given.dtype} loses its digits"]
    with np.errstate(over="ignore"):
        is_single = np.array_equal(given, given.astype(np.float32))
    if is_single and given.dtype == np.float64:
        return message, [f"{row.name}: the values are float32 numbers: a cast to float32"]
    return message, [cancels]
