"""Convolution in groups of few channels against its operation, from buffers full of NaN."""

from math import prod
from typing import Any

import numpy as np
import pytest
from images import filled

from tinyconv.engines.cpu.arena import Arena, Image
from tinyconv.engines.cpu.conv_dims import (
    Product,
    border_of_gradient,
    convolution,
    input_gradient,
    inside,
    over_three_axes,
)
from tinyconv.geometry import sliding_window
from tinyconv.kernels.cpu import conv
from tinyconv.kernels.cpu.kernel import address_of
from tinyconv.ops import conv as ops

Array = np.ndarray[Any, Any]

#: size, kernel, stride, padding, dilation
CONVOLUTIONS: tuple[tuple[Any, ...], ...] = (
    ((13,), (3,), 2, 1, 1),
    ((6, 7), (3, 3), 1, 1, 1),
    ((3, 5, 6), (2, 3, 3), (1, 2, 1), 1, 1),
    ((12, 11), (2, 3), (3, 2), (1, 3), (2, 3)),
    ((9, 10), (1, 2), (3, 4), 0, 1),
    ((4, 5), (1, 2), 1, 3, 1),
)
OPS = {
    1: (ops.conv1d, ops.conv1d_backward),
    2: (ops.conv2d, ops.conv2d_backward),
    3: (ops.conv3d, ops.conv3d_backward),
}
N, W_ROW = 3, 16


def drawn(seed: int, *shape: int) -> Array:
    return np.random.default_rng(seed).standard_normal(shape, np.float32)


def put(image: Image, values: Array) -> Image:
    inner = image.channels_first(N)
    inner[...] = values.reshape(inner.shape)
    return image


def taken(image: Image, shape: tuple[int, ...]) -> Array:
    return image.channels_first(N).reshape(shape)


def run(product: Product, rows: Array, b: Array, L: int, V: int, I: int, O: int) -> None:
    """Make y of x by a product of one channel's tables, with weights (channels, I, taps)."""
    C = len(rows)
    product.dims["O"], product.dims["block"] = C, product.dims["group"]
    blocks, count = W_ROW // (V * L), product.count * I
    w, bias = np.zeros((W_ROW, count), np.float32), np.zeros(W_ROW, np.float32)
    w[:C], bias[:C] = rows[:, :, product.weight_at].swapaxes(1, 2).reshape(C, -1), b
    packed = np.append(w.reshape(blocks, V * L, count).swapaxes(1, 2), np.float32(0))
    args = filled(
        conv.FORWARD,
        dims=address_of(product.dims),
        x=product.x.base,
        w=address_of(packed),
        b=address_of(bias),
        y=product.y.base,
        floor=-np.inf,
    )
    kernel = conv.forward(L, V, 3, I, 1, O)
    for first, last in ((0, 2), (2, N)):
        kernel.ctypes(address_of(args), 0, first, last)


@pytest.mark.parametrize(
    ("groups", "I", "O", "L", "V"),
    [
        (5, 1, 1, 4, 2),
        (3, 1, 1, 4, 1),
        (3, 2, 2, 4, 2),
        (2, 4, 1, 4, 1),
        (2, 2, 4, 8, 1),
        (1, 8, 8, 8, 1),
        (2, 8, 4, 8, 1),
    ],
)
@pytest.mark.parametrize("case", CONVOLUTIONS, ids=str)
def test_forward_and_backward(case: Any, groups: int, I: int, O: int, L: int, V: int) -> None:
    size, kernel, stride, padding, dilation = case
    window = over_three_axes(sliding_window("test", size, kernel, stride, padding, dilation))
    C, K = groups * O, prod(kernel)
    x, w, b = drawn(1, N, groups * I, *size), drawn(2, C, I, *kernel), drawn(3, C)
    forward, backward = OPS[len(size)]
    y, saved = forward(x, w, b, stride=stride, padding=padding, dilation=dilation, groups=groups)
    dy = drawn(4, *y.shape)
    dx, dw, db = backward(dy, saved)
    assert db is not None

    arena = Arena()
    source = put(arena.image(N, x.shape[1:], window.padding), x)
    target = put(arena.image(N, y.shape[1:]), np.full_like(y, np.nan))
    product = convolution(window, source.channels(0, 1), target.channels(0, 1), N, arena)
    run(product, w.reshape(C, I, K), b, L, V, I, O)
    np.testing.assert_allclose(taken(target, y.shape), y, rtol=0, atol=1e-4)

    dz = put(arena.image(N, y.shape[1:], border_of_gradient(window)), dy)
    sent = put(arena.image(N, x.shape[1:]), np.full_like(x, np.nan))
    for phase in input_gradient(window, dz.channels(0, 1), sent.channels(0, 1), N, arena):
        back = w.reshape(groups, O, I, K).swapaxes(1, 2).reshape(groups * I, O, K)
        run(phase, back, np.zeros(groups * I, np.float32), L, V, O, I)
    np.testing.assert_allclose(taken(sent, x.shape), dx, rtol=0, atol=1e-4)

    # tiles of two taps, of which the last may be there repeatedly
    z_at, taps = arena.table(inside(dz)), arena.table(product.elements)
    for name, value in {
        "z_at": address_of(z_at),
        "z_sample": dz.sample,
        "positions": len(z_at),
        "rows": address_of(taps),
        "row_count": len(taps),
        "run": I,
        "run_padded": I,
    }.items():
        product.dims[name] = value
    sums = np.zeros((2, W_ROW // (V * L), -(-K // 2) * 2, I, V * L), np.float32)
    biases = np.zeros((2, W_ROW), np.float32)
    args = filled(
        conv.WEIGHT_GRADIENT,
        dims=address_of(product.dims),
        x=source.base,
        dz=dz.base,
        chunk=5,
        block=1,
        dw=address_of(sums),
        dw_thread=sums[0].size,
        db=address_of(biases),
        db_thread=W_ROW,
    )
    gradient = conv.weight_gradient(L, V, I, 2, O)
    for thread, (first, last) in enumerate(((0, 2), (2, N))):
        gradient.ctypes(address_of(args), thread, first, last)
    found = np.moveaxis(sums.sum(0)[:, :K], -1, 1).reshape(W_ROW, K, I)[:C]
    found = found.swapaxes(1, 2).reshape(dw.shape)
    np.testing.assert_allclose(found, dw, rtol=0, atol=2e-4)
    np.testing.assert_allclose(biases.sum(0)[:C], db, rtol=0, atol=2e-4)
