"""Layers as plain data and back: what a file may say of a network."""

from inspect import isabstract
from typing import Any

from tinyconv.arguments import shown
from tinyconv.errors import FileError
from tinyconv.layers import (
    activation,
    container,
    conv,
    dropout,
    linear,
    norm,
    pool,
    pool_global,
    shape,
    upsample,
)
from tinyconv.layers.base import Layer

__all__ = ["LAYERS", "decode", "encode"]

#: The files of this folder whose public classes are layers.
_FILES = (activation, container, conv, dropout, linear, norm, pool, pool_global, shape, upsample)

#: The layers that a file may name; nothing else is ever constructed from one.
LAYERS: dict[str, type[Layer]] = {
    name: getattr(file, name)
    for file in _FILES
    for name in file.__all__
    if not isabstract(getattr(file, name))
}


def encode(value: Any) -> Any:
    """Turn a layer, and every layer inside its configuration, into what JSON can hold.

    >>> from tinyconv.layers import Linear
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

    >>> from tinyconv.layers import Linear, ReLU, Residual
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
        raise FileError(f"layer {name} does not take {shown(config)}: {error}") from None
