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

from collections.abc import Callable
from importlib import import_module
from types import ModuleType
from typing import Any

from tinyconv import data, errors, initializers, layers, losses, models, ops, schedules, training
from tinyconv.engines.thread_count import get_num_threads, set_num_threads
from tinyconv.ensemble import Ensemble
from tinyconv.errors import *
from tinyconv.layers import Layer as Layer
from tinyconv.layers.activation import *
from tinyconv.layers.container import *
from tinyconv.layers.conv import *
from tinyconv.layers.dropout import *
from tinyconv.layers.linear import *
from tinyconv.layers.norm import *
from tinyconv.layers.pool import *
from tinyconv.layers.shape import *
from tinyconv.losses import *
from tinyconv.messages import missing
from tinyconv.metrics import Metric
from tinyconv.network import Sequential, load
from tinyconv.network_files import register
from tinyconv.optimizers import SGD, Adagrad, Adam, AdamW, Optimizer, RMSProp
from tinyconv.parameters import ParameterSpec
from tinyconv.spellings import OTHER_NAMES
from tinyconv.training import *
from tinyconv.training.history import History
from tinyconv.trials import Search, search


def _explained(package: ModuleType) -> Callable[[str], Any]:
    """Return what a package does with a name that it does not have: say what it is called here.

    The package stays a plain module, which is all that cloudpickle takes (scikit-learn's workers).
    """

    def lookup(name: str) -> Any:
        known = vars(package).get("__all__", ())
        raise AttributeError(missing(package.__name__, name, OTHER_NAMES, known))

    return lookup


for _package in (data, initializers, layers, losses, models, ops, schedules, training):
    vars(_package)["__getattr__"] = _explained(_package)


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
    "SGD",
    "Adagrad",
    "Adam",
    "AdamW",
    "Ensemble",
    "Metric",
    "Optimizer",
    "ParameterSpec",
    "RMSProp",
    "Search",
    "Sequential",
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
__all__ += errors.__all__
__all__ += layers.__all__
__all__ += losses.__all__
__all__ += training.__all__
