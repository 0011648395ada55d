"""Softmax and its loss: literals worked out by hand, large logits and error messages."""

import re

import numpy as np
import pytest

from tinyconv.errors import ArgumentError, DtypeError, ShapeError
from tinyconv.ops import (
    cross_entropy,
    cross_entropy_backward,
    softmax,
    softmax_backward,
)

# exp of the logits is 1, 2, 1 and 3, 3, 2, so the rows sum to 4 and 8.
LOGITS = np.log([[1.0, 2.0, 1.0], [3.0, 3.0, 2.0]])
PROBABILITIES = np.array([[1 / 4, 1 / 2, 1 / 4], [3 / 8, 3 / 8, 1 / 4]])


def test_softmax_by_hand() -> None:
    y, saved = softmax(LOGITS)
    np.testing.assert_allclose(y, PROBABILITIES, rtol=1e-15)
    # Row 0: sum_j dy y = 4/4 = 1, dx = y * (4 - 1, 0 - 1, 0 - 1).
    # Row 1: sum_j dy y = 8 * 2/8 = 2, dx = y * (0 - 2, 0 - 2, 8 - 2).
    dx = softmax_backward(np.array([[4.0, 0.0, 0.0], [0.0, 0.0, 8.0]]), saved)
    expected = [[3 / 4, -1 / 2, -1 / 4], [-3 / 4, -3 / 4, 6 / 4]]
    np.testing.assert_allclose(dx, expected, rtol=1e-14)


def test_loss_by_hand() -> None:
    loss, saved = cross_entropy(LOGITS, np.array([1, 2]))
    # -(log 1/2 + log 1/4) / 2 = log(8) / 2
    np.testing.assert_allclose(loss, np.log(8) / 2, rtol=1e-15)
    # (p - [k = label]) / N, times dy = 8
    dx = cross_entropy_backward(8.0, saved)
    np.testing.assert_allclose(dx, [[1, -2, 1], [1.5, 1.5, -3]], rtol=1e-14)


def test_large_logits_neither_overflow_nor_vanish() -> None:
    x = np.array([[1000.0, 0.0], [-1000.0, 0.0]])
    loss, saved = cross_entropy(x, np.array([1, 0]))
    assert loss == 1000
    dx = cross_entropy_backward(1.0, saved)
    np.testing.assert_array_equal(dx, [[0.5, -0.5], [-0.5, 0.5]])


@pytest.mark.parametrize("labels", [[0, 3], [-1, 0]])
def test_label_out_of_range(labels: list[int]) -> None:
    message = (
        f"cross_entropy: labels run from {min(labels)} to {max(labels)}, "
        "expected 0 to 2 because x has 3 classes"
    )
    with pytest.raises(ArgumentError, match=f"^{re.escape(message)}$"):
        cross_entropy(LOGITS, np.array(labels))


def test_bad_input() -> None:
    op = "cross_entropy"
    with pytest.raises(ShapeError, match=rf"^{op}: labels has shape \(3,\), expected \(2,\)$"):
        cross_entropy(LOGITS, np.array([0, 1, 2]))
    with pytest.raises(ShapeError, match=rf"^{op}: targets has shape \(2,\), expected \(2, 3\)$"):
        cross_entropy(LOGITS, np.array([0.0, 1.0]))
    with pytest.raises(ShapeError, match=rf"^{op}: x has shape \(3,\), expected \(N, K, "):
        cross_entropy(LOGITS[0], np.array([0]))
    with pytest.raises(ShapeError, match=r"^softmax: x has shape \(3,\), expected \(N, K, "):
        softmax(LOGITS[0])
    message = r"^softmax: x has shape \(2, 0\), expected at least one class$"
    with pytest.raises(ShapeError, match=message):
        softmax(np.zeros((2, 0)))


def test_class_weights_by_hand() -> None:
    weight = np.array([5.0, 1.0, 3.0])
    loss, saved = cross_entropy(LOGITS, np.array([1, 2]), weight)
    # (1 log 2 + 3 log 4) / (1 + 3)
    np.testing.assert_allclose(loss, 7 * np.log(2) / 4, rtol=1e-15)
    # (p - [k = label]) times the weight of the label over 4
    dx = cross_entropy_backward(4.0, saved)
    np.testing.assert_allclose(dx, [[1 / 4, -1 / 2, 1 / 4], [9 / 8, 9 / 8, -9 / 4]], rtol=1e-14)


def test_bytes_are_labels_of_more_classes_than_they_have_values() -> None:
    x = np.random.default_rng(0).normal(size=(2, 300))
    loss, _ = cross_entropy(x, np.array([1, 255], np.uint8))
    expected, _ = cross_entropy(x, np.array([1, 255]))
    assert loss == expected


def test_label_smoothing_by_hand() -> None:
    loss, saved = cross_entropy(LOGITS[:1], np.array([1]), label_smoothing=0.75)
    # A quarter and three twelfths, so t = 1/4, 1/2, 1/4, which is what the softmax says.
    np.testing.assert_allclose(loss, np.log(4) / 2 + np.log(2) / 2, rtol=1e-15)
    dx = cross_entropy_backward(1.0, saved)
    np.testing.assert_allclose(dx, np.zeros((1, 3)), atol=1e-16)


def test_an_ignored_label_does_not_count() -> None:
    labels = np.array([-100, 2])
    loss, saved = cross_entropy(LOGITS, labels, ignore_index=-100, label_smoothing=0.5)
    alone, saved_alone = cross_entropy(LOGITS[1:], labels[1:], label_smoothing=0.5)
    np.testing.assert_allclose(loss, alone, rtol=1e-15)
    dx = cross_entropy_backward(1.0, saved)
    np.testing.assert_array_equal(dx[0], np.zeros(3))
    np.testing.assert_allclose(dx[1:], cross_entropy_backward(1.0, saved_alone))


def test_what_does_not_count_has_no_gradient_whatever_its_logits() -> None:
    x = LOGITS.copy()
    x[1] = np.nan
    for options in ({"ignore_index": 1}, {"weight": np.array([1.0, 0.0, 1.0])}):
        loss, saved = cross_entropy(x, np.array([0, 1]), **options)
        assert np.isfinite(loss)
        dx = cross_entropy_backward(1.0, saved)
        assert dx[0].any()
        np.testing.assert_array_equal(dx[1], 0)


def test_no_loss_where_all_are_ignored() -> None:
    loss, saved = cross_entropy(LOGITS, np.array([1, 1]), ignore_index=1)
    assert loss == 0
    np.testing.assert_array_equal(cross_entropy_backward(1.0, saved), np.zeros((2, 3)))


def test_a_class_that_is_impossible_and_not_meant_costs_nothing() -> None:
    loss, _ = cross_entropy(np.array([[0.0, -np.inf]]), np.array([0]))
    assert loss == 0


def test_bad_options() -> None:
    op = "cross_entropy"
    labels = np.array([0, 1])
    for smoothing in (-0.1, 1.5):
        message = f"^{op}: label_smoothing is {smoothing}, expected 0 to 1$"
        with pytest.raises(ArgumentError, match=message):
            cross_entropy(LOGITS, labels, label_smoothing=smoothing)
    with pytest.raises(ShapeError, match=rf"^{op}: weight has shape \(2,\), expected \(3,\)$"):
        cross_entropy(LOGITS, labels, np.ones(2))
    with pytest.raises(DtypeError, match=f"^{op}: weight has dtype float32, expected float64 like"):
        cross_entropy(LOGITS, labels, np.ones(3, dtype="float32"))
    with pytest.raises(ArgumentError, match=f"^{op}: labels run from 0 to 3, expected 0 to 2"):
        cross_entropy(LOGITS, np.array([7, 3]), ignore_index=7)
