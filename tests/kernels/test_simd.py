"""The vector functions, against NumPy in float64."""

import math
from collections.abc import Callable
from typing import Any

import numba
import numpy as np
import pytest

from tinyconv.kernels.cpu import products, simd, tiles, vector_math
from tinyconv.kernels.cpu.kernel import address_of

Array = np.ndarray[Any, Any]


def over_memory(function: Any, lanes: int) -> Callable[[Array], Array]:
    """Turn a function of a vector into one of an array."""

    @numba.njit
    def loop(x: int, y: int, count: int) -> None:
        a, b = simd.pointer(x), simd.pointer(y)
        for i in range(0, count, lanes):
            value = function(simd.load_first(a, i, count - i, lanes))
            simd.store_first(b, i, value, count - i)

    def call(x: Array) -> Array:
        y = np.full(x.size + 1, np.nan, np.float32)
        loop(address_of(x), address_of(y), x.size)
        assert np.isnan(y[-1])  # nothing is written behind the last number
        return y[:-1]

    return call


def sigmoid(x: Array) -> Array:
    return 1 / (1 + np.exp(-x))


SIZES = np.logspace(-8, np.log10(86.0), 4001)
ALL = np.concatenate([-SIZES, [0.0], SIZES])

#: name -> (what it computes, where, units in the last place, its values at -inf and inf)
FUNCTIONS: dict[str, tuple[Callable[[Array], Array], Array, float, tuple[float, float]]] = {
    "exp": (np.exp, np.append(ALL, 88.7), 2, (0, np.inf)),
    "expm1": (np.expm1, ALL[ALL < 80], 3, (-1, np.nan)),
    "log": (np.log, np.exp(ALL), 2, (np.nan, np.inf)),
    "log1p": (np.log1p, SIZES[SIZES <= 1], 3, (np.nan, np.nan)),
    "sigmoid": (sigmoid, ALL, 2, (0, 1)),
    "tanh": (np.tanh, ALL, 2, (-1, 1)),
    "gaussian": (lambda x: np.exp(-x * x / 2), ALL, 3, (0, 0)),
    "normal_below": (np.vectorize(lambda x: math.erfc(-x * math.sqrt(0.5)) / 2), ALL, 4, (0, 1)),
}


@pytest.mark.parametrize("name", FUNCTIONS)
def test_functions_are_right_to_a_few_units_in_the_last_place(name: str) -> None:
    exact, where, units, ends = FUNCTIONS[name]
    function = over_memory(getattr(vector_math, name), simd.LANES)
    x = where.astype(np.float32)
    expected = exact(x.astype(np.float64))
    np.testing.assert_allclose(function(x), expected, rtol=units * 2.0**-23, atol=1e-37)
    low, high, nan = function(np.array([-np.inf, np.inf, np.nan], np.float32))
    assert np.isnan(nan)
    for value, end in zip((low, high), ends, strict=True):
        assert value == end or np.isnan(end)


def test_a_logarithm_at_and_below_zero() -> None:
    y = over_memory(vector_math.log, 8)(np.array([0.0, -1.0], np.float32))
    assert y[0] == -np.inf
    assert np.isnan(y[1])


@pytest.mark.parametrize(
    ("lanes", "rows", "columns", "there"),
    [(16, 2, 3, 2), (8, 3, 4, 2), (8, 5, 2, 1), (2, 1, 3, 1), (1, 2, 2, 2), (4, 1, 1, 1)],
)
def test_dot_products(lanes: int, rows: int, columns: int, there: int) -> None:
    count = 21

    @numba.njit
    def product(a: int, b: int, y: int, there: int, add: int) -> None:
        p, q = simd.pointer(a), simd.pointer(b)
        tile = tiles.zeros(rows, columns, lanes)
        left, right = tiles.multiples(count, rows, there), tiles.apart((0,), count, columns)
        whole = count // lanes * lanes
        for k in range(0, whole, lanes):
            tile = products.dots(tile, p, k, left, q, k, right, lanes)
        tile = products.dots(tile, p, whole, left, q, whole, right, count - whole)
        to = tiles.multiples(columns, rows, there)
        products.store_totals(simd.pointer(y), 0, to, tile, columns, add)

    rng = np.random.default_rng(0)
    a = rng.normal(size=(there, count)).astype(np.float32)
    b = rng.normal(size=(columns, count)).astype(np.float32)
    y = np.full((rows, columns), np.nan, np.float32)
    for add in (0, 1):
        product(address_of(a), address_of(b), address_of(y), there, add)
        np.testing.assert_allclose(y[:there], (1 + add) * a @ b.T, rtol=1e-5, atol=1e-5)
        assert np.isnan(y[there:]).all()


@pytest.mark.parametrize(("rows", "columns"), [(8, 8), (3, 8), (8, 5), (1, 1)])
def test_transposition(rows: int, columns: int) -> None:
    @numba.njit
    def transpose(x: int, y: int, rows: int, columns: int) -> None:
        p, q = simd.pointer(x), simd.pointer(y)
        tiles.transpose(p, 0, 11, rows, q, 0, 9, columns, 8)

    x = np.arange(8 * 11, dtype=np.float32).reshape(8, 11)
    y = np.full((8, 9), np.nan, np.float32)
    transpose(address_of(x), address_of(y), rows, columns)
    np.testing.assert_array_equal(y[:columns, :rows], x[:rows, :columns].T)
    y[:columns, :rows] = np.nan
    assert np.isnan(y).all()


def test_a_length_of_vector_that_is_no_constant_is_refused() -> None:
    @numba.njit
    def load(x: int, lanes: int) -> float:
        return simd.total(simd.load(simd.pointer(x), 0, lanes))  # type: ignore[no-any-return]

    with pytest.raises(numba.TypingError, match="compile-time constants"):
        load(0, 8)


def test_the_address_of_an_array_is_that_of_its_first_element() -> None:
    whole = np.zeros((4, 6), np.float32)
    fixed = whole.copy()
    fixed.flags.writeable = False
    for array in (whole, fixed, whole[1:], whole[:, 2:4], whole[1:, ::-1], whole[:0]):
        assert address_of(array) == array.__array_interface__["data"][0]
