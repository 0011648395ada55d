"""Upsampling: literals worked out by hand, inverses, and error messages."""

import re
from collections.abc import Callable
from typing import Any

import numpy as np
import pytest

from tinyconv.errors import ShapeError
from tinyconv.geometry import sliding_window
from tinyconv.ops import (
    avg_pool2d,
    max_pool2d,
    max_pool2d_backward,
    max_unpool2d,
    max_unpool2d_backward,
    resize,
    resize_backward,
    upsample_bilinear2d,
    upsample_bilinear2d_backward,
    upsample_nearest2d,
    upsample_nearest2d_backward,
)

X = np.array([[[[0.0, 8.0], [4.0, 100.0]]]])


def test_nearest_by_hand() -> None:
    y, saved = upsample_nearest2d(X, (2, 3))  # columns floor(0, 2/3, 4/3) = 0, 0, 1
    np.testing.assert_array_equal(y, [[[[0, 0, 8], [4, 4, 100]]]])
    dx = upsample_nearest2d_backward(np.array([[[[1.0, 2, 3], [4, 5, 6]]]]), saved)
    np.testing.assert_array_equal(dx, [[[[1 + 2, 3], [4 + 5, 6]]]])


def test_nearest_shrinks_too_and_keeps_infinity() -> None:
    x = np.array([[[[np.inf, 1, 2, 3, np.nan]]]])
    np.testing.assert_array_equal(upsample_nearest2d(x, (1, 2))[0], [[[[np.inf, 2]]]])


def test_nearest_is_undone_by_average_pooling() -> None:
    y, _ = upsample_nearest2d(X, scale_factor=(2, 4))
    np.testing.assert_array_equal(avg_pool2d(y, (2, 4))[0], X)


def test_bilinear_by_hand() -> None:
    # Across at -1/4 -> 0, 1/4, 3/4, 5/4 -> 1; down the same.
    y, saved = upsample_bilinear2d(X[:, :, :1, :], (1, 4))
    np.testing.assert_array_equal(y, [[[[0, 2, 6, 8]]]])
    dx = upsample_bilinear2d_backward(np.array([[[[1.0, 4, 8, 100]]]]), saved)
    np.testing.assert_array_equal(dx, [[[[1 + 3 + 2, 1 + 6 + 100]]]])
    # Corners aligned: at 0, 1/2, 1, both ways; the middle is the mean of all four.
    y, saved = upsample_bilinear2d(X, 3, align_corners=True)
    np.testing.assert_array_equal(y, [[[[0, 4, 8], [2, 28, 54], [4, 52, 100]]]])
    dy = np.zeros((1, 1, 3, 3))
    dy[0, 0, 1, 1], dy[0, 0, 0, 1] = 4, 10
    np.testing.assert_array_equal(
        upsample_bilinear2d_backward(dy, saved), [[[[1 + 5, 1 + 5], [1, 1]]]]
    )


@pytest.mark.parametrize("align_corners", [False, True])
def test_bilinear_keeps_straight_lines(align_corners: bool) -> None:
    x = np.arange(5.0).reshape(1, 1, 1, 5)
    y, _ = upsample_bilinear2d(x, (1, 15), align_corners=align_corners)
    inner = y[0, 0, 0, 1:-1]  # without corners aligned the ends are flat
    np.testing.assert_allclose(np.diff(inner), 4 / 14 if align_corners else 1 / 3, rtol=1e-12)


@pytest.mark.parametrize("op", [upsample_nearest2d, upsample_bilinear2d])
@pytest.mark.parametrize(
    ("shape", "arguments", "message"),
    [
        ((2, 2), {"size": 4}, "x has shape (2, 2), expected (N, C, H, W)"),
        ((1, 1, 0, 2), {"size": 4}, "x has shape (1, 1, 0, 2), expected no empty plane"),
        ((1, 1, 2, 2), {}, "size is None and scale_factor is None, expected one of them"),
        (
            (1, 1, 2, 2),
            {"size": 4, "scale_factor": 2},
            "size is 4 and scale_factor is 2, expected one of them",
        ),
        ((1, 1, 2, 2), {"size": (4, 0)}, "size is (4, 0), expected 2 integers of at least 1"),
        (
            (1, 1, 2, 2),
            {"scale_factor": 1.5},
            "scale_factor is 1.5, expected 2 integers of at least 1",
        ),
    ],
)
def test_bad_upsampling(
    op: Callable[..., Any], shape: tuple[int, ...], arguments: dict[str, Any], message: str
) -> None:
    with pytest.raises(ShapeError, match="^" + re.escape(f"{op.__name__}: {message}") + "$"):
        op(np.zeros(shape), **arguments)


def test_unpooling_undoes_pooling_of_what_was_pooled() -> None:
    x = np.random.default_rng(0).normal(size=(2, 3, 5, 6))
    y, saved = max_pool2d(x, 2)
    back, saved_back = max_unpool2d(y, *saved)
    # What no window saw, row 4 here, and what was no maximum, is zero; the rest is as it was.
    np.testing.assert_array_equal(back[back != 0], x[back != 0])
    assert np.count_nonzero(back) == y.size
    np.testing.assert_array_equal(back, max_pool2d_backward(y, saved))
    np.testing.assert_array_equal(max_unpool2d_backward(x, saved_back), y)


def test_unpooling_to_a_shared_place_adds_up() -> None:
    x = np.array([[[[0.0, 9.0, 0.0]]]])
    _, saved = max_pool2d(x, (1, 2), stride=1)
    back, _ = max_unpool2d(np.array([[[[3.0, 4.0]]]]), *saved)
    np.testing.assert_array_equal(back, [[[[0, 7, 0]]]])


def test_bad_unpooling() -> None:
    geometry = sliding_window("test", (4, 4), (2, 2), 2)
    index = np.zeros((1, 1, 2, 2), dtype=np.int64)
    for x, argmax, message in [
        (np.zeros((2, 2)), index, "x has shape (2, 2), expected (N, C, OH, OW)"),
        (np.zeros((1, 1, 2, 3)), index, "x has shape (1, 1, 2, 3), expected (1, 1, 2, 2)"),
        (np.zeros((1, 2, 2, 2)), index, "argmax has shape (1, 1, 2, 2), expected (1, 2, 2, 2)"),
    ]:
        with pytest.raises(ShapeError, match="^" + re.escape(f"max_unpool2d: {message}") + "$"):
            max_unpool2d(x, argmax, geometry)


def test_cubic_by_hand() -> None:
    """Between four elements the kernel with slope -1/2 is Catmull and Rom's: -1, 9, 9, -1 of 16."""
    x = np.array([[[1.0, 2.0, 4.0, 8.0]]])
    y, _ = resize(x, 7, mode="cubic", coordinates="align_corners", cubic_coeff=-0.5)
    np.testing.assert_allclose(y[0, 0, 3], (-1 + 9 * 2 + 9 * 4 - 8) / 16)
    np.testing.assert_allclose(y[0, 0, ::2], x[0, 0])


def test_a_smoothed_half_is_the_mean_of_neighbours_by_their_distance() -> None:
    x = np.array([[[0.0, 0.0, 8.0, 0.0, 0.0, 0.0]]])
    y, _ = resize(x, 3, antialias=True)  # at 1/2, 5/2, 9/2 with weights 1, 3, 3, 1 of 8
    np.testing.assert_allclose(y, [[[1, 3, 0]]])


def test_a_region_and_what_lies_outside() -> None:
    x = np.array([[[0.0, 10.0, 20.0]]])
    y, saved = resize(x, 3, region=((0.5, 1.5),), value=-1.0)  # at 1, 2, 3 of 0 to 2
    np.testing.assert_allclose(y, [[[10, 20, -1]]])
    np.testing.assert_allclose(resize_backward(np.array([[[1.0, 2.0, 4.0]]]), saved), [[[0, 1, 2]]])
    everything_outside, _ = resize(x, 2, region=((2.0, 3.0),), value=5.0)
    np.testing.assert_array_equal(everything_outside, [[[5, 5]]])


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"mode": "area"}, "mode is 'area', expected nearest, linear, cubic"),
        ({"coordinates": "pixel"}, "coordinates is 'pixel', expected half_pixel, "),
        ({"rounding": "up"}, "rounding is 'up', expected round_prefer_floor, "),
        ({"scales": (2.0, 2.0)}, "scales are (2.0, 2.0) and region is None, expected one for each"),
    ],
)
def test_what_resize_refuses(options: dict[str, Any], message: str) -> None:
    with pytest.raises(ValueError, match=f"^resize: {re.escape(message)}"):
        resize(np.zeros((1, 1, 3)), 6, **options)
    with pytest.raises(ShapeError, match=re.escape("x has shape (1, 3), expected (N, C, *axes)")):
        resize(np.zeros((1, 3)), 6)
