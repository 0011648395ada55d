"""Layers: thin objects that own parameters and the arrays of their last pass."""

from typing import Any

from tinyconv.errors import FileError
from tinyconv.layers.activation import ReLU, Sigmoid, Tanh
from tinyconv.layers.base import Layer, initialize
from tinyconv.layers.container import Chain
from tinyconv.layers.conv import Conv2d
from tinyconv.layers.dropout import Dropout
from tinyconv.layers.linear import Flatten, Linear
from tinyconv.layers.pool import AvgPool2d, L2Pool2d, MaxPool2d

__all__ = [
    "LAYERS",
    "AvgPool2d",
    "Chain",
    "Conv2d",
    "Dropout",
    "Flatten",
    "L2Pool2d",
    "Layer",
    "Linear",
    "MaxPool2d",
    "ReLU",
    "Sigmoid",
    "Tanh",
    "from_config",
    "initialize",
]

#: The layers that a file may name; nothing else is ever constructed from one.
LAYERS: dict[str, type[Layer]] = {
    kind.__name__: kind
    for kind in (
        AvgPool2d,
        Chain,
        Conv2d,
        Dropout,
        Flatten,
        L2Pool2d,
        Linear,
        MaxPool2d,
        ReLU,
        Sigmoid,
        Tanh,
    )
}


def from_config(name: str, config: dict[str, Any]) -> Layer:
    """Construct a layer from its name and what its ``config()`` returned.

    Raises:
        FileError: there is no such layer, or it does not take such arguments.

    >>> from_config("Linear", {"in_features": 2, "out_features": 3}).out_features
    3
    >>> from_config("Lambda", {})
    Traceback (most recent call last):
    tinyconv.errors.FileError: unknown layer 'Lambda'
    """
    if name not in LAYERS:
        raise FileError(f"unknown layer {name!r}")
    try:
        if LAYERS[name] is Chain:
            return Chain([from_config(*layer) for layer in config["layers"]])
        return LAYERS[name](**config)
    except FileError:
        raise
    except (KeyError, TypeError, ValueError) as error:
        raise FileError(f"layer {name} does not take {config!r}: {error}") from None
