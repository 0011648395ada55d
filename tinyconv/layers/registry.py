"""Layers as plain data and back: what a file may say of a network."""

from typing import Any

from tinyconv.errors import FileError
from tinyconv.layers.activation import ReLU, Sigmoid, Tanh
from tinyconv.layers.base import Layer
from tinyconv.layers.container import Chain, Parallel, Residual
from tinyconv.layers.conv import (
    Conv1d,
    Conv2d,
    Conv3d,
    ConvTranspose1d,
    ConvTranspose2d,
    ConvTranspose3d,
)
from tinyconv.layers.dropout import Dropout
from tinyconv.layers.linear import Flatten, Linear
from tinyconv.layers.pool import AvgPool2d, L2Pool2d, MaxPool2d

__all__ = ["LAYERS", "decode", "encode"]

#: The layers that a file may name; nothing else is ever constructed from one.
LAYERS: dict[str, type[Layer]] = {
    kind.__name__: kind
    for kind in (
        AvgPool2d,
        Chain,
        Conv1d,
        Conv2d,
        Conv3d,
        ConvTranspose1d,
        ConvTranspose2d,
        ConvTranspose3d,
        Dropout,
        Flatten,
        L2Pool2d,
        Linear,
        MaxPool2d,
        Parallel,
        ReLU,
        Residual,
        Sigmoid,
        Tanh,
    )
}


def encode(value: Any) -> Any:
    """Turn a layer, and every layer inside its configuration, into what JSON can hold.

    >>> encode(Linear(2, 3, bias=False))["config"]["out_features"]
    3
    """
    if isinstance(value, Layer):
        return {"layer": type(value).__name__, "config": encode(value.config())}
    if isinstance(value, dict):
        return {name: encode(inner) for name, inner in value.items()}
    if isinstance(value, list | tuple):
        return [encode(inner) for inner in value]
    return value


def decode(value: Any) -> Any:
    """Construct the layers that :func:`encode` described.

    Raises:
        FileError: there is no such layer, or it does not take such arguments.

    >>> decode(encode(Residual([Linear(2, 2), ReLU()]))).body.layers[0].in_features
    2
    >>> decode({"layer": "Lambda", "config": {}})
    Traceback (most recent call last):
    tinyconv.errors.FileError: unknown layer 'Lambda'
    """
    if isinstance(value, list):
        inner = [decode(element) for element in value]
        # JSON has no tuples, constructors take no lists of numbers.
        return inner if any(isinstance(element, Layer) for element in inner) else tuple(inner)
    if not isinstance(value, dict):
        return value
    if value.keys() != {"layer", "config"}:
        return {name: decode(inner) for name, inner in value.items()}
    name, config = value["layer"], decode(value["config"])
    if name not in LAYERS:
        raise FileError(f"unknown layer {name!r}")
    try:
        return LAYERS[name](**config)
    except (TypeError, ValueError) as error:
        raise FileError(f"layer {name} does not take {config!r}: {error}") from None
