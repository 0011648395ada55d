"""Pooling: literals worked out by hand, ties, NaN, infinities, padding and error messages."""

import re
from collections.abc import Callable
from typing import Any

import numpy as np
import pytest

from tinyconv.errors import ShapeError
from tinyconv.ops import (
    avg_pool2d,
    avg_pool2d_backward,
    l2_pool2d,
    l2_pool2d_backward,
    max_pool2d,
    max_pool2d_backward,
)

#     1 5 2
# x = 4 5 0   seen through 2x2 windows at stride 1
#     7 3 6
X = np.array([[[[1.0, 5, 2], [4, 5, 0], [7, 3, 6]]]])


def plane(*rows: list[float]) -> np.ndarray:
    return np.array([[rows]], dtype=float)


def test_max_by_hand() -> None:
    y, saved = max_pool2d(X, 2, stride=1)
    np.testing.assert_array_equal(y, plane([5, 5], [7, 6]))
    # Both upper windows hold the 5 of flat index 1 and the 5 of flat index 4: the first counts.
    np.testing.assert_array_equal(saved.argmax, [[[[1, 1], [6, 8]]]])
    dx = max_pool2d_backward(plane([1, 2], [3, 4]), saved)
    np.testing.assert_array_equal(dx, plane([0, 1 + 2, 0], [0, 0, 0], [3, 0, 4]))


def test_max_of_ties_goes_to_the_first() -> None:
    _, saved = max_pool2d(np.zeros((1, 1, 4, 4)), 2)
    np.testing.assert_array_equal(saved.argmax, [[[[0, 2], [8, 10]]]])
    dx = max_pool2d_backward(plane([1, 2], [3, 4]), saved)
    np.testing.assert_array_equal(dx, plane([1, 0, 2, 0], [0, 0, 0, 0], [3, 0, 4, 0], [0, 0, 0, 0]))


def test_max_takes_the_first_nan() -> None:
    x = plane([9, np.nan], [np.nan, 8])
    y, saved = max_pool2d(x, 2)
    assert np.isnan(y.item())
    assert saved.argmax.item() == 1


def test_max_is_never_padding() -> None:
    # Every window but the middle one holds padding; with minus infinity everywhere it would win.
    x = np.full((1, 1, 2, 2), -np.inf)
    y, saved = max_pool2d(x, 2, stride=1, padding=1)
    np.testing.assert_array_equal(y, np.full((1, 1, 3, 3), -np.inf))
    np.testing.assert_array_equal(saved.argmax, [[[[0, 0, 1], [0, 0, 1], [2, 2, 3]]]])
    dx = max_pool2d_backward(plane([1, 2, 3], [4, 5, 6], [7, 8, 9]), saved)
    np.testing.assert_array_equal(dx, plane([1 + 2 + 4 + 5, 3 + 6], [7 + 8, 9]))


def test_max_of_single_elements_is_a_copy() -> None:
    y, _ = max_pool2d(X, 1)
    np.testing.assert_array_equal(y, X)
    assert not np.shares_memory(y, X)


def test_max_drops_what_no_window_reaches() -> None:
    y, saved = max_pool2d(X, 2)  # one window; the last row and column are left over
    np.testing.assert_array_equal(y, plane([5]))
    np.testing.assert_array_equal(
        max_pool2d_backward(plane([3]), saved), plane([0, 3, 0], [0, 0, 0], [0, 0, 0])
    )


def test_avg_by_hand() -> None:
    y, saved = avg_pool2d(X, 2, stride=1)
    # (1 + 5 + 4 + 5) / 4, (5 + 2 + 5 + 0) / 4, (4 + 5 + 7 + 3) / 4, (5 + 0 + 3 + 6) / 4
    np.testing.assert_array_equal(y, plane([3.75, 3], [4.75, 3.5]))
    # A quarter of dy, that is 1, 2, 3, 4, lands on each element of its window.
    dx = avg_pool2d_backward(plane([4, 8], [12, 16]), saved)
    np.testing.assert_array_equal(
        dx, plane([1, 1 + 2, 2], [1 + 3, 1 + 2 + 3 + 4, 2 + 4], [3, 3 + 4, 4])
    )


def test_avg_counts_the_padding() -> None:
    y, _ = avg_pool2d(plane([8]), 2, stride=1, padding=1)
    np.testing.assert_array_equal(y, plane([2, 2], [2, 2]))


def test_l2_by_hand() -> None:
    x = plane([3, 4], [0, -12])
    y, saved = l2_pool2d(x, 2)
    np.testing.assert_array_equal(y, plane([13]))  # 9 + 16 + 144 = 169
    dx = l2_pool2d_backward(plane([26]), saved)  # x times 26 / 13
    np.testing.assert_array_equal(dx, plane([6, 8], [0, -24]))


def test_l2_of_an_all_zero_window_has_no_gradient() -> None:
    x = plane([0, 0, 3, 4], [0, 0, 0, 0])
    y, saved = l2_pool2d(x, 2)
    np.testing.assert_array_equal(y, plane([0, 5]))
    dx = l2_pool2d_backward(plane([7, 10]), saved)
    np.testing.assert_array_equal(dx, plane([0, 0, 6, 8], [0, 0, 0, 0]))


@pytest.mark.parametrize("op", [max_pool2d, avg_pool2d, l2_pool2d])
@pytest.mark.parametrize(
    ("shape", "arguments", "message"),
    [
        ((3, 3), {"kernel_size": 2}, "x has shape (3, 3), expected (N, C, H, W)"),
        (
            (1, 1, 4, 4),
            {"kernel_size": 0},
            "kernel_size is 0, expected 2 integers of at least 1",
        ),
        (
            (1, 1, 4, 4),
            {"kernel_size": (2, 2, 2)},
            "kernel_size is (2, 2, 2), expected 2 integers of at least 1",
        ),
        (
            (1, 1, 4, 4),
            {"kernel_size": 2, "stride": (1, -1)},
            "stride is (1, -1), expected 2 integers of at least 1",
        ),
        (
            (1, 1, 4, 4),
            {"kernel_size": 2, "padding": -1},
            "padding is -1, expected 2 integers or (before, after) pairs of at least 0",
        ),
        (
            (1, 1, 4, 4),
            {"kernel_size": 2, "padding": 2},
            "padding is 2, expected at most half of kernel (2, 2)",
        ),
        (
            (1, 1, 4, 4),
            {"kernel_size": (2, 5)},
            "the window covers 5 elements of axis 1 (kernel 5, dilation 1), "
            "but the input has 4 (size 4, padding 0 + 0)",
        ),
    ],
)
def test_bad_shapes(
    op: Callable[..., Any], shape: tuple[int, ...], arguments: dict[str, Any], message: str
) -> None:
    with pytest.raises(ShapeError, match="^" + re.escape(f"{op.__name__}: {message}") + "$"):
        op(np.zeros(shape), **arguments)
