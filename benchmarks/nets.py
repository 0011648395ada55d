"""The nets of the benchmarks, once for each library, and the data they all get."""

from itertools import pairwise
from typing import Any

import numpy as np

__all__ = ["NETS", "data", "of_tinyconv", "of_torch", "shape_of"]

WIDE = [784, 2500, 2000, 1500, 1000, 500, 10]

#: name -> layers, as both libraries can build them.
NETS: dict[str, list[Any]] = {
    "conv-conv-ReLU": [
        ("conv", 1, 20, 5),
        "max",
        "relu",
        ("conv", 20, 40, 5),
        "max",
        "relu",
        "flatten",
        ("linear", 640, 100),
        "relu",
        ("linear", 100, 10),
    ],
    "ReLU before the pool": [
        ("conv", 1, 20, 5),
        "relu",
        "max",
        ("conv", 20, 40, 5),
        "relu",
        "max",
        "flatten",
        ("linear", 640, 100),
        "relu",
        ("linear", 100, 10),
    ],
    "with L2 pooling": [
        ("conv", 1, 20, 5),
        "l2",
        "relu",
        ("conv", 20, 40, 5),
        "l2",
        "relu",
        "flatten",
        ("linear", 640, 100),
        "relu",
        ("linear", 100, 10),
    ],
    "with average pooling": [
        ("conv", 1, 20, 5),
        "avg",
        "relu",
        ("conv", 20, 40, 5),
        "avg",
        "relu",
        "flatten",
        ("linear", 640, 100),
        "relu",
        ("linear", 100, 10),
    ],
    "one convolution, sigmoid": [
        ("conv", 1, 20, 5),
        "max",
        "sigmoid",
        "flatten",
        ("linear", 2880, 100),
        "sigmoid",
        ("linear", 100, 10),
    ],
    "784-100-10, sigmoid": ["flatten", ("linear", 784, 100), "sigmoid", ("linear", 100, 10)],
    "conv-conv-ReLU, FC 1000, dropout": [
        ("conv", 1, 20, 5),
        "max",
        "relu",
        ("conv", 20, 40, 5),
        "max",
        "relu",
        "flatten",
        "dropout",
        ("linear", 640, 1000),
        "relu",
        "dropout",
        ("linear", 1000, 1000),
        "relu",
        "dropout",
        ("linear", 1000, 10),
    ],
    "784-2500-2000-1500-1000-500-10, tanh": [
        "flatten",
        *[layer for i, o in pairwise(WIDE[:-1]) for layer in (("linear", i, o), "tanh")],
        ("linear", 500, 10),
    ],
    "LeNet-5, tanh, average pools": [
        ("conv", 1, 6, 5, 1, 2),
        "tanh",
        "avg",
        ("conv", 6, 16, 5),
        "tanh",
        "avg",
        ("conv", 16, 120, 5),
        "tanh",
        "flatten",
        ("linear", 120, 84),
        "tanh",
        ("linear", 84, 10),
    ],
    "3x3, padding 1, stride 2": [
        ("conv", 1, 16, 3, 2, 1),
        "relu",
        ("conv", 16, 32, 3, 2, 1),
        "relu",
        ("conv", 32, 64, 3, 2, 1),
        "relu",
        "flatten",
        ("linear", 1024, 10),
    ],
    "MNIST-1D, 3 wide, stride 2": [
        ("conv1d", 1, 15, 3, 2, 1),
        "relu",
        ("conv1d", 15, 15, 3, 2, 1),
        "relu",
        ("conv1d", 15, 15, 3, 2, 1),
        "relu",
        "flatten",
        ("linear", 75, 10),
    ],
}


def shape_of(name: str) -> tuple[int, ...]:
    """Return the shape of one sample for a net."""
    return (1, 40) if name.startswith("MNIST-1D") else (1, 28, 28)


def data(name: str, samples: int) -> tuple[Any, Any]:
    """Return noise (S, ...) that fits a net, and labels (S,): speed does not look at them."""
    rng = np.random.default_rng(0)
    x = rng.random((samples, *shape_of(name)), np.float32)
    return x, rng.integers(0, 10, samples)


def of_tinyconv(name: str) -> Any:
    import tinyconv as tc

    kinds = {
        "conv": tc.Conv2d,
        "conv1d": tc.Conv1d,
        "linear": tc.Linear,
        "flatten": tc.Flatten,
        "relu": tc.ReLU,
        "sigmoid": tc.Sigmoid,
        "tanh": tc.Tanh,
        "max": lambda: tc.MaxPool2d(2),
        "avg": lambda: tc.AvgPool2d(2),
        "l2": lambda: tc.L2Pool2d(2),
        "dropout": lambda: tc.Dropout(0.5),
    }
    return tc.Sequential(_build(name, kinds), seed=0, input_shape=shape_of(name))


def of_torch(name: str) -> Any:
    from torch import nn

    kinds = {
        "conv": nn.Conv2d,
        "conv1d": nn.Conv1d,
        "linear": nn.Linear,
        "flatten": nn.Flatten,
        "relu": nn.ReLU,
        "sigmoid": nn.Sigmoid,
        "tanh": nn.Tanh,
        "max": lambda: nn.MaxPool2d(2),
        "avg": lambda: nn.AvgPool2d(2),
        "l2": lambda: nn.LPPool2d(2, 2),
        "dropout": lambda: nn.Dropout(0.5),
    }
    return nn.Sequential(*_build(name, kinds))


def _build(name: str, kinds: dict[str, Any]) -> list[Any]:
    layers = []
    for layer in NETS[name]:
        kind, *arguments = (layer,) if isinstance(layer, str) else layer
        layers.append(kinds[kind](*arguments))
    return layers
