"""Layers: thin objects that own parameters and the arrays of their last pass."""

from tinyconv.layers.activation import ReLU, Sigmoid, Tanh
from tinyconv.layers.base import Layer, initialize
from tinyconv.layers.container import Chain, Container, Parallel, Residual
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
from tinyconv.layers.registry import LAYERS, decode, encode

__all__ = [
    "LAYERS",
    "AvgPool2d",
    "Chain",
    "Container",
    "Conv1d",
    "Conv2d",
    "Conv3d",
    "ConvTranspose1d",
    "ConvTranspose2d",
    "ConvTranspose3d",
    "Dropout",
    "Flatten",
    "L2Pool2d",
    "Layer",
    "Linear",
    "MaxPool2d",
    "Parallel",
    "ReLU",
    "Residual",
    "Sigmoid",
    "Tanh",
    "decode",
    "encode",
    "initialize",
]
