"""Powers, roots and their slopes against NumPy in float64."""

from typing import Any

import numpy as np
import pytest
from images import Image, call, poisoned

from tinyconv.kernels.cpu import lp
from tinyconv.kernels.cpu.simd import LANES

Array = np.ndarray[Any, Any]

SPECIAL = [0.0, -0.0, np.inf, -np.inf, np.nan]


def run(kernel: Any, x: Array, y: Array, p: float) -> Array:
    source, other, to = Image(x, 1), Image(y, 2), poisoned(x.shape)
    values = {**source.arguments("x"), **other.arguments("y"), **to.arguments("to")}
    call(kernel, lp.ARGS, len(x), **values, planes=1, rows=4, count=15, p=p)
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
            lp.POWER: np.abs(exact) ** p,
            lp.ROOT: root ** (1 / p),
            lp.SHARE: np.where(root == 0, 0, exact / np.where(root == 0, 1, root) ** (p - 1)),
            lp.SLOPE: np.sign(exact) * np.abs(exact) ** (p - 1) * root,
        }
    for what, values in expected.items():
        first, kernel = y if what == lp.ROOT else x, lp.elements(LANES, what, P)
        np.testing.assert_allclose(run(kernel, first, y, p), values, rtol=2e-6)


def test_kernels_are_made_by_numbers_alone() -> None:
    """Numba keeps a kernel by what it encloses, and a function is another one at each start."""
    enclosed = lp.elements(LANES, lp.POWER, 2)._pyfunc.__closure__
    assert {type(cell.cell_contents) for cell in enclosed} == {int}
