"""tinyconv: convolutional networks in plain NumPy and CuPy, every backward pass written out.

>>> import tinyconv as tc
>>> net = tc.Sequential([tc.Conv2d(1, 20, 5), tc.MaxPool2d(2), tc.ReLU(),
...                      tc.Flatten(), tc.Linear(None, 10)], input_shape=(1, 28, 28))
>>> print(net)
   layer      output    parameters  multiply-adds
0  Conv2d     20x24x24         520        288,000
1  MaxPool2d  20x12x12           0              0
2  ReLU       20x12x12           0              0
3  Flatten    2880               0              0
4  Linear     10            28,810         28,800
   total                    29,330        316,800
"""

from importlib import import_module
from typing import Any

from tinyconv import data, initializers, models, ops, schedules
from tinyconv.engines.thread_count import get_num_threads, set_num_threads
from tinyconv.ensemble import Ensemble
from tinyconv.errors import (
    ArgumentError,
    DataError,
    DeviceError,
    DtypeError,
    FileError,
    NonFiniteError,
    ShapeError,
    StateError,
)
from tinyconv.layers import (
    ELU,
    GELU,
    AvgPool1d,
    AvgPool2d,
    AvgPool3d,
    BatchNorm1d,
    BatchNorm2d,
    BatchNorm3d,
    Chain,
    Conv1d,
    Conv2d,
    Conv3d,
    ConvTranspose1d,
    ConvTranspose2d,
    ConvTranspose3d,
    Crop,
    Dropout,
    Flatten,
    GlobalAvgPool,
    GlobalMaxPool,
    GroupNorm,
    Identity,
    L2Pool2d,
    Layer,
    LayerNorm,
    LeakyReLU,
    Linear,
    LocalResponseNorm,
    LPPool1d,
    LPPool2d,
    LPPool3d,
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
    Subsample2d,
    Tanh,
    Upsample,
)
from tinyconv.losses import (
    BCEWithLogitsLoss,
    CrossEntropyLoss,
    HuberLoss,
    L1Loss,
    Loss,
    MSELoss,
    MultiMarginLoss,
    Quadratic,
    SigmoidCrossEntropy,
    SoftmaxLogLikelihood,
)
from tinyconv.messages import missing
from tinyconv.metrics import Metric
from tinyconv.network import Sequential, load
from tinyconv.optimizers import SGD, Adagrad, Adam, AdamW, Optimizer, RMSProp
from tinyconv.parameters import ParameterSpec
from tinyconv.register import register
from tinyconv.spellings import OTHER_NAMES
from tinyconv.training import (
    AverageWeights,
    Callback,
    CSVLogger,
    EarlyStopping,
    History,
    KeepBest,
    Logger,
    ProgressBar,
    Schedule,
    StopOnInterrupt,
)
from tinyconv.trials import Search, search


def _draw(history: History) -> object:
    from tinyconv import plots  # imports matplotlib

    return plots.learning_curves({"": history})


History.drawn_by = _draw

__version__ = "0.2.0"

#: Parts that are imported when they are first used.
_PARTS = ("analysis", "explore", "gradcheck", "interop", "lessons", "plots", "testing")


def __getattr__(name: str) -> Any:
    if name in _PARTS:
        return import_module(f"tinyconv.{name}")
    raise AttributeError(missing("tinyconv", name, OTHER_NAMES, __all__))


__all__ = [
    "ELU",
    "GELU",
    "SGD",
    "Adagrad",
    "Adam",
    "AdamW",
    "ArgumentError",
    "AverageWeights",
    "AvgPool1d",
    "AvgPool2d",
    "AvgPool3d",
    "BCEWithLogitsLoss",
    "BatchNorm1d",
    "BatchNorm2d",
    "BatchNorm3d",
    "CSVLogger",
    "Callback",
    "Chain",
    "Conv1d",
    "Conv2d",
    "Conv3d",
    "ConvTranspose1d",
    "ConvTranspose2d",
    "ConvTranspose3d",
    "Crop",
    "CrossEntropyLoss",
    "DataError",
    "DeviceError",
    "Dropout",
    "DtypeError",
    "EarlyStopping",
    "Ensemble",
    "FileError",
    "Flatten",
    "GlobalAvgPool",
    "GlobalMaxPool",
    "GroupNorm",
    "History",
    "HuberLoss",
    "Identity",
    "KeepBest",
    "L1Loss",
    "L2Pool2d",
    "LPPool1d",
    "LPPool2d",
    "LPPool3d",
    "Layer",
    "LayerNorm",
    "LeakyReLU",
    "Linear",
    "LocalResponseNorm",
    "Logger",
    "Loss",
    "MSELoss",
    "MaxPool1d",
    "MaxPool2d",
    "MaxPool3d",
    "Metric",
    "MultiMarginLoss",
    "NonFiniteError",
    "Optimizer",
    "Pad",
    "Parallel",
    "ParameterSpec",
    "ProgressBar",
    "Quadratic",
    "RMSProp",
    "ReLU",
    "Reshape",
    "Residual",
    "ScaledTanh",
    "Schedule",
    "Search",
    "Sequential",
    "ShapeError",
    "SiLU",
    "Sigmoid",
    "SigmoidCrossEntropy",
    "SoftmaxLogLikelihood",
    "Softplus",
    "StateError",
    "StopOnInterrupt",
    "Subsample2d",
    "Tanh",
    "Upsample",
    "data",
    "get_num_threads",
    "initializers",
    "load",
    "models",
    "ops",
    "register",
    "schedules",
    "search",
    "set_num_threads",
]
