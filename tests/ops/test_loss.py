"""Losses of given outputs: literals worked out by hand, limits, weights, error messages."""

from typing import Any

import numpy as np
import pytest

from tinyconv import ops
from tinyconv.errors import ArgumentError, DtypeError, ShapeError
from tinyconv.ops import (
    binary_cross_entropy,
    binary_cross_entropy_backward,
    binary_cross_entropy_with_logits,
    binary_cross_entropy_with_logits_backward,
    cross_entropy,
    cross_entropy_backward,
    huber_loss,
    huber_loss_backward,
    l1_loss,
    l1_loss_backward,
    mse_loss,
    mse_loss_backward,
    multi_margin_loss,
    multi_margin_loss_backward,
)

TARGETS = np.array([[1.0, 0.0], [0.0, 0.5]])


def test_binary_cross_entropy_by_hand() -> None:
    x, t = np.array([[0.25, 0.5], [0.75, 0.5]]), np.array([[1.0, 0.0], [0.5, 1.0]])
    loss, saved = binary_cross_entropy(x, t)
    # log 4 + log 2, and (log 4/3 + log 4) / 2 + log 2
    expected = (2 + 1 + 2 + 1) * np.log(2) - np.log(3) / 2
    assert loss == pytest.approx(expected / 4, rel=1e-14)
    # (x - t) / (x (1 - x)) / (N K), times dy = 4
    dx = binary_cross_entropy_backward(4.0, saved)
    np.testing.assert_allclose(dx, [[-4, 2], [4 / 3, -2]], rtol=1e-14)


def test_cross_entropy_of_logits_by_hand() -> None:
    # The sigmoids are 3/4, 1/2 and 1/4, 1/2: the loss is a quarter of
    # -ln 3/4 - ln 1/2 - ln 3/4 - (ln 1/2 + ln 1/2) / 2.
    x = np.log([[3.0, 1.0], [1 / 3, 1.0]])
    loss, saved = binary_cross_entropy_with_logits(x, TARGETS)
    np.testing.assert_allclose(loss, (np.log(4 / 3) + np.log(2)) / 2, rtol=1e-15)
    dx = binary_cross_entropy_with_logits_backward(16.0, saved)  # (s - t) 16 / 4
    np.testing.assert_allclose(dx, [[-1, 2], [1, 0]], atol=1e-15)


def test_squares_by_hand() -> None:
    loss, saved = mse_loss(np.array([[3.0, 1.0], [0.0, 4.5]]), TARGETS)
    assert loss == (4 + 1 + 0 + 16) / 4
    np.testing.assert_array_equal(mse_loss_backward(6.0, saved), [[6, 3], [0, 12]])


def test_absolute_values_by_hand() -> None:
    loss, saved = l1_loss(np.array([[3.0, -1.0], [0.0, 4.5]]), TARGETS)
    assert loss == (2 + 1 + 0 + 4) / 4
    np.testing.assert_array_equal(l1_loss_backward(4.0, saved), [[1, -1], [0, 1]])


def test_huber_by_hand() -> None:
    # Differences of 2, -1, 0 and 4 with a bound of 2: 4/2, 1/2, 0 and 2 (4 - 1).
    loss, saved = huber_loss(np.array([[3.0, -1.0], [0.0, 4.5]]), TARGETS, delta=2.0)
    assert loss == (2 + 0.5 + 0 + 6) / 4
    np.testing.assert_array_equal(huber_loss_backward(4.0, saved), [[2, -1], [0, 2]])


def test_hinge_by_hand() -> None:
    # Sample 0: 1 + 2 - 2.5 = 0.5 and 1 + 1 - 2.5 < 0; sample 1: 1 + 3 - 1 = 3 and 1 + 0.5 - 1.
    x = np.array([[2.5, 2.0, 1.0], [3.0, 1.0, 0.5]])
    loss, saved = multi_margin_loss(x, np.array([0, 1]))
    assert loss == pytest.approx((0.5 + 3 + 0.5) / 6, rel=1e-15)
    dx = multi_margin_loss_backward(6.0, saved)
    np.testing.assert_allclose(dx, [[-1, 1, 0], [1, -2, 1]], rtol=1e-15)


def test_a_hinge_that_is_just_wide_enough_passes_nothing() -> None:
    loss, saved = multi_margin_loss(np.array([[1.0, 0.0]]), np.array([0]))
    assert loss == 0
    np.testing.assert_array_equal(multi_margin_loss_backward(1.0, saved), [[0, 0]])


def test_probabilities_as_targets_by_hand() -> None:
    x = np.log([[0.25, 0.75]])
    loss, saved = cross_entropy(x, np.array([[0.5, 0.5]]))
    assert loss == pytest.approx((np.log(4) + np.log(4 / 3)) / 2, rel=1e-14)
    np.testing.assert_allclose(cross_entropy_backward(1.0, saved), [[-0.25, 0.25]], rtol=1e-14)


def test_pixels_are_positions_of_their_own() -> None:
    rng = np.random.default_rng(0)
    x, labels = rng.normal(size=(2, 3, 4, 5)), rng.integers(0, 3, (2, 4, 5))
    loss, saved = cross_entropy(x, labels, ignore_index=1)
    flat, flat_saved = cross_entropy(
        x.transpose(0, 2, 3, 1).reshape(-1, 3), labels.ravel(), ignore_index=1
    )
    assert loss == pytest.approx(float(flat), rel=1e-14)
    np.testing.assert_allclose(
        cross_entropy_backward(1.0, saved).transpose(0, 2, 3, 1).reshape(-1, 3),
        cross_entropy_backward(1.0, flat_saved),
        rtol=1e-12,
    )


@pytest.mark.parametrize(
    ("op", "targets"),
    [
        ("cross_entropy", np.array([2, 0, 1])),
        ("cross_entropy", np.array([[0.5, 0.5, 0], [0, 0, 1], [0.2, 0.3, 0.5]])),
        ("multi_margin_loss", np.array([2, 0, 1])),
        *[
            (op, np.random.default_rng(3).random((3, 3)))
            for op in ("mse_loss", "l1_loss", "huber_loss", "binary_cross_entropy_with_logits")
        ],
    ],
)
def test_a_weight_is_how_often_a_sample_counts(op: str, targets: np.ndarray) -> None:
    x, often = np.random.default_rng(0).normal(size=(3, 3)), [2, 0, 3]
    weights = {"sample_weight": np.array(often, float)}
    loss, saved = getattr(ops, op)(x, targets, **weights)
    repeated, repeated_saved = getattr(ops, op)(x.repeat(often, 0), targets.repeat(often, 0))
    assert loss == pytest.approx(float(repeated), rel=1e-14)
    dx = getattr(ops, f"{op}_backward")(1.0, saved)
    each = getattr(ops, f"{op}_backward")(1.0, repeated_saved)
    np.testing.assert_allclose(dx[0], each[0] + each[1], rtol=1e-12)
    np.testing.assert_array_equal(dx[1], np.zeros(3))
    with pytest.raises(ArgumentError, match=f"^{op}: sample_weight holds -1.0, expected 0 or more"):
        getattr(ops, op)(x, targets, sample_weight=np.array([1.0, -1.0, 1.0]))
    with pytest.raises(ShapeError, match=rf"^{op}: sample_weight has shape \(2,\), expected \(3,"):
        getattr(ops, op)(x, targets, sample_weight=np.ones(2))
    with pytest.raises(
        DtypeError, match=f"^{op}: sample_weight has dtype float32, expected float64"
    ):
        getattr(ops, op)(x, targets, sample_weight=np.ones(3, "f"))
    assert getattr(ops, op)(x, targets, sample_weight=np.zeros(3))[0] == 0


def test_a_probability_of_0_or_1_costs_at_most_100() -> None:
    x, t = np.array([[0.0, 1.0, 0.0, 1.0]]), np.array([[1.0, 0.0, 0.0, 1.0]])
    loss, saved = binary_cross_entropy(x, t)
    assert loss == 50
    np.testing.assert_allclose(binary_cross_entropy_backward(4.0, saved), [[-1e12, 1e12, 0, 0]])


def test_cross_entropy_of_logits_equals_that_of_their_sigmoids() -> None:
    rng = np.random.default_rng(0)
    x, t = rng.normal(size=(4, 3)), rng.random((4, 3))
    of_logits, _ = binary_cross_entropy_with_logits(x, t)
    of_sigmoids, _ = binary_cross_entropy(1 / (1 + np.exp(-x)), t)
    assert of_logits == pytest.approx(float(of_sigmoids), rel=1e-12)


def test_large_logits_neither_overflow_nor_vanish() -> None:
    loss, saved = binary_cross_entropy_with_logits(np.array([[1e5, -1e5]]), np.array([[0.0, 1.0]]))
    assert loss == 1e5
    np.testing.assert_array_equal(
        binary_cross_entropy_with_logits_backward(2.0, saved), [[1.0, -1.0]]
    )


@pytest.mark.parametrize("op", [binary_cross_entropy_with_logits, mse_loss, l1_loss, huber_loss])
def test_targets_that_do_not_fit(op: Any) -> None:
    name, x = op.__name__, np.full((2, 3), 0.5)
    with pytest.raises(ShapeError, match=rf"^{name}: targets has shape \(2,\), expected \(2, 3\)$"):
        op(x, np.zeros(2))
    with pytest.raises(ShapeError, match=rf"^{name}: x has shape \(\), expected \(N, \.\.\.\)$"):
        op(x[0, 0, ...], x[0, 0, ...])
    message = f"^{name}: targets has dtype float32, expected float64 like x$"
    with pytest.raises(DtypeError, match=message):
        op(x, x.astype("float32"))


@pytest.mark.parametrize("bad", [-0.1, 1.1])
def test_what_is_no_probability(bad: float) -> None:
    message = "binary_cross_entropy: x has values outside 0 to 1, expected probabilities"
    with pytest.raises(ArgumentError, match=f"^{message}$"):
        binary_cross_entropy(np.array([[0.5, bad]]), np.zeros((1, 2)))


def test_bad_hinge() -> None:
    x = np.zeros((2, 3))
    with pytest.raises(ArgumentError, match=r"^multi_margin_loss: margin is 0, expected more than"):
        multi_margin_loss(x, np.array([0, 1]), margin=0)
    with pytest.raises(ArgumentError, match=r"^huber_loss: delta is 0, expected more than 0$"):
        huber_loss(x, x, delta=0)
    with pytest.raises(
        ArgumentError, match=r"^multi_margin_loss: labels run from 0 to 3, expected 0 to 2"
    ):
        multi_margin_loss(x, np.array([0, 3]))
    with pytest.raises(
        DtypeError, match=r"^multi_margin_loss: labels has dtype float64, expected integers$"
    ):
        multi_margin_loss(x, np.zeros(2))
    with pytest.raises(
        ShapeError, match=r"^multi_margin_loss: labels has shape \(3,\), expected \(2,\)$"
    ):
        multi_margin_loss(x, np.array([0, 1, 2]))


@pytest.mark.parametrize("op", ["l1_loss", "huber_loss"])
def test_an_infinite_output_is_infinitely_wrong(op: str) -> None:
    x = np.array([[np.inf, -np.inf, np.nan, 1.0]])
    for place, (loss, slope) in enumerate([(np.inf, 1), (np.inf, -1), (np.nan, np.nan), (0, 0)]):
        value, saved = getattr(ops, op)(x[:, place : place + 1], np.ones((1, 1)))
        np.testing.assert_equal(float(value), loss)
        np.testing.assert_equal(getattr(ops, f"{op}_backward")(1.0, saved).item(), slope)
