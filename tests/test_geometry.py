"""The sliding window: sizes against a literal count of windows, indices, checks and messages."""

import re
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from tinyconv.errors import ShapeError
from tinyconv.geometry import sliding_window, spread, spread_pairs, transposed_window
from tinyconv.ops.checks import check_rank, check_shape


def test_padded_and_inside() -> None:
    g = sliding_window("test", (4, 5), (3, 3), padding=(1, 0))
    assert (g.padded, g.inside, g.is_padded) == ((6, 5), (slice(1, 5), slice(0, 5)), True)
    assert not sliding_window("test", (4, 5), (3, 3)).is_padded


@settings(deadline=None, max_examples=200)
@given(
    size=st.integers(1, 12),
    kernel=st.integers(1, 5),
    stride=st.integers(1, 4),
    padding=st.integers(0, 3),
    dilation=st.integers(1, 3),
)
def test_output_counts_the_windows(
    size: int, kernel: int, stride: int, padding: int, dilation: int
) -> None:
    last_offset = dilation * (kernel - 1)
    starts = [
        start
        for start in range(-padding, size + padding, stride)
        if start + last_offset < size + padding
    ]
    if not starts:
        with pytest.raises(ShapeError, match=r"^test: the window covers"):
            sliding_window("test", (size,), (kernel,), stride, padding, dilation)
        return
    g = sliding_window("test", (size,), (kernel,), stride, padding, dilation)
    assert g.output == (len(starts),)
    numbered = np.pad(np.arange(size), padding, constant_values=-1)
    for (offset,), (window,) in g.windows():
        expected = [numbered[start + padding + offset * dilation] for start in starts]
        np.testing.assert_array_equal(numbered[window], expected)
        np.testing.assert_array_equal(g.plane_index((offset,)), expected)


def test_plane_index_counts_row_major_in_three_dimensions() -> None:
    g = sliding_window("test", (3, 4, 5), (2, 2, 2))
    expected = np.arange(60).reshape(3, 4, 5)[1:, :3, 1:]
    np.testing.assert_array_equal(g.plane_index((1, 0, 1)), expected)


@pytest.mark.parametrize(
    "value", [0, -1, True, 1.0, "1", None, (1,), (1, 2, 3), (1, 0), (1, 1.5), (1, True), []]
)
def test_spread_refuses(value: Any) -> None:
    message = f"test: stride is {value!r}, expected 2 integers of at least 1"
    with pytest.raises(ShapeError, match=f"^{re.escape(message)}$"):
        spread("test", "stride", value, 2, least=1)


@pytest.mark.parametrize(("value", "expected"), [(3, (3, 3)), ((1, 2), (1, 2)), ([1, 2], (1, 2))])
def test_spread_takes(value: Any, expected: tuple[int, int]) -> None:
    assert spread("test", "stride", value, 2, least=1) == expected


def test_checks() -> None:
    x = np.zeros((2, 3))
    check_rank("test", "(N, I)", x=x)
    check_shape("test", (2, 3), x=x)
    with pytest.raises(ShapeError, match=r"^test: x has shape \(2, 3\), expected \(N,\)$"):
        check_rank("test", "(N,)", x=x)
    with pytest.raises(ShapeError, match=r"^test: x has shape \(2, 3\), expected \(2,\)$"):
        check_shape("test", (2,), x=x)


@pytest.mark.parametrize(
    "value", [-1, "some", (1, 2, 3), (1, (1, 2, 3)), ((1, -1), 0), (True, 0), 1.5, None]
)
def test_padding_refuses(value: Any) -> None:
    message = (
        f"test: padding is {value!r}, expected 2 integers or (before, after) pairs of at least 0"
    )
    with pytest.raises(ShapeError, match=f"^{re.escape(message)}$"):
        spread_pairs("test", "padding", value, 2)
    with pytest.raises(ShapeError, match=f"^{re.escape(message)}$"):
        sliding_window("test", (4, 4), (2, 2), padding=value)


def test_asymmetric_padding() -> None:
    g = sliding_window("test", (4, 5), (2, 2), padding=((0, 1), 2))
    assert (g.padded, g.output) == ((5, 9), (4, 8))
    assert g.inside == (slice(0, 4), slice(2, 7))


@settings(deadline=None, max_examples=100)
@given(
    size=st.integers(1, 12),
    kernel=st.integers(1, 5),
    stride=st.integers(1, 4),
    dilation=st.integers(1, 3),
)
def test_same_and_valid(size: int, kernel: int, stride: int, dilation: int) -> None:
    g = sliding_window("test", (size,), (kernel,), stride, "same", dilation)
    assert g.output == (-(-size // stride),)
    ((before, after),) = g.padding
    assert after - before in (0, 1)
    if size >= g.covered[0]:
        valid = sliding_window("test", (size,), (kernel,), stride, "valid", dilation)
        assert valid == sliding_window("test", (size,), (kernel,), stride, 0, dilation)


def test_ceil_mode_by_hand() -> None:
    # Windows of 3 at stride 2 over 6 elements start at 0 and 2, and with ceil mode at 4 too, one
    # element beyond the input; over 5 elements nothing is left over.
    g = sliding_window("test", (6, 5), (3, 3), stride=2, ceil_mode=True)
    assert (g.output, g.padded) == ((3, 2), (7, 5))
    # A window that would begin in the padding after the input is left out: starts -1, 1, not 3.
    g = sliding_window("test", (3,), (2,), stride=2, padding=1, ceil_mode=True)
    assert g.output == (2,)
    # A window larger than the input is admitted while it begins inside.
    assert sliding_window("test", (2,), (3,), stride=2, ceil_mode=True).output == (1,)


@settings(deadline=None, max_examples=200)
@given(
    size=st.integers(1, 8),
    kernel=st.integers(1, 4),
    stride=st.integers(1, 4),
    padding=st.tuples(st.integers(0, 3), st.integers(0, 3)),
    dilation=st.integers(1, 3),
    output_padding=st.integers(0, 3),
)
def test_transposed_window_undoes_the_window(
    size: int,
    kernel: int,
    stride: int,
    padding: tuple[int, int],
    dilation: int,
    output_padding: int,
) -> None:
    arguments = ("test", (size,), (kernel,), stride, (padding,), dilation, output_padding)
    full = (size - 1) * stride + dilation * (kernel - 1) + 1 + output_padding
    if output_padding >= max(stride, dilation):
        with pytest.raises(ShapeError, match=f"^test: output_padding is {output_padding}, expect"):
            transposed_window(*arguments)
    elif full <= sum(padding):
        with pytest.raises(ShapeError, match=r"^test: nothing is left of axis 0, expected more"):
            transposed_window(*arguments)
    else:
        g = transposed_window(*arguments)
        assert (g.output, g.size) == ((size,), (full - sum(padding),))
        if output_padding < stride:
            assert g == sliding_window("test", g.size, (kernel,), stride, (padding,), dilation)


def test_pointwise() -> None:
    assert sliding_window("test", (4, 5), (1, 1)).is_pointwise
    for options in [{"stride": 2}, {"padding": 1}, {"kernel": (1, 2)}]:
        assert not sliding_window(
            "test", **{"size": (4, 5), "kernel": (1, 1)} | options
        ).is_pointwise
