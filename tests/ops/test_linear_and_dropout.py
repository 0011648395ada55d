"""The fully connected map and dropout: literals worked out by hand and error messages."""

import re
from typing import Any

import numpy as np
import pytest

from tinyconv.errors import DtypeError, ShapeError
from tinyconv.ops import dropout, dropout_backward, linear, linear_backward


def test_linear_by_hand() -> None:
    x = np.array([[1.0, 2.0], [0.0, -1.0]])
    w = np.array([[1.0, 10.0], [2.0, 20.0], [3.0, 30.0]])
    y, saved = linear(x, w, np.array([100.0, 200.0, 300.0]))
    # 1 + 20 + 100, 2 + 40 + 200, 3 + 60 + 300; 0 - 10 + 100, 0 - 20 + 200, 0 - 30 + 300
    np.testing.assert_array_equal(y, [[121, 242, 363], [90, 180, 270]])

    dx, dw, db = linear_backward(np.array([[1.0, 0.0, -1.0], [0.0, 2.0, 0.0]]), saved)
    np.testing.assert_array_equal(dx, [[1 - 3, 10 - 30], [2 * 2, 2 * 20]])
    # dw[o] = dy[0, o] x[0] + dy[1, o] x[1]
    np.testing.assert_array_equal(dw, [[1, 2], [0, -2], [-1, -2]])
    np.testing.assert_array_equal(db, [1, 2, -1])


@pytest.mark.parametrize(
    ("x", "w", "b", "message"),
    [
        ((2, 3, 4), (5, 4), None, "x has shape (2, 3, 4), expected (N, I)"),
        ((2, 4), (5, 4, 1), None, "w has shape (5, 4, 1), expected (O, I)"),
        ((2, 4), (5, 3), None, "w has shape (5, 3), expected (O, 4) because x has 4 features"),
        ((2, 4), (5, 4), (4,), "b has shape (4,), expected (5,)"),
    ],
)
def test_linear_bad_shapes(x: Any, w: Any, b: Any, message: str) -> None:
    with pytest.raises(ShapeError, match="^" + re.escape("linear: " + message) + "$"):
        linear(np.zeros(x), np.zeros(w), None if b is None else np.zeros(b))


def test_dropout_by_hand() -> None:
    mask = np.array([[True, False], [False, True]])
    y, saved = dropout(np.array([[1.0, 2.0], [3.0, 4.0]]), mask, 0.75)
    np.testing.assert_array_equal(y, [[4, 0], [0, 16]])  # kept, times 1 / (1 - 0.75) = 4
    dx = dropout_backward(np.array([[5.0, 6.0], [7.0, -8.0]]), saved)
    np.testing.assert_array_equal(dx, [[20, 0], [0, -32]])


def test_dropout_of_nothing_is_the_identity() -> None:
    x = np.array([1.5, np.nan])
    np.testing.assert_array_equal(dropout(x, np.array([True, True]), 0.0)[0], x)


def test_what_dropout_drops_is_zero_even_if_it_was_nan() -> None:
    assert dropout(np.array([np.nan]), np.array([False]), 0.5)[0].item() == 0


@pytest.mark.parametrize("p", [1.0, -0.1, 2])
def test_dropout_bad_probability(p: float) -> None:
    message = f"dropout: p is {p}, expected 0 <= p < 1"
    with pytest.raises(ShapeError, match="^" + re.escape(message) + "$"):
        dropout(np.zeros(2), np.array([True, True]), p)


def test_dropout_bad_mask() -> None:
    with pytest.raises(ShapeError, match=r"^dropout: mask has shape \(3,\), expected \(2,\)$"):
        dropout(np.zeros(2), np.ones(3, dtype=bool), 0.5)
    with pytest.raises(DtypeError, match=r"^dropout: mask has dtype float64, expected bool$"):
        dropout(np.zeros(2), np.ones(2), 0.5)
