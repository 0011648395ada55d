"""The kernels of normalisations against their ops, into buffers full of NaN."""

from typing import Any

import numpy as np
import pytest
from images import Array, Image, call, filled, poisoned

import tinyconv as tc
from tinyconv import layers, ops
from tinyconv.engines.cpu.step import Step
from tinyconv.kernels.cpu import layer_norm, local_response_norm, norm, update
from tinyconv.kernels.cpu.kernel import address_of
from tinyconv.kernels.cpu.simd import LANES
from tinyconv.layers import Layer

#: (N, C, *size), all for vectors of 8
SHAPES = [(4, 5, 3, 4), (3, 9, 7), (5, 6, 2, 3, 2), (3, 20, 1), (2, 1, 4, 4)]
LAYERS = [layers.GELU(), layers.Tanh()]
L = 8


def draw(*shape: int, seed: int = 0) -> Array:
    return np.random.default_rng(seed).normal(1, 2, shape).astype(np.float32)


def rows(*shape: int) -> Array:
    return np.full((*shape[:-1], -(-shape[-1] // L) * L + L), np.nan, np.float32)


def addresses(**arrays: Array) -> dict[str, int]:
    return {name: address_of(array) for name, array in arrays.items()}


class Keeper:
    """An optimizer's kernel that writes the gradient down."""

    def __init__(self, size: int) -> None:
        self.grad = np.full(size + 16, np.nan, np.float32)
        self.size = size
        self.kernel = update.keep(LANES)
        self.args = filled(update.ARGS, grad=address_of(self.grad))
        self.arguments = {
            "function": self.kernel.address,
            "function_args": address_of(self.args),
            "weight_start": 0,
            "bias_start": size,
        }


def over_rows(kernel: Any, layout: Any, size: int, /, **values: float) -> None:
    """Run a kernel over channels on one thread, in two shares of whole vectors."""
    args = filled(layout, **values)
    middle = min(L, size)
    for thread, first, last in ((0, 0, middle), (1, middle, size)):
        if first < last:
            kernel.ctypes(address_of(args), thread, first, last)


@pytest.mark.parametrize("shape", SHAPES)
@pytest.mark.parametrize("layer", LAYERS, ids=lambda layer: type(layer).__name__)
@pytest.mark.parametrize("grouped", [False, True])
def test_batch_and_group_norm(shape: tuple[int, ...], layer: Layer, grouped: bool) -> None:
    N, C, *size = shape
    groups = {5: 1, 9: 3, 6: 2, 20: 5, 1: 1}[C] if grouped else 0
    keeper, chosen = Keeper(2 * C), Step.activation_of(layer)
    assert chosen is not None
    x, dy = draw(*shape), draw(*shape, seed=1)
    weight, bias = draw(C, seed=2), draw(C, seed=3)
    image, y, gradient, dx = Image(x, 1), poisoned(shape), Image(dy, 1), poisoned(shape, 2)
    sum1, sum2, mean, scale, slope, offset, inverse = (rows(N, C) for _ in range(7))
    variance, factor, shift, dw, db = (rows(C) for _ in range(5))
    n = np.array([N])
    of_sample = mean.shape[1]
    values: dict[str, Any] = {
        **image.arguments("x"),
        **y.arguments("y"),
        **dx.arguments("dx"),
        **gradient.arguments("dy"),
        **addresses(sum1=sum1, sum2=sum2, mean=mean, scale=scale, slope=slope, offset=offset),
        **addresses(inverse=inverse, variance=variance, dw=dw, db=db),
        **addresses(factor=factor, shift=shift),
        **addresses(weight=weight, bias=bias, n=n),
        **keeper.arguments,
        "bias_start": C,
        "lines": int(np.prod(size[:-1])),
        "rows": ([1, *size])[-2],
        "W": size[-1],
        "C": C,
        "positions": int(np.prod(size)),
        "size": C // groups if groups else C,
        "sums_sample": of_sample,
        "stats_sample": of_sample if groups else 0,
        "eps": 1e-5,
        "parameter": chosen.parameter,
    }
    over_rows(norm.parameters(L), norm.STATISTICS, C, **values)
    call(norm.moments(L), norm.ARGS, N, **values)
    if groups:
        call(norm.group_statistics(), norm.STATISTICS, N, **values)
        z, saved = ops.group_norm(x, groups, weight, bias)
    else:
        over_rows(norm.batch_statistics(L), norm.STATISTICS, C, **values)
        z, saved = ops.batch_norm(x, weight, bias)
        of_batch = saved.var * (x.size / C) / (x.size / C - 1)
        np.testing.assert_allclose(variance[:C], of_batch, rtol=1e-5)
        np.testing.assert_allclose(mean[0, :C], saved.mean, rtol=1e-5, atol=1e-6)
    call(norm.normalize(L, chosen.code), norm.ARGS, N, **values)
    np.testing.assert_allclose(y.array, layer.forward(z), rtol=1e-4, atol=2e-5)

    call(norm.sums(L, chosen.code, chosen.needs_y), norm.ARGS, N, **values)
    if groups:
        call(norm.group_gradients(), norm.STATISTICS, N, **values)
        backward = ops.group_norm_backward
    else:
        over_rows(norm.batch_gradients(L), norm.STATISTICS, C, **values)
        backward = ops.batch_norm_backward
    call(norm.backward(L), norm.ARGS, N, **values)
    over_rows(norm.update(L), norm.STATISTICS, C, **values)
    expected, *of_parameters = backward(layer.backward(dy), saved)
    scale_of = max(1.0, float(np.abs(expected).max()))
    np.testing.assert_allclose(dx.array, expected, rtol=1e-3, atol=3e-5 * scale_of)
    for got, wanted in zip(np.split(keeper.grad[: 2 * C], 2), of_parameters, strict=True):
        assert wanted is not None
        np.testing.assert_allclose(got, wanted, rtol=1e-4, atol=1e-4)


def test_the_variance_of_numbers_far_from_zero() -> None:
    """Ten thousand times as large as their spread: sums of plain squares would lose it all."""
    x = draw(1, 8, 64, 64) + 20_000
    image, mean, square = Image(x), rows(1, 8), rows(1, 8)
    values = {**image.arguments("x"), **addresses(sum1=mean, sum2=square)}
    call(norm.moments(L), norm.ARGS, 1, lines=64, rows=64, W=64, C=8, sums_sample=16, **values)
    exact = x.astype(np.float64).var(axis=(0, 2, 3))
    np.testing.assert_allclose(square[0, :8] / 64**2, exact, rtol=1e-4)


@pytest.mark.parametrize("momentum", [0.3, None])
def test_running_statistics_move_and_serve(momentum: float | None) -> None:
    C = 9
    layer = layers.BatchNorm1d(C, momentum=momentum)
    tc.Sequential([layer], input_shape=(C,))
    state = {name: np.array(value) for name, value in layer.state.items()}
    for number in range(3):
        x = draw(7, C, seed=number)
        layer.forward(x, training=True)
        mean, variance = (np.append(v, 0).astype(np.float32) for v in (x.mean(0), x.var(0, ddof=1)))
        args = filled(
            norm.TRACK,
            **addresses(mean=mean, variance=variance),
            **addresses(running_mean=state["running_mean"], running_var=state["running_var"]),
            count=address_of(state["num_batches_tracked"]),
            C=C,
            share=-1.0 if momentum is None else momentum,
        )
        norm.track().ctypes(address_of(args), 0, 0, 1)
    for name, value in layer.state.items():
        np.testing.assert_allclose(state[name], value, rtol=1e-5)


@pytest.mark.parametrize("affine", [0, 1, 2])
@pytest.mark.parametrize("shape", [(5, 1, 3), (3, 2, 37), (2, 1, 70)])
def test_layer_norm(shape: tuple[int, ...], affine: int) -> None:
    """Without parameters, with a weight, and with a bias as well."""
    N, sets, count = shape
    layer = LAYERS[sets - 1]
    keeper, chosen = Keeper(2 * count), Step.activation_of(layer)
    assert chosen is not None
    x, dy = draw(*shape), draw(*shape, seed=1)
    weight, bias = draw(count, seed=2), draw(count, seed=3)
    y, dz, dx = (
        np.full_like(x, np.nan),
        np.append(dy.ravel(), [np.nan] * 16),
        np.full_like(x, np.nan),
    )
    padded = np.append(x.ravel(), [np.nan] * 16).astype(np.float32)
    dz = dz.astype(np.float32)
    values: dict[str, Any] = {
        **addresses(x=padded, y=y, dy=dz, dx=dx, n=np.array([N])),
        **{f"{name}_sample": sets * count for name in ("x", "y", "dx", "dy")},
        **addresses(mean=rows(N * sets), inverse=rows(N * sets), gradient=rows(2 * L)),
        "weight": address_of(weight) if affine else 0,
        "bias": address_of(bias) if affine > 1 else 0,
        **keeper.arguments,
        "bias_start": count,
        "sets": sets,
        "count": count,
        "eps": 1e-5,
        "parameter": chosen.parameter,
    }
    kept = [rows(N * sets), rows(N * sets), rows(2 * L), np.array([N])]
    values |= addresses(mean=kept[0], inverse=kept[1], gradient=kept[2], n=kept[3])
    call(layer_norm.forward(L, chosen.code), layer_norm.ARGS, N, **values)
    w, b = weight if affine else None, bias if affine > 1 else None
    z, saved = ops.layer_norm(x, count, w, b)
    np.testing.assert_allclose(y, layer.forward(z), rtol=1e-4, atol=1e-5)
    # The slope of one of the two follows from y, which memory behind the last run does not have.
    values["y"] = address_of(kept_y := np.append(y.ravel(), [np.nan] * 16).astype(np.float32))
    assert kept_y.size > y.size
    kernel = layer_norm.backward(L, chosen.code, chosen.needs_y, True)
    call(kernel, layer_norm.ARGS, N, **values)
    expected, dw, db = ops.layer_norm_backward(layer.backward(dy), saved)
    np.testing.assert_allclose(dx, expected, rtol=1e-3, atol=3e-5)
    if dw is not None:
        over_rows(layer_norm.update(L), layer_norm.ARGS, count, **values)
        np.testing.assert_allclose(keeper.grad[:count], dw, rtol=1e-4, atol=1e-4)
    if db is not None:
        np.testing.assert_allclose(keeper.grad[count : 2 * count], db, rtol=1e-4, atol=1e-4)


@pytest.mark.parametrize(
    ("size", "options"), [(5, {"alpha": 0.5}), (2, {"beta": 1.5, "k": 2.0}), (11, {}), (1, {})]
)
def test_local_response_norm(size: int, options: dict[str, float]) -> None:
    shape = (3, 10, 2, 3)
    x, dy = draw(*shape), draw(*shape, seed=1)
    image, y, gradient, dx = Image(x, 1), poisoned(shape), Image(dy, 1), poisoned(shape, 2)
    expected, saved = ops.local_response_norm(x, size, **options)
    base = np.full(x.size + 16, np.nan, np.float32)
    window = np.zeros(64, np.float32)
    values = {
        "lines": 2,
        "rows": 2,
        "W": 3,
        "C": 10,
        "base_sample": 60,
        "size": size,
        "beta": 0.75,
        "k": 1.0,
        **options,
        "share": options.get("alpha", 1e-4) / size,
        **image.arguments("x"),
        **y.arguments("y"),
        **dx.arguments("dx"),
        **gradient.arguments("dy"),
        **addresses(base=base, window=window),
    }
    call(local_response_norm.forward(L), local_response_norm.ARGS, 3, **values)
    np.testing.assert_allclose(y.array, expected, rtol=2e-6)
    window[:] = 0
    call(local_response_norm.backward(L), local_response_norm.ARGS, 3, **values)
    expected = ops.local_response_norm_backward(dy, saved)
    np.testing.assert_allclose(dx.array, expected, rtol=1e-5, atol=1e-6)
