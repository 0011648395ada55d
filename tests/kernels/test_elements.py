"""Powers, roots and their slopes against NumPy in float64; sums with their activation."""

from typing import Any

import numpy as np
import pytest
from images import Image, call, poisoned

from tinyconv import layers
from tinyconv.engines.cpu.step import Step
from tinyconv.kernels.cpu import elements
from tinyconv.kernels.cpu.simd import LANES
from tinyconv.layers import Layer

Array = np.ndarray[Any, Any]

SPECIAL = [0.0, -0.0, np.inf, -np.inf, np.nan]


def run(kernel: Any, x: Array, y: Array, p: float) -> Array:
    source, other, to = Image(x, 1), Image(y, 2), poisoned(x.shape)
    values = {**source.arguments("x"), **other.arguments("other"), **to.arguments("y")}
    call(kernel, elements.ARGS, len(x), **values, planes=1, rows=4, count=15, parameter=p)
    return to.array


@pytest.mark.parametrize("p", [1.0, 2.0, 3.5])
def test_each_element(p: float) -> None:
    P, rng = int(p) if p < 3 else 0, np.random.default_rng(0)
    x, other = rng.normal(size=(2, 2, 3, 4, 5)).astype(np.float32) * 3
    x[0, 0, 0] = SPECIAL
    y = np.abs(other)
    y[1, 0, 0] = [0.0, 0.0, 0.0, np.inf, np.nan]
    exact, root = x.astype(np.float64), y.astype(np.float64)
    with np.errstate(all="ignore"):
        expected = {
            elements.POWER: np.abs(exact) ** p,
            elements.ROOT: root ** (1 / p),
            elements.SHARE: np.where(root == 0, 0, exact / np.where(root == 0, 1, root) ** (p - 1)),
            elements.SLOPE: np.sign(exact) * np.abs(exact) ** (p - 1) * root,
        }
    for what, values in expected.items():
        first, kernel = y if what == elements.ROOT else x, elements.elements(LANES, what, P)
        np.testing.assert_allclose(run(kernel, first, y, p), values, rtol=2e-6)


def test_kernels_are_made_by_numbers_alone() -> None:
    """Numba keeps a kernel by what it encloses, and a function is another one at each start."""
    enclosed = elements.elements(LANES, elements.POWER, 2)._pyfunc.__closure__
    assert {type(cell.cell_contents) for cell in enclosed} == {int}


@pytest.mark.parametrize("shape", [(3, 5, 4, 3), (4, 21, 1), (2, 2, 3, 2, 9)])
@pytest.mark.parametrize("layer", [layers.ReLU(), layers.SiLU()], ids=lambda x: type(x).__name__)
def test_sum_and_activation(shape: tuple[int, ...], layer: Layer) -> None:
    chosen = Step.activation_of(layer)
    assert chosen is not None
    rng = np.random.default_rng(0)
    a, b = (rng.normal(size=shape).astype(np.float32) for _ in range(2))
    x, other = Image(a, 1), Image(b, 0)
    z, y = poisoned(shape, 2), poisoned(shape, 2)
    C, *size = shape[1:]
    values = {
        **x.arguments("x"),
        **other.arguments("other"),
        **y.arguments("y"),
        **z.arguments("slope"),
        "planes": ([1, 1, *size])[-3],
        "rows": ([1, 1, *size])[-2],
        "count": size[-1] * C,
        "parameter": chosen.parameter,
    }
    kernel = elements.elements(LANES, elements.SUM, chosen.code, int(chosen.needs_z))
    call(kernel, elements.ARGS, shape[0], **values)
    np.testing.assert_allclose(y.array, layer.forward(a + b), rtol=1e-5, atol=1e-6)
    if chosen.needs_z:
        slopes = layer.backward(np.ones_like(a))
        np.testing.assert_allclose(z.array, slopes, rtol=1e-5, atol=1e-6)
