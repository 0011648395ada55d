"""The calls of ``kernels.cpu.winograd``, for products that it makes with half the work.

What surrounds them is that of any product: the packed weights, which they transform, the threads'
gradients, and the kernel of :mod:`tinyconv.kernels.cpu.conv` for what is not finite.
"""

from math import ceil, prod
from typing import Any

from tinyconv.backend import Values
from tinyconv.engines.cpu.arena import Image
from tinyconv.engines.cpu.conv_dims import SUMS, Product
from tinyconv.engines.cpu.program import Program
from tinyconv.engines.cpu.step import Context
from tinyconv.engines.cpu.tiling import compiled, even
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
#: Results that a transformed weight serves at least, by the rows of its window: for fewer the
#: transformation is too dear, and so is compiling it.
RESULTS = {3: 64, 5: 256}
#: Batches that a weight serves in predictions, as a rule, before it changes.
PREDICTIONS = 16


def is_of_squares(
    window: Geometry,
    channels: int,
    outputs: int,
    samples: int,
    pooling: tuple[int, ...] = (1, 1, 1),
) -> bool:
    """Whether a convolution has windows of 3 x 3 or 5 x 5, one apart, and channels for vectors.

    Each of its weights has to serve enough results, of so many samples.

    A max-pool behind it, of ``pooling`` results, has windows of 2 x 2 if any. Without one, the last
    tile of an odd number of rows reads one row too many; what is there has to be zero.
    """
    K = window.kernel[-1]
    if pooling == (1, 1, 1):
        sizes = zip(window.output[1:], window.padding[1:], strict=True)
        may_be = all(n % 2 == 0 or all(0 < p < K - 1 for p in padding) for n, padding in sizes)
    else:
        may_be = pooling == (1, 2, 2)
    return (
        may_be
        and K in RESULTS
        and window.kernel == (1, K, K)
        and window.stride == window.dilation == (1, 1, 1)
        and window.size[0] == window.output[0] == 1
        and min(channels, outputs) >= LANES
        and samples * prod(window.output) >= RESULTS[K] * prod(pooling)
    )


def _sizes(product: Product) -> dict[str, Any]:
    """Return what the records of kernels over tiles share; see there."""
    side = 1 if product.positions == 1 else 2
    C_all = ceil(product.x.C / LANES) * LANES
    O_all = product.tile.padded(product.channels)
    weights = 4 * (product.squares + 1) ** 2 * C_all * O_all
    return {
        "x": product.x.array[product.start :],
        "x_sample": product.x.sample,
        "x_row": product.x.row,
        "x_step": product.x.step,
        "H": side * product.y.H,
        "W": side * product.y.W,
        "C": product.x.C,
        "O": product.channels,
        "chunk": CHUNKS[weights > WEIGHTS or CHUNKS[0] % _rows(product) > 0],
        "C_all": C_all,
        "O_all": O_all,
    }


def _rows(product: Product) -> int:
    return min(ROWS, SUMS // product.tile.V)


def _with_room(
    context: Context, product: Product, sizes: dict[str, Any], more: int = 0
) -> dict[str, Any]:
    """Add a place for the transformed tiles, and ``more`` matrices' sizes, to the arguments."""
    # Behind each matrix is a vector, so that they do not fall on the same lines of the cache.
    u_step, m_step = (sizes["chunk"] * sizes[name] + LANES for name in ("C_all", "O_all"))
    room, thread = context.room((product.squares + 1) ** 2 * (u_step + m_step + more))
    steps = {"u_step": u_step, "m_step": m_step}
    return {**sizes, **steps, "room": room, "room_thread": thread}


def add_square_weights(
    context: Context, program: Program, name: str, product: Product, w: Values
) -> None:
    """Add the calls that transform a product's packed weights."""
    C, K, width = product.x.C, product.squares, product.tile.width
    padded = product.tile.padded(product.channels)
    v = product.transformed = context.arena.take((K + 1) ** 2 * C * padded)
    kernel = compiled(winograd.weights, product.tile.L, K)
    values: dict[str, Any] = {"w": w, "v": v, "C": C, "width": width, "blocks": padded // width}
    program.defer(lambda: program.call(name, kernel, items=C, **values))


def add_squares(
    context: Context, program: Program, name: str, product: Product, **values: Any
) -> None:
    """Add the call of a product; ``values`` are what the records of both kernels share."""
    tile, y = product.tile, product.y
    # Channels of x at a time: each takes V registers, and one more the factor of a row.
    registers = (REGISTERS - 1) // tile.V - _rows(product)
    together = max(G for G in (4, 2, 1) if G == 1 or (registers >= G and product.x.C % G == 0))
    constants = tile.L, tile.V, _rows(product), together, product.positions, product.squares
    program.call(
        name,
        compiled(winograd.forward, *constants),
        **_with_room(context, product, _sizes(product)),
        v=product.transformed,
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
    tile, sizes = product.tile, _sizes(product)
    R = min(LANES, 1 << (SUMS // tile.V).bit_length() - 1)  # divides the vectors of channels
    block = 4 * (product.squares + 1) ** 2 * sizes["C_all"] * tile.width
    step = even(sizes["O_all"] // tile.width, max(1, PART // block)) * tile.width
    for o in range(0, product.channels, step):
        sizes["O"] = min(step, product.channels - o)
        sizes["O_all"] = tile.padded(sizes["O"])
        program.call(
            name,
            compiled(winograd.weight_gradient, tile.L, tile.V, R, product.squares),
            **_with_room(context, product, sizes, sizes["C_all"] * sizes["O_all"]),
            dz=dz.channels(o, sizes["O"]),
            dw=dw[o * product.squares * run_padded :],
            db=db[o:],
            run_padded=run_padded,
            width=tile.width,
            **values,
        )
