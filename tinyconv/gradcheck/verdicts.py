"""From what was compared to a verdict, what was seen, and the hints."""

import math
from dataclasses import replace

import numpy as np

from tinyconv.gradcheck.comparison import Comparison
from tinyconv.gradcheck.inquiry import say_why
from tinyconv.gradcheck.problem import largest, scale_of
from tinyconv.gradcheck.report import TensorReport
from tinyconv.gradcheck.rounding import jumps_within_rounding

__all__ = ["check_given", "judge", "scope_of"]

#: Units of round-off by which a gradient in the inputs' own precision may miss the float64 one.
ROUNDING_OF_GIVEN = 1e3


def scope_of(rows: dict[int, TensorReport], comparison: Comparison) -> str:
    """Return what was checked, in words."""
    total = sum(math.prod(row.shape) for row in rows.values())
    text = f"{total} elements by projection, {sum(row.checked for row in rows.values())} one by one"
    if comparison.is_cut or comparison.options.is_over:
        text += f"; {comparison.options.seconds:g} seconds were over before the rest"
    return text


def check_given(row: TensorReport, comparison: Comparison, i: int) -> TensorReport:
    """Compare the gradient in the precision of the inputs with the one in float64."""
    given, precise = comparison.called.given_gradients[i], comparison.called.gradients[i]
    if given is precise:
        return row
    natural = comparison.natural_size(scale_of(comparison.problem.base[i]))
    slack = ROUNDING_OF_GIVEN * comparison.problem.eps_given * (largest(precise) + natural)
    error = np.abs(given.astype(np.float64) - precise)
    if np.all(error <= slack):
        return row
    flat = int(np.argmax(np.where(np.isnan(error), np.inf, error)))
    index = tuple(int(k) for k in np.unravel_index(flat, given.shape))
    size = largest(precise)
    at_kink = jumps_within_rounding(comparison.problem, comparison.called, i)
    wrong = int(np.sum(~(error <= slack)))
    return replace(
        row,
        verdict="kink" if at_kink else "precision",
        wrong=0 if at_kink else wrong,
        kinks=wrong if at_kink else 0,
        index=index,
        absolute_error=float(error[index]),
        relative_error=float(error[index]) / size if size else 0.0,
        analytic=float(given[index]),
        numeric=float(precise[index]),
        bar=0.0,
    )


def judge(
    rows: dict[int, TensorReport], comparison: Comparison, axes: dict[str, tuple[str, ...]]
) -> tuple[str, str, list[str]]:
    """Return the verdict, what was seen, and the hints."""
    by_verdict = {v: [i for i, row in rows.items() if row.verdict == v] for v in _WORST_FIRST}
    verdict = next((v for v in _WORST_FIRST if by_verdict[v]), "ok")
    failing = by_verdict.get(verdict, [])
    if verdict == "wrong":
        worst = max((rows[i] for i in failing), key=lambda row: row.relative_error)
        message = (
            f"{worst.name} has {worst.wrong} wrong elements of {worst.checked} compared; at "
            f"{worst.index} backward says {worst.analytic:.6g}, "
            f"the derivative is {worst.numeric:.6g} ± {worst.bar:.0e}"
        )
        return verdict, message, [say_why(comparison, i, axes) for i in failing]
    if verdict == "precision":
        return verdict, *_explain_precision(rows[failing[0]], comparison, failing[0])
    if verdict == "kink":
        row, count = rows[failing[0]], sum(rows[i].kinks for i in failing)
        if not row.kinks:
            slopes = f"{row.left:.6g} and {row.right:.6g}"
            return verdict, f"{row.name} moved as a whole is at a kink, with slopes {slopes}", []
        if row.kink_index is None:
            message = f"{row.name} is at a kink, which {row.kinks} gradients show in float32 only"
            return verdict, message, []
        at = f"at {row.kink_index} of {row.name}"
        if abs(row.right - row.left) > 1e-3 * abs(row.left):
            seen = f"{at} the slopes are {row.left:.6g} and {row.right:.6g}"
        else:
            seen = f"{at} it does not show along that element, but backward is right next to it"
        return verdict, f"{count} elements are at a kink; {seen}, the rest agrees", []
    if comparison.kink_of_all:
        return "kink", "a kink where all inputs move together, though not one by one", []
    return verdict, "", []


#: The verdicts of tensors, from the one that decides over all others.
_WORST_FIRST = ("wrong", "precision", "kink")


def _explain_precision(row: TensorReport, comparison: Comparison, i: int) -> tuple[str, list[str]]:
    given = comparison.called.given_gradients[i]
    at = f"at {row.index} of {row.name}"
    if not row.wrong:
        message = f"the numeric derivative {at} is only known as {row.numeric:.3g} ± {row.bar:.0e}"
        return message, ["check in float64, or with a smaller or smoother function"]
    message = f"{at} the error is {row.relative_error:.1e} of the largest element"
    if given is not comparison.called.gradients[i]:
        return message, [f"{row.name}: right in float64, but {given.dtype} loses its digits"]
    with np.errstate(over="ignore"):
        is_single = np.array_equal(given, given.astype(np.float32))
    if is_single and given.dtype == np.float64:
        return message, [f"{row.name}: the values are float32 numbers: a cast to float32"]
    return message, [f"{row.name}: an intermediate result is rounded to float32, or cancels"]
