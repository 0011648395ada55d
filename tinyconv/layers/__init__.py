"""Layers: thin objects that own parameters and the arrays of their last pass."""

from tinyconv.layers.activation import (
    ELU,
    GELU,
    LeakyReLU,
    ReLU,
    ScaledTanh,
    Sigmoid,
    SiLU,
    Softplus,
    Tanh,
)
from tinyconv.layers.base import Layer as Layer
from tinyconv.layers.base import initialize as initialize
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
from tinyconv.layers.norm import (
    BatchNorm1d,
    BatchNorm2d,
    BatchNorm3d,
    GroupNorm,
    LayerNorm,
    LocalResponseNorm,
)
from tinyconv.layers.pool import (
    AvgPool1d,
    AvgPool2d,
    AvgPool3d,
    GlobalAvgPool,
    GlobalMaxPool,
    L2Pool2d,
    LPPool1d,
    LPPool2d,
    LPPool3d,
    MaxPool1d,
    MaxPool2d,
    MaxPool3d,
    Subsample2d,
)
from tinyconv.layers.registry import LAYERS as LAYERS
from tinyconv.layers.registry import decode as decode
from tinyconv.layers.registry import encode as encode
from tinyconv.layers.shape import Crop, Flatten, Identity, Pad, Reshape
from tinyconv.layers.upsample import Upsample

__all__ = [
    "ELU",
    "GELU",
    "AvgPool1d",
    "AvgPool2d",
    "AvgPool3d",
    "BatchNorm1d",
    "BatchNorm2d",
    "BatchNorm3d",
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
    "GroupNorm",
    "Identity",
    "L2Pool2d",
    "LPPool1d",
    "LPPool2d",
    "LPPool3d",
    "Layer",
    "LayerNorm",
    "LeakyReLU",
    "Linear",
    "LocalResponseNorm",
    "MaxPool1d",
    "MaxPool2d",
    "MaxPool3d",
    "Pad",
    "Parallel",
    "ReLU",
    "Reshape",
    "Residual",
    "ScaledTanh",
    "SiLU",
    "Sigmoid",
    "Softplus",
    "Subsample2d",
    "Tanh",
    "Upsample",
]
