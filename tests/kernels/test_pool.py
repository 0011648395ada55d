"""Max-pooling and weighted sums along axes against their operations."""

from math import prod
from typing import Any

import numpy as np
import pytest
from images import Image, call, poisoned

from tinyconv.geometry import Geometry
from tinyconv.kernels.cpu import pool
from tinyconv.kernels.cpu.kernel import address_of
from tinyconv.kernels.terms import arguments_of, over_three_axes, window_terms
from tinyconv.ops.pool import max_pool_nd, max_pool_nd_backward, pool_geometry
from tinyconv.ops.ranks import AXES as AXES_OF_RANK
from tinyconv.ops.ranks import Over

Array = np.ndarray[Any, Any]

#: size, kernel, stride, padding, dilation, ceil mode
WINDOWS: dict[str, tuple[Any, ...]] = {
    "side by side": ((6, 8), (2, 2), (2, 2), 0, 1, False),
    "side by side, with a rest": ((7, 8), (2, 2), (2, 2), 0, 1, False),
    "over one axis": ((11,), (3,), (2,), (1,), 1, False),
    "over three axes": ((4, 5, 6), (2, 3, 2), (2, 1, 2), (1, 1, 0), 1, False),
    "overlapping and padded": ((7, 9), (3, 3), (2, 2), 1, 1, False),
    "gaps between": ((9, 10), (2, 1), (4, 3), 0, 1, False),
    "dilated": ((9, 9), (2, 3), (2, 1), (1, 2), (2, 2), False),
    "ceil mode, uneven padding": ((7, 7), (3, 2), (2, 2), ((0, 1), (1, 0)), 1, True),
    "more than 256 elements": ((17, 18), (17, 17), (1, 1), 0, 1, False),
    "windows of nothing but padding": ((4, 4), (2, 2), (1, 1), (4, 0), (7, 1), False),
}


def geometry_of(name: str) -> Geometry:
    size, kernel, stride, padding, dilation, ceil_mode = WINDOWS[name]
    return pool_geometry("test", size, kernel, stride, padding, dilation, ceil_mode=ceil_mode)


def images(N: int, C: int, size: tuple[int, ...], seed: int) -> Array:
    return np.random.default_rng(seed).normal(size=(N, C, *size)).astype(np.float32)


def sizes(geometry: Geometry) -> dict[str, int]:
    D, H, W = (1, 1, *geometry.size)[-3:]
    OD, OH, OW = (1, 1, *geometry.output)[-3:]
    return {"D": D, "H": H, "W": W, "OD": OD, "OH": OH, "OW": OW}


@pytest.mark.parametrize("with_nan", [False, True])
@pytest.mark.parametrize(("C", "L", "V"), [(5, 4, 2), (3, 4, 1)])
@pytest.mark.parametrize("name", WINDOWS)
def test_max(name: str, C: int, L: int, V: int, with_nan: bool) -> None:
    geometry = geometry_of(name)
    x = np.round(images(3, C, geometry.size, 1))  # rounded, so that there are ties
    if with_nan:
        some = np.random.default_rng(2).random(x.shape)
        x[some < 0.2], x[some > 0.8] = np.nan, -np.inf
    size, kernel, stride, padding, dilation, ceil_mode = WINDOWS[name]
    over = Over("test", AXES_OF_RANK[len(size)])
    options = {"stride": stride, "padding": padding, "dilation": dilation, "ceil_mode": ceil_mode}
    expected, saved = max_pool_nd(over, x, kernel, **options)
    dy = images(3, C, geometry.output, 3)
    winners = np.full((3, prod(geometry.output), C), -7, np.int32)
    tables = over_three_axes([window_terms(geometry, axis) for axis in range(len(size))])
    source, arrived = Image(x, 1), Image(dy, 2)
    y, dx = poisoned(expected.shape), poisoned(x.shape)
    places = arguments_of(tables)
    shared = {"C": C, "winners": address_of(winners), **sizes(geometry), **places}
    values = {**source.arguments("x"), **y.arguments("y")}
    call(pool.max_(L, V), pool.ARGS, 3, **shared, **values)
    values = {**dx.arguments("x"), **arrived.arguments("y")}
    call(pool.max_backward(L), pool.ARGS, 3, **shared, **values)
    np.testing.assert_array_equal(y.array, expected)
    if name.startswith("side by side"):
        gridded = poisoned(x.shape)
        values |= gridded.arguments("x") | {"KD": 1, "KH": 2, "KW": 2}
        call(pool.max_backward_of_grid(L), pool.ARGS, 3, **shared, **values)
        np.testing.assert_array_equal(gridded.array, dx.array)
    at = np.unravel_index(np.maximum(saved.argmax, 0), (1, 1, *geometry.size)[-3:])
    channel = np.arange(C).reshape(C, *(1 for _ in geometry.size))
    distance = sum(i * stride for i, stride in zip(at, [*source.strides[1:], C], strict=True))
    places_found = np.moveaxis(winners, -1, 1).reshape(expected.shape)
    np.testing.assert_array_equal(places_found, np.where(saved.argmax < 0, -1, distance + channel))
    np.testing.assert_allclose(dx.array, max_pool_nd_backward(over, dy, saved), rtol=0, atol=1e-5)
