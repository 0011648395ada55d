"""Activations and their slopes over all of float32: operations and kernels, against float64."""

from collections.abc import Callable
from typing import Any

import numpy as np
import pytest
from emulator import Emulator, needs_compiler

from tinyconv import layers
from tinyconv.engines.cpu.step import Step
from tinyconv.engines.units import ACTIVATIONS
from tinyconv.kernels.cpu import elements
from tinyconv.kernels.cpu.kernel import address_of
from tinyconv.kernels.cpu.simd import LANES
from tinyconv.kernels.gpu.source import Instance
from tinyconv.layers import Layer

Array = np.ndarray[Any, Any]

#: Every activation that is exported, and some options.
EVERY: list[Layer] = [
    *(kind() for kind in ACTIVATIONS),
    *(layers.GELU("tanh"), layers.ELU(-0.5), layers.Softplus(2.0), layers.LeakyReLU(-0.5)),
]
ALL_OF_IT = np.arange(0, 0x7F800000, 9973, np.uint32).view(np.float32)
X = np.concatenate([ALL_OF_IT, -ALL_OF_IT, np.linspace(-110, 110, 100_001, dtype=np.float32)])
ENDS = np.array([np.inf, -np.inf, np.nan], np.float32)


def by_op(layer: Layer, x: Array) -> tuple[Array, Array]:
    """The activation and its slope, by its operation."""
    return layer.forward(x), layer.backward(np.ones_like(x))


def by_cpu(layer: Layer, x: Array) -> tuple[Array, Array]:
    """The same by the kernels of the CPU."""
    chosen = Step.activation_of(layer)
    assert chosen is not None
    y, dx, dy = np.full_like(x, np.nan), np.full_like(x, np.nan), np.ones_like(x)
    args = np.zeros(1, elements.ARGS)
    args["planes"], args["rows"], args["count"] = 1, 1, x.size
    args["x"], args["y"], args["parameter"] = address_of(x), address_of(y), chosen.parameter
    forward = elements.elements(LANES, elements.ACTIVATION, chosen.code)
    forward.ctypes(address_of(args), 0, 0, 1)
    args["other"] = args["x" if chosen.needs_z else "y"]
    args["x"], args["y"] = map(address_of, (dy, dx))
    backward = elements.elements(LANES, elements.GRADIENT, chosen.code)
    backward.ctypes(address_of(args), 0, 0, 1)
    return y, dx


def by_gpu(layer: Layer, x: Array) -> tuple[Array, Array]:
    """The same by the kernels of the GPU."""
    chosen = Step.activation_of(layer)
    assert chosen is not None
    y, dx, dy = np.full_like(x, np.nan), np.full_like(x, np.nan), np.ones_like(x)
    instance = Instance.of("elements", {"COUNT": x.size, "ACTIVATION": chosen.code})
    p, grid = np.float32(chosen.parameter), (-(-x.size // 256), 1, 1)
    device = Emulator()
    device.launch(instance, "activation_forward", grid, 256, (x, y, p, np.int32(1)))
    v = x if chosen.needs_z else y
    device.launch(instance, "activation_backward", grid, 256, (dy, v, dx, p, np.int32(1)))
    return y, dx


@pytest.mark.parametrize("by", [by_op, by_cpu, pytest.param(by_gpu, marks=needs_compiler)])
@pytest.mark.parametrize("layer", EVERY, ids=str)
@np.errstate(all="ignore")
def test_activations_are_right_to_a_few_units_in_the_last_place(
    by: Callable[[Layer, Array], tuple[Array, Array]], layer: Layer
) -> None:
    """Of a slope, units are those of its terms where it is near 0, and of 1 if it follows from y.

    Slopes with what a gate is less than 1 by, times x or its cube, are right to some units more.
    """
    exact = [by_op(layer, X * np.float64(factor)) for factor in (1.0, 0.5, 2.0)]
    chosen = Step.activation_of(layer)
    assert chosen is not None
    size, slope, *around = (np.abs(a) for a in (exact[0][0], *(slope for _, slope in exact)))
    slope_size = np.maximum(slope, np.minimum(*around) if chosen.needs_z else slope.max())
    for got, is_, unit, most in zip(
        by(layer, X), exact[0], (size, slope_size), (4, 20), strict=True
    ):
        units = np.abs(got - is_) / (2.0**-23 * unit + 1e-36)  # where float32 comes to its end
        worst = int(units.argmax())
        assert units[worst] <= most, f"{got[worst]} at {X[worst]}, not {is_[worst]}"
    for got, is_ in zip(by(layer, ENDS), by_op(layer, ENDS), strict=True):
        np.testing.assert_array_equal(got, is_)
