"""Which windows of a product are treated together, so that most of the padding is left out.

A tap of a window *reaches* x or falls on the zeros around it. Along each axis the windows are cut
where what they reach changes; a *part* is a box of windows, which meets the taps that any of them
reaches.
"""

import itertools
from collections.abc import Sequence
from functools import reduce
from math import prod
from typing import TypeAlias

import numpy as np

from tinyconv.backend import Values

#: What a tile costs besides its taps, in taps, and by how much parts must be cheaper than none.
TILE, WORTH = 1.0, 0.95


#: Windows of an axis, and for each tap whether any of them reaches x with it.
_Interval: TypeAlias = tuple[Values, Values]


def _cuts(reaches: Values) -> list[list[_Interval]]:
    """Return ways to cut an axis: not at all, both ends off, and wherever there is a change."""
    changes = np.flatnonzero((reaches[1:] != reaches[:-1]).any(1)) + 1
    counts = reaches.sum(1)
    inner = np.flatnonzero(counts == counts.max())
    ends = [n for n in (inner[0], inner[-1] + 1) if 0 < n < len(reaches)]
    edges = dict.fromkeys([(), tuple(ends), tuple(changes)])
    ways = [np.split(np.arange(len(reaches)), each) for each in edges]
    return [[(own, np.asarray(reaches[own].any(0))) for own in way] for way in ways]


def parts_of(reaches: Sequence[Values], samples: int, rows: int) -> list[tuple[Values, Values]]:
    """Return the windows of each part, and for each tap whether it meets them.

    Args:
        reaches: for each axis (windows, taps), bool.
        samples: that are treated together.
        rows: windows of a tile.

    >>> reaches = [np.array([[0, 1], [1, 1], [1, 1], [1, 1]], bool), *[np.ones((1, 1), bool)] * 2]
    >>> [(at.tolist(), met.tolist()) for at, met in parts_of(reaches, 8, 8)]
    [([0], [False, True]), ([1, 2, 3], [True, True])]
    """

    def cost(cuts: tuple[list[_Interval], ...]) -> float:
        sizes, taps = (
            reduce(np.multiply.outer, [np.array([each(pair) for pair in cut]) for cut in cuts])
            for each in (lambda pair: len(pair[0]), lambda pair: pair[1].sum())
        )
        total = float((np.ceil(samples * sizes / rows) * (taps + TILE)).sum())
        return total if sizes.size == 1 else total / WORTH

    if not all(reach.any(0).all() for reach in reaches):  # a tap that meets nothing
        reaches = [np.ones_like(reach) for reach in reaches]
    cuts = min(itertools.product(*map(_cuts, reaches)), key=cost)
    windows = np.arange(prod(map(len, reaches))).reshape([len(reach) for reach in reaches])
    parts = []
    for box in itertools.product(*cuts):
        own, met = zip(*box, strict=True)
        parts.append((windows[np.ix_(*own)].ravel(), reduce(np.logical_and.outer, met).ravel()))
    return parts


def tables_of(
    parts: Sequence[tuple[Values, Values]], channels: int, steps: int
) -> tuple[Values, Values]:
    """Return the tables ``parts`` and ``spans`` of :data:`tinyconv.kernels.cpu.conv.DIMS`.

    Args:
        parts: see :func:`parts_of`.
        channels: of a tap.
        steps: elements that are taken at a time.
    """
    rows, spans, start = list[tuple[int, ...]](), list[Values](), 0
    for windows, met in parts:
        is_wanted = np.repeat(met, channels).reshape(-1, steps).any(1)
        edges = np.flatnonzero(np.diff(is_wanted, prepend=False, append=False))
        rows.append((start, len(windows), len(spans), len(spans) + len(edges) // 2))
        spans += list(edges.reshape(-1, 2))
        start += len(windows)
    return np.array(rows), np.array(spans).reshape(-1, 2)
