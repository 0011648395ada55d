"""Nets that between them meet every rule and every kernel, on small images."""

from collections.abc import Callable
from typing import Any

import numpy as np

from tinyconv.layers import (
    ELU,
    GELU,
    AvgPool1d,
    AvgPool2d,
    AvgPool3d,
    BatchNorm1d,
    BatchNorm2d,
    Chain,
    Conv1d,
    Conv2d,
    Conv3d,
    Crop,
    Dropout,
    Flatten,
    GlobalAvgPool,
    GlobalMaxPool,
    Identity,
    L2Pool2d,
    Layer,
    LeakyReLU,
    Linear,
    LPPool2d,
    MaxPool1d,
    MaxPool2d,
    MaxPool3d,
    Pad,
    Parallel,
    ReLU,
    Reshape,
    Residual,
    ScaledTanh,
    Sigmoid,
    SiLU,
    Softplus,
    Tanh,
    Upsample,
)


class LocalHalf(Layer):
    """A layer that a user might write: no plan has kernels for it."""

    def config(self) -> dict[str, Any]:
        return {}

    def output_shape(self, shape: tuple[int, ...]) -> tuple[int, ...]:
        return shape

    def _forward(self, x: Any, training: bool, step: int) -> tuple[Any, Any]:
        return x / np.float32(2), None

    def _backward(self, dy: Any, saved: Any) -> tuple[Any, dict[str, Any]]:
        return dy / np.float32(2), {}


#: name -> (shape of a sample, the layers)
NETS: dict[str, tuple[tuple[int, ...], Callable[[], list[Layer]]]] = {
    "conv, max, relu; two of them": (
        (1, 14, 14),
        lambda: [
            Conv2d(1, 20, 3),
            MaxPool2d(2),
            ReLU(),
            Conv2d(20, 9, 3),
            MaxPool2d(2),
            ReLU(),
            Flatten(),
            Linear(36, 10),
        ],
    ),
    "activation before the max": (
        (3, 12, 11),
        lambda: [Conv2d(3, 6, 3), Tanh(), MaxPool2d((3, 2)), Flatten(), Linear(72, 4)],
    ),
    "max of a padded convolution behind another one, without bias": (
        (2, 7, 9),
        lambda: [
            Conv2d(2, 5, 3, padding=1),
            Sigmoid(),
            Conv2d(5, 33, 3, padding=(1, 2), bias=False),
            MaxPool2d(2),
            ReLU(),
            Flatten(),
            Linear(495, 3),
        ],
    ),
    "mean before and after an activation": (
        (1, 14, 14),
        lambda: [
            Conv2d(1, 6, 5, padding=2),
            Tanh(),
            AvgPool2d(2),
            Conv2d(6, 8, 3, padding=1),
            AvgPool2d(2),
            ReLU(),
            Flatten(),
            Linear(72, 10),
        ],
    ),
    "mean of one convolution, dilated, behind another": (
        (2, 12, 12),
        lambda: [
            Conv2d(2, 4, 3),
            ReLU(),
            Conv2d(4, 5, 3, dilation=2),
            AvgPool2d((2, 3)),
            Flatten(),
            Linear(30, 4),
        ],
    ),
    "mean of a convolution that is not padded with zeros": (
        (2, 8, 8),
        lambda: [
            Conv2d(2, 4, 3, padding=1, padding_mode="reflect"),
            AvgPool2d(2),
            Flatten(),
            Linear(64, 4),
        ],
    ),
    "convolutions over one axis": (
        (1, 40),
        lambda: [
            Conv1d(1, 15, 3, stride=2),
            ReLU(),
            Conv1d(15, 15, 3, stride=2, padding=1),
            ReLU(),
            Conv1d(15, 7, 3, dilation=2),
            Flatten(),
            Linear(42, 10),
        ],
    ),
    "root of squares": (
        (1, 14, 14),
        lambda: [
            Conv2d(1, 8, 3),
            L2Pool2d(2),
            ReLU(),
            Conv2d(8, 8, 3),
            Sigmoid(),
            L2Pool2d(2, 1),
            Flatten(),
            Linear(72, 10),
        ],
    ),
    "stride and padding": (
        (3, 13, 10),
        lambda: [
            Conv2d(3, 16, 3, 2, 1),
            ReLU(),
            Conv2d(16, 20, 3, (1, 2), (1, 0)),
            ReLU(),
            Flatten(),
            Linear(280, 10),
        ],
    ),
    "dilation and a max behind it": (
        (2, 13, 13),
        lambda: [
            Conv2d(2, 4, 2),
            ReLU(),
            Conv2d(4, 6, 3, dilation=2),
            MaxPool2d(2),
            Flatten(),
            Linear(96, 5),
        ],
    ),
    "pools that overlap or have padding": (
        (2, 10, 10),
        lambda: [
            Conv2d(2, 6, 3),
            ReLU(),
            MaxPool2d(3, 2, 1),
            AvgPool2d(2, 1, 1),
            L2Pool2d(3, 2, 1),
            Flatten(),
            Linear(54, 4),
        ],
    ),
    "one position left": (
        (4, 5, 5),
        lambda: [Conv2d(4, 12, 5), Tanh(), Flatten(), Linear(12, 3)],
    ),
    "linear layers of odd sizes": (
        (1, 5, 5),
        lambda: [
            Flatten(),
            Linear(25, 37),
            Tanh(),
            Linear(37, 1),
            Sigmoid(),
            Linear(1, 6, bias=False),
            ReLU(),
            Linear(6, 130),
            ReLU(),
            Linear(130, 11),
        ],
    ),
    "dropout of vectors and images": (
        (2, 9, 9),
        lambda: [
            Dropout(0.1),
            Conv2d(2, 6, 3),
            ReLU(),
            Dropout(0.4, scale_at_test=True),
            Conv2d(6, 4, 3, padding=1),
            ReLU(),
            Flatten(),
            Dropout(0.5),
            Linear(196, 30),
            Sigmoid(),
            Dropout(0.3, scale_at_test=True),
            Linear(30, 4),
        ],
    ),
    "activations that stand alone": (
        (3, 6, 6),
        lambda: [
            ReLU(),
            Tanh(),
            Conv2d(3, 4, 3),
            ReLU(),
            Sigmoid(),
            Flatten(),
            Tanh(),
            Linear(64, 4),
        ],
    ),
    "activations whose slope needs the input, and with parameters": (
        (2, 12, 12),
        lambda: [
            Conv2d(2, 6, 3),
            GELU(),
            Conv2d(6, 5, 3, padding=1),
            MaxPool2d(2),
            SiLU(),
            Conv2d(5, 4, 2),
            ELU(0.7),
            MaxPool2d(2),
            LeakyReLU(0.2),
            Flatten(),
            Linear(16, 9),
            Softplus(2.0),
            ScaledTanh(),
            Linear(9, 8),
            LeakyReLU(0.1),
            Linear(8, 3),
            GELU("tanh"),
        ],
    ),
    "layers without kernels among the others": (
        (4, 8, 8),
        lambda: [
            LocalHalf(),
            Conv2d(4, 8, 3),
            ReLU(),
            Residual([Conv2d(8, 8, 3, padding=1), ReLU()]),
            Chain([Conv2d(8, 6, 3), ReLU()]),
            Flatten(),
            Linear(96, 4),
        ],
    ),
    "branches, nested and joined both ways": (
        (3, 6, 6),
        lambda: [
            Residual([Conv2d(3, 3, 3, padding=1), Tanh()]),
            ReLU(),
            Parallel(
                [
                    Conv2d(3, 2, 3, padding=1),
                    [
                        Conv2d(3, 4, 1),
                        ReLU(),
                        Residual(Conv2d(4, 4, 1), Conv2d(4, 4, 5, padding=2)),
                    ],
                    Identity(),
                ]
            ),
            Sigmoid(),
            Parallel([Conv2d(9, 2, 3), [Conv2d(9, 2, 3), ReLU()]], join="add"),
            Tanh(),
            Flatten(),
            Parallel([Linear(32, 3), [Linear(32, 5), Tanh()]]),
            Residual(Identity()),
            Linear(8, 4),
        ],
    ),
    "in one dimension": (
        (2, 20),
        lambda: [Conv1d(2, 6, 5, 2), ReLU(), Flatten(), Linear(48, 4)],
    ),
    "three axes, with a max behind": (
        (2, 6, 7, 8),
        lambda: [
            Conv3d(2, 4, 3, padding=1),
            ReLU(),
            Conv3d(4, 6, (2, 3, 3), stride=(1, 2, 1), padding=((0, 1), (1, 0), (2, 1))),
            GELU(),
            Conv3d(6, 5, 2, dilation=(1, 1, 2)),
            ELU(),
            MaxPool3d((1, 1, 2)),
            Flatten(),
            Linear(150, 4),
        ],
    ),
    "padding of the same size, strides larger than kernels": (
        (3, 9, 10),
        lambda: [
            Conv2d(3, 8, (4, 3), padding="same"),
            LeakyReLU(0.1),
            Conv2d(8, 20, 1, stride=2),
            SiLU(),
            Conv2d(20, 4, 2, stride=3),
            Flatten(),
            Linear(16, 4),
        ],
    ),
    "batch norms behind convolutions and linear layers": (
        (2, 6, 6),
        lambda: [
            Conv2d(2, 4, 3, bias=False),
            BatchNorm2d(4),
            ReLU(),
            Conv2d(4, 6, 3, padding=1),
            BatchNorm2d(6, affine=False),
            Flatten(),
            Linear(96, 20),
            BatchNorm1d(20),
            Tanh(),
            Linear(20, 4, bias=False),
            BatchNorm1d(4),
        ],
    ),
    "nothing but one linear layer": ((7,), lambda: [Linear(7, 3)]),
    "maxima of any windows": (
        (3, 24, 19),
        lambda: [
            Conv2d(3, 5, 1),
            MaxPool2d(3, 2, 1),
            MaxPool2d((2, 3), (1, 2), ((0, 1), (1, 1)), (2, 1), ceil_mode=True),
            ReLU(),
            MaxPool2d(1),
            Flatten(),
            Linear(None, 3),
        ],
    ),
    "winners that no byte can tell": (
        (2, 17, 19),
        lambda: [Residual([Conv2d(2, 2, 1), MaxPool2d(17, 1, 8)]), Flatten(), Linear(None, 3)],
    ),
    "means of any windows": (
        (3, 12, 13),
        lambda: [
            Conv2d(3, 5, 1),
            AvgPool2d(3, 2, 1, count_include_pad=False),
            AvgPool2d((2, 3), 1, ((1, 0), (1, 1)), ceil_mode=True),
            GlobalAvgPool(),
            Flatten(),
            Linear(None, 3),
        ],
    ),
    "pools over one axis": (
        (2, 30),
        lambda: [
            Conv1d(2, 5, 3),
            MaxPool1d(3, 2, 1),
            AvgPool1d(2, 1, 1),
            GlobalMaxPool(),
            Flatten(),
            Linear(None, 3),
        ],
    ),
    "pools over three axes": (
        (2, 6, 7, 8),
        lambda: [
            Conv3d(2, 5, 1),
            MaxPool3d((2, 3, 2), 1, (1, 0, 0)),
            AvgPool3d(2),
            GlobalMaxPool(),
            Flatten(),
            Linear(None, 3),
        ],
    ),
    "pools by a norm": (
        (2, 9, 9),
        lambda: [
            Conv2d(2, 5, 1),
            L2Pool2d(3, 2, 1, ceil_mode=True),
            LPPool2d(1, 2, 1),
            LPPool2d(2.5, 2, 1),
            Flatten(),
            Linear(None, 3),
        ],
    ),
    "padded, cropped, enlarged": (
        (2, 4, 5),
        lambda: [
            Conv2d(2, 5, 1),
            Upsample(scale_factor=(2, 1)),
            Pad(((1, 2), (0, 1)), value=0.5),
            Upsample((13, 7), mode="bilinear"),
            Pad(1, mode="reflect"),
            Crop(((0, 2), (1, 0))),
            Upsample((15, 9), mode="bilinear", align_corners=True),
            Pad((2, 1), mode="circular"),
            Pad((0, 1), mode="replicate"),
            Crop((8, 4)),
            Flatten(),
            Linear(None, 3),
        ],
    ),
    "other shapes": (
        (12,),
        lambda: [
            Linear(12, 12),
            Reshape((3, -1)),
            Conv1d(3, 4, 3, padding=1),
            Reshape((2, 2, 4)),
            Conv2d(2, 3, 3, padding=1),
            Reshape((-1,)),
            Linear(None, 12),
            Reshape((1, 2, 2, 1, 3)),
            Reshape((3, 4)),
            GlobalAvgPool(),
            Flatten(),
        ],
    ),
    "each channel by itself": (
        (2, 9, 10),
        lambda: [
            Conv2d(2, 5, 1),
            Conv2d(5, 5, 3, padding=1, groups=5),
            ReLU(),
            Conv2d(5, 5, (4, 2), (2, 1), ((1, 0), (2, 1)), (1, 3), groups=5, bias=False),
            Tanh(),
            Reshape((5, -1)),
            Conv1d(5, 5, 31, 2, 9, groups=5),
            ReLU(),
            Reshape((5, 2, 1, 7)),
            Conv3d(5, 5, (2, 1, 3), padding=1, groups=5),
            Flatten(),
            Linear(None, 3),
        ],
    ),
}
