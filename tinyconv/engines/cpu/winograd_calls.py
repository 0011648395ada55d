"""The calls of ``kernels.cpu.winograd``, for products that it makes with half the work.

What surrounds them is that of any product: the packed weights, which they transform, the threads'
gradients, and the kernel of :mod:`tinyconv.kernels.cpu.conv` for what is not finite.
"""

from math import ceil, prod
from typing import Any

import numpy as np

from tinyconv.engines.cpu.arena import Image
from tinyconv.engines.cpu.conv_dims import SUMS, Product
from tinyconv.engines.cpu.program import Program
from tinyconv.engines.cpu.step import Context
from tinyconv.engines.cpu.tiling import compiled
from tinyconv.geometry import Geometry
from tinyconv.kernels.cpu import winograd
from tinyconv.kernels.cpu.kernel import address_of
from tinyconv.kernels.cpu.simd import LANES

Array = np.ndarray[Any, Any]

#: Tiles that are treated at a time, a multiple of the rows of any tile of :data:`SUMS`: what they
#: become stays in the caches.
CHUNK = 24
#: Results that each part of a transformed weight serves at least: for fewer the transformation is
#: too dear.
RESULTS = 64


def is_of_squares(
    window: Geometry, channels: int, outputs: int, batch: int, pooling: tuple[int, ...] = (1, 1, 1)
) -> bool:
    """Whether a convolution has windows of 3 x 3 or more, one apart, and channels for vectors.

    A max-pool behind it, of ``pooling`` results, has windows of 2 x 2 if any. Without one, the last
    tile of an odd number of rows reads one row too many; what is there has to be zero.
    """
    KD, *kernel = window.kernel
    parts = prod(len(_parts_of(k)) for k in kernel)
    if pooling == (1, 1, 1):
        sizes = zip(window.output[1:], window.padding[1:], kernel, strict=True)
        may_be = all(n % 2 == 0 or all(0 < p < k - 1 for p in padding) for n, padding, k in sizes)
    else:
        may_be = pooling == (1, 2, 2)
    return (
        may_be
        and KD == 1
        and all(k >= 3 and k != 4 for k in kernel)
        and window.stride == window.dilation == (1, 1, 1)
        and window.size[0] == window.output[0] == 1
        and min(channels, outputs) >= LANES
        and batch * prod(window.output) >= RESULTS * parts * prod(pooling)
    )


def _parts_of(size: int) -> list[tuple[int, int]]:
    """Return where each part of so many rows begins, and its rows: 2, as often as need be, or 3.

    >>> _parts_of(3), _parts_of(5), _parts_of(7)
    ([(0, 3)], [(0, 2), (2, 3)], [(0, 2), (2, 2), (4, 3)])
    """
    parts, start = [], 0
    while start < size:
        rows = 3 if (size - start) % 3 == 0 else 2
        parts.append((start, rows))
        start += rows
    return parts


def _sizes(context: Context, product: Product) -> dict[str, int]:
    """Return what the records of kernels over tiles share; see there."""
    C, (KH, KW) = product.x.C, product.squares
    parts = np.array(
        [
            (rows, columns, h * KW + w, h * product.x.row + w * product.x.step)
            for h, rows in _parts_of(KH)
            for w, columns in _parts_of(KW)
        ],
        np.int64,
    )
    context.arena.arrays.append(parts)
    side = 1 if product.positions == 1 else 2
    return {
        "x": product.x.base + 4 * product.start,
        "x_sample": product.x.sample,
        "x_row": product.x.row,
        "x_step": product.x.step,
        "H": side * product.y.H,
        "W": side * product.y.W,
        "C": C,
        "O": product.channels,
        "chunk": CHUNK,
        "C_all": ceil(C / LANES) * LANES,
        "O_all": product.tile.padded(product.channels),
        "parts": len(parts),
        "part_at": address_of(parts),
    }


def _with_room(context: Context, sizes: dict[str, int], more: int = 0) -> dict[str, int]:
    """Add a place for the transformed tiles, and ``more`` numbers, to the arguments."""
    # Behind each matrix is a vector, so that the 16 do not fall on the same lines of the cache.
    u_step, m_step = (sizes["chunk"] * sizes[name] + LANES for name in ("C_all", "O_all"))
    room, thread = context.room(16 * (sizes["parts"] * u_step + m_step) + more)
    steps = {"u_step": u_step, "m_step": m_step}
    return {**sizes, **steps, "room": room, "room_thread": thread}


def add_square_weights(
    context: Context, program: Program, name: str, product: Product, w: Array
) -> Array:
    """Add the calls that transform a product's packed weights, and return where they go."""
    sizes, width, (KH, KW) = _sizes(context, product), product.tile.width, product.squares
    C, padded = sizes["C"], product.tile.padded(product.channels)
    v = context.arena.take(16 * sizes["parts"] * C * padded)
    kernel = compiled(winograd.weights, product.tile.L)
    values = {"w": address_of(w), "v": address_of(v), "C": C, "width": width}
    values |= {"taps": KH * KW, "KW": KW, "parts": sizes["parts"], "part_at": sizes["part_at"]}
    blocks = padded // width
    program.defer(
        lambda: program.call(name, kernel, winograd.WEIGHTS, items=C, blocks=blocks, **values)
    )
    return v


def add_squares(
    context: Context, program: Program, name: str, product: Product, v: Array, **values: Any
) -> None:
    """Add the call of a product; ``values`` are what the records of both kernels share."""
    tile, y = product.tile, product.y
    program.call(
        name,
        compiled(winograd.forward, tile.L, tile.V, SUMS // tile.V, product.positions),
        winograd.FORWARD,
        **_with_room(context, _sizes(context, product)),
        v=address_of(v),
        y_sample=y.sample,
        y_row=y.row,
        y_step=y.step,
        **values,
    )


def add_weight_gradient_of_squares(
    context: Context, program: Program, name: str, product: Product, dz: Image, **values: int
) -> None:
    """Add the call of dw and db; ``values`` say where they are."""
    tile, sizes = product.tile, _sizes(context, product)
    R = min(LANES, 1 << (SUMS // tile.V).bit_length() - 1)  # divides the vectors of channels
    program.call(
        name,
        compiled(winograd.weight_gradient, tile.L, tile.V, R),
        winograd.WEIGHT_GRADIENT,
        **_with_room(context, sizes, 16 * sizes["C_all"] * sizes["O_all"]),
        dz=dz.origin,
        dz_sample=dz.sample,
        dz_row=dz.row,
        dz_step=dz.step,
        width=tile.width,
        **values,
    )
