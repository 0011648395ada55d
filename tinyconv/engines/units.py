"""Which layers become one unit of a plan, and how units hang together.

The rules are tried from the top, at each layer in turn; the backend may refuse what a rule found.
What no rule takes runs by the layer's own forward and backward.
"""

from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from typing import Any

from tinyconv import layers as L
from tinyconv.layers import Layer
from tinyconv.layers import activation as activations
from tinyconv.layers.registry import layers_in

Kinds = tuple[type[Layer], ...]

ACTIVATIONS: Kinds = tuple(layers_in(activations))
CONVS: Kinds = (L.Conv1d, L.Conv2d, L.Conv3d)
TRANSPOSED: Kinds = (L.ConvTranspose1d, L.ConvTranspose2d, L.ConvTranspose3d)
MAX: Kinds = (L.MaxPool1d, L.MaxPool2d, L.MaxPool3d)
AVG: Kinds = (L.AvgPool1d, L.AvgPool2d, L.AvgPool3d)
NORM_POOLS: Kinds = (L.L2Pool2d, L.LPPool1d, L.LPPool2d, L.LPPool3d)
POOLS: Kinds = (*MAX, *AVG, *NORM_POOLS, L.Subsample2d)
BATCH_NORMS: Kinds = (L.BatchNorm1d, L.BatchNorm2d, L.BatchNorm3d)
NORMS: Kinds = (*BATCH_NORMS, L.LayerNorm, L.GroupNorm)


@dataclass(frozen=True)
class Unit:
    """Layers that one step of a plan computes."""

    #: says which steps may compute it; ``"single"`` for a layer that no rule joins to others,
    #: ``"plain"`` for one that runs by its own methods.
    kind: str
    #: in their order; the container comes first where branches are joined.
    layers: tuple[Layer, ...]
    #: the values that it reads: 0 is the input of the network, k + 1 the output of unit k.
    inputs: tuple[int, ...] = (0,)

    def __str__(self) -> str:
        return " + ".join(type(layer).__name__ for layer in self.layers)

    def find(self, kinds: Kinds) -> Layer | None:
        """Return the layer of one of these kinds, if there is one."""
        return next((layer for layer in self.layers if type(layer) in kinds), None)

    @property
    def ends_in_mean(self) -> bool:
        """Whether a mean is taken of activations."""
        return type(self.layers[-1]) in AVG and self.find(ACTIVATIONS) is not None


@dataclass(frozen=True)
class Rule:
    """A sequence of kinds of layers that makes a unit, if ``holds`` does."""

    kind: str  #: of the unit
    pattern: tuple[Kinds, ...]  #: for each layer, what it may be
    #: whether one step computes what these layers do, whatever the device.
    holds: Callable[..., bool] = lambda *layers: True
    when: str = ""  #: whether the rule is for ``"training"``, ``"prediction"`` or both, ``""``

    def match(self, layers: Sequence[Layer], training: bool) -> Unit | None:
        """Return the unit of the first layers of a sequence, if the rule takes them."""
        found = layers[: len(self.pattern)]
        if (
            self.when in ("", "training" if training else "prediction")
            and len(found) == len(self.pattern)
            and all(type(layer) in kinds for layer, kinds in zip(found, self.pattern, strict=True))
            and self.holds(*found)
        ):
            return Unit(self.kind, tuple(found))
        return None


def _tiled(*layers: Any) -> bool:
    """Whether the windows of the pooling lie side by side, without padding or gaps."""
    pool = next(layer for layer in layers if type(layer) in (*MAX, *AVG))
    return (
        pool.stride == pool.kernel_size
        and set(pool.dilation) == {1}
        and not pool.ceil_mode
        and all(p == 0 for p in pool.padding)
    )


def _commutes(conv: Any, pool: Any, *others: Layer) -> bool:
    """Whether the mean may be taken of the convolution's input instead."""
    return conv.padding_mode == "zeros" and set(conv.stride) == {1} and _tiled(pool)


def _has_statistics(layer: Any, norm: Any, *others: Layer) -> bool:
    return bool(norm.track_running_stats)


def _joins(join: str) -> Callable[..., bool]:
    return lambda parallel, *others: parallel.join == join


#: A maximum and an increasing activation may change places, so both orders are one unit (that it
#: increases the backend finds in its table of activations). A mean and a convolution may, too, if
#: no activation stands between them; a mean of activations is a unit of another kind. Outside
#: training a batch norm is a factor and a shift, which the weights before it can take in.
RULES = (
    Rule("conv", (CONVS, MAX, ACTIVATIONS), _tiled),
    Rule("conv", (CONVS, ACTIVATIONS, MAX), _tiled),
    Rule("conv", (CONVS, MAX), _tiled),
    Rule("conv", (CONVS, AVG, ACTIVATIONS), _commutes),
    Rule("conv", (CONVS, AVG), _commutes),
    Rule("conv", (CONVS, ACTIVATIONS, AVG), _tiled),
    Rule("conv", (CONVS, BATCH_NORMS, ACTIVATIONS), _has_statistics, "prediction"),
    Rule("conv", (CONVS, BATCH_NORMS), _has_statistics, "prediction"),
    Rule("conv", (CONVS, ACTIVATIONS)),
    Rule("conv", (CONVS,)),
    Rule("transposed", (TRANSPOSED, ACTIVATIONS)),
    Rule("transposed", (TRANSPOSED,)),
    Rule("linear", ((L.Linear,), BATCH_NORMS, ACTIVATIONS), _has_statistics, "prediction"),
    Rule("linear", ((L.Linear,), BATCH_NORMS), _has_statistics, "prediction"),
    Rule("linear", ((L.Linear,), ACTIVATIONS)),
    Rule("linear", ((L.Linear,),)),
    Rule("norm", (NORMS, ACTIVATIONS)),
    Rule("norm", (NORMS,)),
    Rule("add", ((L.Residual,), ACTIVATIONS)),
    Rule("add", ((L.Residual,),)),
    Rule("add", ((L.Parallel,), ACTIVATIONS), _joins("add")),
    Rule("add", ((L.Parallel,),), _joins("add")),
    Rule("concat", ((L.Parallel,),), _joins("concat")),
)


def fuse(
    layers: Sequence[Layer],
    accepts: Callable[[Unit], bool] = lambda unit: True,
    training: bool = True,
) -> tuple[list[Unit], int]:
    """Join layers to units.

    Args:
        layers: of a network.
        accepts: whether the backend has kernels for a unit.
        training: whether there is a backward pass.

    Returns:
        The units, each after those that it reads, and the value that is the network's output.

    >>> from tinyconv.layers import Conv2d, MaxPool2d, ReLU, Flatten, Linear, Residual
    >>> net = [Conv2d(1, 20, 5), ReLU(), MaxPool2d(2), Flatten(), Linear(2880, 10)]
    >>> print(*fuse(net)[0], sep=", ")
    Conv2d + ReLU + MaxPool2d, Flatten, Linear
    >>> [(str(unit), unit.inputs) for unit in fuse([Residual(Linear(4, 4)), ReLU()])[0]]
    [('Linear', (0,)), ('Residual + ReLU', (1, 0))]
    """
    units: list[Unit] = []
    return units, _extend(units, layers, 0, accepts, training)


def _extend(
    units: list[Unit],
    layers: Sequence[Layer],
    value: int,
    accepts: Callable[[Unit], bool],
    training: bool,
) -> int:
    """Append the units of layers that read ``value``; return the value that they make."""
    layers = _without_chains(layers)
    place = 0
    while place < len(layers):
        found = (rule.match(layers[place:], training) for rule in RULES)
        single, plain = (Unit(kind, (layers[place],)) for kind in ("single", "plain"))
        units_here = (unit for unit in (*found, single) if unit is not None and accepts(unit))
        unit = next(units_here, plain)
        place += len(unit.layers)
        if _changes_nothing(unit.layers[0], training):
            continue
        inputs: tuple[int, ...] = (value,)
        if unit.kind in ("add", "concat"):
            inputs = tuple(
                value if branch is None else _extend(units, [branch], value, accepts, training)
                for branch in _branches(unit.layers[0])
            )
        units.append(replace(unit, inputs=inputs))
        value = len(units)
    return value


def _branches(container: Layer) -> Sequence[Layer | None]:
    if isinstance(container, L.Residual):
        return container.body, container.shortcut
    assert isinstance(container, L.Parallel)
    return container.branches


def _changes_nothing(layer: Layer, training: bool) -> bool:
    """Whether a layer returns its input."""
    if type(layer) is L.Dropout:
        return not training and layer.scales[1] == 1
    return type(layer) is L.Identity


def _without_chains(layers: Sequence[Layer]) -> list[Layer]:
    """Put the layers of a chain, and the branch of a container of one, in its place."""
    flat: list[Layer] = []
    for layer in layers:
        if type(layer) is L.Chain:
            flat += _without_chains(layer.layers)
        elif type(layer) is L.Parallel and len(layer.branches) == 1:
            flat += _without_chains(layer.branches)
        else:
            flat.append(layer)
    return flat
