"""The sliding window: sizes against a literal count of windows, indices, checks and messages."""

import re
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from tinyconv.errors import ShapeError
from tinyconv.geometry import check_rank, check_shape, sliding_window, spread


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
        np.testing.assert_array_equal(g.plane_index((offset,), np), expected)


def test_plane_index_counts_row_major_in_three_dimensions() -> None:
    g = sliding_window("test", (3, 4, 5), (2, 2, 2))
    expected = np.arange(60).reshape(3, 4, 5)[1:, :3, 1:]
    np.testing.assert_array_equal(g.plane_index((1, 0, 1), np), expected)


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
    check_rank("test", "x", x, "(N, I)")
    check_shape("test", "x", x, (2, 3))
    with pytest.raises(ShapeError, match=r"^test: x has shape \(2, 3\), expected \(N,\)$"):
        check_rank("test", "x", x, "(N,)")
    with pytest.raises(ShapeError, match=r"^test: x has shape \(2, 3\), expected \(2,\)$"):
        check_shape("test", "x", x, (2,))
