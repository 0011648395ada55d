"""Transposed convolution: by hand, as the transpose of a convolution, and its error messages."""

import re
from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from tinyconv.errors import ShapeError
from tinyconv.ops import (
    conv2d,
    conv2d_backward,
    conv_transpose1d,
    conv_transpose2d,
    conv_transpose2d_backward,
)

from .helpers import DRAWN, windows


def test_forward_by_hand() -> None:
    x = np.array([[[[1.0, 10.0], [100.0, 1000.0]]]])
    w = np.array([[[[1.0, 2.0], [3.0, 4.0]]]])
    y, _ = conv_transpose2d(x, w, np.array([0.5]))
    # 1 w at (0, 0), 10 w at (0, 1), 100 w at (1, 0), 1000 w at (1, 1):
    # 1 2 0    0 10 20   0   0   0     0    0    0
    # 3 4 0    0 30 40   100 200 0     0 1000 2000
    # 0 0 0    0  0  0   300 400 0     0 3000 4000
    expected = [[1.5, 12.5, 20.5], [103.5, 1234.5, 2040.5], [300.5, 3400.5, 4000.5]]
    np.testing.assert_array_equal(y, [[expected]])


def test_stride_padding_and_output_padding_by_hand() -> None:
    x, w = np.array([[[1.0, 10.0]]]), np.array([[[1.0, 2.0, 3.0]]])
    # Kernels at 0 and 3: 1 2 3 10 20 30; one cut off each side: 2 3 10 20; one or two more kept
    # or added at the end.
    for output_padding, expected in [
        (0, [2, 3, 10, 20]),
        (1, [2, 3, 10, 20, 30]),
        (2, [2, 3, 10, 20, 30, 0]),
    ]:
        y, _ = conv_transpose1d(x, w, stride=3, padding=1, output_padding=output_padding)
        np.testing.assert_array_equal(y, [[expected]])


@DRAWN
@given(g=windows(dilated=True), groups=st.sampled_from([1, 2]))
def test_is_the_transpose_of_the_convolution(g: dict[str, Any], groups: int) -> None:
    # conv2d maps large to small with weights (O, C/groups, ...); the transposed one, given the
    # same weights, maps small to large, and equals the dx of conv2d.
    rng = np.random.default_rng(g["seed"])
    options = {name: g[name] for name in ("stride", "padding", "dilation")} | {"groups": groups}
    large = rng.normal(size=(g["batch"], 2, *g["size"]))
    w = rng.normal(size=(4, 2 // groups, *g["kernel"]))
    y, saved = conv2d(large, w, **options)
    small = rng.normal(size=y.shape)
    left_over = tuple(
        (n + 2 * p - d * (k - 1) - 1) % s
        for n, p, d, k, s in zip(
            g["size"], g["padding"], g["dilation"], g["kernel"], g["stride"], strict=True
        )
    )
    spread_out, saved_back = conv_transpose2d(small, w, output_padding=left_over, **options)
    np.testing.assert_allclose(spread_out, conv2d_backward(small, saved)[0], atol=1e-12)
    back = conv_transpose2d_backward(large, saved_back)[0]
    np.testing.assert_allclose(back, y, atol=1e-12)


@pytest.mark.parametrize(
    ("x", "w", "b", "options", "message"),
    [
        ((3, 3), (1, 1, 2, 2), None, {}, "x has shape (3, 3), expected (N, C, H, W)"),
        ((1, 1, 3, 3), (2, 2), None, {}, "w has shape (2, 2), expected (C, O/groups, KH, KW)"),
        (
            (1, 2, 3, 3),
            (3, 2, 2, 2),
            None,
            {},
            "w has shape (3, 2, 2, 2), expected (C=2, O/groups, ...) without an axis of length 0 "
            "because x has 2 channels",
        ),
        (
            (1, 2, 3, 3),
            (2, 0, 2, 2),
            None,
            {},
            "w has shape (2, 0, 2, 2), expected (C=2, O/groups, ...) without an axis of length 0 "
            "because x has 2 channels",
        ),
        (
            (1, 4, 3, 3),
            (4, 2, 2, 2),
            None,
            {"groups": 3},
            "groups is 3, expected a divisor of the 4 input channels",
        ),
        ((1, 4, 3, 3), (4, 2, 2, 2), (2,), {"groups": 2}, "b has shape (2,), expected (4,)"),
        (
            (1, 1, 3, 3),
            (1, 1, 2, 2),
            None,
            {"stride": 2, "output_padding": 2},
            "output_padding is 2, expected less than the stride 2 or the dilation 1",
        ),
        (
            (1, 1, 1, 1),
            (1, 1, 2, 2),
            None,
            {"padding": (0, 1)},
            "nothing is left of axis 1, expected more than the padding 1 + 1 (size 1 spreads to 2)",
        ),
        (
            (1, 1, 3, 3),
            (1, 1, 2, 2),
            None,
            {"stride": 0},
            "stride is 0, expected 2 integers of at least 1",
        ),
    ],
)
def test_bad_shapes(x: Any, w: Any, b: Any, options: dict[str, Any], message: str) -> None:
    bias = None if b is None else np.zeros(b)
    with pytest.raises(ShapeError, match="^" + re.escape("conv_transpose2d: " + message) + "$"):
        conv_transpose2d(np.zeros(x), np.zeros(w), bias, **options)
