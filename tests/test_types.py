"""What type checkers see of the package: mypy reads this file, which pytest runs too.

Were a name of type Any, its assignment to an int would need no ``ignore``, and mypy refuses one
that is not needed.
"""

import tinyconv as tc
from tinyconv import layers, ops
from tinyconv.layers import LAYERS


def test_names_have_types() -> None:
    of_package: int = tc.Conv2d(1, 2, 3)  # type: ignore[assignment]
    of_layers: int = layers.MaxPool2d(2)  # type: ignore[assignment]
    op: int = ops.conv2d  # type: ignore[assignment]
    rule: int = tc.SGD(lr=0.1)  # type: ignore[assignment]
    assert None not in (of_package, of_layers, op, rule)


def test_the_package_of_layers_lists_all_of_them() -> None:
    assert set(layers.__all__) == {*LAYERS.built_in, "Container", "Layer"}
