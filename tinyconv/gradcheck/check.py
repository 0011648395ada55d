"""The entrance: check a backward function, judge what was seen, and say it."""

import contextlib
from collections.abc import Callable, Sequence
from dataclasses import replace
from typing import Any, Literal

import numpy as np

from tinyconv.backend import Array
from tinyconv.gradcheck.callables import Problem, Stop, largest, scale_of
from tinyconv.gradcheck.calls import call
from tinyconv.gradcheck.comparison import Comparison
from tinyconv.gradcheck.hints import explain
from tinyconv.gradcheck.report import Report, TensorReport

__all__ = ["check"]

#: Units of round-off by which a gradient in the inputs' own precision may miss the float64 one.
ROUNDING_OF_GIVEN = 1e3
#: How far off a kink to look for what is right next to it, relative to the size of the inputs.
NEARBY = 2.0**-6
#: At so many points, and along so many directions to look for the kink.
POINTS_NEARBY = 8


def check(
    forward: Callable[..., Array],
    backward: Callable[..., Any],
    inputs: Sequence[Array],
    *,
    seed: int = 0,
    names: Sequence[str] | None = None,
    samples: int | Literal["all"] = 4,
    method: Literal["auto", "complex", "central"] = "auto",
    redraw: int = 0,
    limit: int = 2048,
    reproduce: str = "",
    forward_many: Callable[[list[list[Array]]], list[Array]] | None = None,
) -> Report:
    """Compare a backward function with the derivative of its forward function.

    All gradients are compared at once along one random direction, in which no element is small,
    so an error of any element shows. Then some elements of each tensor are compared one by one,
    and all elements of a tensor that fails.

    Args:
        forward: ``forward(*inputs) -> y``, an array of any shape or a number.
        backward: ``backward(dy, *inputs)`` -> the gradient of ``sum(dy * y)`` with respect to each
            input, of the input's shape; None for one that is not checked. A function of one
            input, or with one floating-point input, may return just that gradient.
        inputs: arrays of one library. The floating-point ones are checked; integers and booleans
            are constants. float64 is best: float32 inputs are checked in float64, where the
            functions take it, and the float32 gradient is then compared with the float64 one.
        seed: of dy, of the directions and of the choice of elements.
        names: of the inputs, for the report.
        samples: elements of each tensor that are compared one by one; ``"all"`` for every one,
            0 for the projection alone, without the second calls that look for randomness (they
            are made where the projection fails).
        method: ``"complex"`` for the complex step, ``"central"`` for differences, ``"auto"`` for
            the complex step where it is valid, which is found out.
        redraw: how often to move inputs that sit at a kink, and check again.
        limit: elements of one failing tensor that are compared one by one at most.
        forward_many: ``forward`` for a list of lists of inputs, where one call is faster than a
            loop; its first result is always compared with forward's.
        reproduce: code that repeats this check, for the report; written by the checker if empty.

    Returns:
        The report. No finding raises; an exception of the functions themselves passes through.

    Raises:
        DeviceError: the inputs are not arrays of one library.
        ValueError: ``method="complex"`` for a function that does not admit it, or names do not
            match the inputs.

    Source: the projection is the directional derivative test of Griewank and Walther,
    "Evaluating Derivatives" (2008), on both sides; for the numeric derivative see
    :mod:`tinyconv.gradcheck.slopes`.

    >>> import numpy as np
    >>> report = check(np.tanh, lambda dy, x: dy * (1 - np.tanh(x)**2), [np.linspace(-1, 1, 5)])
    >>> report.ok
    True
    >>> report = check(np.tanh, lambda dy, x: dy * (np.tanh(x)**2 - 1), [np.linspace(-1, 1, 5)])
    >>> report.verdict, report.hint
    ('wrong', 'inputs[0]: the gradient is -1 times what it should be: the sign is flipped')
    """
    names = [f"inputs[{i}]" for i in range(len(inputs))] if names is None else list(names)
    if len(names) != len(inputs):
        raise ValueError(f"check: {len(names)} names for {len(inputs)} inputs")
    options = {"seed": seed, "method": method, "samples": samples, "limit": limit}
    problem = Problem(forward, backward, inputs, names, forward_many)
    report = _check_at(problem, options, repeat=samples != 0)
    if samples == 0 and not report.ok:
        problem = problem.at(problem.given)
        report = _check_at(problem, options)
    for round_number in range(1, redraw + 1):
        if report.verdict != "kink":
            break
        at_kink = {row.name for row in report.tensors if row.verdict == "kink"}
        move = [i for i in problem.floating if problem.names[i] in at_kink or not at_kink]
        problem = problem.at(_moved(problem, move, 0.1, [seed, 2, round_number]))
        report = replace(_check_at(problem, options), redrawn=round_number)
    return replace(report, reproduce=reproduce or _snippet(report, names, seed))


def _check_at(problem: Problem, options: dict[str, Any], repeat: bool = True) -> Report:
    seed = options["seed"]
    try:
        called = call(problem, seed, repeat)
        comparison = Comparison(problem, called, **options)
        comparison.run()
        _pardon(comparison, options)
    except Stop as stop:
        tensors: tuple[TensorReport, ...] = ()
        if stop.tensor is not None:
            name, shape = problem.names[stop.tensor], problem.given[stop.tensor].shape
            tensors = (TensorReport(name, shape, stop.verdict),)
        return Report(stop.verdict, stop.message, stop.hint, tensors, seed)
    rows = comparison.rows
    if all(row.verdict == "ok" for row in rows.values()) and not comparison.kink_of_all:
        rows = {i: _check_given(row, comparison, i) for i, row in rows.items()}
    verdict, message, hints = _judge(rows, comparison)
    return Report(
        verdict,
        message,
        "; ".join(hint for hint in hints if hint),
        tuple(rows.values()),
        seed,
        "complex step" if comparison.slopes.complex_step else "central differences",
        comparison.projection,
        evaluations=problem.evaluations,
    )


def _pardon(comparison: Comparison, options: dict[str, Any]) -> None:
    """Call wrong elements kinks, if there are kinks and they are right next to them.

    At a kink backward may return what is a slope of the function on neither side: where max-pools
    and ReLUs follow each other, a tie in one decides which way another one turns. But almost
    everywhere it returns the derivative, so next to the kink too (Bolte and Pauwels, "A
    mathematical model for automatic differentiation in machine learning", 2020). What a wrong
    formula returns is wrong on some side of the kink.
    """
    problem, suspects = comparison.problem, comparison.wrong()
    if not suspects or not comparison.has_kinks(POINTS_NEARBY):
        return
    inside = False  # the functions' domain
    for k in range(POINTS_NEARBY):
        if not any(suspects.values()):
            break
        point = _moved(problem, comparison.called.checked, NEARBY, [options["seed"], 4, k])
        with contextlib.suppress(Stop):
            near = problem.at(point)
            nearby = Comparison(near, call(near, options["seed"], repeat=False), **options)
            inside = True
            for i, flat in suspects.items():
                wrong = nearby.wrong_among(i, flat, comparison.slopes.complex_step)
                suspects[i] = sorted(set(flat) - set(wrong))
            problem.evaluations += near.evaluations
    if inside:
        for i, flat in suspects.items():
            comparison.call_kinks(i, flat)


def _check_given(row: TensorReport, comparison: Comparison, i: int) -> TensorReport:
    """Compare the gradient in the precision of the inputs with the one in float64."""
    given, precise = comparison.called.given_gradients[i], comparison.called.gradients[i]
    if given is precise:
        return row
    natural = comparison.rounding.natural_size(scale_of(comparison.problem.base[i]))
    slack = ROUNDING_OF_GIVEN * float(np.finfo(given.dtype).eps) * (largest(precise) + natural)
    error = np.abs(given.astype(np.float64) - precise)
    if np.all(error <= slack):
        return row
    flat = int(np.argmax(np.where(np.isnan(error), np.inf, error)))
    index = tuple(int(k) for k in np.unravel_index(flat, given.shape))
    size = largest(precise)
    at_kink = comparison.rounding.jumps_within_rounding(i)
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


def _judge(rows: dict[int, TensorReport], comparison: Comparison) -> tuple[str, str, list[str]]:
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
        return verdict, message, [explain(comparison.evidence(i)) for i in failing]
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


def _moved(problem: Problem, which: Sequence[int], by: float, seed: list[int]) -> list[Any]:
    """Return the inputs, some of them moved at random by up to ``by`` times their size."""
    rng = np.random.default_rng(seed)
    point = list(problem.given)
    for i in which:
        x = point[i]
        point[i] = x + np.asarray(rng.uniform(-by, by, x.shape) * scale_of(x), dtype=x.dtype)
    return point


def _snippet(report: Report, names: Sequence[str], seed: int) -> str:
    """Return code that shows the worst element again, given forward, backward and inputs."""
    failing = [row for row in report.tensors if row.verdict == report.verdict and row.index]
    if report.verdict != "wrong" or not failing:
        return (
            "from tinyconv.gradcheck import check\n"
            f"print(check(forward, backward, inputs, seed={seed}))"
        )
    worst = max(failing, key=lambda row: row.relative_error)
    return f"""\
import numpy as np
from tinyconv.gradcheck import draw_dy
i, index = {list(names).index(worst.name)}, {worst.index}  # {worst.name}
dy = draw_dy(np.shape(forward(*inputs)), seed={seed})
gradients = backward(dy, *inputs)
gradient = gradients[i] if isinstance(gradients, (tuple, list)) else gradients
def loss(t):
    moved = [np.array(x) for x in inputs]
    moved[i][index] += t
    return np.sum(dy * forward(*moved))
print("backward:", gradient[index], "numeric:", (loss(1e-6) - loss(-1e-6)) / 2e-6)"""
