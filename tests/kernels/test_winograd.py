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
    is_of_squares,
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


@pytest.mark.parametrize(
    ("C", "O", "size", "padding", "K"),
    [
        (LANES, 3 * LANES + 4, (8, 6), 1, 3),
        (2 * LANES + 3, LANES + 4, (7, 9), 1, 3),
        (LANES, LANES, (6, 10), 0, 3),
        (LANES + 3, LANES + 4, (7, 8), 2, 5),
        (LANES, LANES, (10, 12), 0, 5),
    ],
)
def test_a_convolution_forward_and_backward(
    monkeypatch: pytest.MonkeyPatch, C: int, O: int, size: tuple[int, int], padding: int, K: int
) -> None:
    monkeypatch.setattr(winograd_calls, "PART", 0)  # each block of outputs is a part
    rng = np.random.default_rng(0)
    window = window_of(size, padding, K)
    x, w, b, old, gate = (
        rng.normal(size=shape).astype(np.float32)
        for shape in ((N, C, *size), (O, C, K, K), (O,), (N, C, *size), (N, C, *size))
    )
    y, saved = conv2d(x, w, b, padding=padding)
    dy = rng.normal(size=y.shape).astype(np.float32)
    dx, dw, db = conv2d_backward(dy, saved)

    nothing = np.zeros(1, np.float32)
    context, program = Context(N, 1, True, nothing, nothing), Program(1)
    arena = context.arena
    source = filled(arena.image(N, (C, *window.size), window.padding), x)
    dz = filled(arena.image(N, (O, *window.output), border_of_gradient(window)), dy)
    result = arena.image(N, (O, *window.output))
    result.array[...] = np.nan
    gradient = filled(arena.image(N, (C, *window.size)), old)
    gates = filled(arena.image(N, (C, *window.size)), gate)

    assert is_of_squares(window, C, O, 100)
    product = convolution(window, source, result, N, arena)
    (back,) = input_gradient(window, dz, gradient, N, arena)
    product.squares = back.squares = K
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
    np.testing.assert_allclose(result.channels_first(N).reshape(y.shape), expected, atol=1e-4)
    expected = np.where(gate <= 0, 0, old + dx)
    np.testing.assert_allclose(gradient.channels_first(N).reshape(dx.shape), expected, atol=1e-4)
    blocks = sums[: K * run * product.tile.padded(O)].reshape(-1, K, run, width)[:, :, : K * C]
    found = np.moveaxis(blocks, 3, 1).reshape(-1, K, K, C)[:O]
    np.testing.assert_allclose(np.moveaxis(found, 3, 1), dw, atol=1e-3)
    assert db is not None
    np.testing.assert_allclose(bias[:O], db, atol=1e-3)


@pytest.mark.parametrize("size", [(9, 12), (10, 11)])
def test_a_convolution_with_the_max_pool_behind_it(size: tuple[int, int]) -> None:
    """Results that fill no window of the pool are in none."""
    C, O, rng = LANES, LANES + 4, np.random.default_rng(0)
    window = window_of(size, 0, 5)
    x, w, b = (
        rng.normal(size=shape).astype(np.float32) for shape in ((N, C, *size), (O, C, 5, 5), (O,))
    )
    y, saved = max_pool2d(conv2d(x, w, b)[0], 2)
    nothing = np.zeros(1, np.float32)
    context, program = Context(N, 1, True, nothing, nothing), Program(1)
    arena = context.arena
    source = filled(arena.image(N, (C, *window.size)), x)
    result = arena.image(N, y.shape[1:])
    result.array[...] = np.nan
    product = convolution(window, source, result, N, arena, (1, 2, 2))
    assert is_of_squares(window, C, O, 100, (1, 2, 2))
    assert not is_of_squares(window, C, O, 100, (1, 3, 3))
    product.squares = 5
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
    np.testing.assert_allclose(result.channels_first(N).reshape(y.shape), y, atol=1e-4)
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
    def is_one(
        size: tuple[int, int], padding: int, C: int = LANES, O: int = LANES, **options: Any
    ) -> bool:
        return is_of_squares(window_of(size, padding, **options), C, O, 10)

    assert is_one((7, 8), 1)
    assert is_one((8, 8), 0)
    assert is_one((12, 12), 0, K=5)
    assert not is_one((8, 8), 0, K=5)  # too few results for weights of that size
    assert is_one((7, 7), 2, K=5)
    assert not is_one((12, 12), 0, K=7)
    assert not is_one((8, 8), 1, K=2)
    assert not is_one((9, 9), 1, K=4)
    assert not is_one((7, 8), 0)  # rows that nothing is around
    assert not is_one((7, 8), 2)  # nothing is around dz
    assert not is_one((2, 2), 1)  # too few results for the weights
    assert not is_one((8, 8), 1, C=LANES - 1)
    assert not is_one((8, 8), 1, O=LANES - 1)
    assert not is_one((8, 8), 1, stride=2)
    assert not is_one((8, 8), 2, dilation=2)
    assert not is_of_squares(
        over_three_axes(sliding_window("test", (8, 8), (3, 1), padding=1)), LANES, LANES, 10
    )
