"""Layers: thin objects that own parameters and the arrays of their last pass."""

from tinyconv.layers.activation import *
from tinyconv.layers.base import Layer as Layer
from tinyconv.layers.base import Place as Place
from tinyconv.layers.base import new_parameters as new_parameters
from tinyconv.layers.container import *
from tinyconv.layers.conv import *
from tinyconv.layers.dropout import *
from tinyconv.layers.linear import *
from tinyconv.layers.norm import *
from tinyconv.layers.pool import *
from tinyconv.layers.registry import FILES
from tinyconv.layers.registry import LAYERS as LAYERS
from tinyconv.layers.registry import decode as decode
from tinyconv.layers.registry import encode as encode
from tinyconv.layers.shape import *

# No list that a type checker reads, so the package imports what these files export from them.
__all__ = sorted(("Layer", *(name for file in FILES for name in file.__all__)))
