"""The kernels of convolution by squares against the operations, from buffers full of NaN."""

from copy import deepcopy as copy
from typing import Any

import numpy as np
import pytest
from test_conv import filled

import tinyconv as tc
from tinyconv.engines.cpu import winograd_calls
from tinyconv.engines.cpu.arena import Arena
from tinyconv.engines.cpu.conv_dims import (
    Product,
    Squares,
    border_of_gradient,
    convolution,
    input_gradient,
    over_three_axes,
)
from tinyconv.engines.cpu.program import Program
from tinyconv.engines.cpu.step import Context
from tinyconv.engines.cpu.winograd_calls import (
    add_square_weights,
    add_squares,
    add_weight_gradient_of_squares,
    squares_of,
)
from tinyconv.geometry import Geometry, sliding_window
from tinyconv.kernels.cpu.kernel import address_of
from tinyconv.kernels.cpu.simd import LANES
from tinyconv.ops.conv import conv2d, conv2d_backward
from tinyconv.ops.pool import max_pool2d

Array = np.ndarray[Any, Any]

N = 5


def window_of(size: tuple[int, ...], padding: int, K: int = 3, **options: Any) -> Geometry:
    return over_three_axes(sliding_window("test", size, (K, K), padding=padding, **options))


def packed(arena: Arena, product: Product, w: Array) -> Array:
    """Arrange weights (O, C, K, K) as the kernel of any product takes them."""
    O, width = len(w), product.tile.width
    table = np.moveaxis(w, 1, -1).reshape(O, -1).T
    blocks = arena.take(len(table) * product.tile.padded(O))
    for block, start in enumerate(range(0, O, width)):
        part = blocks[block * len(table) * width :][: len(table) * width].reshape(len(table), -1)
        part[:, : O - start] = table[:, start : start + width]
    return blocks


def assert_close(found: Array, expected: Array | None, terms: Array | None) -> None:
    """Compare sums to a millionth of the largest sum of what their terms amount to."""
    assert expected is not None
    assert terms is not None
    np.testing.assert_allclose(found, expected, rtol=0, atol=1e-6 * terms.max())


@pytest.mark.parametrize(
    ("C", "O", "size", "padding", "squares"),
    [
        (LANES, 3 * LANES + 4, (8, 9), 1, Squares(4, 3)),
        (LANES, LANES, (7, 12), 0, Squares(4, 3)),
        (2 * LANES + 3, LANES + 4, (7, 9), 1, Squares(2, 3)),
        (LANES + 3, LANES + 4, (7, 8), 2, Squares(2, 5)),
        (LANES, LANES, (9, 8), 1, Squares(5, 2)),
        (LANES, LANES, (9, 8), 1, Squares(3, 4)),
    ],
)
def test_a_convolution_forward_and_backward(
    monkeypatch: pytest.MonkeyPatch,
    C: int,
    O: int,
    size: tuple[int, int],
    padding: int,
    squares: Squares,
) -> None:
    monkeypatch.setattr(winograd_calls, "PART", 0)  # each block of outputs is a part
    rng, K = np.random.default_rng(0), squares.K
    window = window_of(size, padding, K)
    x, w, b, old, gate = (
        rng.normal(size=shape).astype(np.float32)
        for shape in ((N, C, *size), (O, C, K, K), (O,), (N, C, *size), (N, C, *size))
    )
    y, saved = conv2d(x, w, b, padding=padding)
    dy = rng.normal(size=y.shape).astype(np.float32)
    dx, dw, db = conv2d_backward(dy, saved)
    all_y, saved = conv2d(abs(x), abs(w), abs(b), padding=padding)
    all_dx, all_dw, all_db = conv2d_backward(abs(dy), saved)

    nothing = np.zeros(1, np.float32)
    context, program = Context(N, 1, True, nothing, nothing), Program(1)
    arena = context.arena
    source = filled(arena.image(N, (C, *window.size), window.padding), x)
    dz = filled(arena.image(N, (O, *window.output), border_of_gradient(window)), dy)
    result = arena.image(N, (O, *window.output))
    result.array[...] = np.nan
    gradient = filled(arena.image(N, (C, *window.size)), old)
    gates = filled(arena.image(N, (C, *window.size)), gate)

    product = convolution(window, source, result, N, arena)
    (back,) = input_gradient(window, dz, gradient, N, arena)
    product.squares = back.squares = squares
    flipped = np.swapaxes(w, 0, 1)[:, :, ::-1, ::-1]
    add_square_weights(context, program, "v", product, packed(arena, product, w))
    add_square_weights(context, program, "v", back, packed(arena, back, flipped))
    program.add_deferred()
    biases, none = (arena.take(part.tile.padded(part.channels)) for part in (product, back))
    biases[:O] = b
    places = {"b": address_of(biases), "y": result.base + 4 * product.end}
    add_squares(context, program, "y", product, **places, floor=0.0)
    places = {"b": address_of(none), "y": gradient.base + 4 * back.end, "gate": gates.origin}
    add_squares(context, program, "dx", back, **places, adds=1, floor=-np.inf)
    width, run = product.tile.width, K * C + 1
    sums, bias = (arena.take(n * product.tile.padded(O)) for n in (K * run, 1))
    where: dict[str, Any] = {"dw": sums, "db": bias, "run_padded": run}
    add_weight_gradient_of_squares(context, program, "dw", product, dz, **where)
    context._room[...] = np.nan
    program.freeze(2)
    program.run(N)

    expected = np.maximum(y, 0)
    assert_close(result.channels_first(N).reshape(y.shape), expected, all_y)
    expected = np.where(gate <= 0, 0, old + dx)
    assert_close(gradient.channels_first(N).reshape(dx.shape), expected, all_dx)
    blocks = sums[: K * run * product.tile.padded(O)].reshape(-1, K, run, width)[:, :, : K * C]
    found = np.moveaxis(blocks, 3, 1).reshape(-1, K, K, C)[:O]
    assert_close(np.moveaxis(found, 3, 1), dw, all_dw)
    assert_close(bias[:O], db, all_db)


@pytest.mark.parametrize("squares", [Squares(4, 3), Squares(2, 5)])
@pytest.mark.parametrize("size", [(9, 12), (10, 11)])
def test_a_convolution_with_the_max_pool_behind_it(size: tuple[int, int], squares: Squares) -> None:
    """Results that fill no window of the pool are in none."""
    C, O, K, rng = LANES, LANES + 4, squares.K, np.random.default_rng(0)
    window = window_of(size, 0, K)
    x, w, b = (
        rng.normal(size=shape).astype(np.float32) for shape in ((N, C, *size), (O, C, K, K), (O,))
    )
    y, saved = max_pool2d(conv2d(x, w, b)[0], 2)
    nothing = np.zeros(1, np.float32)
    context, program = Context(N, 1, True, nothing, nothing), Program(1)
    arena = context.arena
    source = filled(arena.image(N, (C, *window.size)), x)
    result = arena.image(N, y.shape[1:])
    result.array[...] = np.nan
    product = convolution(window, source, result, N, arena, (1, 2, 2))
    product.squares = squares
    add_square_weights(context, program, "v", product, packed(arena, product, w))
    program.add_deferred()
    biases = arena.take(product.tile.padded(O))
    biases[:O] = b
    winners = arena.take(result.array.size, "uint8")
    winners[...] = 77
    where = {"y": result.base + 4 * product.end, "winners": address_of(winners) + product.end}
    add_squares(context, program, "y", product, **where, b=address_of(biases), floor=-np.inf)
    context._room[...] = np.nan
    program.freeze(2)
    program.run(N)
    assert_close(result.channels_first(N).reshape(y.shape), y, conv2d(abs(x), abs(w), abs(b))[0])
    rows, columns = np.divmod(saved.argmax, window.output[2])
    expected = rows % 2 * 2 + columns % 2
    found = winners[: N * result.sample].reshape(N, -1)[:, : y[0].size].reshape(N, -1, O)
    np.testing.assert_array_equal(np.moveaxis(found, -1, 1).reshape(y.shape), expected)


@pytest.mark.parametrize("behind", [[], [tc.MaxPool2d(2)]])
@pytest.mark.parametrize("value", [np.inf, -np.inf, np.nan])
def test_what_is_not_finite_is_as_in_the_operation(value: float, behind: list[tc.Layer]) -> None:
    """A sum of squares would make NaN of an infinity."""
    layers = [tc.Conv2d(LANES, LANES, 3, padding=1), *map(copy, behind)]
    net = tc.Sequential(layers, seed=0, input_shape=(LANES, 6, 6))
    x = np.random.default_rng(0).random((8, LANES, 6, 6), np.float32)
    x[1, 2, 3, 4] = value
    with np.errstate(invalid="ignore"):
        expected = net.forward(x)
    assert np.isinf(expected).any() == np.isinf(value)
    np.testing.assert_allclose(net.logits(x), expected, rtol=1e-4, atol=1e-5)


def test_which_convolutions_are_of_squares() -> None:
    def chosen(
        size: tuple[int, int],
        padding: int,
        C: int = LANES,
        O: int = LANES,
        pooling: tuple[int, int, int] = (1, 1, 1),
        **options: Any,
    ) -> Squares | None:
        return squares_of(window_of(size, padding, **options), C, O, 10, 1, pooling)

    assert chosen((16, 16), 1) == Squares(4, 3)
    assert chosen((8, 8), 1) == Squares(2, 3)  # the weights are dearer than the products
    assert chosen((7, 8), 0) == Squares(2, 3)  # 5 x 6: four tiles of 6 x 6 are six of 4 x 4
    assert chosen((5, 5), 1) == Squares(2, 3)  # too few results for large tiles
    assert chosen((2, 2), 1) is None  # too few results for the weights
    assert chosen((12, 12), 0, K=5) == Squares(2, 5)
    assert chosen((8, 8), 0, K=5) is None
    assert chosen((9, 9), 1, K=2) == Squares(3, 2)
    assert chosen((9, 9), 1, K=4) == Squares(3, 4)
    assert chosen((12, 12), 0, K=6) is None
    assert chosen((12, 12), 0, K=1) is None
    assert chosen((16, 16), 1, pooling=(1, 2, 2)) == Squares(4, 3)
    assert chosen((8, 8), 1, pooling=(1, 2, 2)) == Squares(2, 3)
    assert chosen((18, 18), 1, K=2, pooling=(1, 2, 2)) is None
    assert chosen((18, 18), 1, pooling=(1, 3, 3)) is None
    assert chosen((8, 8), 1, C=LANES - 1) is None
    assert chosen((8, 8), 1, O=LANES - 1) is None
    assert chosen((8, 8), 1, stride=2) is None
    assert chosen((8, 8), 2, dilation=2) is None
    for K, exact in ((3, Squares(2, 3)), (4, None), (5, Squares(2, 5))):
        window = window_of((16, 16), 1, K)
        assert squares_of(window, LANES, LANES, 10, 1, exact=True) == exact
    window = over_three_axes(sliding_window("test", (8, 8), (3, 1), padding=1))
    assert squares_of(window, LANES, LANES, 10, 1) is None


@pytest.mark.parametrize("bias", [True, False])
def test_a_relu_stops_what_is_exactly_0(bias: bool) -> None:
    """As training begins all biases are 0, and so is the result where the image is black."""
    x = np.random.default_rng(0).random((10, LANES, 16, 16), np.float32)
    x[:, :, :3] = x[:, :, :, 6:] = 0
    targets, gradients = np.ones((10, LANES, 1, 1), np.float32), []
    for engine in ("plan", "eager"):
        layers = [
            tc.Conv2d(LANES, LANES, 1),
            tc.Tanh(),
            tc.Conv2d(LANES, LANES, 3, padding=1, bias=bias),
            tc.ReLU(),
            tc.GlobalAvgPool(),
        ]
        net = tc.Sequential(layers, seed=0, input_shape=x.shape[1:])
        before = net.parameters.flat.copy()
        options: dict[str, Any] = {"batch_size": 10, "engine": engine, "verbose": False}
        net.fit(x, targets, loss=tc.MSELoss(), optimizer=tc.SGD(lr=1.0), epochs=1, **options)
        gradients.append(before - net.parameters.flat)
    np.testing.assert_allclose(*gradients, rtol=0, atol=1e-6)
