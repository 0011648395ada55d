"""The kernels of convolution against the operations, from buffers full of NaN."""

from dataclasses import dataclass
from functools import reduce
from math import prod
from typing import Any

import numpy as np
import pytest

from tinyconv.engines.cpu.arena import Arena, Image
from tinyconv.engines.cpu.conv_dims import (
    Product,
    border_of_gradient,
    convolution,
    input_gradient,
    inside,
    over_three_axes,
)
from tinyconv.engines.cpu.parts import parts_of
from tinyconv.engines.cpu.tiling import compiled
from tinyconv.geometry import sliding_window
from tinyconv.kernels.cpu import conv, conv_max, update
from tinyconv.kernels.cpu.kernel import address_of
from tinyconv.kernels.cpu.simd import LANES
from tinyconv.ops import conv as ops
from tinyconv.ops.pool import max_pool2d, max_pool2d_backward

Array = np.ndarray[Any, Any]

OPS = {
    1: (ops.conv1d, ops.conv1d_backward),
    2: (ops.conv2d, ops.conv2d_backward),
    3: (ops.conv3d, ops.conv3d_backward),
}


@dataclass(frozen=True)
class Case:
    """A convolution of N samples (C, *size) to O channels."""

    N: int
    C: int
    O: int
    size: tuple[int, ...]
    kernel: tuple[int, ...]
    stride: int | tuple[int, ...] = 1
    padding: Any = 0
    dilation: int | tuple[int, ...] = 1


#: Few numbers of channels, so that the cases share their kernels.
CASES = (
    Case(3, 4, 20, (9,), (3,), 2, 1),
    Case(3, 4, 20, (9,), (3,), 1, 1, 2),
    Case(2, 4, 20, (9, 8), (3, 3), 1, 1),
    Case(2, 4, 20, (9, 8), (3, 3), 2, 1),
    Case(2, 4, 40, (9, 8), (3, 2), (2, 3), ((1, 2), (0, 1)), (1, 2)),
    Case(2, 4, 40, (9, 8), (1, 1)),
    Case(2, 4, 20, (9, 8), (1, 1), 2),
    Case(2, 4, 20, (9, 8), (2, 2), 3, 4),
    Case(2, 4, 20, (9, 8), (3, 3), 2, 2, (3, 2)),
    Case(5, 4, 20, (3, 3), (3, 3)),
    Case(5, 4, 20, (3, 3), (2, 2), 5),
    Case(5, 4, 20, (3, 3, 4), (2, 2, 3), 1, (0, 1, 2)),
    Case(2, 4, 20, (5, 6, 7), (3, 3, 3), (1, 2, 1), 1),
)


def call(kernel: Any, layout: np.dtype[Any], last: int, **values: float) -> None:
    """Run a kernel for items 0 to ``last`` as thread 0."""
    args = np.zeros(1, layout)
    for name, value in values.items():
        args[name] = value
    kernel.ctypes(address_of(args), 0, 0, last)


def filled(image: Image, values: Array) -> Image:
    """Write images, channels first, into a buffer whose border keeps its zeros."""
    inner = image.channels_first(len(values))
    inner[...] = values.reshape(inner.shape)
    return image


def multiply(arena: Arena, product: Product, w: Array, column: int, n: int, **options: int) -> None:
    """Pack the weights and run a product for n samples, with biases of 0."""
    tile = product.tile
    product.dims["block"] = product.dims["group"]  # the smallest that there is
    packed = arena.take(product.count * tile.padded(product.channels))
    call(
        compiled(conv.pack, LANES),
        conv.PACK,
        product.count,
        weight=address_of(w),
        places=address_of(product.weight_at),
        column=column,
        columns=product.channels,
        w=address_of(packed),
        into=address_of(product.into),
        width=tile.width,
        w_block=product.count * tile.width,
    )
    constants = (tile.L, tile.V, tile.N, product.steps, product.positions)
    call(
        compiled(conv.forward, *constants),
        conv.FORWARD,
        n,
        dims=address_of(product.dims),
        x=product.x.base,
        w=address_of(packed),
        b=address_of(arena.take(tile.padded(product.channels))),
        y=product.y.base,
        floor=-np.inf,
        **options,
    )


@pytest.mark.parametrize("case", CASES, ids=str)
def test_a_convolution_forward_and_backward(case: Case) -> None:
    N, C, O = case.N, case.C, case.O
    rng = np.random.default_rng(0)
    geometry = {"stride": case.stride, "padding": case.padding, "dilation": case.dilation}
    window = over_three_axes(sliding_window("test", case.size, case.kernel, **geometry))
    x = rng.normal(size=(N, C, *case.size)).astype(np.float32)
    w = rng.normal(size=(O, C, *case.kernel)).astype(np.float32)
    forward, backward = OPS[len(case.size)]
    y, saved = forward(x, w, None, **geometry)
    dy = rng.normal(size=y.shape).astype(np.float32)
    dx, dw, _ = backward(dy, saved)

    arena = Arena()
    source = filled(arena.image(N, (C, *window.size), window.padding), x)
    dz = filled(arena.image(N, (O, *window.output), border_of_gradient(window)), dy)
    result = arena.image(N, (O, *window.output))
    gradient = arena.image(N, (C, *window.size), window.padding)
    result.array[...] = gradient.array[...] = np.nan
    product = convolution(window, source, result, N, arena)
    multiply(arena, product, w, w[0].size, N)
    np.testing.assert_allclose(result.channels_first(N).reshape(y.shape), y, atol=1e-4)
    for part in input_gradient(window, dz, gradient, N, arena):
        multiply(arena, part, w, prod(case.kernel), N)
    np.testing.assert_allclose(gradient.channels_first(N).reshape(dx.shape), dx, atol=1e-4)

    tile, run, table, (R, runs) = product.tile, product.run, product.rows, (4, 1)
    if run < 8:  # tiles of two runs or six elements, of which the last may be there repeatedly
        R, runs = (run, 2) if len(table) > 1 else (1, 6)
        run, table = (run, table) if R > 1 else (1, arena.table(product.elements))
    padded, rows = -(-run // R) * R, -(-len(table) // runs) * runs
    z_at = arena.table(inside(dz))
    for name, value in {
        "z_sample": dz.sample,
        "z_at": address_of(z_at),
        "positions": len(z_at),
        "rows": address_of(table),
        "row_count": len(table),
        "run": run,
        "run_padded": padded,
    }.items():
        product.dims[name] = value
    size = rows * padded * tile.padded(O)
    sums, bias = arena.take(size), arena.take(tile.padded(O))
    call(
        compiled(conv.weight_gradient, tile.L, tile.V, R, runs),
        conv.WEIGHT_GRADIENT,
        N,
        dims=address_of(product.dims),
        x=source.base,
        dz=dz.base,
        dw=address_of(sums),
        db=address_of(bias),
        chunk=50,
        block=2,
    )
    blocks = sums[:size].reshape(-1, rows, padded, tile.width)[:, : len(table), :run]
    found = np.moveaxis(blocks, 3, 1).reshape(-1, product.count)[:O]
    expected = np.moveaxis(dw, 1, -1).reshape(O, -1)
    np.testing.assert_allclose(found, expected, atol=1e-3)
    np.testing.assert_allclose(bias[:O], dy.sum((0, *range(2, dy.ndim))), atol=1e-3)


@pytest.mark.parametrize(
    "case",
    [
        Case(7, 20, 20, (9, 8), (5, 3), 1, 2),
        Case(7, 20, 20, (4, 4, 5), (3, 3, 3), 1, 1),
        Case(7, 20, 20, (3, 12), (3, 2), (1, 2), ((1, 1), (3, 2)), (1, 2)),
    ],
    ids=str,
)
def test_windows_leave_out_the_padding_that_they_meet(case: Case) -> None:
    """In groups of three samples and what is left of seven."""
    rng = np.random.default_rng(0)
    geometry = {"stride": case.stride, "padding": case.padding, "dilation": case.dilation}
    window = over_three_axes(sliding_window("test", case.size, case.kernel, **geometry))
    x = rng.normal(size=(case.N, case.C, *case.size)).astype(np.float32)
    w = rng.normal(size=(case.O, case.C, *case.kernel)).astype(np.float32)
    y, _ = OPS[len(case.size)][0](x, w, None, **geometry)
    arena = Arena()
    source = filled(arena.image(case.N, (case.C, *window.size), window.padding), x)
    result = arena.image(case.N, (case.O, *window.output))
    result.array[...] = np.nan
    product = convolution(window, source, result, 3, arena)
    assert product.dims["part_count"] > 1
    assert product.dims["group"] == 3
    multiply(arena, product, w, w[0].size, case.N)
    np.testing.assert_allclose(result.channels_first(case.N).reshape(y.shape), y, atol=1e-4)


@pytest.mark.parametrize("samples", [1, 4, 40])
def test_parts_have_each_window_once_with_all_taps_that_it_reaches(samples: int) -> None:
    along = [np.arange(n)[:, None] + np.arange(k) - p for n, k, p in ((5, 3, 1), (9, 5, 2))]
    reaches = [(at >= 0) & (at < n) for at, n in zip(along, (5, 9), strict=True)]
    reaches.append(np.ones((2, 1), bool))
    whole = reduce(np.multiply.outer, reaches)  # (rows, taps, columns, taps, 2, 1)
    reached = whole.transpose(0, 2, 4, 1, 3, 5).reshape(90, 15)
    parts = parts_of(reaches, samples, 10)
    windows = np.concatenate([own for own, _ in parts])
    np.testing.assert_array_equal(np.sort(windows), np.arange(90))
    for own, met in parts:
        np.testing.assert_array_equal(met, reached[own].any(0))
    full, left = np.ceil(90 * samples / 10) * 15, reached.sum() * samples / 10
    cost = sum(np.ceil(len(own) * samples / 10) * met.sum() for own, met in parts)
    assert cost <= full - (0.7 * (full - left) if samples == 40 else 0)


def pooled(x: Array, w: Array, pool: tuple[int, int]) -> tuple[Arena, Product, Array]:
    """Run a convolution with a ReLU and a max-pool of its results; return its winners, too."""
    N, C, *size = x.shape
    O = len(w)
    window = over_three_axes(sliding_window("test", tuple(size), w.shape[2:]))
    out = [n // p for n, p in zip(window.output[1:], pool, strict=True)]
    arena = Arena()
    source = filled(arena.image(N, (C, *size), spare=64), x)
    result = arena.image(N, (O, *out))
    result.array[...] = np.nan
    product = convolution(window, source, result, N, arena, (1, *pool))
    packed = arena.take(product.count * product.tile.padded(O))
    table = np.moveaxis(w, 1, -1).reshape(O, -1).T
    tile = product.tile
    for block, start in enumerate(range(0, O, tile.width)):
        part = packed[block * len(table) * tile.width :][: len(table) * tile.width]
        columns = table[:, start : start + tile.width]
        part.reshape(len(table), -1)[:, : columns.shape[1]] = columns
    winners = arena.take(result.array.size, "uint8")
    constants = (tile.L, tile.V, tile.N, product.steps, product.positions)
    call(
        compiled(conv.forward, *constants),
        conv.FORWARD,
        N,
        dims=address_of(product.dims),
        x=source.base,
        w=address_of(packed),
        b=address_of(arena.take(tile.padded(O))),
        y=result.base,
        winners=address_of(winners),
    )
    return arena, product, winners


@pytest.mark.parametrize("pool", [(2, 2), (3, 1)])
def test_a_max_pool_takes_the_first_of_equals_and_the_first_nan(pool: tuple[int, int]) -> None:
    """The results of a 1x1 convolution by 1 and by -1 are x and -x."""
    x = np.array([[3, 3, -1, 2], [1, 3, 2, 5], [0, 1, 1, 0], [5, 1, 9, 2]], np.float32)
    x = np.tile(x, (2, 3))[None, None]
    x[0, 0, 1, 1] = x[0, 0, 4, 5] = np.nan
    x[0, 0, 2, 2] = np.inf
    w = np.array([1, -1], np.float32).reshape(2, 1, 1, 1)
    _, product, winners = pooled(x, w, pool)
    with np.errstate(invalid="ignore"):
        y, saved = max_pool2d(np.concatenate([x, -x], axis=1), pool)
        found = product.y.channels_first(1)[:, :, 0]
        np.testing.assert_array_equal(found, np.maximum(y, 0))
        # The gradient of 1 for each window says where the winners are.
        dx = max_pool2d_backward(np.ones_like(y), saved)
    places = winners[product.y_at[:, None] + np.arange(2)]
    for window, place in enumerate(places):
        row, column = np.divmod(window, y.shape[3])
        for channel, winner in enumerate(place):
            h, v = np.divmod(winner, pool[1])
            assert dx[0, channel, row * pool[0] + h, column * pool[1] + v] == 1


@pytest.mark.parametrize("small", [False, True])
@pytest.mark.parametrize("value", [0.0, np.inf, np.nan])
def test_what_the_sparse_backward_pass_leaves_out_still_spoils_dw(
    small: bool, value: float
) -> None:
    """A dense one multiplies all of x, and 0 times infinity is NaN."""
    x = np.zeros((1, 1, 6, 6), np.float32)
    x[0, 0, 2, 3] = value
    arena, product, winners = pooled(x, np.zeros((2, 1, 3, 3), np.float32), (2, 2))
    dz = arena.image(1, (2, 2, 2))  # all zero: nothing is alive
    L, V = 4, 1
    dw, db = arena.take(2 * 3 * V * L), arena.take(16)
    maker = conv_max.small_backward if small else conv_max.backward
    constants = (L, V, 3) if small else (L, V, 3, 3)
    call(
        compiled(maker, *constants),
        conv_max.BACKWARD,
        1,
        x=product.x.base,
        x_sample=product.x.sample,
        x_at=address_of(product.x_at),
        area=4,
        windows=4,
        O=2,
        winners=address_of(winners),
        y_sample=product.y.sample,
        y_at=address_of(product.y_at),
        dz=dz.base,
        dz_sample=dz.sample,
        dz_at=address_of(product.y_at),
        slabs=1,
        slab_at=address_of(arena.table([0])),
        KH=3,
        x_row=product.x.row,
        run_padded=V * L,
        dw=address_of(dw),
        db=address_of(db),
        block=1,
        places=address_of(arena.take(64, "int32")),
        values=address_of(arena.take(64)),
        list_channel=5,
        counts=address_of(arena.take(16, "int32")),
    )
    assert np.isnan(dw).any() == (not np.isfinite(value))


def test_a_product_adds_and_lets_through_what_a_gate_says() -> None:
    rng = np.random.default_rng(0)
    window = over_three_axes(sliding_window("test", (5, 6), (3, 3), padding=1))
    x, w, old, gate = (
        rng.normal(size=shape).astype(np.float32)
        for shape in ((2, 4, 5, 6), (20, 4, 3, 3), (2, 20, 5, 6), (2, 20, 5, 6))
    )
    gate[0, 0, 0, 0], old[0, 0, 0, 0] = np.nan, np.nan  # NaN is not less than 0
    arena = Arena()
    source = filled(arena.image(2, (4, 5, 6), window.padding), x)
    result, gates = (filled(arena.image(2, (20, 5, 6)), values) for values in (old, gate))
    product = convolution(window, source, result, 2, arena)
    multiply(arena, product, w, w[0].size, 2, adds=1, gate=gates.base)
    y, _ = ops.conv2d(x, w, None, padding=1)
    expected = np.where(gate <= 0, 0, old + y)
    np.testing.assert_allclose(result.channels_first(2)[:, :, 0], expected, atol=1e-4)


@pytest.mark.parametrize("adds", [0, 1])
def test_dx_scattered_from_few_positions(adds: int) -> None:
    rng = np.random.default_rng(0)
    window = over_three_axes(sliding_window("test", (7, 6), (3, 4), 2, 1))
    x, w, old = (
        rng.normal(size=shape).astype(np.float32)
        for shape in ((3, 3, 7, 6), (5, 3, 3, 4), (3, 3, 7, 6))
    )
    y, saved = ops.conv2d(x, w, None, stride=2, padding=1)
    dy = rng.normal(size=y.shape).astype(np.float32)
    dx, _, _ = ops.conv2d_backward(dy, saved)
    arena, padded = Arena(), 16  # a run is 4 taps of 3 channels
    gradient = arena.image(3, (3, *window.size), window.padding, spare=padded)
    gradient.array[...] = np.nan
    filled(gradient, old)
    if adds:
        gradient.array[np.isnan(gradient.array)] = 0
    dz = filled(arena.image(3, (5, *window.output)), dy)
    product = convolution(window, gradient, dz, 3, arena)
    weights = arena.take(5 * 3 * padded)
    rows = np.moveaxis(w, 1, -1).reshape(15, 12)
    weights[: 15 * padded].reshape(15, padded)[:, :12] = rows
    call(
        compiled(conv_max.input_gradient, 8, 2, 5),
        conv_max.INPUT_GRADIENT,
        3,
        x_sample=gradient.sample,
        x_at=address_of(arena.table(np.arange(2)[:, None] * gradient.sample + product.x_at)),
        windows=product.windows,
        group=2,
        O=5,
        dz=dz.base,
        dz_sample=dz.sample,
        dz_at=address_of(arena.table(np.arange(2)[:, None] * dz.sample + product.y_at)),
        dx=gradient.base,
        w=address_of(weights),
        slabs=1,
        slab_at=address_of(arena.table([0])),
        KH=3,
        x_row=gradient.row,
        run_padded=padded,
        adds=adds,
    )
    found = gradient.channels_first(3)[:, :, 0]
    np.testing.assert_allclose(found, dx + adds * old, atol=1e-4)


def test_gradients_of_side_by_side_channels_are_handed_over() -> None:
    """11 channels of 9 weights in blocks of 8, of two threads, to a rule that keeps them."""
    rng, O, size = np.random.default_rng(0), 11, 9
    dw = rng.normal(size=(2, 2, size, 8)).astype(np.float32)
    db = rng.normal(size=(2, 16)).astype(np.float32)
    order = rng.permutation(size)
    places, room = (order * 8).astype(np.int32), np.zeros(500, np.float32)
    grad, rule = np.full(O * size + O, np.nan, np.float32), np.zeros(1, update.ARGS)
    rule["grad"] = address_of(grad)
    by_channel = np.concatenate([dw[:, 0], dw[:, 1]], axis=2)[:, order, :O].sum(0).T
    biases = db[:, :O].sum(0)
    call(
        compiled(conv.update, 4),
        conv.UPDATE,
        O,
        dw=address_of(dw),
        dw_thread=2 * size * 8,
        places=address_of(places),
        size=size,
        width=8,
        dw_block=size * 8,
        db=address_of(db),
        db_thread=16,
        threads=2,
        sum=address_of(room),
        function=compiled(update.keep, LANES).address,
        function_args=address_of(rule),
        bias_start=O * size,
    )
    np.testing.assert_allclose(grad[: O * size].reshape(O, size), by_channel, rtol=1e-5)
    np.testing.assert_allclose(grad[O * size :], biases, rtol=1e-5)
    assert not dw[:, 0].any()
    assert not dw[:, 1, :, : O - 8].any()
    assert not db[:, :O].any()
