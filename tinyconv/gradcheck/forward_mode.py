"""Forward mode: the derivative of every output along one direction, and along each input's own."""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace
from typing import Any

import numpy as np

from tinyconv.gradcheck.calls import Called, call_forward, first
from tinyconv.gradcheck.comparison import ROUNDING
from tinyconv.gradcheck.element import Options
from tinyconv.gradcheck.evidence import Evidence
from tinyconv.gradcheck.hints import explain
from tinyconv.gradcheck.problem import DOUBLE, FloatArray, Problem, Stop, rounding_differs, scale_of
from tinyconv.gradcheck.report import Report, TensorReport
from tinyconv.gradcheck.slopes import Direction, Slopes

__all__ = ["check_tangents"]

#: So many outputs that disagree are looked at one by one, for kinks.
SUSPECTS = 64


class _Tangents:
    """A function and its jvp at one point."""

    def __init__(self, problem: Problem, jvp: Callable[..., Any], seed: int, method: str):
        self.problem, self._jvp, self.seed, self.method = problem, jvp, seed, method
        self.y = problem.choose_precision(call_forward(problem)).astype(np.float64)

    def direction(self, i: int) -> Direction:
        x = self.problem.base[i].reshape(-1)
        rng = np.random.default_rng([self.seed, 9, i])
        v = rng.choice([-1.0, 1.0], x.size) * rng.uniform(0.5, 1, x.size) * scale_of(x)
        return Direction(self.problem, {i: (None, v)})

    def tangent(self, i: int, v: FloatArray, point: Sequence[Any]) -> FloatArray:
        """Return the derivative of the outputs as jvp has it, for a tangent of input i."""
        tangents = [np.zeros_like(a) if k in self.problem.floating else None
                    for k, a in enumerate(point)]  # fmt: skip
        tangents[i] = v.reshape(point[i].shape).astype(point[i].dtype)
        result = self.problem.tangent(self._jvp, tangents, point)
        if result.shape != self.y.shape:
            raise Stop("shape", f"jvp returned shape {result.shape}, expected {self.y.shape}")
        return result

    def compare(self, i: int) -> tuple[TensorReport, Evidence]:
        """Compare the derivatives of all outputs with respect to input i."""
        problem, direction = self.problem, self.direction(i)
        v = direction.parts[i][1]
        got = self.tangent(i, v, problem.base)
        eps = max(problem.eps_numeric, float(np.finfo(got.dtype).eps))
        got = got.astype(np.float64)
        if not np.all(np.isfinite(got)):
            where = first(~np.isfinite(got))
            raise Stop("nonfinite", f"the tangent of y is {got[where]} at {where}", tensor=i)
        moved = [a * (1 + 4 * eps) if k in problem.floating else a
                 for k, a in enumerate(problem.base)]  # fmt: skip
        wobble = 4 * np.abs(self.tangent(i, v, moved) - got)
        wobble = np.where(wobble < np.sqrt(eps) * np.max(np.abs(got), initial=0), wobble, 0)
        size = np.abs(got) + np.max(np.abs(self.y), initial=0) + np.max(np.abs(got), initial=0)
        slopes = Slopes(problem, self._called(np.ones_like(self.y)), direction)
        slopes.complex_step = self.method != "central"
        numeric = slopes.output_slopes(direction)
        if numeric is None and slopes.complex_step:
            slopes.complex_step = False
            numeric = slopes.output_slopes(direction)
        numeric = np.full_like(got, np.nan) if numeric is None else numeric
        bar = 0 * size if slopes.complex_step else np.cbrt(eps) * size
        tolerance = bar + ROUNDING * eps * size + wobble
        bent = slopes.bends(direction) > 1e3 * eps * size
        suspects = np.flatnonzero(~(np.abs(got - numeric) <= tolerance) | bent)
        kinks, wrong = [], []
        for flat in suspects[:SUSPECTS]:
            one = np.zeros_like(self.y)
            one.flat[flat] = 1.0
            own = Slopes(problem, self._called(one), direction)
            slope = own.real_slope(direction)
            if slope.kink:
                kinks.append(flat)
            elif not abs(slope.value - got.flat[flat]) <= slope.bar + tolerance.flat[flat]:
                wrong.append(flat)
        verdict = "wrong" if wrong else "kink" if kinks else "ok"
        counts = got.size, len(wrong), len(kinks)
        row = TensorReport(f"y along {problem.names[i]}", got.shape, verdict, *counts)
        error = np.abs(got - numeric)
        if got.size and not kinks:
            flat = int(np.argmax(error / np.where(tolerance > 0, tolerance, 1)))
            row = replace(
                row,
                absolute_error=float(error.max()),
                relative_error=float(error.max()) / (float(np.max(np.abs(numeric))) or 1.0),
                index=tuple(int(k) for k in np.unravel_index(flat, got.shape)),
                analytic=float(got.flat[flat]),
                numeric=float(numeric.flat[flat]),
                bar=float(np.broadcast_to(tolerance, got.shape).flat[flat]),
            )
        return row, self._evidence(i, v, got, numeric, tolerance, kinks)

    def _called(self, dy: FloatArray) -> Called:
        given = self.problem.given
        return Called(dy, self.y, [], [], [], given, given, None, [], [])

    def _evidence(
        self, i: int, v: FloatArray, got: Any, numeric: Any, tolerance: Any, kinks: list[int]
    ) -> Evidence:
        shape = self.problem.base[i].shape
        flat = np.setdiff1d(np.arange(got.size), kinks).astype(int)

        def jvp(v: FloatArray, changed: Mapping[str, Any]) -> FloatArray:
            point = [
                changed.get(n, a)
                for n, a in zip(self.problem.names, self.problem.base, strict=True)
            ]
            return self.tangent(i, v, point).astype(np.float64)

        return Evidence(
            name=f"y along {self.problem.names[i]}",
            inputs={
                n: a for n, a in zip(self.problem.names, self.problem.base, strict=True)
                if isinstance(a, np.ndarray)
            },
            dy=v.reshape(shape),
            y=self.y,
            analytic=got,
            others={},
            flat=flat,
            numeric=numeric.reshape(-1)[flat],
            tolerance=np.broadcast_to(tolerance, got.shape).reshape(-1)[flat],
            vjp=jvp,
        )  # fmt: skip


def check_tangents(
    forward: Callable[..., Any],
    jvp: Callable[..., Any],
    inputs: Sequence[Any],
    names: Sequence[str],
    kwargs: dict[str, Any],
    options: Options,
) -> Report:
    """Compare ``jvp(tangents, *inputs)`` with numeric derivatives, for each input on its own."""
    problem = Problem(forward, jvp, inputs, names, kwargs)
    rows: list[TensorReport] = []
    hints: list[str] = []
    try:
        here = _Tangents(problem, jvp, options.seed, options.method)
        for i in problem.floating:
            v = here.direction(i).parts[i][1]
            once, twice = (here.tangent(i, v, problem.base) for _ in range(2))
            if rounding_differs(once, twice, DOUBLE):
                raise Stop("nondeterministic", "jvp differs between two calls", tensor=i)
            row, evidence = here.compare(i)
            rows.append(row)
            if row.verdict == "wrong":

                def again(i: int = i) -> Evidence | None:
                    point = [0.75 * a if k in problem.floating else a
                             for k, a in enumerate(problem.given)]  # fmt: skip
                    near = problem.at(point)
                    return _Tangents(near, jvp, options.seed + 1, options.method).compare(i)[1]

                hints.append(explain(evidence, again, lambda ratio: ""))
    except Stop as stop:
        return Report(stop.verdict, stop.message, stop.hint, seed=options.seed)
    verdict = next((v for v in ("wrong", "kink") if any(r.verdict == v for r in rows)), "ok")
    message = ""
    if verdict == "wrong":
        worst = max((r for r in rows if r.verdict == "wrong"), key=lambda row: row.relative_error)
        message = (
            f"{worst.name}: {worst.wrong} of {worst.checked} outputs have a wrong tangent; at "
            f"{worst.index} jvp says {worst.analytic:.6g}, the derivative is {worst.numeric:.6g}"
        )
    scope = f"forward mode: {here.y.size} outputs along {len(rows)} inputs"
    hint = "; ".join(filter(None, hints)).replace("the gradient is", "the tangent is")
    method = "complex step or central differences"
    report = Report(verdict, message, hint, tuple(rows), options.seed, method, scope=scope)
    return replace(report, evaluations=problem.evaluations)
