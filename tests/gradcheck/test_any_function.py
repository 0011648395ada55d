"""Nests, numbers, complex and infinite inputs, other modes, low precision, bounded time."""

import subprocess
import sys
import time
import warnings
from dataclasses import replace

import array_api_strict
import numpy as np
import pytest

from tinyconv.errors import DtypeError
from tinyconv.gradcheck import assert_gradients, check, check_adjoint
from tinyconv.gradcheck.calls import Called
from tinyconv.gradcheck.comparison import Comparison, Options
from tinyconv.gradcheck.problem import Functions, Problem

pytest_plugins = ["pytester"]

rng = np.random.default_rng(0)
X = rng.normal(size=(4, 3))
W = rng.normal(size=(3, 2))
Z = rng.normal(size=(3, 2)) + 1j * rng.normal(size=(3, 2))


# -- nests ----------------------------------------------------------------------------


def layer(p, x, power=2):
    return {"y": x @ p["w"] + p["b"][0], "rest": (np.sum(p["w"] ** power), 7, None)}


def layer_backward(dy, p, x, power=2):
    assert dy["rest"][1] is None
    dw = x.T @ dy["y"] + dy["rest"][0] * power * p["w"] ** (power - 1)
    return {"w": dw, "b": (dy["y"].sum(axis=0), None)}, dy["y"] @ p["w"].T


P = {"w": W, "b": (rng.normal(size=2), "a name")}


@pytest.mark.parametrize("method", ["auto", "central"])
def test_nests_of_inputs_and_outputs_and_keywords(method):
    report = check(layer, layer_backward, [P, X], kwargs={"power": 3}, samples="all", method=method)
    assert report.ok, str(report)
    names = ["inputs[0]['w']", "inputs[0]['b'][0]", "inputs[1]"]
    assert [row.name for row in report.tensors] == names


def test_a_part_may_be_left_unchecked():
    report = check(
        layer, lambda dy, p, x: ({**layer_backward(dy, p, x)[0], "b": None}, None), [P, X]
    )
    assert report.ok, str(report)
    assert [row.name for row in report.tensors] == ["inputs[0]['w']"]


def test_a_wrong_leaf_is_named():
    def backward(dy, p, x):
        g, dx = layer_backward(dy, p, x)
        return g | {"w": 2 * g["w"]}, dx

    report = check(layer, backward, [P, X], names=["p", "x"])
    assert [row.name for row in report.tensors if row.verdict == "wrong"] == ["p['w']"]
    assert report.hint.startswith("p['w']: the gradient is 2 times")


def test_gradients_of_another_structure_are_named():
    report = check(layer, lambda dy, p, x: ([p["w"]], x), [P, X])
    assert report.verdict == "shape"
    expected = "expected inputs[0]['w'], inputs[0]['b'][0], inputs[0]['b'][1]"
    assert report.message.endswith(f"of inputs[0] is another nest: inputs[0][0], {expected}")
    report = check(layer, lambda dy, p, x: ({"v": 0}, x), [P, X])
    assert report.message.endswith(f"inputs[0]['v'], {expected}")
    report = check(layer, lambda dy, p, x: ({"w": p["w"], "b": (dy["y"],)}, x), [P, X])
    assert report.message.endswith(f"inputs[0]['w'], inputs[0]['b'][0], {expected}")


def test_numbers():
    report = check(lambda a, x: a * x, lambda dy, a, x: (np.sum(dy * x), a * dy), [2.5, X])
    assert report.ok, str(report)
    report = check(lambda a, k: a**k, lambda dy, a, k: dy * k * a ** (k - 1), [1.5, 3])
    assert report.ok, str(report)


@pytest.mark.parametrize("number", [3.0, np.float32(3), np.array(3.0), 1 + 2j])
@pytest.mark.parametrize("factor", [3, 0, -2, 2.02])
def test_a_wrong_gradient_of_a_number(number, factor):
    report = check(lambda a: a * a, lambda dy, a: dy * factor * np.conj(a), [number])
    assert report.verdict == "wrong"
    assert report.hint.startswith("inputs[0]: the gradient is ")
    assert check(lambda p: p[0] * p[1], lambda dy, p: [dy * p[1], dy], [[2.0, 3.0]]).failed


def test_large_inputs_make_no_warning():
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        assert check(np.square, lambda dy, x: 2 * x * dy, [1e100 * X]).ok


@pytest.mark.parametrize("size", [1e-5, 1e-12, 1e-20, 1e-100])
@pytest.mark.parametrize(
    ("function", "slope"),
    [
        (lambda x: 1e-3 * x, lambda x: 1e-3 + 0 * x),
        (np.abs, np.sign),
        (lambda x: x**3, lambda x: 3 * x**2),
        (lambda x: x * np.abs(x), lambda x: 2 * np.abs(x)),
        (lambda x: np.maximum(x, 0), lambda x: x > 0.0),
    ],
)
@pytest.mark.parametrize("of_x", [True, False])
def test_wrong_gradients_of_any_size_are_found(function, slope, size, of_x):
    a, b = (size, 1) if of_x else (1, size)

    def forward(x):
        return b * function(x)

    for factor, verdict in ((1, "ok"), (1.01, "wrong"), (-1, "wrong")):
        report = check(forward, lambda dy, x, f=factor: f * b * dy * slope(x), [a * X])
        assert report.verdict == verdict, str(report)


@pytest.mark.parametrize("size", [1, 1e-4, 1e-6, 1e-8])
def test_small_products_with_what_was_rounded_next_to_one_are_right(size):
    def log(x):
        return np.log(1 + np.abs(x))

    def slope(x):
        return log(x) + np.abs(x) / (1 + np.abs(x))

    report = check(lambda x: x * log(x), lambda dy, x: dy * slope(x), [size * X])
    assert report.ok, str(report)
    assert check(lambda x: x * log(x), lambda dy, x: 2 * dy * slope(x), [size * X]).failed


@pytest.mark.parametrize("size", [1, 1e-4, 1e-7, 1e-8, 1e-9])
@pytest.mark.parametrize("samples", [0, 4])
def test_small_inputs_beside_a_constant_are_differentiated_with_all_their_parts(size, samples):
    def forward(x):  # the absolute value of complex numbers is real
        return 1 + x + np.abs(x)

    inputs = [size * X]
    assert check(forward, lambda dy, x: dy * (1 + np.sign(x)), inputs, samples=samples).ok
    assert check(forward, lambda dy, x: dy, inputs, samples=samples).verdict == "wrong"


@pytest.mark.parametrize("size", [1, 1e-2, 1e-3, 1e-4, 1e-5])
def test_a_function_that_drops_small_imaginary_parts_is_not_taken_by_its_word(size):
    def forward(x):  # NumPy's variance of complex numbers is real
        return (x - x.mean(axis=1, keepdims=True)) / np.sqrt(x.var(axis=1, keepdims=True) + 0.1)

    def backward(dy, x):
        y, deviation = forward(x), np.sqrt(x.var(axis=1, keepdims=True) + 0.1)
        g = dy - dy.mean(axis=1, keepdims=True) - y * (dy * y).mean(axis=1, keepdims=True)
        return g / deviation

    for samples in (0, 4, "all"):
        report = check(forward, backward, [size * X], samples=samples)
        assert report.ok, str(report)


def test_hints_on_outputs_that_should_have_no_gradient_make_no_warning():
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        report = check(
            lambda x: np.concatenate([x, 0 * x]), lambda dy, x: dy[:4] + dy[4:], [X], samples="all"
        )
    assert report.verdict == "wrong"


@pytest.mark.parametrize("kind", [np.matrix, np.ma.MaskedArray])
def test_arrays_with_rules_of_their_own_are_refused(kind):
    with pytest.raises(DtypeError, match=f"is a {kind.__name__}, which computes by rules"):
        check(np.square, lambda dy, x: 2 * x * dy, [X.view(kind)])


# -- what hints must not claim ---------------------------------------------------------


def test_a_linear_function_is_right_for_other_inputs_too_and_not_stale():
    report = check(lambda x: 3 * x, lambda dy, x: 3.0003 * dy, [X])
    assert "1.0001 times what it should be" in report.hint


def test_equal_inputs_have_equal_gradients_in_no_wrong_order():
    def backward(dy, a, b):
        first = dy * b
        first[1, 1] *= 1.01
        return first, dy * a

    report = check(lambda a, b: a * b, backward, [X, X.copy()])
    assert "order" not in report.hint
    assert "(1, 1)" in report.hint


def test_a_gradient_that_is_not_zero_at_a_kink_is_not_zero_everywhere():
    def backward(dy, z):  # flipped
        return (dy * np.where(z == 0, 0, z / np.where(z == 0, 1, np.abs(z))))[::-1].copy()

    report = check(np.abs, backward, [np.array([0, 1 + 1j])])
    assert report.verdict == "wrong"
    assert "zero everywhere" not in report.hint


def test_no_input_to_differentiate():
    message = "no input holds floating-point numbers"
    assert check(lambda k: k, lambda dy, k: k, [3]).message == message
    assert check(lambda k: k, None, [3], jvp=lambda t, k: k).message == message


# -- complex numbers -------------------------------------------------------------------


@pytest.mark.parametrize(
    ("forward", "backward"),
    [
        (lambda z: z * z, lambda dy, z: dy * np.conj(2 * z)),
        (lambda z: np.conj(z), lambda dy, z: np.conj(dy)),
        (lambda z: np.abs(z), lambda dy, z: dy * z / np.abs(z)),
        (lambda z: np.real(z) * np.imag(z), lambda dy, z: dy * (np.imag(z) + 1j * np.real(z))),
    ],
)
def test_complex_inputs_in_the_convention_of_pytorch(forward, backward):
    report = check(forward, backward, [Z], samples="all")
    assert report.ok, str(report)
    wrong = check(forward, lambda dy, z: np.conj(backward(dy, z)), [Z])
    assert wrong.verdict == "wrong"
    assert "conjuga" in wrong.hint


def test_a_complex_output_of_real_inputs():
    assert check(
        lambda x: np.exp(1j * x), lambda dy, x: np.real(dy * -1j * np.exp(-1j * x)), [X]
    ).ok


def test_a_complex_gradient_of_real_inputs():
    report = check(np.exp, lambda dy, x: dy * np.exp(x) + 0j, [X])
    assert report.message == "the gradient of inputs[0] is complex128, expected floats"


# -- forward mode, second order, adjoints ------------------------------------------------


def tangent(t, x, w):
    return (1 - np.tanh(x @ w) ** 2) * (t[0] @ w + x @ t[1])


def product(x, w):
    return np.tanh(x @ w)


@pytest.mark.parametrize("method", ["auto", "central"])
def test_forward_mode(method):
    report = check(product, None, [X, W], jvp=tangent, method=method)
    assert report.ok, str(report)
    assert report.scope == "forward mode: 18 elements by projection, 8 one by one"

    def wrong(t, x, w):
        return tangent([t[0], 3 * t[1]], x, w)

    report = check(product, None, [X, W], jvp=wrong, method=method, names=["x", "w"])
    assert [row.verdict for row in report.tensors] == ["ok", "wrong"]
    assert report.hint.startswith("w: the tangent is 3 times what it should be")
    assert "jvp=jvp" in report.reproduce


def test_forward_mode_at_a_kink_and_misbehaving():
    x = np.array([1.0, 0.0, -1.0])
    report = check(np.abs, None, [x], jvp=lambda t, x: np.sign(x) * t[0])
    assert report.verdict == "kink"
    random = np.random.default_rng(0)
    report = check(np.abs, None, [x], jvp=lambda t, x: random.normal(size=3))
    assert report.verdict == "nondeterministic"
    report = check(np.abs, None, [x], jvp=lambda t, x: t[0][:2])
    assert report.message == "jvp returned shape (2,), expected (3,)"
    report = check(np.abs, None, [x], jvp=lambda t, x: t[0] * np.nan)
    assert report.verdict == "nonfinite"
    many = np.zeros(100)  # more than are looked at one by one
    assert check(np.abs, None, [many], jvp=lambda t, x: np.sign(x) * t[0]).verdict == "kink"
    report = check(np.log, None, [x], jvp=lambda t, x: t[0] / x)
    assert report.verdict == "nonfinite"


def test_forward_mode_locates_one_wrong_element():
    x = rng.normal(size=20_000)
    calls = []

    def jvp(tangents, x):
        calls.append(1)
        t = 2 * x * tangents[0]
        t[4321] *= 1.01
        return t

    report = check(np.square, None, [x], jvp=jvp)
    assert report.tensors[0].index == (4321,)
    assert len(calls) < 300
    assert "jvp says" in report.message


def test_forward_mode_has_the_hints_of_reverse_mode():
    report = check(np.tanh, None, [X], jvp=lambda t, x: t[0], names=["x"])
    assert report.hint == "x: the tangent is dy itself: the derivative of the function is missing"


@pytest.mark.parametrize(
    ("jvp", "hint"),
    [
        (lambda t, x: 2 * x * t[0] / 2, "the tangent is 0.5 times what it should be, whatever the"),
        (lambda t, x: t[0], "the tangent is dy itself: the derivative of the function is missing"),
        (
            lambda t, x: 2 * x * t[0] * (np.arange(len(x)) < 4000),
            "zero where it should not be: the mask is too narrow",
        ),
    ],
)
def test_forward_mode_has_hints_for_large_tensors(jvp, hint):
    # Of 5,000 elements only some are known.
    x = np.random.default_rng(1).normal(size=5000)
    report = check(np.square, None, [x], jvp=jvp, names=["x"])
    assert report.verdict == "wrong"
    assert hint in report.hint


def cube_backward(dy, x):
    return 3 * x * x * dy


def test_second_order():
    def right(dg, dy, x):
        return 3 * x * x * dg, 6 * x * dy * dg

    cube = {"forward": lambda x: x**3, "backward": cube_backward, "inputs": [X]}
    report = check(**cube, double_backward=right)
    assert (report.verdict, report.order) == ("ok", 2)
    assert [row.name for row in report.tensors] == ["dy", "inputs[0]"]
    report = check(**cube, double_backward=lambda *a: (right(*a)[0], right(*a)[1] / 2))
    assert report.hint.startswith("inputs[0]: the gradient is 0.5 times")
    report = check(lambda x: x**3, lambda dy, x: x * dy, [X], double_backward=right)
    assert (report.verdict, report.order) == ("wrong", 1)


def test_adjoints():
    M = rng.normal(size=(4, 3))
    assert check_adjoint(lambda x: M @ x, lambda u: M.T @ u, np.zeros(3)).ok
    report = check_adjoint(lambda x: M @ x, lambda u: -M.T @ u, np.zeros(3))
    assert report.hint == "x: the gradient is -1 times what it should be: the sign is flipped"
    assert check_adjoint(lambda x: M @ x, lambda u: M @ M.T @ u, np.zeros(3)).verdict == "shape"
    report = check_adjoint(lambda x: M @ x + 1, lambda u: M.T @ u, np.zeros(3))
    assert report.verdict == "wrong"
    assert "not linear" in report.hint
    F = np.fft.fft(np.eye(4))
    assert check_adjoint(lambda x: F @ x, lambda u: F.conj().T @ u, np.zeros(4, complex)).ok
    assert not check_adjoint(lambda x: F @ x, lambda u: F.T @ u, np.zeros(4, complex)).ok


@pytest.mark.parametrize("seconds", range(0, 60, 3))
def test_adjoints_within_a_budget(monkeypatch, seconds):
    clock, identity = _counted(1.0, lambda x: x + 0)
    monkeypatch.setattr(time, "monotonic", clock)
    report = check_adjoint(identity, identity, np.zeros(3), seconds=seconds)
    assert clock() <= seconds + 1
    assert report.verdict in ("timeout", "ok")
    report = check_adjoint(identity, lambda u: u + 0, np.zeros(3), seconds=100)
    assert report.message == "<A(x), u> = <x, A_T(u)>"


def test_nothing_to_check():
    with pytest.raises(ValueError, match="neither backward nor jvp was given"):
        check(np.sin, None, [X])


# -- hard numbers ----------------------------------------------------------------------


def softmax(x):
    e = np.exp(x - np.max(x.real, axis=-1, keepdims=True))
    return e / e.sum(axis=-1, keepdims=True)


def softmax_backward(dy, x):
    y = softmax(x)
    return y * (dy - (y * dy).sum(axis=-1, keepdims=True))


def log_softmax(x):
    s = x - np.max(x.real, axis=-1, keepdims=True)
    return s - np.log(np.exp(s).sum(axis=-1, keepdims=True))


def log_softmax_backward(dy, x):
    return np.where(np.isinf(x), 0, dy - softmax(x) * dy.sum(axis=-1, keepdims=True))


@pytest.mark.parametrize("method", ["auto", "central"])
@pytest.mark.parametrize(
    ("forward", "backward"),
    [(softmax, softmax_backward), (log_softmax, log_softmax_backward)],
)
def test_masked_logits(forward, backward, method):
    x = rng.normal(size=(3, 4))
    x[0, 1] = x[2, 2:] = -np.inf
    report = check(forward, backward, [x], samples="all", method=method)
    assert report.ok, str(report)
    assert report.tensors[0].checked == 9
    assert not check(forward, lambda dy, x: 2 * backward(dy, x), [x], method=method).ok


def test_a_gradient_that_is_not_finite_at_an_infinite_input():
    x = np.array([0.5, -np.inf, 2.0])
    report = check(softmax, lambda dy, x: softmax_backward(dy, x) + 0 * x, [x])
    assert report.verdict == "nonfinite"
    assert report.hint.endswith("the input is infinite there: return 0, as for what is masked")


@pytest.mark.parametrize("dtype", ["float32", "float16"])
def test_functions_of_one_precision_alone(dtype):
    x = rng.normal(size=(3, 4)).astype(dtype)

    def single(x):
        if x.dtype != dtype:
            raise TypeError("only my own precision")
        return np.tanh(x)

    def backward(dy, x):
        single(x)
        return (dy * (1 - np.tanh(x) ** 2)).astype(dtype)

    assert check(single, backward, [x], samples="all").ok
    for factor in (-1, 2, 1.5, 0.5):
        report = check(single, lambda dy, x, k=factor: np.asarray(k * backward(dy, x), dtype), [x])
        assert report.verdict == "wrong", (factor, str(report))
        told = " times what it should be" in report.hint
        assert told or not report.hint  # wide bars admit any pattern


def test_products_in_float16_alone():
    def product(x, w):
        if x.dtype != np.float16:
            raise TypeError("only my own precision")
        return x @ w

    found = 0
    for seed in range(20):
        draw = np.random.default_rng(seed)
        inputs = [draw.normal(size=shape).astype(np.float16) for shape in [(5, 7), (7, 3)]]
        report = check(product, lambda dy, x, w: (dy @ w.T, x.T @ dy), inputs, seed=seed)
        assert report.ok, str(report)
        report = check(
            product, lambda dy, x, w: (np.float16(1.5) * (dy @ w.T), x.T @ dy), inputs, seed=seed
        )
        found += report.verdict == "wrong"
    assert found >= 15


def test_bfloat16_is_refused_in_a_sentence():
    bfloat16 = pytest.importorskip("ml_dtypes").bfloat16
    with pytest.raises(TypeError, match=r"inputs\[0\] is bfloat16, .*: pass it as float32"):
        check(np.tanh, lambda dy, x: dy, [X.astype(bfloat16)])


@pytest.mark.parametrize("scale", [1e-310, 1e-250, 1e-160, 1e-20, 1e12])
def test_tiny_and_huge_numbers(scale):
    x = np.array([1.0, 2.0, -3.0]) * scale
    for method in ("auto", "central"):
        assert check(lambda x: 3 * x, lambda dy, x: 3 * dy, [x], method=method).ok
        assert check(lambda x: 3 * x, lambda dy, x: 4 * dy, [x], method=method).failed


def test_empty_arrays():
    empty = np.zeros((0, 3))
    assert check(lambda x: x * x, lambda dy, x: 2 * x * dy, [empty]).ok
    right = [X, np.zeros((3, 0))]
    assert check(np.matmul, lambda dy, x, w: (dy @ w.T, x.T @ dy), right).ok


# -- functions that are slow, loud, or remember -------------------------------------------


def test_what_functions_print_and_warn_about_shows_once(capsys):
    def forward(x):
        print("forward!")
        warnings.warn("careful", UserWarning, stacklevel=1)
        return x * x

    with pytest.warns(UserWarning, match="careful") as caught:
        report = check(forward, lambda dy, x: 2 * x * dy, [X])
    assert (report.verdict, report.method) == ("ok", "complex step")
    assert len(caught) == 1
    assert capsys.readouterr().out == "forward!\n"


def _counted(seconds_a_call, function=np.square):
    """A clock that only calls of the function advance, and the function."""
    now = [0.0]

    def forward(x):
        now[0] += seconds_a_call
        return function(x)

    return (lambda: now[0]), forward


def test_a_budget_of_seconds(monkeypatch):
    clock, forward = _counted(1.0)
    monkeypatch.setattr(time, "monotonic", clock)
    x = np.ones(3000)
    report = check(forward, lambda dy, x: 2 * x * dy, [x], samples="all", seconds=100)
    assert report.ok
    assert 50 < report.tensors[0].checked < 100
    assert "; 100 seconds were over before the rest" in report.scope
    report = check(forward, lambda dy, x: 3 * x * dy, [x], seconds=20)
    assert report.verdict == "wrong"


@pytest.mark.parametrize("factor", [2, 3])
@pytest.mark.parametrize("method", ["auto", "central"])
@pytest.mark.parametrize("mode", ["reverse", "forward"])
def test_every_budget_gives_an_honest_verdict(monkeypatch, factor, method, mode):
    seen = set()
    for seconds in range(0, 120, 3):
        clock, forward = _counted(1.0)
        monkeypatch.setattr(time, "monotonic", clock)

        def product(a, x):
            return factor * x * a

        reverse = mode == "reverse"
        backward = product if reverse else None
        jvp = None if reverse else lambda t, x: product(t[0], x)
        report = check(forward, backward, [X], jvp=jvp, seconds=seconds, method=method)
        seen.add(report.verdict)
        right = "ok" if factor == 2 else "wrong"
        assert report.verdict in ("timeout", right), str(report)
        assert report.failed == (report.verdict != "ok")
        assert clock() <= seconds + 1
    assert seen == {"timeout", right}


def test_no_call_at_all_within_no_time():
    report = check(np.sin, lambda dy, x: dy, [X], seconds=-1)
    assert str(report).startswith("timeout: -1 seconds were over before anything was compared")
    assert report.scope == "nothing"
    assert report.failed


def test_a_progress_bar(capsys):
    check(np.sin, lambda dy, x: dy * np.cos(x), [X], progress=True)
    assert "gradcheck inputs[0]" in capsys.readouterr().err
    check(np.sin, lambda dy, x: dy * np.cos(x), [X])
    assert capsys.readouterr().err == ""


@pytest.mark.parametrize("method", ["auto", "central"])
def test_one_wrong_element_of_many_costs_few_evaluations(method):
    x = rng.normal(size=100_000)
    calls = []

    def forward(x):
        calls.append(1)
        return x * x

    def wrong(dy, x):
        dx = 2 * x * dy
        dx[43_210] *= 1.01
        return dx

    check(forward, lambda dy, x: 2 * x * dy, [x], method=method, samples=0)
    projection = len(calls)
    calls.clear()
    report = check(forward, wrong, [x], method=method)
    assert report.tensors[0].index == (43_210,)
    assert report.hint == "inputs[0]: wrong at (43210,) alone, and all others compared are right"
    assert len(calls) < 20 * projection


def test_backward_that_overwrites_what_forward_saved():
    class Tanh:
        def forward(self, x):
            self.y = np.tanh(x)
            return self.y

        def backward(self, dy):
            self.y *= self.y
            return dy * (1 - self.y)

    layer = Tanh()
    report = check(layer.forward, lambda dy, x: layer.backward(dy), [X])
    assert report.verdict == "nondeterministic"
    assert "backward overwrites what forward saved" in report.hint


def test_a_backward_for_one_call_alone_is_fine():
    class Square:
        def forward(self, x):
            self.saved = [x]
            return x * x

        def backward(self, dy):
            return 2 * self.saved.pop() * dy

    layer = Square()
    assert check(layer.forward, lambda dy, x: layer.backward(dy), [X]).ok


# -- verdicts and hints ------------------------------------------------------------------


def test_verdicts_do_not_depend_on_the_order_of_evaluation():
    x = rng.normal(size=(6, 5)).astype(np.float32)

    def forward(x):
        return np.sin(x.astype(np.float32))

    def backward(dy, x):
        return (dy * np.cos(x)).astype(np.float32)

    def of(names):
        order = [{"a": x, "b": 2 * x}[name] for name in names]
        report = check(
            lambda *a: forward(a[names.index("a")]) + forward(a[names.index("b")]),
            lambda dy, *a: tuple(backward(dy, each) for each in a),
            order,
            names=list(names),
            samples="all",
        )
        return {row.name: row.verdict for row in report.tensors}

    assert of("ab") == of("ba")


@pytest.mark.parametrize("method", ["auto", "central"])
def test_an_element_is_judged_by_its_own_numbers(method):
    x = np.array([1.0, 0.0, 1e-9, -2.0, 3.0, 1e-5, 40.0])

    def forward(x):
        return np.where(np.real(x) > 0, x * x + x, 0 * x)

    def backward(dy, x):
        return dy * np.where(x > 0, 2 * x + 1, 0) * np.where(x > 2, 1.001, 1)

    def elements(flat):
        problem = Problem(Functions(forward, backward, ["x"]), [x])
        comparison = Comparison(Called(problem, 0, repeat=True), Options(method=method))
        comparison.slopes.complex_step = method == "auto"
        (leaf,) = problem.leaves
        for k in flat:
            comparison.compare(leaf, [k])
        return {e.k: e for e in comparison.elements[leaf]}

    together = elements(range(7))
    assert {k for k, e in together.items() if e.is_wrong} == {4, 6}
    for k in range(7):
        alone = elements([k])[k]
        backwards = elements(range(6, k - 1, -1))[k]
        for e in (alone, backwards):
            assert str(replace(e, direction=None)) == str(replace(together[k], direction=None))


def test_two_explanations_that_fit_are_told_apart_by_another_shape():
    # 1/2 is a lost square, the batch of 2, and 1/sqrt(4): only one of them follows its axis.
    x = rng.normal(size=(2, 4))
    cases = [
        (lambda dy, x: 2 * x * dy / 2, "whatever the lengths of axes: a factor 2 is missing"),
        (lambda dy, x: 2 * x * dy / len(x), "axis 0 of x twice as long it is 0.5 times that"),
        (lambda dy, x: 2 * x * dy / x.shape[1] ** 0.5, "1/sqrt(4) is too much"),
    ]
    for backward, words in cases:
        report = check(lambda x: x * x, backward, [x], names=["x"])
        assert "0.5 times" in report.hint
        assert words in report.hint


def test_axes_have_the_names_of_the_caller():
    def backward(dy, x):
        dx = 2 * x * dy
        dx[:, 2] = 0
        return dx

    report = check(lambda x: x * x, backward, [X], names=["x"], axes={"x": ("batch", "pixel")})
    assert report.hint == "x: wrong only at the last index (2) of pixel; it is zero there"


# -- where it is used ----------------------------------------------------------------------


def test_the_pair_of_another_library():
    xp = array_api_strict
    inputs = [{"x": xp.asarray(X)}, 3]
    report = check(
        lambda p, k: p["x"] ** k, lambda dy, p, k: {"x": k * p["x"] ** (k - 1) * dy}, inputs
    )
    assert report.ok, str(report)


def test_the_fixture(pytester):
    pytester.makeconftest('pytest_plugins = ["tinyconv.gradcheck.pytest_plugin"]')
    pytester.makepyfile(
        """
        import numpy as np

        def test_right(assert_gradients):
            assert_gradients(np.sin, lambda dy, x: dy * np.cos(x), [np.ones(3)])

        def test_wrong(assert_gradients):
            assert_gradients(np.sin, lambda dy, x: dy, [np.ones(3)])
        """
    )
    result = pytester.runpytest_inprocess("-p", "no:cacheprovider")
    result.assert_outcomes(passed=1, failed=1)


def test_assert_gradients_takes_nests():
    assert assert_gradients(layer, layer_backward, [P, X]).ok


def test_it_works_without_numba_and_matplotlib():
    code = """
import sys
for name in ("numba", "llvmlite", "matplotlib", "torch", "jax"):
    sys.modules[name] = None
import numpy as np
from tinyconv.gradcheck import check
assert check(np.sin, lambda dy, x: dy * np.cos(x), [np.ones(3)]).ok
"""
    subprocess.run([sys.executable, "-c", code], check=True)


SMALL = 4e-9


@pytest.mark.parametrize("method", ["auto", "central"])
@pytest.mark.parametrize("seed", range(4))
@pytest.mark.parametrize("shared", [False, True], ids=["apart", "in one sum"])
def test_a_small_gradient_is_seen_next_to_many_large_outputs(method, seed, shared):
    rng = np.random.default_rng(seed)
    x, w = rng.normal(size=3000), rng.normal(size=20)

    def forward(x, w):
        large, small = np.abs(x), SMALL * np.sin(w)
        return large.sum() + small.sum() if shared else np.concatenate([large, small])

    def backward(dy, x, w):
        dx, dw = (dy, dy) if shared else (dy[: x.size], dy[x.size :])
        return dx * np.sign(x), sign * dw * SMALL * np.cos(w)

    for sign, verdict in ((1, "ok"), (-1, "wrong")):
        report = check(forward, backward, [x, w], seed=seed, method=method)
        assert (report.verdict, sign) == (verdict, sign)


@pytest.mark.parametrize("seed", [19, 20, 28, 49])
def test_a_small_part_that_the_complex_step_misses_is_no_wrong_gradient(seed):
    # Of complex numbers abs is the length, whose slope along the imaginary axis is 0.
    rng = np.random.default_rng(seed)
    x, w = rng.normal(size=600), rng.normal(size=60)

    def forward(x, w):
        return np.mean(x**2) + 1e-9 * np.mean(np.abs(w))

    def backward(dy, x, w):
        return dy * 2 * x / x.size, dy * 1e-9 * np.sign(w) / w.size

    assert check(forward, backward, [x, w], seed=seed).verdict == "ok"


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (
            {"inputs": np.ones(3)},
            r"inputs is of type ndarray, expected a list of all inputs: \[x\]",
        ),
        ({"inputs": None}, "inputs is of type NoneType, expected a list"),
        ({"method": "cental"}, "method is 'cental', expected 'auto', 'complex' or 'central'"),
        ({"samples": "some"}, "samples is 'some', expected an integer of at least 0 or 'all'"),
        ({"samples": -1}, "samples is -1, expected an integer of at least 0 or 'all'"),
        ({"samples": 2.5}, "samples is 2.5, expected an integer of at least 0 or 'all'"),
        ({"seed": -1}, "seed is -1, expected an integer of at least 0"),
        ({"seed": None}, "seed is None, expected an integer of at least 0"),
        ({"redraw": -1}, "redraw is -1, expected an integer of at least 0"),
    ],
)
def test_what_is_no_argument(arguments, message):
    settings = {"inputs": [np.ones(3)], **arguments}
    with pytest.raises(ValueError, match=f"^check: {message}"):
        check(np.sin, lambda dy, x: dy * np.cos(x), **settings)


@pytest.mark.parametrize("method", ["auto", "central"])
@pytest.mark.parametrize("power", [-200, -50, -12, 12, 20, 50, 155, 290])
def test_wrong_gradients_show_at_any_scale(power, method):
    s = 10.0**power

    def errors(forward, backward, x):
        return [
            check(forward, lambda dy, x, f=f: f * backward(dy, x), [x], method=method).verdict
            for f in (1, 2, -1, 1.01)
        ]

    expected = ["ok", "wrong", "wrong", "wrong"]
    assert errors(lambda x: x * s, lambda dy, x: dy * s, X) == expected
    assert errors(lambda x: np.sin(x / s), lambda dy, x: dy * np.cos(x / s) / s, X * s) == expected
    slope = lambda dy, x: s * dy * X * (1 - np.tanh(x * X) ** 2)  # noqa: E731
    assert errors(lambda x: np.tanh(x * X) * s, slope, X) == expected
