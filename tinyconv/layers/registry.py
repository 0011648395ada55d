"""Layers as plain data and back: what a file may say of a network."""

from inspect import isabstract
from types import ModuleType
from typing import Any

import numpy as np

from tinyconv.errors import FileError, StateError
from tinyconv.layers import (
    activation,
    container,
    conv,
    dropout,
    linear,
    norm,
    pool,
    shape,
)
from tinyconv.layers.base import Layer
from tinyconv.messages import shown
from tinyconv.registry import Registry

#: The files of this folder that export layers.
FILES = (activation, container, conv, dropout, linear, norm, pool, shape)


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


def encode(value: Any, *, by_class: bool = False, of: str = "save", in_layer: bool = False) -> Any:
    """Turn a layer, and every layer inside its configuration, into what JSON can hold.

    Args:
        value: a layer, or what its configuration holds.
        by_class: put classes themselves in place of their names, for copies in memory.
        of: what the value is an argument of, for messages.
        in_layer: whether it is an argument of a layer, whose lists are told from tuples.

    Raises:
        StateError: a layer's class was not registered, or an argument is no number, text, list or
            dictionary of texts, or one with the only key "list".

    >>> from tinyconv.layers import Linear
    >>> encode(Linear(2, 3, bias=False))["config"]["out_features"]
    3
    >>> encode([1, (2,)], in_layer=True)
    {'list': [1, [2]]}
    """
    if isinstance(value, Layer):
        kind = type(value) if by_class else LAYERS.name_of(value)
        frozen = {} if value.trainable else {"trainable": False}
        config = {
            name: encode(
                inner, by_class=by_class, of=f"{type(value).__name__}: {name}", in_layer=True
            )
            for name, inner in value.config().items()
        }
        return {"layer": kind, "config": config} | frozen
    if isinstance(value, list | tuple):
        inside = [encode(inner, by_class=by_class, of=of, in_layer=in_layer) for inner in value]
        if by_class:
            return tuple(inside) if isinstance(value, tuple) else inside
        is_told = in_layer and isinstance(value, list) and not _holds_layers(value)
        return {"list": inside} if is_told else inside
    if isinstance(value, dict) and (by_class or _is_plain(value, in_layer)):
        return {
            name: encode(inner, by_class=by_class, of=f"{of}: {name}", in_layer=in_layer)
            for name, inner in value.items()
        }
    if not by_class and isinstance(value, np.bool_ | np.integer | np.floating):
        return value.item()
    if by_class or isinstance(value, str | int | float | None):
        return value
    raise StateError(
        f"{of} is {shown(value)}, which a file cannot hold; keep numbers, texts, lists and "
        "dictionaries of them by texts, or override config()"
    )


def _is_plain(value: dict[Any, Any], in_layer: bool) -> bool:
    """Whether a file can hold a dictionary as it is."""
    is_list = in_layer and value.keys() == {"list"}
    return all(isinstance(name, str) for name in value) and not is_list


def _holds_layers(value: Any) -> bool:
    if isinstance(value, list | tuple):
        return any(map(_holds_layers, value))
    return isinstance(value, Layer)


def decode(value: Any, *, by_class: bool = False) -> Any:
    """Construct the layers that :func:`encode` described, with the same ``by_class``.

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
    if isinstance(value, list | tuple):
        inside = [decode(element, by_class=by_class) for element in value]
        # JSON has no tuples; lists without layers are told from them by the key "list".
        has_layers = any(isinstance(element, Layer) for element in inside)
        is_list = isinstance(value, list) if by_class else has_layers
        return inside if is_list else tuple(inside)
    if not isinstance(value, dict):
        return value
    if value.keys() == {"list"} and not by_class:
        if not isinstance(value["list"], list):
            raise FileError(f"a list is {shown(value['list'])}")
        return [decode(element) for element in value["list"]]
    if value.keys() - {"trainable"} != {"layer", "config"}:
        return {name: decode(inner, by_class=by_class) for name, inner in value.items()}
    kind, config = value["layer"], decode(value["config"], by_class=by_class)
    layer = kind(**config) if by_class else LAYERS.make(kind, config)
    if "trainable" in value:
        if value["trainable"] is not False:
            raise FileError(f"trainable is {shown(value['trainable'])}, expected false or none")
        layer.trainable = False
    return layer
