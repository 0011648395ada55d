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
    global_avg_pool,
    global_avg_pool_backward,
    global_max_pool,
    global_max_pool_backward,
    l2_pool2d,
    l2_pool2d_backward,
    lp_pool2d,
    lp_pool2d_backward,
    max_pool2d,
    max_pool2d_backward,
    max_unpool2d,
    max_unpool2d_backward,
    subsample2d,
    subsample2d_backward,
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


def test_max_of_dilated_windows() -> None:
    # The four corners, and their flat indices.
    y, saved = max_pool2d(X, 2, dilation=2)
    np.testing.assert_array_equal(y, plane([7]))
    np.testing.assert_array_equal(saved.argmax, [[[[6]]]])


def test_a_dilated_window_may_see_nothing_but_padding() -> None:
    y, saved = max_pool2d(plane([5]), 2, padding=1, dilation=2)
    np.testing.assert_array_equal(y, plane([-np.inf]))
    np.testing.assert_array_equal(saved.argmax, [[[[-1]]]])
    np.testing.assert_array_equal(max_pool2d_backward(plane([3]), saved), plane([0]))
    unpooled, saved = max_unpool2d(plane([3]), *saved)
    np.testing.assert_array_equal(unpooled, plane([0]))
    np.testing.assert_array_equal(max_unpool2d_backward(plane([7]), saved), plane([0]))


def test_ceil_mode_by_hand() -> None:
    y, saved = max_pool2d(X, 2, ceil_mode=True)
    np.testing.assert_array_equal(y, plane([5, 2], [7, 6]))
    np.testing.assert_array_equal(saved.argmax, [[[[1, 2], [6, 8]]]])
    y, _ = avg_pool2d(X, 2, ceil_mode=True)  # (2 + 0) / 2, (7 + 3) / 2, 6 / 1
    np.testing.assert_array_equal(y, plane([3.75, 1], [5, 6]))
    y, _ = l2_pool2d(plane([3, 4, -2]), (1, 2), ceil_mode=True)
    np.testing.assert_array_equal(y, plane([5, 2]))


def test_avg_without_counting_the_padding() -> None:
    # The windows see 8; 8 and 4; 4.
    y, saved = avg_pool2d(plane([8, 4]), (1, 2), stride=1, padding=(0, 1), count_include_pad=False)
    np.testing.assert_array_equal(y, plane([8, 6, 4]))
    dx = avg_pool2d_backward(plane([1, 20, 300]), saved)
    np.testing.assert_array_equal(dx, plane([1 + 10, 10 + 300]))


def test_avg_in_ceil_mode_counts_the_padding_but_nothing_beyond() -> None:
    # Padded 0 8 4 2 0; the windows see 0 8 4, 4 2 0; and 2 0 of 2 0 _ at stride 3 over 0 8 4 2 0.
    y, _ = avg_pool2d(plane([8, 4, 2]), (1, 3), stride=(1, 2), padding=(0, 1), ceil_mode=True)
    np.testing.assert_array_equal(y, plane([4, 2]))
    y, _ = avg_pool2d(plane([8, 4, 2]), (1, 3), stride=(1, 3), padding=(0, 1), ceil_mode=True)
    np.testing.assert_array_equal(y, plane([4, 1]))


def test_lp_by_hand() -> None:
    x = plane([-1, 2], [0, 2])
    y, saved = lp_pool2d(x, 1, 2)
    np.testing.assert_array_equal(y, plane([5]))
    np.testing.assert_array_equal(lp_pool2d_backward(plane([7]), saved), plane([-7, 7], [0, 7]))
    # |3|^3 + |-4|^3 + |5|^3 = 27 + 64 + 125 = 6^3; dx = sign(x) x^2 dy / 36
    y, saved = lp_pool2d(plane([3, -4], [5, 0]), 3, 2)
    np.testing.assert_allclose(y, plane([6]), rtol=1e-15)
    dx = lp_pool2d_backward(plane([36]), saved)
    np.testing.assert_allclose(dx, plane([9, -16], [25, 0]), rtol=1e-14)


@pytest.mark.parametrize("p", [1, 1.5, 2, 3])
def test_lp_of_an_all_zero_window_has_no_gradient(p: float) -> None:
    _, saved = lp_pool2d(np.zeros((1, 1, 2, 2)), p, 2)
    np.testing.assert_array_equal(lp_pool2d_backward(plane([7]), saved), np.zeros((1, 1, 2, 2)))


def test_lp_of_two_is_l2() -> None:
    x = np.random.default_rng(0).normal(size=(2, 3, 5, 6))
    y, saved = lp_pool2d(x, 2, 3, stride=2, padding=1, ceil_mode=True)
    y2, saved2 = l2_pool2d(x, 3, stride=2, padding=1, ceil_mode=True)
    np.testing.assert_array_equal(y, y2)
    np.testing.assert_array_equal(lp_pool2d_backward(y, saved), l2_pool2d_backward(y, saved2))


@pytest.mark.parametrize("p", [0.5, float("inf"), float("nan")])
def test_lp_bad_norm(p: float) -> None:
    message = f"lp_pool2d: norm_type is {p}, expected a number of at least 1"
    with pytest.raises(ShapeError, match=f"^{re.escape(message)}$"):
        lp_pool2d(X, p, 2)


def test_global_by_hand() -> None:
    x = np.array([[[[1.0, 7.0], [7.0, 5.0]], [[-4.0, -1.0], [-2.0, -1.0]]]])
    y, saved_max = global_max_pool(x)
    np.testing.assert_array_equal(y, [[[[7]], [[-1]]]])
    dy = np.array([[[[3.0]], [[4.0]]]])
    dx = global_max_pool_backward(dy, saved_max)  # ties go to the first
    np.testing.assert_array_equal(dx, [[[[0, 3], [0, 0]], [[0, 4], [0, 0]]]])
    y, shape = global_avg_pool(x)
    np.testing.assert_array_equal(y, [[[[5]], [[-2]]]])
    dx = global_avg_pool_backward(dy, shape)
    np.testing.assert_array_equal(dx, [[[[0.75] * 2] * 2, [[1] * 2] * 2]])


@pytest.mark.parametrize("op", [global_max_pool, global_avg_pool])
@pytest.mark.parametrize("shape", [(2, 3), (2, 3, 4, 0)])
def test_global_bad_shapes(op: Callable[..., Any], shape: tuple[int, ...]) -> None:
    message = f"{op.__name__}: x has shape {shape}, expected (N, C, *size) with no empty plane"
    with pytest.raises(ShapeError, match=f"^{re.escape(message)}$"):
        op(np.zeros(shape))


def test_subsample_by_hand() -> None:
    # The window of channel 0 adds up to 15, that of channel 1 to 4.
    x = np.array([[[[1.0, 5.0], [4.0, 5.0]], [[1.0, 1.0], [1.0, 1.0]]]])
    y, saved = subsample2d(x, np.array([2.0, -1.0]), np.array([0.5, 0.0]), 2)
    np.testing.assert_array_equal(y, [[[[30.5]], [[-4]]]])
    dx, dw, db = subsample2d_backward(np.array([[[[3.0]], [[10.0]]]]), saved)
    np.testing.assert_array_equal(dx, [[[[6] * 2] * 2, [[-10] * 2] * 2]])
    np.testing.assert_array_equal(dw, [45, 40])
    np.testing.assert_array_equal(db, [3, 10])


@pytest.mark.parametrize("which", ["w", "b"])
def test_subsample_bad_parameters(which: str) -> None:
    arguments = {"w": np.zeros(1), "b": np.zeros(1)} | {which: np.zeros(2)}
    message = rf"^subsample2d: {which} has shape \(2,\), expected \(1,\)$"
    with pytest.raises(ShapeError, match=message):
        subsample2d(X, kernel_size=2, **arguments)


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


def test_bad_padding_of_a_dilated_window() -> None:
    message = "max_pool2d: padding is 2, expected less than kernel (2, 2) with dilation (1, 3)"
    with pytest.raises(ShapeError, match=f"^{re.escape(message)}$"):
        max_pool2d(np.zeros((1, 1, 9, 9)), 2, padding=2, dilation=(1, 3))
    assert max_pool2d(np.zeros((1, 1, 9, 9)), 2, padding=(1, 2), dilation=(1, 3))


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
            "padding is 2, expected less than kernel (2, 2)",
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
