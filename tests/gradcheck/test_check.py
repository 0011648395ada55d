"""The checker on functions of a few numbers, whose derivatives are known."""

import json
import subprocess
import sys

import array_api_strict
import numpy as np
import pytest

from tinyconv.errors import DeviceError
from tinyconv.gradcheck import Report, check, draw_dy

rng = np.random.default_rng(0)
X = rng.normal(size=(3, 4))
W = rng.normal(size=(4, 4))


def square(x):
    return x * x


def square_backward(dy, x):
    return 2 * x * dy


def product(x, w):
    return x @ w


def product_backward(dy, x, w):
    return dy @ w.T, x.T @ dy


@pytest.mark.parametrize("method", ["auto", "complex", "central"])
@pytest.mark.parametrize("samples", [0, 3, "all"])
def test_a_right_gradient_is_ok(method, samples):
    report = check(product, product_backward, [X, W], method=method, samples=samples)
    assert (report.verdict, report.ok, report.failed, report.hint) == ("ok", True, False, "")
    counts = {0: [0, 0], 3: [3, 3], "all": [12, 16]}[samples]
    assert [row.checked for row in report.tensors] == counts


def test_the_complex_step_agrees_to_twelve_digits_and_differences_to_their_bars():
    exact = check(square, square_backward, [X], samples="all").tensors[0]
    assert exact.relative_error < 1e-12
    rough = check(square, square_backward, [X], samples="all", method="central").tensors[0]
    assert 0 < rough.absolute_error <= rough.bar < 1e-7


def test_the_report_names_the_worst_element():
    def backward(dy, x):
        dx = square_backward(dy, x)
        dx[1, 2] += 1e-3
        return dx

    report = check(square, backward, [X], names=["x"], seed=7)
    (row,) = report.tensors
    assert (row.name, row.shape, row.verdict, row.wrong, row.checked) == (
        "x",
        (3, 4),
        "wrong",
        1,
        12,
    )
    assert row.index == (1, 2)
    assert row.absolute_error == pytest.approx(1e-3)
    dy = draw_dy((3, 4), seed=7)
    assert row.numeric == pytest.approx(2 * X[1, 2] * dy[1, 2])
    assert row.analytic == pytest.approx(row.numeric + 1e-3)
    assert "(1, 2)" in str(report)
    assert f"{row.numeric:.10g}" in str(report)


def test_one_wrong_element_of_a_large_tensor_is_found_by_bisection():
    x = rng.normal(size=(300, 300))

    def backward(dy, x):
        dx = 2 * x * dy
        dx[123, 45] *= 1.01
        return dx

    report = check(square, backward, [x])
    assert report.verdict == "wrong"
    assert report.tensors[0].index == (123, 45)
    assert report.evaluations < 200


def test_the_snippet_shows_the_failure_again(capsys):
    report = check(product, lambda dy, x, w: (dy @ w, x.T @ dy), [X, W], seed=5)
    assert report.verdict == "wrong"
    exec(report.reproduce, {"forward": product, "backward": lambda dy, x, w: (dy @ w, x.T @ dy),
                            "inputs": [X, W]})  # fmt: skip
    assert capsys.readouterr().out == f"{report}\n"


def test_the_same_seed_gives_the_same_report():
    reports = [check(square, square_backward, [X], seed=s).to_json() for s in (1, 1, 2)]
    assert reports[0] == reports[1] != reports[2]


def test_json_holds_everything_and_no_nan():
    report = check(lambda x: abs(x), lambda dy, x: dy * np.sign(x), [np.zeros(3)])
    content = json.loads(report.to_json())
    assert content["verdict"] == "kink"
    assert content["ok"] is content["failed"] is False
    assert content["tensors"][0]["kinks"] == 3
    assert content["tensors"][0]["numeric"] is None


# -- kinks --------------------------------------------------------------------------------------


def relu(x):
    return np.where(np.real(x) > 0, x, 0 * x)


def relu_backward(dy, x):
    return np.where(x > 0, dy, 0)


@pytest.mark.parametrize("method", ["auto", "central"])
def test_a_relu_at_zero_is_a_kink_and_the_rest_is_checked(method):
    x = np.array([1.0, 0.0, -2.0, 3.0, 1e-15])
    report = check(relu, relu_backward, [x], method=method)
    assert report.verdict == "kink"
    (row,) = report.tensors
    assert (row.checked, row.kinks, row.wrong, row.kink_index) == (5, 2, 0, (1,))
    dy = draw_dy((5,))[1]
    assert sorted([row.left, row.right]) == pytest.approx(sorted([0, dy]))


@pytest.mark.parametrize("method", ["auto", "central"])
def test_a_kink_does_not_hide_a_wrong_gradient(method):
    x = np.array([1.0, 0.0, -2.0, 3.0])
    report = check(relu, lambda dy, x: np.where(x > 2, dy, 0), [x], method=method)
    assert report.verdict == "wrong"
    assert report.tensors[0].index == (0,)
    assert report.tensors[0].kinks == 1


@pytest.mark.parametrize("distance", [1e-4, 1e-5, 1e-6, 1e-7])
@pytest.mark.parametrize("method", ["auto", "central"])
def test_a_kink_at_some_distance_is_none(distance, method):
    x = np.array([1.0, distance, -distance, 3.0])
    report = check(relu, relu_backward, [x], method=method, samples="all")
    assert report.verdict == "ok", str(report)


def test_kinks_are_redrawn():
    x = np.array([[0.0, 0.0, 1.0], [2.0, 0.0, -1.0]])
    report = check(relu, relu_backward, [x], redraw=2)
    assert report.verdict == "ok"
    assert report.redrawn == 1
    assert "moved off kinks 1 times" in str(report)


def test_the_tip_of_a_cone_is_a_kink():
    def norm(x):
        return np.sqrt((x * x).sum())

    def norm_backward(dy, x):
        y = norm(x)
        return dy * x / y if y else 0 * x

    assert check(norm, norm_backward, [np.zeros(4)]).verdict == "kink"
    assert check(norm, norm_backward, [X]).verdict == "ok"


def corner(x):
    """max(min(x[0], x[1]), 0): at 0 it is flat along both axes, but not along the diagonal."""
    smaller = x[0] if x[0].real <= x[1].real else x[1]
    return smaller if smaller.real >= 0 else 0 * smaller


def corner_backward(dy, x):
    dx = np.zeros_like(x)
    if x.min() >= 0:
        dx[np.argmin(x)] = dy  # the tie goes to x[0], as it may
    return dx


@pytest.mark.parametrize("method", ["auto", "central"])
@pytest.mark.parametrize("seed", range(12))
def test_a_kink_may_show_along_no_single_element(method, seed):
    report = check(corner, corner_backward, [np.zeros(2)], method=method, seed=seed)
    assert report.verdict == "kink", str(report)


@pytest.mark.parametrize("method", ["auto", "central"])
def test_what_is_wrong_next_to_such_a_kink_is_wrong(method):
    def backward(dy, x):
        return 2 * corner_backward(dy, x)

    report = check(corner, backward, [np.zeros(2)], method=method)
    assert report.verdict == "wrong"
    assert report.tensors[0].index == (0,)


def test_without_a_kink_one_wrong_point_is_wrong():
    report = check(square, lambda dy, x: 2 * x * dy + (x == 0), [np.zeros(2)])
    assert report.verdict == "wrong"


def test_the_edge_of_the_domain_is_a_kink():
    report = check(np.sqrt, lambda dy, x: dy * 0.5 / np.sqrt(np.where(x > 0, x, 1)), [np.zeros(2)])
    assert report.verdict == "kink"


def test_strong_curvature_is_no_kink():
    def wave(x):
        return np.sin(300 * x)

    def wave_backward(dy, x):
        return 300 * dy * np.cos(300 * x)

    for method in ("auto", "central"):
        report = check(wave, wave_backward, [X], method=method, samples="all")
        assert report.verdict == "ok", str(report)


# -- methods and precisions -----------------------------------------------------------------


def test_a_function_that_is_not_analytic_is_checked_by_differences():
    # abs of a complex number is real, and conj is not analytic: both would deceive the step.
    for forward, backward in [
        (np.abs, lambda dy, x: dy * np.sign(x)),
        (lambda x: np.conj(x) * x * x, lambda dy, x: 3 * x * x * dy),
    ]:
        report = check(forward, backward, [X])
        assert (report.verdict, report.method) == ("ok", "central differences")


def test_the_complex_method_refuses_what_takes_no_complex_numbers():
    with pytest.raises(ValueError, match="forward takes no complex numbers"):
        check(np.abs, lambda dy, x: dy * np.sign(x), [X], method="complex")


def test_float32_inputs_are_checked_in_float64():
    x, w = X.astype(np.float32), W.astype(np.float32)
    report = check(product, product_backward, [x, w], samples="all")
    assert report.verdict == "ok"
    assert max(row.relative_error for row in report.tensors) < 1e-12


def test_a_float32_gradient_that_loses_its_digits():
    def backward(dy, x):
        one = x.dtype.type(1e6)
        return dy * ((2 * x + one) - one)

    report = check(square, backward, [X.astype(np.float32)])
    assert report.verdict == "precision"
    assert "right in float64, but float32 loses its digits" in report.hint


def test_a_function_of_float32_alone_is_judged_within_its_precision():
    def single(x):
        return np.sin(x.astype(np.float32))

    def backward(dy, x):
        return (dy * np.cos(x)).astype(np.float32)

    x = X.astype(np.float32)
    assert check(single, backward, [x], samples="all").verdict == "ok"
    assert check(single, lambda dy, x: -backward(dy, x), [x]).hint.endswith("the sign is flipped")


def test_a_function_that_rounds_float64_inputs_to_float32():
    def single(x):
        return np.sin(x.astype(np.complex64 if x.dtype.kind == "c" else np.float32))

    for method in ("auto", "central"):
        good = check(single, lambda dy, x: dy * np.cos(x), [X], method=method, samples="all")
        assert good.verdict == "ok", str(good)
        bad = check(single, lambda dy, x: -dy * np.cos(x), [X], method=method)
        assert bad.hint.endswith("the sign is flipped")


def test_a_numeric_derivative_that_says_nothing_is_no_pass():
    def noisy(x):
        return np.floor(x * 1e6) / 1e6 + 0 * x

    report = check(noisy, lambda dy, x: 1e-6 * dy, [X + 10])
    assert report.failed or report.verdict == "kink"


def test_a_float32_cast_inside_is_a_matter_of_precision():
    def backward(dy, x):
        return (2 * x * dy).astype(np.float32).astype(np.float64)

    report = check(square, backward, [X])
    assert report.verdict == "precision"
    assert "float32" in report.hint


def test_a_saturated_function_is_ok():
    def loss(x):
        shifted = x - x.real.max()
        return np.log(np.exp(shifted).sum()) - shifted[0]

    def loss_backward(dy, x):
        p = np.exp(x - x.max())
        p /= p.sum()
        return dy * (p - np.eye(len(x))[0])

    for scale in (1, 10, 30, 100, 1e4):
        for method in ("auto", "central"):
            x = np.array([3.0, 1.0, -2.0, 0.5]) * scale
            assert check(loss, loss_backward, [x], method=method).verdict == "ok"


# -- misbehaviour ---------------------------------------------------------------------------


def test_forward_draws_random_numbers():
    random = np.random.default_rng(0)
    report = check(lambda x: x * random.random(x.shape), lambda dy, x: dy, [X])
    assert report.verdict == "nondeterministic"
    assert report.message.startswith("forward differs between two calls")
    assert "random numbers" in report.hint


def test_forward_is_not_finite():
    report = check(np.log, lambda dy, x: dy / x, [np.array([1.0, 0.0])])
    assert report.verdict == "nonfinite"
    assert report.message == "forward returned -inf at (1,)"


def test_forward_returns_integers():
    report = check(lambda x: np.ones(3, dtype=int), lambda dy, x: x, [X])
    assert (report.verdict, "int64" in report.message) == ("shape", True)


def test_backward_returns_nothing():
    report = check(square, lambda dy, x: None, [X])
    assert report.verdict == "shape"
    assert "no gradient of a floating-point input" in report.message


def test_backward_returns_integers():
    report = check(square, lambda dy, x: np.ones((3, 4), int), [X])
    assert "expected floats" in report.message


def test_none_means_not_checked_and_integers_are_constants():
    labels = np.array([0, 2, 1])

    def pick(x, labels, w):
        return x[np.arange(3), labels] * w.sum()

    def pick_backward(dy, x, labels, w):
        dx = np.zeros_like(x)
        dx[np.arange(3), labels] = dy * w.sum()
        return dx, None, None

    report = check(pick, pick_backward, [X, labels, W], samples="all")
    assert report.ok
    assert [row.name for row in report.tensors] == ["inputs[0]"]


def test_gradients_of_the_floating_point_inputs_alone_are_understood():
    report = check(lambda x, k: x[k], lambda dy, x, k: np.eye(3)[k] * dy, [X[0, :3], np.array(1)])
    assert report.ok, str(report)


def test_a_layer_that_keeps_its_input_may_be_checked():
    class Square:
        def forward(self, x):
            self.x = x
            return x * x

        def backward(self, dy):
            return 2 * self.x * dy

    layer = Square()
    assert check(layer.forward, lambda dy, x: layer.backward(dy), [X]).ok
    report = check(layer.forward, lambda dy, x: -layer.backward(dy), [X])
    assert "the sign is flipped" in report.hint


def test_exceptions_of_the_functions_pass_through():
    def backward(dy, x):
        raise KeyError("mine")

    with pytest.raises(KeyError, match="mine"):
        check(square, backward, [X])


def test_inputs_must_be_of_one_library_and_names_must_match():
    mixed = [X, array_api_strict.asarray(W)]
    with pytest.raises(DeviceError, match="arrays of one library expected"):
        check(product, product_backward, mixed)
    with pytest.raises(ValueError, match="2 names for 1 inputs"):
        check(square, square_backward, [X], names=["x", "w"])


def test_another_array_library_sees_only_its_own_arrays():
    xp = array_api_strict
    seen = set()

    def forward(x, w):
        seen.update([type(x), type(w)])
        return x @ w

    def backward(dy, x, w):
        seen.update([type(dy)])
        return dy @ w.T, x.T @ dy

    report = check(forward, backward, [xp.asarray(X), xp.asarray(W)])
    assert report.ok
    assert report.method == "complex step"
    assert seen == {type(xp.asarray(X))}


def test_a_scalar_function_and_scalar_input():
    assert check(lambda x: float(x) ** 2, lambda dy, x: 2 * x * dy, [np.array(3.0)]).ok
    assert check(lambda x: x.sum(), lambda dy, x: np.full_like(x, dy), [X]).ok


def test_an_empty_tensor_is_ok():
    assert check(square, square_backward, [np.zeros((0, 3)), ][:1]).ok  # fmt: skip


def test_the_checker_imports_nothing_above_the_bottom_floor():
    code = (
        "import sys, tinyconv.gradcheck as g\n"
        "print([m for m in sys.modules if m.startswith(('scipy', 'matplotlib', 'numba', 'torch'))])"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "[]"


def test_verdicts_of_the_report():
    assert not Report("kink").ok
    assert not Report("kink").failed
    assert Report("precision").failed
    assert str(Report("ok")) == "ok"
    assert Report("wrong", "a < b")._repr_html_() == "<pre>wrong: a &lt; b</pre>"
