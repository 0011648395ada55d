"""What surrounds the layers of a step: fetching the batch, flattening, dropout, and the loss.

Twins of ``x[index]``, of a reshape, of :mod:`tinyconv.ops.dropout` with the mask drawn by
:func:`tinyconv.random.uniform`, and of :mod:`tinyconv.ops.softmax`. All work through samples.
"""

from typing import Any

import numpy as np

from tinyconv.kernels.cpu.kernel import images, kernel, njit, record
from tinyconv.kernels.cpu.simd import (
    load_first,
    pointer,
    prefetch,
    store_first,
    words_pointer,
)
from tinyconv.kernels.cpu.tiles import transpose
from tinyconv.random import GAMMA

#: ``image``: (D, H, W, C) of each sample; ``rows``: (C * D * H * W,). ``index``: that of sample n
#: is row ``index[n]``, or n where the address is 0.
IMAGE = record(*images("image"), *("rows", "rows_sample", "index", "C", "D", "H", "W"))

#: Numbers of the next sample that are fetched from memory while one is copied.
AHEAD = 4096


def flatten(L: int, BACK: bool) -> Any:
    """Make the kernel that copies images to rows, in the order of (C, D, H, W), or rows to images.

    It does the latter if ``BACK``: so a batch is fetched, of samples that lie anywhere in memory.
    """

    @kernel(IMAGE)
    def batch_flatten(a, thread, first, last):  # type: ignore[no-untyped-def]
        image, rows, index = pointer(a.image), pointer(a.rows), words_pointer(a.index)
        C, D, H, W = a.C, a.D, a.H, a.W
        positions = D * H * W
        # Where no border parts them, the rows of a plane are one long row.
        rows_of_plane, length = (1, H * W) if a.image_row == W * C else (H, W)
        for n in range(first, last):
            start = (index[n] if a.index else n) * a.rows_sample
            if a.index and n + 1 < last:
                ahead = index[n + 1] * a.rows_sample
                for k in range(ahead, ahead + min(C * positions, AHEAD), 16):
                    prefetch(rows, k)
            for row in range(D * rows_of_plane):
                plane, h = row // rows_of_plane, row % rows_of_plane
                i = n * a.image_sample + plane * a.image_plane + h * a.image_row
                j = start + row * length
                if C == 1:
                    for w in range(0, length, L):
                        rest = length - w
                        if BACK:
                            store_first(image, i + w, load_first(rows, j + w, rest, L), rest)
                        else:
                            store_first(rows, j + w, load_first(image, i + w, rest, L), rest)
                elif 2 * C < L:  # a square would be half empty
                    for c in range(C):
                        for w in range(length):
                            x, y = i + w * C + c, j + c * positions + w
                            if BACK:
                                image[x] = rows[y]
                            else:
                                rows[y] = image[x]
                else:
                    for w in range(0, length, L):
                        for c in range(0, C, L):
                            x, y = i + w * C + c, j + c * positions + w
                            if BACK:
                                transpose(rows, y, positions, C - c, image, x, C, length - w, L)
                            else:
                                transpose(image, x, C, length - w, rows, y, positions, C - c, L)

    return batch_flatten


#: ``key``: address of the stream's key; ``least``: what the upper 24 bits of a number must reach
#: for its element to stay. ``factor`` (N, C * D * H * W): ``scale`` where it stays, else 0.
DROPOUT = record(
    *images("x", "y"),
    *("factor", "factor_sample", "C", "D", "H", "W", "key", "least"),
    floats=("scale",),
)

MIX_1, MIX_2 = np.uint64(0xBF58476D1CE4E5B9), np.uint64(0x94D049BB133111EB)
STEP = np.uint64(GAMMA)
NOTHING = np.float32(0)
S30, S27, S31, S40 = np.uint64(30), np.uint64(27), np.uint64(31), np.uint64(40)


@njit()
def scale(a, n, x, factor, y):  # type: ignore[no-untyped-def]
    """Write factor * x of sample n to y; x and y are channels-last, factor channels-first.

    Where the factor is 0 the product is too, even of NaN and infinity.
    """
    C, H, W, rows, f = a.C, a.H, a.W, a.D * a.H, n * a.factor_sample
    for row in range(rows):
        plane, h = row // H, row % H
        i = n * a.x_sample + plane * a.x_plane + h * a.x_row
        j = n * a.y_sample + plane * a.y_plane + h * a.y_row
        if C == 1 or rows * W == 1:  # the order is the same, in a loop that becomes vector code
            for k in range(W * C):
                share = factor[f + row * W + k]
                y[j + k] = x[i + k] * share if share != NOTHING else NOTHING
        else:
            for w in range(W):
                for c in range(C):
                    share = factor[f + (c * rows + row) * W + w]
                    y[j + w * C + c] = x[i + w * C + c] * share if share != NOTHING else NOTHING


def dropout() -> Any:
    """Make the kernel y = factor * x, which draws factor (n, c, d, h, w) from a stream."""

    @kernel(DROPOUT)
    def batch_dropout(a, thread, first, last):  # type: ignore[no-untyped-def]
        x, y, factor = pointer(a.x), pointer(a.y), pointer(a.factor)
        count = a.C * a.D * a.H * a.W
        key, least = np.uint64(words_pointer(a.key)[0]), np.uint64(a.least)
        kept, dropped = a.scale, np.float32(0)
        for n in range(first, last):
            f = n * a.factor_sample
            start = key + np.uint64(n * count + 1) * STEP
            for k in range(count):
                z = start + np.uint64(k) * STEP
                z = (z ^ (z >> S30)) * MIX_1
                z = (z ^ (z >> S27)) * MIX_2
                z = z ^ (z >> S31)
                factor[f + k] = kept if (z >> S40) >= least else dropped
            scale(a, n, x, factor, y)

    return batch_dropout


def multiply() -> Any:
    """Make the kernel y = factor * x, which is dropout's backward with the forward's factors."""

    @kernel(DROPOUT)
    def batch_multiply(a, thread, first, last):  # type: ignore[no-untyped-def]
        x, y, factor = pointer(a.x), pointer(a.y), pointer(a.factor)
        for n in range(first, last):
            scale(a, n, x, factor, y)

    return batch_multiply
