"""The kernels of the fully connected layer against its op, on tables of sizes."""

from typing import Any

import numpy as np
import pytest
from images import Image, filled, poisoned

from tinyconv import ops
from tinyconv.engines.cpu.tiling import rows_for
from tinyconv.kernels.cpu import linear, update
from tinyconv.kernels.cpu.kernel import address_of
from tinyconv.kernels.cpu.simd import LANES as L

Array = np.ndarray[Any, Any]

#: N, I, O: less than a tile, whole tiles, more than a panel or a block, nothing round.
SIZES = [(1, 1, 1), (3, 5, 7), (130, 1100, 3), (6, 64, 48), (37, 500, 131), (300, 40, 60)]
SIZES += [(5, 1100, 200)]
V = 2
R = min(rows_for(V), 6)


def draw(*shape: int, seed: int = 0) -> Array:
    return np.random.default_rng(seed).standard_normal(shape, np.float32)


def run(kernel: Any, layout: Any, count: int, **values: float) -> None:
    """Run a kernel as two threads of which one does a third of the work."""
    args = filled(layout, **values)
    middle = count // 3 // L * L
    for thread, (first, last) in enumerate(((0, middle), (middle, count))):
        if first < last:
            kernel.ctypes(address_of(args), thread, first, last)


@pytest.mark.parametrize("by_features", [False, True])
@pytest.mark.parametrize(("N", "I", "O"), SIZES)
def test_forward(N: int, I: int, O: int, by_features: bool) -> None:
    x, w, b = draw(N, I), draw(O, I, seed=1), draw(O, seed=2)
    image, y, z = Image(x), poisoned((N, O)), poisoned((N, O))
    values: dict[str, Any] = {
        **image.arguments("x"),
        **y.arguments("y"),
        "z": z.arguments("z")["z"],
        "w": address_of(w),
        "b": address_of(b),
        "I": I,
        "O": O,
        "n": address_of(n := np.array([N])),
        "by_features": by_features,
    }
    assert n[0] == N
    count = O if by_features else N
    filled = -(-N // (V * L)) * V * L
    sizes = max(I * filled, 6 * linear.ROW), linear.TILES * R * filled
    rooms = [np.full(2 * size, np.nan, np.float32) for size in sizes]
    values |= {"panels": address_of(rooms[0]), "panels_thread": rooms[0].size // 2}
    values |= {"sums": address_of(rooms[1]), "sums_thread": rooms[1].size // 2}
    few, many = linear.forward(linear.LINE, 3, 6), linear.forward_batch(L, R, V)
    run(few, linear.FORWARD, count, wide=1, **values)
    run(many, linear.FORWARD, count, wide=0, **values)
    run(many, linear.FORWARD, count, wide=2 * N, **values)
    assert np.isnan(z.array).all()  # neither takes what is the other's
    run(few, linear.FORWARD, count, wide=2 * N, **values)
    np.testing.assert_allclose(z.array, x @ w.T, rtol=1e-4, atol=1e-4)
    found, sample = z.array, -(-I // linear.LINE) * linear.LINE
    memory = np.full(N * sample + 2 * linear.LINE, np.nan, np.float32)
    first = -address_of(memory) // 4 % linear.LINE
    lines = memory[first : first + N * sample].reshape(N, sample)
    lines[:, :I] = x
    in_lines = values | {"x": address_of(lines), "x_sample": sample}
    z.inside[...] = np.nan
    run(few, linear.FORWARD, count, wide=2 * N, **in_lines)  # reads samples where they are
    np.testing.assert_array_equal(z.array, found)
    z.inside[...] = np.nan
    run(many, linear.FORWARD, count, wide=N, **values)
    np.testing.assert_allclose(z.array, x @ w.T, rtol=1e-4, atol=1e-4)
    run(linear.finish(L, 1), linear.FORWARD, N, **values)
    expected = ops.linear(x, w, b)[0]
    np.testing.assert_allclose(y.array, np.maximum(expected, 0), rtol=1e-4, atol=1e-4)
    np.testing.assert_array_equal(z.array, y.array > 0)  # the slopes


@pytest.mark.parametrize("by_features", [False, True])
@pytest.mark.parametrize(("N", "I", "O"), SIZES)
def test_backward(N: int, I: int, O: int, by_features: bool) -> None:
    dy, w = draw(N, O), draw(O, I, seed=1)
    gradient, dx, other = Image(dy), poisoned((N + R, I)), poisoned((N + R, I))
    room = np.full(2 * linear.DEPTH * V * L, np.nan, np.float32)
    values: dict[str, Any] = {
        **gradient.arguments("dy"),
        **dx.arguments("dx"),
        "w": address_of(w),
        "I": I,
        "O": O,
        "n": address_of(n := np.array([N])),
        "by_features": by_features,
        "parts": (other if by_features else dx).arguments("dx")["dx"],
        "panel": address_of(room),
    }
    assert n[0] == N
    run(linear.backward(L, R, V), linear.BACKWARD, O if by_features else N, **values)
    written = [image.array for image in (dx, other) if not np.isnan(image.array[0, 0])]
    assert len(written) == (2 if by_features and O >= 3 * L else 1)
    np.testing.assert_allclose(sum(part[:N] for part in written), dy @ w, rtol=1e-4, atol=1e-4)
    assert np.isnan([dx.array[N:], other.array[N:]]).all()


@pytest.mark.parametrize(("N", "I", "O"), SIZES)
def test_update(N: int, I: int, O: int) -> None:
    x, dy = draw(N, I), draw(N, O, seed=1)
    _, saved = ops.linear(x, np.zeros((O, I), np.float32), np.zeros(O, np.float32))
    _, dw, db = ops.linear_backward(dy, saved)
    assert db is not None
    image, gradient = Image(x, around=0), Image(dy, around=0)
    flat = np.zeros(O * I + O, np.float32)
    rule = filled(update.ARGS, w=address_of(flat), lr=-1)
    kernel = update.sgd(L, False, False, False)
    sizes = R * linear.WIDTH, N * linear.WIDTH, N * (O + 2 * R) + L
    rooms = [np.full(2 * size, np.nan, np.float32) for size in sizes]
    values: dict[str, Any] = {
        **image.arguments("x"),
        **gradient.arguments("dy"),
        "w": address_of(flat),
        "I": I,
        "n": address_of(n := np.array([N])),
        "sum": address_of(rooms[0]),
        "sum_thread": rooms[0].size // 2,
        "panels": address_of(rooms[1]),
        "panels_thread": rooms[1].size // 2,
        "columns": address_of(rooms[2]),
        "columns_thread": rooms[2].size // 2,
        "function": kernel.address,
        "function_args": address_of(rule),
        "bias_start": O * I,
    }
    assert n[0] == N
    run(linear.update(L, R, V), linear.UPDATE, O, **values)
    np.testing.assert_allclose(flat[: O * I].reshape(O, I), dw, rtol=1e-4, atol=1e-3)
    np.testing.assert_allclose(flat[O * I :], db, rtol=1e-4, atol=1e-3)
