"""Which neighbouring layers become one unit of a plan.

The rules are tried from the top, at each layer in turn. What no rule takes runs by the layer's
own forward and backward.
"""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

from tinyconv.kernels.cpu.activation import Chosen, find
from tinyconv.layers import (
    AvgPool2d,
    Chain,
    Conv1d,
    Conv2d,
    Dropout,
    Flatten,
    L2Pool2d,
    Layer,
    Linear,
    MaxPool2d,
)
from tinyconv.layers import activation as activations

__all__ = ["ACTIVATIONS", "RULES", "Rule", "Unit", "activation_of", "fuse"]

Kinds = tuple[type[Layer], ...]

ACTIVATIONS: Kinds = tuple(getattr(activations, name) for name in activations.__all__)
POOLS: Kinds = (MaxPool2d, AvgPool2d, L2Pool2d)


def activation_of(layer: Layer) -> Chosen | None:
    """Return what computes a layer, if it is an activation that kernels know."""
    kind = type(layer)
    return find(kind.__name__, layer.config()) if kind in ACTIVATIONS else None


@dataclass(frozen=True)
class Unit:
    """Layers that one step of a plan computes: ``kind`` says which one, see :mod:`steps`."""

    kind: str
    layers: tuple[Layer, ...]

    def __str__(self) -> str:
        return " + ".join(type(layer).__name__ for layer in self.layers)

    def find(self, kinds: Kinds) -> Layer | None:
        """Return the layer of one of these kinds, if there is one."""
        return next((layer for layer in self.layers if type(layer) in kinds), None)

    @property
    def leaves_predictions(self) -> bool:
        """Whether the unit does nothing outside training."""
        (layer, *_) = self.layers
        return self.kind == "dropout" and isinstance(layer, Dropout) and layer.scales[1] == 1


@dataclass(frozen=True)
class Rule:
    """A sequence of kinds of layers that makes a unit, if ``holds`` does."""

    kind: str
    pattern: tuple[Kinds, ...]
    holds: Callable[..., bool] = lambda *layers: True

    def matches(self, layers: Sequence[Layer]) -> bool:
        """Whether the rule takes the first layers of a sequence."""
        found = layers[: len(self.pattern)]
        return (
            len(found) == len(self.pattern)
            and all(type(layer) in kinds for layer, kinds in zip(found, self.pattern, strict=True))
            and self.holds(*found)
        )


def _dense(conv: Conv1d | Conv2d, *others: Layer) -> bool:
    return conv.groups == 1 and conv.padding_mode == "zeros"


def _simple(pool: Any) -> bool:
    """Whether a pooling has whole windows alone, equal padding before and after, all counted."""
    return (
        set(pool.dilation) == {1}
        and not pool.ceil_mode
        and all(isinstance(p, int) for p in pool.padding)
        and getattr(pool, "count_include_pad", True)
    )


def _tiled(conv: Conv2d, *others: Layer) -> bool:
    """Whether the windows of the max-pool lie side by side and few positions are in each."""
    pool = next(layer for layer in others if isinstance(layer, MaxPool2d))
    return (
        _dense(conv)
        and pool.stride == pool.kernel_size
        and _simple(pool)
        and pool.padding == (0, 0)
        and pool.kernel_size[0] * pool.kernel_size[1] <= 9
    )


def _swapped(conv: Conv2d, layer: Layer, pool: MaxPool2d) -> bool:
    """Whether the maximum, besides, may be taken before the activation in front of it."""
    chosen = activation_of(layer)
    return chosen is not None and chosen.increases and _tiled(conv, pool)


def _commutes(conv: Conv2d, pool: AvgPool2d, *others: Layer) -> bool:
    """Whether the mean may be taken of the convolution's input instead: see ``pool.box``."""
    return (
        _dense(conv)
        and set(conv.stride) == {1}
        and _simple(pool)
        and pool.stride == pool.kernel_size
        and pool.padding == (0, 0)
        and pool.kernel_size[0] * pool.kernel_size[1] <= 16
    )


CONV, MAX, AVG = (Conv2d,), (MaxPool2d,), (AvgPool2d,)
ANY_CONV = (Conv1d, Conv2d)

#: A maximum and an increasing activation may change places, so both orders are one unit. A mean
#: and a convolution may, too, but no activation can stand between them. What stands alone, such
#: as L2 pooling, still finds in the cache what the step before it wrote: see :mod:`.program`.
RULES = (
    Rule("conv", (CONV, MAX, ACTIVATIONS), _tiled),
    Rule("conv", (CONV, ACTIVATIONS, MAX), _swapped),
    Rule("conv", (CONV, MAX), _tiled),
    Rule("conv", (CONV, AVG, ACTIVATIONS), _commutes),
    Rule("conv", (CONV, AVG), _commutes),
    Rule("conv", (ANY_CONV, ACTIVATIONS), _dense),
    Rule("conv", (ANY_CONV,), _dense),
    Rule("linear", ((Linear,), ACTIVATIONS)),
    Rule("linear", ((Linear,),)),
    Rule("pool", (POOLS,), _simple),
    Rule("activation", (ACTIVATIONS,)),
    Rule("dropout", ((Dropout,),)),
    Rule("flatten", ((Flatten,),)),
)


def _without_chains(layers: Sequence[Layer]) -> list[Layer]:
    """Put the layers of a chain in its place."""
    flat: list[Layer] = []
    for layer in layers:
        flat += _without_chains(layer.layers) if type(layer) is Chain else [layer]
    return flat


def fuse(layers: Sequence[Layer]) -> list[Unit]:
    """Join layers to units.

    >>> from tinyconv.layers import Conv2d, MaxPool2d, ReLU, Flatten, Linear
    >>> net = [Conv2d(1, 20, 5), ReLU(), MaxPool2d(2), Flatten(), Linear(2880, 10)]
    >>> print(*fuse(net), sep=", ")
    Conv2d + ReLU + MaxPool2d, Flatten, Linear
    """
    layers = _without_chains(layers)
    units, place = [], 0
    while place < len(layers):
        rule = next((rule for rule in RULES if rule.matches(layers[place:])), None)
        if rule is None:
            units.append(Unit("plain", (layers[place],)))
            place += 1
        else:
            units.append(Unit(rule.kind, tuple(layers[place : place + len(rule.pattern)])))
            place += len(rule.pattern)
    return units
