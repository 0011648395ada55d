"""Layers as plain data and back: what a file may say of a network."""

from inspect import isabstract
from types import ModuleType
from typing import Any

from tinyconv.errors import FileError
from tinyconv.layers import (
    activation,
    container,
    conv,
    dropout,
    linear,
    norm,
    pool,
    shape,
    upsample,
)
from tinyconv.layers.base import Layer
from tinyconv.messages import shown
from tinyconv.registry import Registry

#: The files of this folder that export layers.
FILES = (activation, container, conv, dropout, linear, norm, pool, shape, upsample)


def layers_in(file: ModuleType) -> list[type[Layer]]:
    """Return the layers that a file of this folder exports.

    >>> layers_in(linear)
    [<class 'tinyconv.layers.linear.Linear'>]
    """
    return [getattr(file, name) for name in file.__all__]


#: The layers that a file may name.
LAYERS: Registry[Layer] = Registry(
    Layer, (kind for file in FILES for kind in layers_in(file) if not isabstract(kind))
)


def encode(value: Any, *, by_class: bool = False) -> Any:
    """Turn a layer, and every layer inside its configuration, into what JSON can hold.

    Args:
        value: a layer, or what its configuration holds.
        by_class: put classes themselves in place of their names, for copies in memory.

    Raises:
        StateError: a layer's class was not registered.

    >>> from tinyconv.layers import Linear
    >>> encode(Linear(2, 3, bias=False))["config"]["out_features"]
    3
    """
    if isinstance(value, Layer):
        kind = type(value) if by_class else LAYERS.name_of(value)
        frozen = {} if value.trainable else {"trainable": False}
        return {"layer": kind, "config": encode(value.config(), by_class=by_class)} | frozen
    if isinstance(value, dict):
        return {name: encode(inner, by_class=by_class) for name, inner in value.items()}
    if isinstance(value, list | tuple):
        return [encode(inner, by_class=by_class) for inner in value]
    return value


def decode(value: Any) -> Any:
    """Construct the layers that :func:`encode` described.

    Raises:
        FileError: there is no such layer, or it does not take such arguments.

    >>> from tinyconv.layers import Linear, ReLU, Residual
    >>> decode(encode(Residual([Linear(2, 2), ReLU()]))).body.layers[0].in_features
    2
    >>> decode({"layer": "Lambda", "config": {}})
    Traceback (most recent call last):
    tinyconv.errors.FileError: unknown layer 'Lambda'; if it is a class of your own, import it and
    decorate it with @tinyconv.register before loading
    """
    if isinstance(value, list):
        inner = [decode(element) for element in value]
        # JSON has no tuples, constructors take no lists of numbers.
        return inner if any(isinstance(element, Layer) for element in inner) else tuple(inner)
    if not isinstance(value, dict):
        return value
    if value.keys() - {"trainable"} != {"layer", "config"}:
        return {name: decode(inner) for name, inner in value.items()}
    kind, config = value["layer"], decode(value["config"])
    layer = kind(**config) if isinstance(kind, type) else LAYERS.make(kind, config)
    if "trainable" in value:
        if value["trainable"] is not False:
            raise FileError(f"trainable is {shown(value['trainable'])}, expected false or none")
        layer.trainable = False
    return layer
