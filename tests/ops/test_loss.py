"""Losses of given outputs: literals worked out by hand, limits, error messages."""

from typing import Any

import numpy as np
import pytest

from tinyconv.errors import DtypeError, ShapeError
from tinyconv.ops import (
    binary_cross_entropy,
    binary_cross_entropy_backward,
    hinge,
    hinge_backward,
    quadratic,
    quadratic_backward,
    sigmoid_cross_entropy,
    sigmoid_cross_entropy_backward,
)

TARGETS = np.array([[1.0, 0.0], [0.0, 0.5]])


def test_binary_cross_entropy_by_hand() -> None:
    x, t = np.array([[0.25, 0.5], [0.75, 0.5]]), np.array([[1.0, 0.0], [0.5, 1.0]])
    loss, saved = binary_cross_entropy(x, t)
    # log 4 + log 2, and (log 4/3 + log 4) / 2 + log 2
    expected = (2 + 1 + 2 + 1) * np.log(2) - np.log(3) / 2
    assert loss == pytest.approx(expected / 2, rel=1e-14)
    # (x - t) / (x (1 - x)) / N, times dy = 2
    dx = binary_cross_entropy_backward(2.0, saved)
    np.testing.assert_allclose(dx, [[-4, 2], [4 / 3, -2]], rtol=1e-14)


def test_sigmoid_cross_entropy_by_hand() -> None:
    # The sigmoids are 3/4, 1/2 and 1/4, 1/2: the loss is half of
    # -ln 3/4 - ln 1/2 - ln 3/4 - (ln 1/2 + ln 1/2) / 2.
    x = np.log([[3.0, 1.0], [1 / 3, 1.0]])
    loss, saved = sigmoid_cross_entropy(x, TARGETS)
    np.testing.assert_allclose(loss, np.log(4 / 3) + np.log(2), rtol=1e-15)
    dx = sigmoid_cross_entropy_backward(8.0, saved)  # (s - t) 8 / 2
    np.testing.assert_allclose(dx, [[-1, 2], [1, 0]], atol=1e-15)


def test_quadratic_by_hand() -> None:
    loss, saved = quadratic(np.array([[3.0, 1.0], [0.0, 4.5]]), TARGETS)
    assert loss == (4 + 1 + 0 + 16) / 4
    np.testing.assert_array_equal(quadratic_backward(6.0, saved), [[6, 3], [0, 12]])


def test_hinge_by_hand() -> None:
    # Sample 0: 1 + 2 - 2.5 = 0.5 and 1 + 1 - 2.5 < 0; sample 1: 1 + 3 - 1 = 3 and 1 + 0.5 - 1.
    x = np.array([[2.5, 2.0, 1.0], [3.0, 1.0, 0.5]])
    loss, saved = hinge(x, np.array([0, 1]))
    assert loss == (0.5 + 3 + 0.5) / 2
    np.testing.assert_array_equal(hinge_backward(2.0, saved), [[-1, 1, 0], [1, -2, 1]])


def test_a_hinge_that_is_just_wide_enough_passes_nothing() -> None:
    loss, saved = hinge(np.array([[1.0, 0.0]]), np.array([0]))
    assert loss == 0
    np.testing.assert_array_equal(hinge_backward(1.0, saved), [[0, 0]])


def test_a_probability_of_0_or_1_costs_at_most_100() -> None:
    x, t = np.array([[0.0, 1.0, 0.0, 1.0]]), np.array([[1.0, 0.0, 0.0, 1.0]])
    loss, saved = binary_cross_entropy(x, t)
    assert loss == 200
    np.testing.assert_allclose(binary_cross_entropy_backward(1.0, saved), [[-1e12, 1e12, 0, 0]])


def test_sigmoid_cross_entropy_equals_that_of_its_sigmoids() -> None:
    rng = np.random.default_rng(0)
    x, t = rng.normal(size=(4, 3)), rng.random((4, 3))
    of_logits, _ = sigmoid_cross_entropy(x, t)
    of_sigmoids, _ = binary_cross_entropy(1 / (1 + np.exp(-x)), t)
    assert of_logits == pytest.approx(float(of_sigmoids), rel=1e-12)


def test_large_logits_neither_overflow_nor_vanish() -> None:
    loss, saved = sigmoid_cross_entropy(np.array([[1e5, -1e5]]), np.array([[0.0, 1.0]]))
    assert loss == 2e5
    np.testing.assert_array_equal(sigmoid_cross_entropy_backward(1.0, saved), [[1.0, -1.0]])


@pytest.mark.parametrize("op", [sigmoid_cross_entropy, binary_cross_entropy, quadratic])
def test_targets_that_do_not_fit(op: Any) -> None:
    name, x = op.__name__, np.full((2, 3), 0.5)
    with pytest.raises(ShapeError, match=rf"^{name}: targets has shape \(2,\), expected \(2, 3\)$"):
        op(x, np.zeros(2))
    with pytest.raises(ShapeError, match=rf"^{name}: x has shape \(3,\), expected \(N, K\)$"):
        op(x[0], x[0])
    message = f"^{name}: targets has dtype float32, expected float64 like x$"
    with pytest.raises(DtypeError, match=message):
        op(x, x.astype("float32"))


@pytest.mark.parametrize("bad", [-0.1, 1.1])
def test_what_is_no_probability(bad: float) -> None:
    message = "binary_cross_entropy: x has values outside 0 to 1, expected probabilities"
    with pytest.raises(ShapeError, match=f"^{message}$"):
        binary_cross_entropy(np.array([[0.5, bad]]), np.zeros((1, 2)))


def test_bad_hinge() -> None:
    x = np.zeros((2, 3))
    with pytest.raises(ShapeError, match=r"^hinge: margin is 0, expected more than 0$"):
        hinge(x, np.array([0, 1]), 0)
    with pytest.raises(ShapeError, match=r"^hinge: labels run from 0 to 3, expected 0 to 2"):
        hinge(x, np.array([0, 3]))
    with pytest.raises(DtypeError, match=r"^hinge: labels has dtype float64, expected integers$"):
        hinge(x, np.zeros(2))
    with pytest.raises(ShapeError, match=r"^hinge: labels has shape \(3,\), expected \(2,\)$"):
        hinge(x, np.array([0, 1, 2]))
