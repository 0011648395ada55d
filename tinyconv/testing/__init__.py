"""Gradient checks of operations, layers and networks, and Hypothesis strategies to draw them.

For pytest: ``assert_gradients(forward, backward, inputs)`` or ``assert check_layer(layer, x).ok``.
The checker itself is :mod:`tinyconv.gradcheck`, which knows nothing of this library.
"""

from tinyconv.gradcheck import KinkWarning, assert_gradients
from tinyconv.testing.checks import (
    check_everything,
    check_layer,
    check_network,
    check_op,
    format_checks,
)
from tinyconv.testing.strategies import (
    ConvGeometry,
    PoolGeometry,
    arrays_away_from_kinks,
    conv_geometries,
    networks,
    pool_geometries,
)

__all__ = [
    "ConvGeometry",
    "KinkWarning",
    "PoolGeometry",
    "arrays_away_from_kinks",
    "assert_gradients",
    "check_everything",
    "check_layer",
    "check_network",
    "check_op",
    "conv_geometries",
    "format_checks",
    "networks",
    "pool_geometries",
]
