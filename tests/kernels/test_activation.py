"""Every activation's kernel against its op, and what the rule that joins layers knows of it."""

from typing import Any

import numpy as np
import pytest

from tinyconv import layers
from tinyconv.engines.cpu.step import Step
from tinyconv.engines.units import ACTIVATIONS
from tinyconv.kernels.activations import IDENTITY
from tinyconv.kernels.cpu import activation_pool, elements
from tinyconv.kernels.cpu.kernel import address_of
from tinyconv.kernels.cpu.simd import LANES
from tinyconv.layers import Layer

Array = np.ndarray[Any, Any]

EVERY = [
    layers.ReLU(),
    layers.Sigmoid(),
    layers.Tanh(),
    layers.ScaledTanh(),
    layers.LeakyReLU(0.1),
    layers.LeakyReLU(-0.5),
    layers.ELU(0.7),
    layers.ELU(-0.7),
    layers.GELU(),
    layers.GELU("tanh"),
    layers.SiLU(),
    layers.Softplus(2.0),
]
SIZES = np.append(np.logspace(-6, 2, 97), [1e13, 1e20, 1e30])
X = np.concatenate([-SIZES, [0.0, -0.0, np.inf, -np.inf, np.nan], SIZES]).astype(np.float32)


def run(kernel: Any, n: int, **values: Any) -> None:
    """Run a kernel on n samples of two rows of one number less than half of a sample."""
    args = np.zeros(1, elements.ARGS)
    args["planes"], args["rows"], args["count"] = 1, 2, X.size // 2
    for name, value in values.items():
        args[name] = address_of(value) if isinstance(value, np.ndarray) else value
        if isinstance(value, np.ndarray):
            args[f"{name}_sample"], args[f"{name}_row"] = X.size, X.size // 2
    kernel.ctypes(address_of(args), 0, 0, n)


def test_every_activation_that_is_exported_is_here() -> None:
    assert {type(layer) for layer in EVERY} == set(ACTIVATIONS)


@pytest.mark.parametrize(
    "layer", EVERY, ids=lambda layer: f"{type(layer).__name__}{layer.config()}"
)
@np.errstate(invalid="ignore", over="ignore")
def test_kernel_equals_op(layer: Layer) -> None:
    """Two samples, of which the second is the first backwards; the last number is not touched."""
    chosen = Step.activation_of(layer)
    assert chosen is not None
    x = np.stack([X, X[::-1]])
    dy = np.random.default_rng(1).normal(size=x.shape).astype(np.float32)
    # Not where the op's slope is 1e-40, which is 0 here.
    dy[(np.arange(dy.size).reshape(dy.shape) % 7 == 0) & (np.abs(x) < 5)] = np.inf
    y, dx = np.full_like(x, np.nan), np.full_like(x, np.nan)
    forward = elements.elements(LANES, elements.ACTIVATION, chosen.code)
    run(forward, 2, x=x, y=y, parameter=chosen.parameter)
    backward = elements.elements(LANES, elements.GRADIENT, chosen.code)
    v = x if chosen.needs_z else y
    run(backward, 2, x=dy, other=v, y=dx, parameter=chosen.parameter)
    inside = np.s_[:, : X.size // 2 * 2]
    assert np.isnan(y[:, -1]).all()
    expected = layer.forward(x)
    np.testing.assert_allclose(y[inside], expected[inside], rtol=1e-6, atol=1e-6)
    np.testing.assert_allclose(dx[inside], layer.backward(dy)[inside], rtol=1e-6, atol=2e-6)
    assert np.isfinite(dx[inside][np.isfinite(x[inside]) & np.isfinite(dy[inside])]).all()
    if chosen.needs_z:  # the slopes in the place of x give the same
        slopes, again, dz = x.copy(), np.full_like(x, np.nan), np.full_like(x, np.nan)
        keeping = elements.elements(LANES, elements.ACTIVATION, chosen.code, 1)
        run(keeping, 2, x=slopes, y=again, slope=slopes, parameter=chosen.parameter)
        by_slopes = elements.elements(LANES, elements.GRADIENT, IDENTITY, 1)
        run(by_slopes, 2, x=dy, other=slopes, y=dz)
        np.testing.assert_array_equal(again, y)
        np.testing.assert_array_equal(slopes[:, -1], x[:, -1])
        np.testing.assert_allclose(dz, dx, rtol=1e-6)


@pytest.mark.parametrize("layer", [layers.GELU(), layers.LeakyReLU(-0.5)], ids=str)
@pytest.mark.parametrize("shape", [(1, 2, 3), (2, 1, 2)])
def test_the_maximum_of_activations(layer: Layer, shape: tuple[int, int, int]) -> None:
    """Windows of (KD, KH, KW) side by side, two by one by two of them, with ties and NaN."""
    chosen = Step.activation_of(layer)
    assert chosen is not None
    N, C, (KD, KH, KW), (OD, OH, OW) = 2, LANES + 3, shape, (2, 1, 2)
    rng = np.random.default_rng(0)
    x = rng.integers(-3, 4, (N, OD * KD, OH * KH, OW * KW, C)).astype(np.float32)
    x[0, 0, 0, 0, :3] = np.nan
    room = np.append(x.ravel(), np.zeros(LANES, np.float32))
    y, slope = (np.full((N, OD, OH, OW, C), np.nan, np.float32) for _ in range(2))
    winners = np.full(y.shape, 77, np.uint8)
    args = np.zeros(1, activation_pool.MAX)
    for name, array, parts in (("x", x, x.shape), ("y", y, y.shape)):
        args[f"{name}_row"] = parts[3] * C
        args[f"{name}_plane"] = parts[2] * parts[3] * C
        args[f"{name}_sample"] = array[0].size
    args["x"], args["y"], args["winners"] = map(address_of, (room, y, winners))
    args["slope"], args["parameter"] = address_of(slope), chosen.parameter
    for name, value in {"C": C, "OD": OD, "OH": OH, "OW": OW}.items():
        args[name] = value
    kernel = activation_pool.maximum_of(LANES, chosen.code, *shape)
    kernel.ctypes(address_of(args), 0, 0, N)

    values = layer.forward(x).reshape(N, OD, KD, OH, KH, OW, KW, C)
    values = np.moveaxis(values, (2, 4, 6), (-3, -2, -1)).reshape(*y.shape, -1)
    slopes = layer.backward(np.ones_like(x)).reshape(N, OD, KD, OH, KH, OW, KW, C)
    slopes = np.moveaxis(slopes, (2, 4, 6), (-3, -2, -1)).reshape(*y.shape, -1)
    first = np.where(np.isnan(values).any(-1), np.isnan(values).argmax(-1), values.argmax(-1))
    np.testing.assert_array_equal(winners, first)
    for found, all_ in ((y, values), (slope, slopes)):
        expected = np.take_along_axis(all_, first[..., None], -1)[..., 0]
        np.testing.assert_allclose(found, expected, rtol=1e-6, atol=1e-6)


@pytest.mark.parametrize("layer", [layers.Tanh(), layers.SiLU()], ids=str)
@pytest.mark.parametrize("shape", [(1, 2, 3), (2, 1, 1)])
def test_the_mean_of_activations(layer: Layer, shape: tuple[int, int, int]) -> None:
    """Windows side by side, and a plane, a row and a column that fill none of them."""
    chosen = Step.activation_of(layer)
    assert chosen is not None
    N, C, (KD, KH, KW), (OD, OH, OW) = 2, 3, shape, (2, 1, 5)
    rng = np.random.default_rng(0)
    D, H, W = OD * KD, OH * KH, OW * KW
    x = rng.normal(size=(N, D + 1, H + 1, W + 1, C)).astype(np.float32)
    dy = rng.normal(size=(N, OD, OH, OW, C)).astype(np.float32)
    y, dx = np.full_like(dy, np.nan), np.full_like(x, np.nan)
    seen = np.s_[:, :D, :H, :W]
    values = layer.forward(x[seen])
    parts = N, OD, KD, OH, KH, OW, KW, C
    expected = values.reshape(parts).mean((2, 4, 6))
    spread = np.broadcast_to(dy[:, :, None, :, None, :, None] / (KD * KH * KW), parts)
    gradient = layer.backward(spread.reshape(values.shape))

    memory = [np.append(array.ravel(), np.full(LANES, np.nan, np.float32)) for array in (x, dy)]
    args, room = np.zeros(1, activation_pool.MEAN), np.full((W + 1) * C + 2 * LANES, np.nan, "f")
    args["share"], args["parameter"] = 1 / (KD * KH * KW), chosen.parameter
    args["room"] = address_of(room)
    places = {"x": x, "v": x, "dx": dx, "y": y, "dy": dy}
    for name, array in places.items():
        args[f"{name}_row"] = array.shape[3] * C
        args[f"{name}_plane"] = array.shape[2] * array.shape[3] * C
        args[f"{name}_sample"] = array[0].size
        args[name] = address_of(array)
    args["x"] = args["v"] = address_of(memory[0])
    args["dy"] = address_of(memory[1])
    sizes = {"C": C, "OD": OD, "OH": OH, "OW": OW, "KD": KD, "KH": KH, "KW": KW}
    for name, value in sizes.items():
        args[name] = value
    keeps = int(chosen.needs_z)
    activation_pool.mean_of(LANES, chosen.code, keeps).ctypes(address_of(args), 0, 0, N)
    np.testing.assert_allclose(y, expected, rtol=1e-5, atol=1e-6)
    code = IDENTITY if keeps else chosen.code
    activation_pool.mean_of_backward(LANES, code, keeps).ctypes(address_of(args), 0, 0, N)
    np.testing.assert_allclose(dx[seen], gradient, rtol=1e-5, atol=1e-6)
    dx[seen] = np.nan
    assert np.isnan(dx).all()  # nothing is written elsewhere


@pytest.mark.parametrize(
    "layer", EVERY, ids=lambda layer: f"{type(layer).__name__}{layer.config()}"
)
def test_a_maximum_is_taken_first_only_where_that_is_the_same(layer: Layer) -> None:
    z = np.linspace(-6, 6, 4001).astype(np.float32)
    steps = np.diff(layer.forward(z))
    chosen = Step.activation_of(layer)
    assert chosen is not None
    assert chosen.increases == bool((steps >= 0).all())
    if not chosen.increases:  # the maximum is at an end: the falls come before the rises
        falls, rises = np.flatnonzero(steps < -1e-6), np.flatnonzero(steps > 1e-6)
        assert falls[-1] < rises[0]


def test_a_layer_of_the_user_is_no_activation_of_ours() -> None:
    class Tanh(layers.Tanh):
        pass

    assert Step.activation_of(Tanh()) is None
