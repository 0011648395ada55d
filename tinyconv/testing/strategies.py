"""Hypothesis strategies: arrays away from kinks, geometries that fit, random networks.

Where Hypothesis is not installed, each raises an ImportError.
"""

from dataclasses import dataclass
from typing import Any

import numpy as np

from tinyconv import layers as L
from tinyconv.backend import Array
from tinyconv.interop import require
from tinyconv.network import Sequential


class _Geometry:
    """Shapes and options of an operation that fit each other."""

    @property
    def options(self) -> dict[str, Any]:
        """The keyword arguments of the operation."""
        return {name: value for name, value in vars(self).items() if not name.endswith("_shape")}


@dataclass(frozen=True)
class ConvGeometry(_Geometry):
    """Shapes and options of :func:`tinyconv.ops.conv2d` that fit each other."""

    x_shape: tuple[int, int, int, int]
    w_shape: tuple[int, int, int, int]
    stride: tuple[int, int]
    padding: tuple[int, int]
    dilation: tuple[int, int]
    groups: int


@dataclass(frozen=True)
class PoolGeometry(_Geometry):
    """Shapes and options of :func:`tinyconv.ops.max_pool2d` and the other pools."""

    x_shape: tuple[int, int, int, int]
    kernel_size: tuple[int, int]
    stride: tuple[int, int]
    padding: tuple[int, int]


def arrays_away_from_kinks(
    shape: tuple[int, ...], *, gap: float = 0.05, dtype: str = "float64"
) -> Any:
    """Return a Hypothesis strategy for arrays without zeros and ties.

    Every two elements are at least ``gap / 2`` apart and none is within ``gap / 4`` of 0, so a ReLU
    and a maximum are differentiable there. Their distribution is roughly uniform.
    """
    st = require("hypothesis.strategies", "test")
    size = int(np.prod(shape))

    def draw(seed: int) -> Array:
        rng = np.random.default_rng(seed)
        grid = (rng.permutation(size) - size // 2 + 0.5) * gap
        return (grid + rng.uniform(-gap / 4, gap / 4, size)).reshape(shape).astype(dtype)

    return st.builds(draw, st.integers(0, 2**32 - 1))


def conv_geometries(max_batch: int = 3, max_channels: int = 3, max_size: int = 7) -> Any:
    """Return a Hypothesis strategy for :class:`ConvGeometry`."""
    st = require("hypothesis.strategies", "test")

    @st.composite  # type: ignore[untyped-decorator]
    def geometries(draw: Any) -> ConvGeometry:
        groups = draw(st.integers(1, 2))
        channels, outputs = (groups * draw(st.integers(1, max_channels)) for _ in range(2))
        axes = [_axis(draw, st, max_size, with_dilation=True) for _ in range(2)]
        (H, KH, SH, PH, DH), (W, KW, SW, PW, DW) = axes
        x_shape = (draw(st.integers(1, max_batch)), channels, H, W)
        w_shape = (outputs, channels // groups, KH, KW)
        return ConvGeometry(x_shape, w_shape, (SH, SW), (PH, PW), (DH, DW), groups)

    return geometries()


def pool_geometries(max_batch: int = 2, max_channels: int = 3, max_size: int = 7) -> Any:
    """Return a Hypothesis strategy for :class:`PoolGeometry`."""
    st = require("hypothesis.strategies", "test")

    @st.composite  # type: ignore[untyped-decorator]
    def geometries(draw: Any) -> PoolGeometry:
        axes = [_axis(draw, st, max_size, with_dilation=False) for _ in range(2)]
        (H, KH, SH, PH, _), (W, KW, SW, PW, _) = axes
        batch, channels = draw(st.integers(1, max_batch)), draw(st.integers(1, max_channels))
        return PoolGeometry((batch, channels, H, W), (KH, KW), (SH, SW), (PH, PW))

    return geometries()


def _axis(draw: Any, st: Any, max_size: int, with_dilation: bool) -> tuple[int, int, int, int, int]:
    """Draw size, kernel, stride, padding and dilation along one axis."""
    kernel, stride = draw(st.integers(1, 3)), draw(st.integers(1, 3))
    dilation = draw(st.integers(1, 2)) if with_dilation else 1
    reach = dilation * (kernel - 1) + 1
    padding = draw(st.integers(0, 2 if with_dilation else kernel // 2))
    smallest = max(1, reach - 2 * padding)
    size = draw(st.integers(smallest, max(smallest, max_size)))
    return size, kernel, stride, padding, dilation


def networks(max_layers: int = 5, classes: int = 4, dtype: str = "float64") -> Any:
    """Return a Hypothesis strategy for small networks with a batch: ``(net, x, labels)``."""
    st = require("hypothesis.strategies", "test")

    @st.composite  # type: ignore[untyped-decorator]
    def nets(draw: Any) -> tuple[Sequential, Array, Array]:
        layers: list[L.Layer] = []
        shape: tuple[int, ...] = (draw(st.integers(1, 2)), *[draw(st.integers(4, 7))] * 2)
        input_shape = shape
        for _ in range(draw(st.integers(0, max_layers - 1))):
            kinds = _ANYWHERE + (_SPATIAL if min(shape[1:]) > 1 else ())
            layer = _layer(draw(st.sampled_from(kinds)), draw, st)
            shape = layer.output_shape(shape)
            layers.append(layer)
        layers += [L.Flatten(), L.Linear(None, classes)]
        seed, batch = draw(st.integers(0, 2**32 - 1)), draw(st.integers(1, 3))
        net = Sequential(layers, seed=seed, dtype=dtype, input_shape=input_shape)
        rng = np.random.default_rng(seed)
        x = rng.normal(size=(batch, *input_shape)).astype(dtype)
        return net, x, rng.integers(0, classes, batch)

    return nets()


_ANYWHERE: tuple[type[L.Layer], ...] = (L.ReLU, L.Sigmoid, L.Tanh)
_SPATIAL: tuple[type[L.Layer], ...] = (L.AvgPool2d, L.Conv2d, L.L2Pool2d, L.MaxPool2d)


def _layer(kind: type[L.Layer], draw: Any, st: Any) -> L.Layer:
    if kind is L.Conv2d:
        return L.Conv2d(None, draw(st.integers(1, 3)), draw(st.integers(1, 3)), padding=1)
    return kind(2) if kind in _SPATIAL else kind()  # type: ignore[call-arg]
