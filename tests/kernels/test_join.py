"""Sums with their activation, into images full of NaN."""

import numpy as np
import pytest
from images import Image, call, poisoned

from tinyconv import layers
from tinyconv.engines.cpu.step import Step
from tinyconv.kernels.cpu import join
from tinyconv.kernels.cpu.simd import LANES
from tinyconv.layers import Layer


@pytest.mark.parametrize("shape", [(3, 5, 4, 3), (4, 21, 1), (2, 2, 3, 2, 9)])
@pytest.mark.parametrize("layer", [layers.ReLU(), layers.SiLU()], ids=lambda x: type(x).__name__)
def test_sum_and_activation(shape: tuple[int, ...], layer: Layer) -> None:
    chosen = Step.activation_of(layer)
    assert chosen is not None
    rng = np.random.default_rng(0)
    a, b = (rng.normal(size=shape).astype(np.float32) for _ in range(2))
    x, other = Image(a, 1), Image(b, 0)
    z, y = poisoned(shape, 2), poisoned(shape, 2)
    kept = z if chosen.needs_z else y
    C, *size = shape[1:]
    values = {
        **x.arguments("x"),
        **other.arguments("other"),
        **y.arguments("y"),
        "z": kept.arguments("z")["z"],
        "planes": ([1, 1, *size])[-3],
        "rows": ([1, 1, *size])[-2],
        "count": size[-1] * C,
        "parameter": chosen.parameter,
    }
    call(join.add(LANES, chosen.code), join.ADD, shape[0], **values)
    np.testing.assert_allclose(y.array, layer.forward(a + b), rtol=1e-5, atol=1e-6)
    if chosen.needs_z:
        slopes = layer.backward(np.ones_like(a))
        np.testing.assert_allclose(kept.array, slopes, rtol=1e-5, atol=1e-6)
