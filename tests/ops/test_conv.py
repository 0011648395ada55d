"""Convolution: literals worked out by hand, the adjoint, and its error messages."""

import re
from collections.abc import Callable
from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from tinyconv.errors import DtypeError, ShapeError
from tinyconv.geometry import sliding_window
from tinyconv.ops import (
    col2im,
    conv1d,
    conv2d,
    conv2d_backward,
    conv2d_direct,
    conv2d_direct_backward,
    conv3d,
    im2col,
)

from .helpers import DRAWN, to_strict, windows

# Shared by the tests below:
#     0 1 2        1 2
# x = 3 4 5    w = 3 4    b = 1
#     6 7 8
X = np.arange(9.0).reshape(1, 1, 3, 3)
W = np.array([[[[1.0, 2.0], [3.0, 4.0]]]])
B = np.array([1.0])


def test_forward_by_hand() -> None:
    y, _ = conv2d(X, W, B)
    # y[0, 0] = 1*0 + 2*1 + 3*3 + 4*4 + 1 = 28, y[0, 1] = 1*1 + 2*2 + 3*4 + 4*5 + 1 = 38
    # y[1, 0] = 1*3 + 2*4 + 3*6 + 4*7 + 1 = 58, y[1, 1] = 1*4 + 2*5 + 3*7 + 4*8 + 1 = 68
    np.testing.assert_array_equal(y, [[[[28, 38], [58, 68]]]])


def test_backward_by_hand() -> None:
    _, saved = conv2d(X, W, B)
    dx, dw, db = conv2d_backward(np.array([[[[1.0, 2.0], [0.0, -1.0]]]]), saved)
    # dw[i, j] = 1 x[i, j] + 2 x[i, j+1] - 1 x[i+1, j+1]:
    # 0 + 2 - 4 = -2, 1 + 4 - 5 = 0, 3 + 8 - 7 = 4, 4 + 10 - 8 = 6
    np.testing.assert_array_equal(dw, [[[[-2, 0], [4, 6]]]])
    # dx is 1 w laid at (0, 0), plus 2 w laid at (0, 1), minus w laid at (1, 1):
    # 1 2 0   0 2 4   0 0 0
    # 3 4 0 + 0 6 8 - 0 1 2
    # 0 0 0   0 0 0   0 3 4
    np.testing.assert_array_equal(dx, [[[[1, 4, 4], [3, 9, 6], [0, -3, -4]]]])
    np.testing.assert_array_equal(db, [2])


def test_stride_and_padding_by_hand() -> None:
    y, _ = conv2d(X, W, stride=2, padding=1)
    # The windows start at (-1, -1), (-1, 1), (1, -1), (1, 1) and hold
    # 0 0   0 0   0 3   4 5
    # 0 0   1 2   0 6   7 8
    # so y = 4*0, 3*1 + 4*2, 2*3 + 4*6, 1*4 + 2*5 + 3*7 + 4*8
    np.testing.assert_array_equal(y, [[[[0, 11], [30, 67]]]])


def test_dilation_by_hand() -> None:
    y, _ = conv2d(X, W, dilation=2)
    np.testing.assert_array_equal(y, [[[[1 * 0 + 2 * 2 + 3 * 6 + 4 * 8]]]])


def test_groups_by_hand() -> None:
    # Channel 0 is seen by kernel 0 alone, channel 1 by kernel 1 alone.
    x = np.array([1.0, 2.0, 3.0, 4.0]).reshape(1, 2, 1, 2)
    w = np.array([10.0, 100.0]).reshape(2, 1, 1, 1)
    y, _ = conv2d(x, w, groups=2)
    np.testing.assert_array_equal(y, [[[[10, 20]], [[300, 400]]]])


def test_kernel_is_not_flipped() -> None:
    x = np.array([[[[1.0, 0.0, 0.0]]]])
    np.testing.assert_array_equal(conv2d(x, np.array([[[[5.0, 7.0]]]]))[0], [[[[5, 0]]]])


def test_no_bias_has_no_gradient() -> None:
    _, saved = conv2d(X, W)
    assert conv2d_backward(np.ones((1, 1, 2, 2)), saved)[2] is None


@DRAWN
@given(windows(dilated=True))
def test_col2im_is_the_adjoint_of_im2col(g: dict[str, Any]) -> None:
    rng = np.random.default_rng(g["seed"])
    geometry = sliding_window(
        "test", g["size"], g["kernel"], g["stride"], g["padding"], g["dilation"]
    )
    x = rng.normal(size=(g["batch"], 2, *g["size"]))
    col = im2col(x, geometry)
    c = rng.normal(size=col.shape)
    np.testing.assert_allclose(np.vdot(col, c), np.vdot(x, col2im(c, geometry)), atol=1e-10)
    np.testing.assert_array_equal(np.asarray(im2col(to_strict(x), geometry)), col)


@DRAWN
@given(windows(dilated=True))
def test_im2col_holds_each_window(g: dict[str, Any]) -> None:
    rng = np.random.default_rng(g["seed"])
    geometry = sliding_window(
        "test", g["size"], g["kernel"], g["stride"], g["padding"], g["dilation"]
    )
    x = rng.normal(size=(1, 1, *g["size"]))
    col = im2col(x, geometry)
    for i, j, p, q in np.ndindex(*col.shape[2:]):
        h = p * g["stride"][0] + i * g["dilation"][0] - g["padding"][0]
        w = q * g["stride"][1] + j * g["dilation"][1] - g["padding"][1]
        is_inside = 0 <= h < g["size"][0] and 0 <= w < g["size"][1]
        assert col[0, 0, i, j, p, q] == (x[0, 0, h, w] if is_inside else 0)


@DRAWN
@given(
    g=windows(dilated=True),
    groups=st.sampled_from([1, 2]),
    after=st.integers(0, 2),
    has_bias=st.booleans(),
)
def test_equals_the_seven_loops(g: dict[str, Any], groups: int, after: int, has_bias: bool) -> None:
    rng = np.random.default_rng(g["seed"])
    above, left = g["padding"]
    options: dict[str, Any] = {
        "stride": g["stride"],
        "padding": ((above, above + after), left),
        "dilation": g["dilation"],
        "groups": groups,
    }
    x = rng.normal(size=(g["batch"], 2, *g["size"]))
    w = rng.normal(size=(2, 2 // groups, *g["kernel"]))
    b = rng.normal(size=2) if has_bias else None
    y, saved = conv2d(x, w, b, **options)
    y_direct, saved_direct = conv2d_direct(x, w, b, **options)
    np.testing.assert_allclose(y, y_direct, atol=1e-12)
    dy = rng.normal(size=y.shape)
    gradients = conv2d_backward(dy, saved)
    for gradient, direct in zip(gradients, conv2d_direct_backward(dy, saved_direct), strict=True):
        if gradient is None:
            assert direct is None
        else:
            np.testing.assert_allclose(gradient, direct, atol=1e-11)


def test_pointwise_convolution_copies_no_windows(monkeypatch: pytest.MonkeyPatch) -> None:
    def forbidden(*_: Any) -> None:
        raise AssertionError("a 1x1 convolution is a product of matrices and nothing else")

    monkeypatch.setattr("tinyconv.ops.conv.im2col", forbidden)
    monkeypatch.setattr("tinyconv.ops.conv.col2im", forbidden)
    x = np.array([1.0, 2.0, 3.0, 4.0]).reshape(1, 2, 1, 2)
    w = np.array([[1.0, 10.0], [0.0, -1.0]]).reshape(2, 2, 1, 1)
    y, saved = conv2d(x, w)
    # y[0] = x[0] + 10 x[1], y[1] = -x[1]
    np.testing.assert_array_equal(y, [[[[31, 42]], [[-3, -4]]]])
    assert np.shares_memory(saved.col, x)
    dx, dw, _ = conv2d_backward(np.array([1.0, 0.0, 0.0, 2.0]).reshape(1, 2, 1, 2), saved)
    np.testing.assert_array_equal(dx, [[[[1, 0]], [[10, -2]]]])  # w^T dy
    np.testing.assert_array_equal(dw[:, :, 0, 0], [[1, 3], [4, 8]])  # dy x^T
    with pytest.raises(AssertionError, match="product"):
        conv2d(x, w, stride=2)


def test_padding_modes_by_hand() -> None:
    x, w = np.array([[[1.0, 2.0, 4.0]]]), np.array([[[1.0, 10.0, 100.0]]])
    for mode, padded in [
        ("zeros", [0, 1, 2, 4, 0]),
        ("reflect", [2, 1, 2, 4, 2]),
        ("replicate", [1, 1, 2, 4, 4]),
        ("circular", [4, 1, 2, 4, 1]),
    ]:
        y, _ = conv1d(x, w, padding=1, padding_mode=mode)
        expected = [padded[i] + 10 * padded[i + 1] + 100 * padded[i + 2] for i in range(3)]
        np.testing.assert_array_equal(y, [[expected]])


def test_same_and_valid_padding() -> None:
    x, w = np.zeros((1, 1, 7, 8)), np.zeros((1, 1, 4, 3))
    assert conv2d(x, w, padding="valid")[0].shape == (1, 1, 4, 6)
    assert conv2d(x, w, padding="same")[0].shape == x.shape
    assert conv2d(x, w, padding="same", stride=(2, 3))[0].shape == (1, 1, 4, 3)


@pytest.mark.parametrize(
    ("op", "axes", "kernel_axes"),
    [(conv1d, "L", "KL"), (conv3d, "D, H, W", "KD, KH, KW")],
    ids=["conv1d", "conv3d"],
)
def test_bad_ranks(op: Callable[..., Any], axes: str, kernel_axes: str) -> None:
    four = np.zeros((1, 1, 4, 4))
    message = f"{op.__name__}: x has shape (1, 1, 4, 4), expected (N, C, {axes})"
    with pytest.raises(ShapeError, match=f"^{re.escape(message)}$"):
        op(four, four)
    message = f"{op.__name__}: w has shape (1, 1, 4, 4), expected (O, C/groups, {kernel_axes})"
    with pytest.raises(ShapeError, match=f"^{re.escape(message)}$"):
        op(np.zeros((1, 1) + (4,) * len(axes.split(", "))), four)


def test_bad_padding_mode() -> None:
    message = (
        "conv2d: padding mode is 'mirror', expected 'zeros', 'reflect', 'replicate' or 'circular'"
    )
    with pytest.raises(ShapeError, match=f"^{re.escape(message)}$"):
        conv2d(X, W, padding_mode="mirror")


@pytest.mark.parametrize(
    ("x", "w", "b", "options", "message"),
    [
        ((3, 3), (1, 1, 2, 2), None, {}, "x has shape (3, 3), expected (N, C, H, W)"),
        ((1, 1, 3, 3), (2, 2), None, {}, "w has shape (2, 2), expected (O, C/groups, KH, KW)"),
        (
            (1, 1, 9, 9),
            (20, 3, 5, 5),
            None,
            {},
            "w has shape (20, 3, 5, 5), expected (O, C/groups=1, ...) because x has 1 channel",
        ),
        (
            (1, 4, 9, 9),
            (2, 4, 5, 5),
            None,
            {"groups": 2},
            "w has shape (2, 4, 5, 5), expected (O, C/groups=2, ...) because x has 4 channels",
        ),
        (
            (1, 4, 9, 9),
            (6, 1, 3, 3),
            None,
            {"groups": 4},
            "groups is 4, expected a divisor of the 4 input and 6 output channels",
        ),
        (
            (1, 4, 9, 9),
            (6, 1, 3, 3),
            None,
            {"groups": 0},
            "groups is 0, expected a divisor of the 4 input and 6 output channels",
        ),
        (
            (1, 4, 9, 9),
            (6, 4, 3, 3),
            None,
            {"groups": 1.0},
            "groups is 1.0, expected a divisor of the 4 input and 6 output channels",
        ),
        (
            (1, 1, 9, 9),
            (2, 1, 3, 3),
            (3,),
            {},
            "b has shape (3,), expected (2,) because w has 2 output channels",
        ),
        (
            (1, 1, 9, 9),
            (2, 1, 3, 0),
            None,
            {},
            "w has shape (2, 1, 3, 0), expected no axis of length 0",
        ),
        (
            (1, 1, 3, 4),
            (1, 1, 2, 3),
            None,
            {"dilation": (1, 3), "padding": 1},
            "the window covers 7 elements of axis 1 (kernel 3, dilation 3), "
            "but the input has 6 (size 4, padding 1 + 1)",
        ),
        (
            (1, 1, 9, 9),
            (1, 1, 3, 3),
            None,
            {"stride": 0},
            "stride is 0, expected 2 integers of at least 1",
        ),
        (
            (1, 1, 9, 9),
            (1, 1, 3, 3),
            None,
            {"dilation": (1, 1, 1)},
            "dilation is (1, 1, 1), expected 2 integers of at least 1",
        ),
    ],
)
def test_bad_shapes(
    x: tuple[int, ...],
    w: tuple[int, ...],
    b: tuple[int, ...] | None,
    options: dict[str, Any],
    message: str,
) -> None:
    bias = None if b is None else np.zeros(b)
    with pytest.raises(ShapeError, match="^" + re.escape("conv2d: " + message) + "$"):
        conv2d(np.zeros(x), np.zeros(w), bias, **options)


def test_different_dtypes() -> None:
    message = "^conv2d: w has dtype float32, expected float64 like x$"
    with pytest.raises(DtypeError, match=message):
        conv2d(X, W.astype("float32"))
