"""The nets of the benchmarks, the data they get, and what the project aims at.

PyTorch gets the same net with the same weights, from ``tinyconv.interop.torch``.
"""

from collections.abc import Callable
from copy import deepcopy as copy
from dataclasses import dataclass, field
from functools import partial
from itertools import pairwise
from typing import Any

import numpy as np

import tinyconv as tc
from tinyconv.layers import Layer

__all__ = ["NETS", "Net"]

DIGIT, COLOR = (1, 28, 28), (3, 32, 32)
WIDE = [784, 2500, 2000, 1500, 1000, 500, 10]
MOST_BYTES = 64 << 20


@dataclass(frozen=True)
class Net:
    """A net with its goals: how often tinyconv is to be as fast as PyTorch's best.

    Attributes:
        build: makes it.
        steps: batch size -> goal for a training step.
        predictions: batch size -> goal for a prediction.
        adam: whether Adam trains it; plain SGD does otherwise.
        is_autoencoder: whether its target is its input, by the mean squared error.
    """

    build: Callable[[], tc.Sequential]
    steps: dict[int, float]
    predictions: dict[int, float] = field(default_factory=dict)
    adam: bool = False
    is_autoencoder: bool = False

    def data(self, samples: int) -> tuple[Any, Any]:
        """Return noise (S, ...) that fits, and targets: speed does not look at them.

        Args:
            samples: S, less where they would take more than 64 MB.
        """
        net = self.build()
        shape = net.input_shape
        assert shape is not None
        rng = np.random.default_rng(0)
        x = rng.random((min(samples, MOST_BYTES // (4 * int(np.prod(shape)))), *shape), np.float32)
        classes, *positions = net.output_shape(shape)
        return x, x if self.is_autoencoder else rng.integers(0, classes, (len(x), *positions))


def digits(*layers: Layer) -> Callable[[], tc.Sequential]:
    """Return what builds a net for digits, of copies, so that a layer may be named twice."""
    return lambda: tc.Sequential([copy(layer) for layer in layers], seed=0, input_shape=DIGIT)


def conv_conv(*between: Layer) -> Callable[[], tc.Sequential]:
    """The book's net with two convolutions, each with the same layers behind it."""
    return digits(
        tc.Conv2d(1, 20, 5),
        *between,
        tc.Conv2d(20, 40, 5),
        *between,
        tc.Flatten(),
        tc.Linear(640, 100),
        tc.ReLU(),
        tc.Linear(100, 10),
    )


def padded(channels: int, width: int, *behind: Layer) -> list[Layer]:
    return [tc.Conv2d(channels, width, 3, padding=1), *behind]


def activated(kind: Callable[[], Layer]) -> Callable[[], tc.Sequential]:
    """Two padded convolutions with an activation and a pool each."""
    return digits(
        *padded(1, 16, kind(), tc.MaxPool2d(2)),
        *padded(16, 32, kind(), tc.MaxPool2d(2)),
        tc.Flatten(),
        tc.Linear(1568, 10),
    )


def vgg() -> tc.Sequential:
    layers: list[Layer] = []
    for before, width in ((3, 32), (32, 64), (64, 128)):
        layers += padded(before, width, tc.BatchNorm2d(width), tc.ReLU())
        layers += padded(width, width, tc.BatchNorm2d(width), tc.ReLU(), tc.MaxPool2d(2))
    layers += [tc.Flatten(), tc.Linear(2048, 10)]
    return tc.Sequential(layers, seed=0, input_shape=COLOR)


def residual() -> tc.Sequential:
    layers = [*padded(1, 16, tc.ReLU())]
    for _ in range(3):
        layers += [tc.Residual([*padded(16, 16, tc.ReLU()), *padded(16, 16)]), tc.ReLU()]
    layers += [tc.MaxPool2d(2), tc.Flatten(), tc.Linear(3136, 10)]
    return tc.Sequential(layers, seed=0, input_shape=DIGIT)


def grouped(size: int) -> tc.Sequential:
    """Return a net of convolutions in groups of so many channels, each with one 1x1 behind it."""
    layers: list[Layer] = [tc.Conv2d(3, 32, 3, 2, 1), tc.ReLU()]
    for before, width in ((32, 64), (64, 64), (64, 128)):
        layers += [tc.Conv2d(before, before, 3, padding=1, groups=before // size), tc.ReLU()]
        layers += [tc.Conv2d(before, width, 1), tc.ReLU()]
    layers += [tc.GlobalAvgPool(), tc.Flatten(), tc.Linear(128, 10)]
    return tc.Sequential(layers, seed=0, input_shape=COLOR)


def u_net() -> tc.Sequential:
    """Return a net with one of 21 classes at every pixel, and shortcuts around a narrow middle."""

    def pair(before: int, width: int) -> list[Layer]:
        return [
            *padded(before, width, tc.BatchNorm2d(width), tc.ReLU()),
            *padded(width, width, tc.BatchNorm2d(width), tc.ReLU()),
        ]

    def around(inside: list[Layer], width: int) -> Layer:
        up = tc.ConvTranspose2d(2 * width, width, 2, 2)
        return tc.Parallel([tc.Identity(), [tc.MaxPool2d(2), *inside, up]])

    middle = [*pair(32, 32), around(pair(32, 64), 32), *pair(64, 32)]
    layers = [*pair(3, 16), around([*pair(16, 32), *middle], 16), *pair(32, 16)]
    return tc.Sequential([*layers, tc.Conv2d(16, 21, 1)], seed=0, input_shape=(3, 64, 64))


THREE, TWO = {32: 3.0}, {32: 2.0}
NETS: dict[str, Net] = {
    "conv-conv-ReLU": Net(
        conv_conv(tc.MaxPool2d(2), tc.ReLU()), {10: 4.5, 128: 3}, {1: 1.2, 10: 1.2, 128: 1.2}
    ),
    "ReLU before the pool": Net(conv_conv(tc.ReLU(), tc.MaxPool2d(2)), {10: 4.5, 128: 3}),
    "with L2 pooling": Net(conv_conv(tc.L2Pool2d(2), tc.ReLU()), {10: 2.5, 128: 1.5}),
    "with average pooling": Net(conv_conv(tc.AvgPool2d(2), tc.ReLU()), {10: 2.5, 128: 1.5}),
    "one convolution, sigmoid": Net(
        digits(
            tc.Conv2d(1, 20, 5),
            tc.MaxPool2d(2),
            tc.Sigmoid(),
            tc.Flatten(),
            tc.Linear(2880, 100),
            tc.Sigmoid(),
            tc.Linear(100, 10),
        ),
        {10: 3, 128: 2.5},
    ),
    "784-100-10, sigmoid": Net(
        digits(tc.Flatten(), tc.Linear(784, 100), tc.Sigmoid(), tc.Linear(100, 10)),
        {10: 4, 128: 2},
        {10: 2},
    ),
    "conv-conv-ReLU, FC 1000, dropout": Net(
        digits(
            tc.Conv2d(1, 20, 5),
            tc.MaxPool2d(2),
            tc.ReLU(),
            tc.Conv2d(20, 40, 5),
            tc.MaxPool2d(2),
            tc.ReLU(),
            tc.Flatten(),
            tc.Dropout(0.5),
            tc.Linear(640, 1000),
            tc.ReLU(),
            tc.Dropout(0.5),
            tc.Linear(1000, 1000),
            tc.ReLU(),
            tc.Dropout(0.5),
            tc.Linear(1000, 10),
        ),
        {10: 2, 128: 2},
    ),
    "784-2500-2000-1500-1000-500-10, tanh": Net(
        digits(
            tc.Flatten(),
            *[layer for i, o in pairwise(WIDE[:-1]) for layer in (tc.Linear(i, o), tc.Tanh())],
            tc.Linear(500, 10),
        ),
        {10: 1.3, 128: 1.3},
        {10: 1.3},
    ),
    "LeNet-5, tanh, average pools": Net(
        digits(
            tc.Conv2d(1, 6, 5, 1, 2),
            tc.Tanh(),
            tc.AvgPool2d(2),
            tc.Conv2d(6, 16, 5),
            tc.Tanh(),
            tc.AvgPool2d(2),
            tc.Conv2d(16, 120, 5),
            tc.Tanh(),
            tc.Flatten(),
            tc.Linear(120, 84),
            tc.Tanh(),
            tc.Linear(84, 10),
        ),
        THREE,
        TWO,
    ),
    "3x3, padding 1, stride 2": Net(
        digits(
            tc.Conv2d(1, 16, 3, 2, 1),
            tc.ReLU(),
            tc.Conv2d(16, 32, 3, 2, 1),
            tc.ReLU(),
            tc.Conv2d(32, 64, 3, 2, 1),
            tc.ReLU(),
            tc.Flatten(),
            tc.Linear(1024, 10),
        ),
        {32: 1},
    ),
    "MNIST-1D, 3 wide, stride 2": Net(tc.models.mnist1d_cnn, THREE, TWO),
    "resnet20": Net(tc.models.resnet20, {32: 1.5}, {32: 1.2}),
    "VGG-like, batch norm": Net(vgg, {32: 1.5}, {32: 1.2}),
    "residual blocks without norm": Net(residual, TWO, {32: 1.2}),
    "depthwise and 1x1": Net(partial(grouped, 1), TWO, {32: 1.2}),
    "groups of 4 and 1x1": Net(partial(grouped, 4), {32: 0.9}, {32: 0.9}),
    "three dimensions": Net(tc.models.conv3d_small, {8: 2}, {8: 1.2}),
    "autoencoder, transposed convolutions": Net(
        digits(
            tc.Conv2d(1, 16, 3, 2, 1),
            tc.ReLU(),
            tc.Conv2d(16, 32, 3, 2, 1),
            tc.ReLU(),
            tc.ConvTranspose2d(32, 16, 4, 2, 1),
            tc.ReLU(),
            tc.ConvTranspose2d(16, 1, 4, 2, 1),
            tc.Sigmoid(),
        ),
        TWO,
        {32: 1.2},
        is_autoencoder=True,
    ),
    "U-Net, 21 classes a pixel": Net(u_net, {8: 0.9}, {8: 0.9}),
    "GELU, Adam": Net(activated(tc.GELU), THREE, TWO, adam=True),
    "SiLU": Net(activated(tc.SiLU), THREE, TWO),
    "LeakyReLU": Net(activated(tc.LeakyReLU), THREE, TWO),
    "ELU": Net(activated(tc.ELU), THREE, TWO),
    "Softplus": Net(activated(tc.Softplus), THREE, TWO),
    "Network in Network": Net(tc.models.network_in_network, {16: 1.3}, {16: 1.1}),
    "AlexNet": Net(tc.models.alexnet, {4: 1}, {4: 1}),
    "audio, one dimension": Net(tc.models.audio_conv1d, THREE, TWO),
    "Simard 2003": Net(tc.models.simard2003, THREE, TWO),
    "LayerNorm, 784-256-256-10": Net(
        digits(
            tc.Flatten(),
            tc.Linear(784, 256),
            tc.LayerNorm(256),
            tc.ReLU(),
            tc.Linear(256, 256),
            tc.LayerNorm(256),
            tc.ReLU(),
            tc.Linear(256, 10),
        ),
        THREE,
        TWO,
    ),
}
