"""The entrance: check a backward function, judge what was seen, and say it."""

import contextlib
import math
import time
import warnings
from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace
from typing import Any, Literal

import numpy as np

from tinyconv.backend import Array
from tinyconv.gradcheck.calls import call, draw_dy
from tinyconv.gradcheck.comparison import Comparison, Options
from tinyconv.gradcheck.inquiry import moved
from tinyconv.gradcheck.problem import Problem, Stop, TimeUp
from tinyconv.gradcheck.report import KinkWarning, Report, TensorReport
from tinyconv.gradcheck.verdicts import check_given, judge, scope_of

__all__ = ["assert_gradients", "check", "check_adjoint"]

#: How far off a kink to look for what is right next to it, relative to the size of the inputs.
NEARBY = 2.0**-6
#: At so many points, and along so many directions to look for the kink.
POINTS_NEARBY = 8


def check(
    forward: Callable[..., Any],
    backward: Callable[..., Any] | None,
    inputs: Sequence[Any],
    *,
    kwargs: Mapping[str, Any] | None = None,
    jvp: Callable[..., Any] | None = None,
    double_backward: Callable[..., Any] | None = None,
    seed: int = 0,
    names: Sequence[str] | None = None,
    axes: Mapping[str, Sequence[str]] | None = None,
    samples: int | Literal["all"] = 4,
    method: Literal["auto", "complex", "central"] = "auto",
    redraw: int = 0,
    limit: int = 2048,
    seconds: float = math.inf,
    progress: bool | None = None,
    reproduce: str = "",
    forward_many: Callable[[list[list[Array]]], list[Array]] | None = None,
) -> Report:
    """Compare the derivatives of a function, as others compute them, with numeric ones.

    All gradients are compared at once along one random direction, in which no element is small,
    so an error of any element shows. Then some elements of each tensor are compared one by one,
    and more of a tensor that fails; one wrong element among many is found by bisection.

    Args:
        forward: ``forward(*inputs, **kwargs) -> y``: an array, a number, or a nest of tuples, lists
            and dicts of them.
        backward: ``backward(dy, *inputs, **kwargs)`` -> the gradient of ``sum(dy * y)`` with
            respect to each input: a nest like the input, None for what is not checked. A function
            of one input, or with one floating-point input, may return just that gradient. dy is a
            nest like y. Of complex numbers the gradient is ``dL/dRe + i dL/dIm``, PyTorch's
            convention. None if only ``jvp`` is to be checked.
        inputs: nests of arrays of one library and numbers. Floating-point and complex ones are
            differentiated; all others are constants, and so are infinite elements. float64 is best:
            float32 is checked in float64, where the functions take it, and the float32 gradient is
            then compared with the float64 one.
        kwargs: more arguments of all functions, constants.
        jvp: forward mode, ``jvp(tangents, *inputs, **kwargs)`` -> the derivative of y along the
            tangents, a tuple like the inputs with None for constants.
        double_backward: second order, ``double_backward(dg, dy, *inputs, **kwargs)`` -> gradients
            with respect to ``(dy, *inputs)`` of ``sum(dg * backward(dy, *inputs))``.
        seed: of dy, of the directions and of the choice of elements.
        names: of the inputs, for the report.
        axes: names of the axes of inputs and of ``"y"``, for hints: ``{"x": ("batch", "pixel")}``.
        samples: elements of each tensor that are compared one by one; ``"all"`` for every one,
            0 for the projection alone, without the second calls that look for randomness (they
            are made where the projection fails).
        method: ``"complex"`` for the complex step, ``"central"`` for differences, ``"auto"`` for
            the complex step where it is valid, which is found out.
        redraw: how often to move inputs that sit at a kink, and check again.
        limit: elements of one failing tensor that are compared one by one at most.
        seconds: when so many are over, no further element is compared; the report says what was.
        progress: whether to show a progress bar; None for one on a terminal after two seconds.
        forward_many: ``forward`` for a list of lists of inputs, where one call is faster than a
            loop; its first result is always compared with forward's.
        reproduce: code that repeats this check, for the report; written by the checker if empty.

    Returns:
        The report. No finding raises; an exception of the functions themselves passes through.

    Raises:
        DeviceError: the inputs hold arrays of several libraries.
        ValueError: ``method="complex"`` for a function that does not admit it, names do not
            match the inputs, or there is nothing to check.

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
    if backward is None and jvp is None:
        raise ValueError("check: neither backward nor jvp was given")
    options = Options(seed, method, samples, limit, seconds, progress)
    axis_names = {name: tuple(words) for name, words in (axes or {}).items()}
    common: dict[str, Any] = {"kwargs": dict(kwargs or {}), "deadline": time.monotonic() + seconds}

    def look(problem: Problem, code: str) -> Report:
        """Check a problem; what the projection alone finds is looked at once more."""
        report = _check_at(problem, options, axis_names, repeat=samples != 0)
        if samples == 0 and not report.ok:
            report = _check_at(problem.at(problem.x), options, axis_names)
        code = f"from tinyconv.gradcheck import check\nprint(check({code}, seed={seed}))"
        return replace(report, reproduce=reproduce or code)

    report = Report("ok", seed=seed)
    if jvp is not None:
        problem = Problem(forward, jvp, inputs, names, forward_mode=True, **common)
        report = look(problem, "forward, None, inputs, jvp=jvp")
    if backward is None or not report.ok:
        return report
    problem = Problem(forward, backward, inputs, names, forward_many=forward_many, **common)
    report = look(problem, "forward, backward, inputs")
    for round_number in range(1, redraw + 1):
        if report.verdict != "kink":
            break
        at_kink = {row.name for row in report.tensors if row.verdict == "kink"}
        move = [leaf for leaf in problem.leaves if leaf.name in at_kink or not at_kink]
        problem = problem.at(moved(problem, move, 0.1, [seed, 2, round_number]))
        again = look(problem, "forward, backward, inputs")
        report = report if again.verdict == "timeout" else replace(again, redrawn=round_number)
    if double_backward is not None and report.ok:
        dy = problem.like_output(draw_dy(problem.y_shape, seed))
        second = [dy, *problem.inputs], ["dy", *names]
        code = "forward, backward, inputs, double_backward=double_backward"
        report = look(Problem(backward, double_backward, *second, **common), code)
        return replace(report, order=2)
    return report if reproduce else replace(report, reproduce=_snippet(report, names, seed))


def check_adjoint(
    A: Callable[[Any], Any], A_T: Callable[[Any], Any], x: Any, *, seed: int = 0, **settings: Any
) -> Report:
    """Check that two linear functions are adjoint: ``<A(x), u> = <x, A_T(u)>`` for all x and u.

    Args:
        A: takes what has the structure of x.
        A_T: takes what has the structure of ``A(x)``.
        x: array, number or nest, of the right shapes; its values do not matter.
        seed: of the vectors.
        settings: more arguments of :func:`check`.

    Returns:
        The report. A pair that fails the identity is compared element by element, with hints.

    >>> import numpy as np
    >>> check_adjoint(np.cumsum, lambda u: np.cumsum(u[::-1])[::-1], np.zeros(5)).ok
    True
    >>> check_adjoint(np.cumsum, np.cumsum, np.zeros(5)).verdict
    'wrong'
    """

    def backward(u: Any, x: Any) -> Any:
        return A_T(u)

    problem = Problem(A, backward, [x], ["x"])
    problem = problem.at(np.random.default_rng([seed, 8]).normal(size=problem.x.size))
    settings = {"names": ["x"], "seed": seed, **settings}
    report = check(A, backward, problem.inputs, **settings)
    if not report.ok:
        return report
    y = problem.value(problem.x)
    u = draw_dy(y.shape, seed)
    pairs = zip(problem.leaves, problem.gradients(u, problem.x), strict=True)
    other = sum(float(np.sum(leaf.of(problem.x) * g)) for leaf, g in pairs if g is not None)
    one, size = float(np.sum(u * y)), float(np.sum(np.abs(u * y)))
    if abs(one - other) <= 1e3 * problem.eps_given * (size + abs(other)):
        return replace(report, message="<A(x), u> = <x, A_T(u)>")
    message = f"<A(x), u> is {one:.6g}, <x, A_T(u)> is {other:.6g}"
    hint = "A_T is right for the derivative of A, which is not linear: it adds a constant, say"
    return replace(report, verdict="wrong", message=message, hint=hint)


def assert_gradients(
    forward: Callable[..., Any],
    backward: Callable[..., Any] | None,
    inputs: Sequence[Any],
    *,
    redraw: int = 3,
    **settings: Any,
) -> Report:
    """Assert that a backward function returns the derivative of its forward function.

    Inputs that sit at kinks are moved and checked again; if they cannot get away from kinks, the
    rest was right, and this warns.

    Args:
        forward: as in :func:`check`, and so are ``backward`` and ``inputs``.
        backward: ``backward(dy, *inputs)`` -> one gradient an input.
        inputs: arrays, numbers and nests of them.
        redraw: how often to move inputs off kinks.
        settings: more arguments of :func:`check`.

    Returns:
        The report.

    Raises:
        AssertionError: the report failed; its text is the report.

    >>> import numpy as np
    >>> assert_gradients(np.sin, lambda dy, x: dy * np.cos(x), [np.ones(3)]).verdict
    'ok'
    >>> assert_gradients(np.sin, lambda dy, x: dy * np.sin(x), [np.ones(3)])
    Traceback (most recent call last):
    AssertionError: wrong: inputs[0] has 3 wrong elements of 3 compared; ...
    """
    __tracebackhide__ = True
    report = check(forward, backward, inputs, redraw=redraw, **settings)
    if report.failed:
        raise AssertionError(str(report))
    if not report.ok:
        warnings.warn(KinkWarning(str(report)), stacklevel=2)
    return report


def _check_at(
    problem: Problem, options: Options, axes: dict[str, tuple[str, ...]], repeat: bool = True
) -> Report:
    comparison = None
    try:
        comparison = Comparison(problem, call(problem, options.seed, repeat), options)
        comparison.run()
        _pardon(comparison)
        rows = comparison.rows
        if all(row.verdict == "ok" for row in rows.values()) and not comparison.kink_of_all:
            rows.update({leaf: check_given(comparison, leaf) for leaf in rows})
    except Stop as stop:
        leaf, verdict = stop.leaf, stop.verdict
        tensors = () if leaf is None else (TensorReport(leaf.name, leaf.shape, verdict),)
        return Report(verdict, stop.message, stop.hint, tensors, options.seed)
    except TimeUp:
        if comparison is None or comparison.projection is None:
            message = f"{options.seconds:g} seconds were over before anything was compared"
            return Report("timeout", message, seed=options.seed, scope="nothing")
        comparison.is_cut = True
        for leaf in comparison.called.checked:
            if leaf not in comparison.rows:
                comparison.compare(leaf, [])
    verdict, message, hints = judge(comparison, axes)
    return Report(
        verdict,
        message,
        "; ".join(hint for hint in hints if hint),
        tuple(comparison.rows.values()),
        options.seed,
        "complex step" if comparison.slopes.complex_step else "central differences",
        comparison.projection,
        evaluations=problem.evaluations,
        scope=scope_of(comparison),
    )


def _pardon(comparison: Comparison) -> None:
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
    seed, inside = comparison.options.seed, False  # inside the functions' domain
    try:
        for k in range(POINTS_NEARBY):
            if not any(suspects.values()):
                break
            near = problem.at(moved(problem, comparison.called.checked, NEARBY, [seed, 4, k]))
            with contextlib.suppress(Stop):
                nearby = comparison.at(near, seed)
                inside = True
                for leaf, ks in suspects.items():
                    same = near.leaves[problem.leaves.index(leaf)]
                    nearby.compare(same, np.array(ks))
                    suspects[leaf] = sorted(set(ks) - set(nearby.wrong().get(same, [])))
                problem.evaluations += near.evaluations
    except TimeUp:  # to be called wrong, an element must be wrong next to the kink
        comparison.is_cut = inside = True
    for leaf, ks in suspects.items() if inside else ():
        comparison.call_kinks(leaf, ks)


def _snippet(report: Report, names: Sequence[str], seed: int) -> str:
    """Return code that shows the worst element again, given forward, backward and inputs."""
    failing = [row for row in report.tensors if row.verdict == report.verdict and row.index]
    failing = [row for row in failing if row.name in names]
    if report.verdict != "wrong" or not failing:
        return report.reproduce
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
