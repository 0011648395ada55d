"""The entrance: a check of one pair of functions, in all the modes that were asked for."""

import math
import time
import warnings
from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace
from typing import Any, Literal

import numpy as np

from tinyconv.gradcheck.calls import draw_dy
from tinyconv.gradcheck.comparison import Options
from tinyconv.gradcheck.problem import Functions, Problem
from tinyconv.gradcheck.report import KinkWarning, Report
from tinyconv.gradcheck.verdicts import look


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
    seconds: float = math.inf,
    progress: bool | None = None,
    reproduce: str = "",
) -> Report:
    """Compare the derivatives of a function, as others compute them, with numeric ones.

    All gradients are compared at once along one random direction, in which no element is small.
    Then some elements of each tensor are compared one by one, and more of a tensor that fails;
    one wrong element among many is found by bisection.

    Args:
        forward: ``forward(*inputs, **kwargs) -> y``, a nest of arrays and numbers.
        backward: ``backward(dy, *inputs, **kwargs)`` -> the gradient of ``sum(dy * y)`` with
            respect to each input: a nest like the input, None for what is not checked; just the
            gradient where there is one input, or one floating-point input. dy is a nest like y. Of
            complex numbers it is ``dL/dRe + i dL/dIm``, as in PyTorch. None to check ``jvp`` alone.
        inputs: nests of arrays of one library and numbers. Floating-point and complex ones are
            differentiated; others are constants, and so are infinite elements. float64 is best:
            float32 is checked in float64, where the functions take it, and then compared with that.
        kwargs: more arguments of all functions, constants.
        jvp: forward mode, ``jvp(tangents, *inputs, **kwargs)`` -> the derivative of y along the
            tangents, a tuple like the inputs with None for constants.
        double_backward: second order, ``double_backward(dg, dy, *inputs, **kwargs)`` -> gradients
            with respect to ``(dy, *inputs)`` of ``sum(dg * backward(dy, *inputs))``.
        seed: of dy, of the directions and of the choice of elements.
        names: of the inputs, for the report.
        axes: names of the axes of inputs and of ``"y"``, for hints: ``{"x": ("batch", "pixel")}``.
        samples: elements of each tensor that are compared one by one; ``"all"`` for every one, 0
            for the projection alone: two calls are compared only where it fails.
        method: ``"complex"`` for the complex step, ``"central"`` for differences, ``"auto"`` for
            the complex step where it is valid, which is found out.
        redraw: how often to move inputs that sit at a kink, and check again.
        seconds: when so many are over, no further element is compared; the report says what was.
        progress: whether to show a progress bar; None for one on a terminal after two seconds.
        reproduce: code that repeats this check, for the report; written by the checker if empty.

    Returns:
        The report. No finding raises; an exception of the functions themselves passes through.

    Raises:
        DeviceError: the inputs hold arrays of several libraries.
        ValueError: ``method="complex"`` for a function that does not admit it, names do not
            match the inputs, there is nothing to check, or an argument is not one of these.

    Source: the projection is the directional derivative test of Griewank and Walther,
    "Evaluating Derivatives" (2008), on both sides.

    >>> import numpy as np
    >>> report = check(np.tanh, lambda dy, x: dy * (np.tanh(x)**2 - 1), [np.linspace(-1, 1, 5)])
    >>> report.verdict, report.hint
    ('wrong', 'inputs[0]: the gradient is -1 times what it should be: the sign is flipped')
    """
    _check_arguments(inputs, method, samples, seed=seed, redraw=redraw)
    names = list(names or (f"inputs[{i}]" for i in range(len(inputs))))
    if len(names) != len(inputs):
        raise ValueError(f"check: {len(names)} names for {len(inputs)} inputs")
    if backward is None and jvp is None:
        raise ValueError("check: neither backward nor jvp was given")
    options = Options(seed, method, samples, seconds, progress, axes or {})
    deadline = time.monotonic() + seconds

    def run(problem: Problem, code: str = "forward, backward, inputs") -> Report:
        """Check a problem; what the projection alone finds is looked at once more."""
        report = look(problem, options, hints=samples != 0)
        report = report if samples != 0 or report.ok else look(problem, options)
        code = f"from tinyconv.gradcheck import check\nprint(check({code}, seed={seed}))"
        return replace(report, reproduce=reproduce or code)

    if jvp is not None:
        functions = Functions(forward, jvp, names, kwargs, deadline, forward_mode=True)
        report = run(Problem(functions, inputs), "forward, None, inputs, jvp=jvp")
        if backward is None or not report.ok:
            return report
    assert backward is not None
    problem = Problem(Functions(forward, backward, names, kwargs, deadline), inputs)
    report = run(problem)
    for k in range(1, redraw + 1 if report.verdict == "kink" else 1):
        at_kink = {row.name for row in report.tensors if row.verdict == "kink"}
        move = [leaf for leaf in problem.leaves if leaf.name in at_kink or not at_kink]
        problem = problem.moved(move, 0.1, [seed, 2, k])
        again = run(problem)
        report = report if again.verdict == "timeout" else replace(again, redrawn=k)
        if report.verdict != "kink":
            break
    if double_backward is not None and report.ok:
        dy = problem.like_output(draw_dy(problem.y_shape, seed))
        functions = Functions(backward, double_backward, ["dy", *names], kwargs, deadline)
        code = "forward, backward, inputs, double_backward=double_backward"
        report = run(Problem(functions, [dy, *problem.inputs()]), code)
        return replace(report, order=2)
    return report


def _check_arguments(inputs: Any, method: Any, samples: Any, **counts: Any) -> None:
    if not isinstance(inputs, (list, tuple)):
        kind = type(inputs).__name__
        raise ValueError(f"check: inputs is of type {kind}, expected a list of all inputs: [x]")
    if method not in ("auto", "complex", "central"):
        raise ValueError(f"check: method is {method!r}, expected 'auto', 'complex' or 'central'")
    for name, value in [*counts.items(), ("samples", 0 if samples == "all" else samples)]:
        if not isinstance(value, (int, np.integer)) or value < 0:
            also = " or 'all'" * (name == "samples")
            raise ValueError(f"check: {name} is {value!r}, expected an integer of at least 0{also}")


def check_adjoint(
    A: Callable[[Any], Any], A_T: Callable[[Any], Any], x: Any, *, seed: int = 0, **settings: Any
) -> Report:
    """Check that two linear functions are adjoint: ``<A(x), u> = <x, A_T(u)>`` for all x and u.

    A must be its own derivative, and ``A_T`` the gradient. A pair that fails is compared element by
    element, with hints.

    Args:
        A: takes what has the structure of x.
        A_T: takes what has the structure of ``A(x)``.
        x: array, number or nest, of the right shapes; its values do not matter.
        seed: of the vectors.
        settings: ``method``, ``samples``, ``seconds`` and ``progress`` of :func:`check`.

    >>> import numpy as np
    >>> check_adjoint(np.cumsum, lambda u: np.cumsum(u[::-1])[::-1], np.zeros(5)).ok
    True
    >>> check_adjoint(np.cumsum, np.cumsum, np.zeros(5)).verdict
    'wrong'
    """
    problem = Problem(Functions(A, A_T, ["x"]), [x])
    vector = problem.at(np.random.default_rng([seed, 8]).normal(size=problem.x.size)).inputs()
    modes: Any = {"jvp": lambda tangents, x: A(tangents[0]), "names": ["x"], "seed": seed}
    code = "from tinyconv.gradcheck import check_adjoint\n"
    modes["reproduce"] = f"{code}print(check_adjoint(A, A_T, x, seed={seed}))"
    report = check(A, lambda u, x: A_T(u), vector, **modes, **settings)
    if report.ok:
        return replace(report, message="<A(x), u> = <x, A_T(u)>")
    if report.verdict == "wrong" and report.scope.startswith("forward mode"):
        return replace(report, hint="A is not linear: its derivative along v is not A(v)")
    return report


def check_derivatives(
    wrap: Callable[..., Any],
    run: Callable[..., Any],
    vjp: Callable[..., Any],
    jvp: Callable[..., Any],
    inputs: Sequence[Any],
    *,
    forward_mode: bool = False,
    second_order: bool = False,
    **settings: Any,
) -> Report:
    """Check the derivatives that a library itself takes of a function ``run``.

    They are ``vjp(function, inputs, dy)`` and ``jvp(function, inputs, tangents)``; ``wrap`` makes
    what is called of them and of ``run``.
    """

    def backward(dy: Any, *nests: Any) -> Any:
        return vjp(run, nests, dy)

    tangent = wrap(lambda tangents, *nests: jvp(run, nests, tangents)) if forward_mode else None
    twice = wrap(lambda dg, *nests: vjp(backward, nests, dg)) if second_order else None
    both: Any = {"jvp": tangent, "double_backward": twice}
    return check(wrap(run), wrap(backward), inputs, **both, **settings)


def assert_gradients(*functions_and_inputs: Any, redraw: int = 3, **settings: Any) -> Report:
    """Assert that a backward function returns the derivative of its forward function.

    Inputs that sit at kinks are moved and checked again, ``redraw`` times at most; if they cannot
    get away from kinks, the rest was right, and this warns.

    Args:
        functions_and_inputs: ``forward, backward, inputs``, as in :func:`check`.
        redraw: how often to move inputs off kinks.
        settings: more arguments of :func:`check`.

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
    report = check(*functions_and_inputs, redraw=redraw, **settings)
    if report.failed:
        raise AssertionError(str(report))
    if not report.ok:
        warnings.warn(KinkWarning(str(report)), stacklevel=2)
    return report
