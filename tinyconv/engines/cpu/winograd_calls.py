"""The calls of ``kernels.cpu.winograd``, for products that it makes with half the work.

What surrounds them is that of any product: the packed weights, which they transform, the threads'
gradients, and the kernel of :mod:`tinyconv.kernels.cpu.conv` for what is not finite.
"""

from math import ceil, prod
from typing import Any

from tinyconv.backend import Values
from tinyconv.engines.cpu.arena import Image
from tinyconv.engines.cpu.conv_dims import SUMS, Product, Squares
from tinyconv.engines.cpu.program import Program
from tinyconv.engines.cpu.step import Context
from tinyconv.engines.cpu.tiling import FEW, compiled, even
from tinyconv.geometry import Geometry
from tinyconv.kernels.cpu import winograd
from tinyconv.kernels.cpu.simd import LANES, REGISTERS

#: Tiles of images that are treated at a time, a multiple of the rows of a kernel's tile. What they
#: become stays in the first cache if the transformed weights leave room for it there; in the second
#: one otherwise, and more of them share what has to be fetched of the weights.
CHUNKS = 12, 24
WEIGHTS = 16 << 10
#: Rows of a kernel's tile.
ROWS = 12
#: Bytes of the gradients of transformed weights that stay in the second cache for all tiles.
PART = 768 << 10
#: Results that a transformed weight serves at least, by the rows of a tile: for fewer the
#: transformation is too dear, and so is compiling it.
RESULTS = {4: 64, 6: 256}
#: What a tile costs, by its rows, in products with what is around them: measured, 64 channels.
COSTS = {4: 16, 6: 50}
#: Tiles that cost as much as the transformation of the weights.
WEIGHT = 48
#: Batches that a weight serves in predictions, as a rule, before it changes.
PREDICTIONS = 16


def squares_of(
    window: Geometry,
    channels: int,
    outputs: int,
    batch: int,
    passes: int,
    pooling: tuple[int, ...] = (1, 1, 1),
    exact: bool = False,
) -> Squares | None:
    """Return the cheapest tiles for a convolution, None if it is not made of any.

    It has windows of 2 x 2 to 5 x 5, one apart, and channels for vectors, and each of its weights
    serves enough results, of so many passes of a batch. A max-pool behind it, of ``pooling``
    results, has windows of 2 x 2 if any. If ``exact``, windows of zeros have results of exactly 0.
    """
    K = window.kernel[-1]
    if not (
        pooling in ((1, 1, 1), (1, 2, 2))
        and window.kernel == (1, K, K)
        and window.stride == window.dilation == (1, 1, 1)
        and window.size[0] == window.output[0] == 1
        and min(channels, outputs) >= LANES
    ):
        return None
    tiles = [
        Squares(S - K + 1, K)
        for S, least in RESULTS.items()
        if passes * batch * prod(window.output) >= least * prod(pooling)
    ]
    block = min(batch, FEW)
    choices = [
        tile
        for tile in tiles
        if 1 < K < tile.S and tile.R % pooling[-1] == 0 and (tile.R == 2 or not exact)
    ]

    def cost(tile: Squares) -> float:
        rows = ceil(block * tile.count(window.output) / ROWS) * ROWS
        return COSTS[tile.S] * (passes * batch / block * rows + WEIGHT)

    return min(choices, key=cost, default=None)


def squares_in(product: Product) -> Squares:
    """Return a product's tiles, which it has."""
    assert product.squares is not None
    return product.squares


def _sizes(product: Product, channels: int) -> dict[str, Any]:
    """Return what the records of kernels over tiles share, for so many outputs; see there."""
    side = 1 if product.positions == 1 else 2
    weights = 4 * squares_in(product).S ** 2 * _vectors(product) * LANES * channels
    chunk = CHUNKS[weights > WEIGHTS or CHUNKS[0] % _rows(product) > 0]
    return {
        "x": product.x.array[product.start :],
        "x_sample": product.x.sample,
        "x_row": product.x.row,
        "x_step": product.x.step,
        "H": side * product.y.H,
        "W": side * product.y.W,
        "C": product.x.C,
        "O": channels,
        "chunk": chunk,
        "u_step": _step(chunk * LANES),
        "m_step": _step(chunk * product.tile.width),
    }


def _vectors(product: Product) -> int:
    """Return the vectors of channels that a product reads."""
    return ceil(product.x.C / LANES)


def _rows(product: Product) -> int:
    return min(ROWS, SUMS // product.tile.V)


def _step(count: int) -> int:
    """Return how far matrices of so many numbers are apart, that fill other lines of the cache."""
    return count + LANES


def _room(
    context: Context, product: Product, sizes: dict[str, Any], s_step: int = 0
) -> dict[str, Any]:
    """Return the arguments that say where the transformed tiles are, and what is behind them."""
    matrices, blocks = squares_in(product).S ** 2, ceil(sizes["O"] / product.tile.width)
    m_start = matrices * _vectors(product) * sizes["u_step"]
    s_start = m_start + matrices * blocks * sizes["m_step"]
    room, thread = context.room(s_start + matrices * s_step)
    places = {"room": room, "room_thread": thread, "m_start": m_start}
    return {**places, "s_start": s_start, "s_step": s_step} if s_step else places


def add_square_weights(
    context: Context, program: Program, name: str, product: Product, w: Values
) -> None:
    """Add the calls that transform a product's packed weights."""
    C, squares, tile = product.x.C, squares_in(product), product.tile
    padded = tile.padded(product.channels)
    step = _step(C * padded)
    v: dict[str, Any] = {"v": context.arena.take(squares.S**2 * step), "v_step": step}
    product.transformed = v
    sizes: dict[str, Any] = {"C": C, "width": tile.width, "blocks": padded // tile.width}
    kernel = compiled(winograd.weights, tile.L, *squares)
    program.defer(lambda: program.call(name, kernel, items=C, w=w, **v, **sizes))


def add_squares(
    context: Context, program: Program, name: str, product: Product, **values: Any
) -> None:
    """Add the call of a product; ``values`` are what the records of both kernels share."""
    tile, y = product.tile, product.y
    # Channels of x at a time: each takes V registers, and one more the factor of a row.
    registers = (REGISTERS - 1) // tile.V - _rows(product)
    together = max(G for G in (4, 2, 1) if G == 1 or (registers >= G and product.x.C % G == 0))
    constants = tile.L, tile.V, _rows(product), together, product.positions
    sizes = _sizes(product, product.channels)
    program.call(
        name,
        compiled(winograd.forward, *constants, *squares_in(product)),
        **sizes,
        **_room(context, product, sizes),
        **product.transformed,
        y_sample=y.sample,
        y_row=y.row,
        y_step=y.step,
        **values,
    )


def add_weight_gradient_of_squares(
    context: Context,
    program: Program,
    name: str,
    product: Product,
    dz: Image,
    run_padded: int,
    dw: Values,
    db: Values,
    **values: int,
) -> None:
    """Add the calls of dw and db, which are there; ``values`` say how far threads are apart.

    All tiles pass by all sums. Where these are too many for the second cache, it is faster to
    transform the input again for each part of the outputs.
    """
    tile, squares, C = product.tile, squares_in(product), _vectors(product) * LANES
    N = min(LANES, 1 << (SUMS // tile.V).bit_length() - 1)  # divides the vectors of channels
    block = 4 * squares.S**2 * C * tile.width
    step = even(ceil(product.channels / tile.width), max(1, PART // block)) * tile.width
    for o in range(0, product.channels, step):
        O = min(step, product.channels - o)
        sizes = _sizes(product, O)
        program.call(
            name,
            compiled(winograd.weight_gradient, tile.L, tile.V, N, *squares),
            **sizes,
            **_room(context, product, sizes, _step(C * tile.padded(O))),
            O_all=tile.padded(O),
            dz=dz.channels(o, O),
            dw=dw[o * squares.K * run_padded :],
            db=db[o:],
            run_padded=run_padded,
            width=tile.width,
            **values,
        )
