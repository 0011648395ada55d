"""Activations at points worked out by hand and at the ends of the number line."""

import math

import numpy as np
import pytest

from tinyconv import ops
from tinyconv.errors import ShapeError


def test_relu_by_hand() -> None:
    y, saved = ops.relu(np.array([-2.0, -0.0, 0.0, 3.0]))
    np.testing.assert_array_equal(y, [0, 0, 0, 3])
    np.testing.assert_array_equal(
        ops.relu_backward(np.array([5.0, 6.0, 7.0, 8.0]), saved), [0, 0, 0, 8]
    )


def test_sigmoid_by_hand() -> None:
    # sigmoid(log 3) = 1 / (1 + 1/3) = 3/4, and its slope is 3/4 * 1/4 = 3/16.
    y, saved = ops.sigmoid(np.log([3.0, 1 / 3, 1.0]))
    np.testing.assert_allclose(y, [3 / 4, 1 / 4, 1 / 2], rtol=1e-15)
    dx = ops.sigmoid_backward(np.array([16.0, -16.0, 4.0]), saved)
    np.testing.assert_allclose(dx, [3, -3, 1], rtol=1e-15)


def test_tanh_by_hand() -> None:
    # tanh(log 2) = (2 - 1/2) / (2 + 1/2) = 3/5, and its slope is 1 - 9/25 = 16/25.
    y, saved = ops.tanh(np.log([2.0, 0.5]))
    np.testing.assert_allclose(y, [3 / 5, -3 / 5], rtol=1e-15)
    dx = ops.tanh_backward(np.array([25.0, 50.0]), saved)
    np.testing.assert_allclose(dx, [16, 32], rtol=1e-15)


@pytest.mark.parametrize("dtype", [np.float32, np.float64])
def test_the_small_tail_of_sigmoid_and_silu_is_as_exact_as_the_rest(dtype: type) -> None:
    x = np.array([-80.0, -20.0, -10.0, -1.0, 3.0], dtype)
    exact = np.array([1.8048513878454153e-35, 2.061153618190204e-9, 4.5397868702434395e-5])
    y = ops.sigmoid(x)[0]
    assert y.dtype == dtype
    np.testing.assert_allclose(y[:3], exact, rtol=4 * np.finfo(dtype).eps)
    np.testing.assert_allclose(ops.silu(x)[0][:3], x[:3] * exact, rtol=4 * np.finfo(dtype).eps)


def test_squashing_overflows_nowhere() -> None:
    far = np.array([-np.inf, -1e308, 1e308, np.inf])
    np.testing.assert_array_equal(ops.sigmoid(far)[0], [0, 0, 1, 1])
    np.testing.assert_array_equal(ops.tanh(far)[0], [-1, -1, 1, 1])


def test_scaled_tanh_by_hand() -> None:
    # tanh(2/3 x) = 3/5 at x = 3/2 log 2; the slope is 1.7159 2/3 16/25.
    y, saved = ops.scaled_tanh(np.array([1.5 * math.log(2)]))
    np.testing.assert_allclose(y, [1.7159 * 3 / 5], rtol=1e-15)
    dx = ops.scaled_tanh_backward(np.array([3.0]), saved)
    np.testing.assert_allclose(dx, [3 * 1.7159 * 2 / 3 * 16 / 25], rtol=1e-14)


def test_leaky_relu_by_hand() -> None:
    y, saved = ops.leaky_relu(np.array([-2.0, 0.0, 3.0]), negative_slope=0.5)
    np.testing.assert_array_equal(y, [-1, 0, 3])
    dx = ops.leaky_relu_backward(np.array([4.0, 6.0, 8.0]), saved)
    np.testing.assert_array_equal(dx, [2, 3, 8])


def test_elu_by_hand() -> None:
    y, saved = ops.elu(np.array([-math.log(4), 0.0, 3.0]), alpha=2.0)
    np.testing.assert_allclose(y, [2 * (1 / 4 - 1), 0, 3], rtol=1e-15)
    dx = ops.elu_backward(np.array([6.0, 5.0, 7.0]), saved)
    np.testing.assert_allclose(dx, [6 * 2 / 4, 5 * 2, 7], rtol=1e-15)


def test_silu_by_hand() -> None:
    # sigmoid(log 3) = 3/4; the slope is 3/4 (1 + log(3) / 4).
    y, saved = ops.silu(np.log([3.0]))
    np.testing.assert_allclose(y, [0.75 * math.log(3)], rtol=1e-15)
    dx = ops.silu_backward(np.array([4.0]), saved)
    np.testing.assert_allclose(dx, [3 + 0.75 * math.log(3)], rtol=1e-15)


def test_softplus_by_hand() -> None:
    # log(1 + exp(2 x)) / 2 at x = log(3) / 2 is log(4) / 2; the slope there is 3/4.
    y, saved = ops.softplus(np.array([math.log(3) / 2]), beta=2.0)
    np.testing.assert_allclose(y, [math.log(4) / 2], rtol=1e-15)
    np.testing.assert_allclose(ops.softplus_backward(np.array([4.0]), saved), [3], rtol=1e-15)


@pytest.mark.parametrize("dtype", ["float32", "float64"])
def test_gelu_against_the_error_function_of_python(dtype: str) -> None:
    x = np.linspace(-9, 9, 1801, dtype=dtype)
    y, saved = ops.gelu(x)
    expected = [v * (1 + math.erf(v / math.sqrt(2))) / 2 for v in x.tolist()]
    np.testing.assert_allclose(y, expected, rtol=0, atol=50 * float(np.finfo(dtype).eps))
    density = np.exp(-(x.astype(float) ** 2) / 2) / math.sqrt(2 * math.pi)
    slope = [(1 + math.erf(v / math.sqrt(2))) / 2 for v in x.tolist()] + x * density
    dx = ops.gelu_backward(np.ones_like(x), saved)
    np.testing.assert_allclose(dx, slope, rtol=0, atol=50 * float(np.finfo(dtype).eps))


@pytest.mark.parametrize(("dtype", "least", "rtol"), [("f4", -12, 4e-7), ("f8", -37, 1e-12)])
def test_gelu_keeps_its_small_tail(dtype: str, least: float, rtol: float) -> None:
    x = np.linspace(least, 9, 901, dtype=dtype)
    expected = [v * math.erfc(-v / math.sqrt(2)) / 2 for v in x.tolist()]
    np.testing.assert_allclose(ops.gelu(x)[0], expected, rtol=rtol)
    small = ops.gelu(x.astype(complex))[0]
    np.testing.assert_allclose(small.real, expected, rtol=max(rtol, 1e-12))


def test_tanh_gelu_comes_near_the_exact_one() -> None:
    x = np.linspace(-5, 5, 101)
    np.testing.assert_allclose(ops.gelu(x, approximate="tanh")[0], ops.gelu(x)[0], atol=5e-4)


def test_nothing_overflows() -> None:
    far = np.array([-1e300, 1e300])
    np.testing.assert_array_equal(ops.leaky_relu(far, negative_slope=0.5)[0], [-5e299, 1e300])
    np.testing.assert_array_equal(ops.elu(far)[0], [-1, 1e300])
    np.testing.assert_array_equal(ops.silu(far)[0], [0, 1e300])
    np.testing.assert_array_equal(ops.softplus(far)[0], [0, 1e300])
    np.testing.assert_array_equal(ops.gelu(far)[0], [0, 1e300])


def test_bad_options() -> None:
    with pytest.raises(ShapeError, match=r"^gelu: approximate is 'x', expected 'none' or 'tanh'$"):
        ops.gelu(np.zeros(1), approximate="x")
    for beta in (0.0, -1.0, math.nan):
        message = f"^softplus: beta is {beta}, expected a number greater than 0$"
        with pytest.raises(ShapeError, match=message):
            ops.softplus(np.zeros(1), beta=beta)
