"""Layers that are weighted sums along axes: means, interpolation, padding, cropping, as tables.

One for each axis of a plane; what they say is in :mod:`tinyconv.kernels.terms`.
"""

from collections.abc import Callable, Sequence
from typing import Any

from tinyconv import layers as L
from tinyconv.geometry import Sides, spread_pairs
from tinyconv.kernels.terms import Terms, window_terms
from tinyconv.ops.pool import elements_seen
from tinyconv.ops.shape import pad_sources
from tinyconv.ops.upsample import upsample_taps


def _means(layer: Any, size: Sequence[int]) -> list[Terms]:
    window, tables = layer.window(tuple(size)), []
    for axis in range(len(size)):
        counts = elements_seen(window, axis, layer.count_include_pad)
        lists = window_terms(window, axis).lists
        shares = [
            [(place, 1 / count) for place, _ in terms]
            for terms, count in zip(lists, counts, strict=True)
        ]
        tables.append(Terms(shares, size[axis]))
    return tables


def _interpolation(layer: Any, size: Sequence[int]) -> list[Terms]:
    tables = []
    for n, m in zip(size, layer.output_shape((1, *size))[1:], strict=True):
        mode = "nearest" if layer.mode == "nearest" else "linear"
        tables.append(Terms(upsample_taps(n, m, mode, bool(layer.align_corners)), n))
    return tables


def padding_tables(mode: str, padding: Sides, size: Sequence[int]) -> list[Terms]:
    """Return the tables of padding a plane of this size."""
    tables, pairs = [], spread_pairs("pad", "padding", padding, len(size))
    for axis, (n, (lo, hi)) in enumerate(zip(size, pairs, strict=True)):
        if mode == "zeros":
            lists = [*[[]] * lo, *[[(place, 1.0)] for place in range(n)], *[[]] * hi]
        else:
            sources = pad_sources("pad", mode, axis, n, lo, hi)
            lists = [[(place, 1.0)] for place in sources]
        tables.append(Terms(lists, n))
    return tables


def _cropping(layer: Any, size: Sequence[int]) -> list[Terms]:
    pairs = spread_pairs("crop", "cropping", layer.cropping, len(size))
    return [
        Terms([[(place, 1.0)] for place in range(lo, n - hi)], n)
        for n, (lo, hi) in zip(size, pairs, strict=True)
    ]


TABLES: dict[type[L.Layer], Callable[[Any, Sequence[int]], list[Terms]]] = {
    **dict.fromkeys((L.AvgPool1d, L.AvgPool2d, L.AvgPool3d), _means),
    L.GlobalAvgPool: lambda layer, size: [Terms([[(i, 1 / n) for i in range(n)]], n) for n in size],
    L.Upsample: _interpolation,
    L.Pad: lambda layer, size: padding_tables(layer.mode, layer.padding, size),
    L.Crop: _cropping,
}
