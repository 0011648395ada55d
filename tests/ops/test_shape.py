"""Padding, cropping and reshaping: literals, NumPy's own pad, and error messages."""

import re
from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from tinyconv.errors import ShapeError
from tinyconv.ops import crop, flatten, pad, pad_backward, reshape

from .helpers import DRAWN

NUMPYS_NAME = {"zeros": "constant", "reflect": "reflect", "replicate": "edge", "circular": "wrap"}


@pytest.mark.parametrize(
    ("mode", "expected"),
    [
        ("zeros", [0, 0, 1, 2, 3, 4, 0]),
        ("reflect", [3, 2, 1, 2, 3, 4, 3]),
        ("replicate", [1, 1, 1, 2, 3, 4, 4]),
        ("circular", [3, 4, 1, 2, 3, 4, 1]),
    ],
)
def test_pad_by_hand(mode: str, expected: list[float]) -> None:
    y, _ = pad(np.array([[[1.0, 2.0, 3.0, 4.0]]]), ((2, 1),), mode=mode)
    np.testing.assert_array_equal(y, [[expected]])


@pytest.mark.parametrize(
    ("mode", "expected"),
    [  # dy is 1, 2, 4, ..., 64 over the places listed above
        ("zeros", [4, 8, 16, 32]),
        ("reflect", [4, 8 + 2, 16 + 1 + 64, 32]),
        ("replicate", [4 + 1 + 2, 8, 16, 32 + 64]),
        ("circular", [4 + 64, 8, 16 + 1, 32 + 2]),
    ],
)
def test_pad_backward_by_hand(mode: str, expected: list[float]) -> None:
    _, saved = pad(np.array([[[1.0, 2.0, 3.0, 4.0]]]), ((2, 1),), mode=mode)
    dx = pad_backward(2.0 ** np.arange(7).reshape(1, 1, 7), saved)
    np.testing.assert_array_equal(dx, [[expected]])


@DRAWN
@given(
    size=st.lists(st.integers(1, 5), min_size=1, max_size=3),
    mode=st.sampled_from(sorted(NUMPYS_NAME)),
    data=st.data(),
)
def test_pad_is_numpys_pad_and_its_backward_the_adjoint(
    size: list[int], mode: str, data: st.DataObject
) -> None:
    most = {"reflect": -1, "circular": 0}.get(mode, 4)
    sides = st.tuples(*(st.integers(0, n + most) for n in size))
    pairs = tuple(zip(data.draw(sides), data.draw(sides), strict=True))
    rng = np.random.default_rng(0)
    x = rng.normal(size=(2, 3, *size))
    y, saved = pad(x, pairs, mode=mode)
    np.testing.assert_array_equal(y, np.pad(x, [(0, 0), (0, 0), *pairs], mode=NUMPYS_NAME[mode]))
    dy = rng.normal(size=y.shape)
    np.testing.assert_allclose(np.vdot(y, dy), np.vdot(x, pad_backward(dy, saved)), atol=1e-10)


def test_pad_with_a_value() -> None:
    np.testing.assert_array_equal(pad(np.zeros((1, 1, 1)), 1, value=-7.0)[0], [[[-7, 0, -7]]])


def test_results_are_never_views() -> None:
    x = np.zeros((1, 1, 3))
    for mode in NUMPYS_NAME:
        assert not np.shares_memory(pad(x, 0, mode=mode)[0], x)
    assert not np.shares_memory(crop(x, 0)[0], x)


def test_flatten_and_reshape_are_row_major() -> None:
    x = np.arange(24.0).reshape(2, 3, 4)
    np.testing.assert_array_equal(flatten(x)[0], np.arange(24).reshape(2, 12))
    np.testing.assert_array_equal(reshape(x, (4, -1))[0], np.arange(24).reshape(2, 4, 3))


@pytest.mark.parametrize(
    ("shape", "padding", "mode", "message"),
    [
        ((2, 3), 1, "zeros", "x has shape (2, 3), expected (N, C, *size)"),
        (
            (1, 1, 3),
            1,
            "same",
            "padding mode is 'same', expected 'zeros', 'reflect', 'replicate' or 'circular'",
        ),
        (
            (1, 1, 3),
            -1,
            "zeros",
            "padding is -1, expected an integer or (before, after) pairs of at least 0",
        ),
        (
            (1, 1, 5, 3),
            ((0, 0), (0, 3)),
            "reflect",
            "padding is 0 + 3 on axis 1, expected at most 2 on each side because mode 'reflect' "
            "has 3 elements to copy",
        ),
        (
            (1, 1, 3),
            4,
            "circular",
            "padding is 4 + 4 on axis 0, expected at most 3 on each side because mode 'circular' "
            "has 3 elements to copy",
        ),
        (
            (1, 1, 0),
            1,
            "replicate",
            "padding is 1 + 1 on axis 0, expected at most 0 on each side because mode "
            "'replicate' has 0 elements to copy",
        ),
    ],
)
def test_bad_padding(shape: tuple[int, ...], padding: Any, mode: str, message: str) -> None:
    with pytest.raises(ShapeError, match="^" + re.escape(f"pad: {message}") + "$"):
        pad(np.zeros(shape), padding, mode=mode)


def test_bad_cropping() -> None:
    message = "crop: cropping takes 2 + 1 elements of axis 1, expected fewer than its size 3"
    with pytest.raises(ShapeError, match=f"^{re.escape(message)}$"):
        crop(np.zeros((1, 1, 9, 3)), (0, (2, 1)))
    message = "crop: cropping is -1, expected an integer or (before, after) pairs of at least 0"
    with pytest.raises(ShapeError, match=f"^{re.escape(message)}$"):
        crop(np.zeros((1, 1, 9)), -1)
    with pytest.raises(ShapeError, match=r"^crop: x has shape \(3, 4\), expected \(N, C, \*size\)"):
        crop(np.zeros((3, 4)), 1)


@pytest.mark.parametrize("shape", [(5, 5), (-1, -1), (-2, -12), (5, -1), (0, -1)])
def test_bad_reshape(shape: tuple[int, ...]) -> None:
    message = f"reshape: shape is {shape}, expected 24 elements because x has shape (2, 24)"
    with pytest.raises(ShapeError, match=f"^{re.escape(message)}$"):
        reshape(np.zeros((2, 24)), shape)


def test_numbers_have_no_shape_to_change() -> None:
    with pytest.raises(ShapeError, match=r"^flatten: x has shape \(\), expected \(N, \.\.\.\)$"):
        flatten(np.array(1.0))
