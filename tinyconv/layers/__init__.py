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
from tinyconv.layers.linear import Linear
from tinyconv.layers.pool import (
    AvgPool1d,
    AvgPool2d,
    AvgPool3d,
    L2Pool2d,
    LPPool2d,
    MaxPool1d,
    MaxPool2d,
    MaxPool3d,
    Subsample2d,
)
from tinyconv.layers.pool_global import GlobalAvgPool, GlobalMaxPool
from tinyconv.layers.registry import LAYERS, decode, encode
from tinyconv.layers.shape import Crop, Flatten, Identity, Pad, Reshape
from tinyconv.layers.upsample import Upsample

__all__ = [
    "LAYERS",
    "AvgPool1d",
    "AvgPool2d",
    "AvgPool3d",
    "Chain",
    "Container",
    "Conv1d",
    "Conv2d",
    "Conv3d",
    "ConvTranspose1d",
    "ConvTranspose2d",
    "ConvTranspose3d",
    "Crop",
    "Dropout",
    "Flatten",
    "GlobalAvgPool",
    "GlobalMaxPool",
    "Identity",
    "L2Pool2d",
    "LPPool2d",
    "Layer",
    "Linear",
    "MaxPool1d",
    "MaxPool2d",
    "MaxPool3d",
    "Pad",
    "Parallel",
    "ReLU",
    "Reshape",
    "Residual",
    "Sigmoid",
    "Subsample2d",
    "Tanh",
    "Upsample",
    "decode",
    "encode",
    "initialize",
]
