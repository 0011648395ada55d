"""Images copied to rows in the order of the op, and rows, anywhere in memory, to images."""

from typing import Any

import numpy as np
import pytest

from tinyconv.engines.cpu.arena import NO_BORDER, Arena, Border
from tinyconv.engines.cpu.program import Program
from tinyconv.engines.cpu.step import sizes_of
from tinyconv.engines.cpu.tiling import compiled
from tinyconv.kernels.cpu import batch
from tinyconv.kernels.cpu.simd import LANES

Array = np.ndarray[Any, Any]
EVERY: Border = ((1, 0), (0, 2), (3, 1))
SHAPES = [
    (1, 2, 3, 40),
    (2, 1, 5, 33),
    (LANES // 2, 1, 4, 4),
    (LANES + 1, 2, 3, LANES),
    (50, 1, 1, 3),
]


@pytest.mark.parametrize("border", [NO_BORDER, EVERY])
@pytest.mark.parametrize("shape", SHAPES)
def test_there_and_back(shape: tuple[int, ...], border: Border) -> None:
    rng = np.random.default_rng(0)
    N = 4
    x = rng.normal(size=(7, *shape)).astype(np.float32)
    index = rng.integers(0, 7, N)
    image = Arena().image(N, shape, border)
    images = image.channels_first(N)
    images[...] = np.nan
    out = np.full((N, *shape), np.nan, np.float32)
    about = {"image": image, "rows_sample": x[0].size, **sizes_of(image)}
    program = Program(threads=2)
    program.call("in", compiled(batch.flatten, LANES, True), rows=x, index=index, **about)
    program.call("out", compiled(batch.flatten, LANES, False), rows=out, **about)
    program.freeze(block=3)
    program.run(N)
    np.testing.assert_array_equal(images, x[index])
    np.testing.assert_array_equal(out, x[index])
    images[...] = 0
    assert not image.array.any()  # nothing was written to the border
