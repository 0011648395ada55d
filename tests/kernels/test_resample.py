"""Weighted sums along the axes of an image, against matrices."""

from typing import Any

import numpy as np
import pytest
from images import Image, call, poisoned

from tinyconv.kernels.cpu import resample
from tinyconv.kernels.cpu.kernel import address_of
from tinyconv.kernels.terms import Terms, arguments_of, over_three_axes

Array = np.ndarray[Any, Any]


def matrix(terms: Terms) -> Array:
    result = np.zeros((len(terms.lists), terms.size))
    for element, of_one in enumerate(terms.lists):
        for place, weight in of_one:
            result[element, place] += weight
    return result


def drawn(x_size: int, y_size: int, seed: int) -> Terms:
    """Terms in any order, of any number, the first none at all and the second just one."""
    rng = np.random.default_rng(seed)
    counts = [0, 1, *rng.integers(1, x_size + 1, y_size)][:y_size]
    lists = [[(int(k), float(rng.normal())) for k in rng.permutation(x_size)[:n]] for n in counts]
    return Terms(lists, x_size)


#: sizes of x and y
SIZES = {
    "one axis": ((7,), (5,)),
    "two axes": ((4, 6), (5, 3)),
    "three axes": ((2, 3, 30), (3, 4, 5)),
    "to single elements": ((4, 5), (1, 1)),
}


def run(x: Array, tables: list[Terms], y: Image, C: int, L: int, V: int, value: float) -> None:
    source = Image(x, 1)
    tables = list(over_three_axes(tables))
    width = source.inside.shape[3] * C
    room = np.full(width + 256, np.nan, np.float32)
    places = arguments_of(tables)
    D, H, W = y.inside.shape[1:4]
    runs = tables[2].runs
    call(
        resample.resample(L, V),
        resample.ARGS,
        len(x),
        **source.arguments("x"),
        x_count=width,
        **y.arguments("y"),
        C=C,
        D=D,
        H=H,
        W=W,
        room=address_of(room),
        value=value,
        **places,
        w_runs=address_of(runs),
    )


@pytest.mark.parametrize(("C", "L", "V"), [(5, 4, 2), (3, 4, 1)])
@pytest.mark.parametrize("name", SIZES)
def test_sums_along_axes_and_back(name: str, C: int, L: int, V: int) -> None:
    x_size, y_size = SIZES[name]
    x = np.random.default_rng(0).normal(size=(3, C, *x_size)).astype(np.float32)
    tables = [drawn(n, m, seed) for seed, (n, m) in enumerate(zip(x_size, y_size, strict=True))]
    y = poisoned((3, C, *y_size))
    run(x, tables, y, C, L, V, value=0)
    expected: Any = x.astype(np.float64)
    for axis, table in enumerate(tables, start=2):
        expected = np.moveaxis(np.tensordot(matrix(table), expected, (1, axis)), 0, axis)
    np.testing.assert_allclose(y.array, expected, rtol=1e-4, atol=1e-5)
    # the transposed tables are the adjoint: <A x, dy> = <x, A' dy>
    dy: Array = np.random.default_rng(1).standard_normal(y.shape, np.float32)
    dx = poisoned(x.shape)
    run(dy, [table.transposed() for table in tables], dx, C, L, V, value=0)
    left = float(np.vdot(expected, dy))
    right = float(np.vdot(x, dx.array))
    assert right == pytest.approx(left, rel=1e-4, abs=1e-4)


def test_elements_without_terms_get_a_value_and_weights_of_zero_keep_nan() -> None:
    x = np.array([[[[np.nan, 1.0], [2.0, np.inf]]]], np.float32)
    y = poisoned((1, 1, 3, 3))
    down = Terms([[], [(0, 1.0)], [(1, 1.0)]], 2)
    across = Terms([[(0, 0.0), (1, 1.0)], [], [(1, 0.5)]], 2)
    run(x, [down, across], y, 1, 4, 1, value=7.0)
    np.testing.assert_array_equal(y.array[0, 0], [[7, 7, 7], [np.nan, 7, 0.5], [np.inf, 7, np.inf]])


@pytest.mark.parametrize("C", [1, 3, 20])
def test_neighbours_of_x_are_copied_and_no_number_beyond_them(C: int) -> None:
    x = np.random.default_rng(0).normal(size=(2, C, 3, 12)).astype(np.float32)
    places = [None, 0, 1, 2, 3, 4, 5, 6, 7, 8, 9, 9, 10, 2, None, None, 11]
    across = Terms([[] if k is None else [(k, 1.0)] for k in places], 12)
    assert max(across.runs) == 10
    down = Terms([[(2, 1.0)], [], [(0, 0.5), (1, 0.5)]], 3)
    y = poisoned((2, C, 3, len(places)))
    run(x, [down, across], y, C, 4, 1, value=7.0)
    rows: Array = np.stack([x[:, :, 2], np.full_like(x[:, :, 0], 7), x[:, :, :2].mean(2)], 2)
    taken = rows[..., [k or 0 for k in places]]
    expected = np.where([k is None for k in places], np.float32(7), taken)
    np.testing.assert_allclose(y.array, expected, rtol=1e-6)
    assert np.isnan(y.memory).sum() == y.memory.size - y.array.size
