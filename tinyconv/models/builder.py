"""From the layers of a named network to the function that builds it."""

import inspect
from collections.abc import Callable
from functools import wraps
from typing import Any

from tinyconv.arguments import Count, checked
from tinyconv.layers import Layer
from tinyconv.network import Sequential


def network(
    input_shape: tuple[int, ...], classes: int = 10
) -> Callable[[Callable[..., list[Layer]]], Callable[..., Sequential]]:
    """Make a function of the number of classes, which returns layers, one that builds a network.

    It takes keywords: those of the function, ``classes``, and of :class:`tinyconv.Sequential`
    ``input_shape``, ``seed``, ``dtype`` and ``device``.

    Args:
        input_shape: of a sample, if none is given.
        classes: likewise.

    >>> from tinyconv.layers import Linear
    >>> @network(input_shape=(4,))
    ... def perceptron(classes, *, units=5):
    ...     return [Linear(None, units), Linear(None, classes)]
    >>> print(inspect.signature(perceptron))
    (*, units=5, classes: ... = 10, input_shape: tuple[int, ...] = (4,), seed: int = 0, dtype: str =
    'float32', device: str = 'cpu') -> tinyconv.network.Sequential
    >>> perceptron(units=2, classes=3, seed=1).parameters.flat.size
    19
    """
    shape, number = input_shape, classes

    def of(layers: Callable[..., list[Layer]]) -> Callable[..., Sequential]:
        def build(
            *,
            classes: Count = number,
            input_shape: tuple[int, ...] = shape,
            seed: int = 0,
            dtype: str = "float32",
            device: str = "cpu",
            **options: Any,
        ) -> Sequential:
            made = layers(classes, **options)
            return Sequential(made, seed=seed, dtype=dtype, device=device, input_shape=input_shape)

        _, *own = inspect.signature(layers).parameters.values()
        *common, _ = inspect.signature(build).parameters.values()
        signature = inspect.signature(build).replace(parameters=[*own, *common])
        build = wraps(layers)(build)
        build.__signature__ = signature  # type: ignore[attr-defined]
        return checked(build)

    return of
