"""Initial values of weights and biases, by name.

Each initializer draws float64 numbers from a generator: ``initializer(rng, shape, fan_in,
fan_out)``, where ``fan_in`` and ``fan_out`` count the inputs and outputs of one unit.
"""

from collections.abc import Callable
from typing import Annotated, Any, TypeAlias

import numpy as np
from numpy.random import Generator

from tinyconv.arguments import OneOf, checked

__all__ = [
    "INITIALIZERS",
    "InitializerName",
    "glorot",
    "he",
    "initializer",
    "inverse_sqrt",
    "normal",
    "ones",
    "reciprocal",
    "zeros",
]

Values: TypeAlias = np.ndarray[Any, np.dtype[np.float64]]
Shape: TypeAlias = tuple[int, ...]
Initializer: TypeAlias = Callable[[Generator, Shape, int, int], Values]


def zeros(rng: Generator, shape: Shape, fan_in: int, fan_out: int) -> Values:
    """All zero."""
    return np.zeros(shape)


def ones(rng: Generator, shape: Shape, fan_in: int, fan_out: int) -> Values:
    """All one, for what scales."""
    return np.ones(shape)


def reciprocal(rng: Generator, shape: Shape, fan_in: int, fan_out: int) -> Values:
    """All 1/fan_in, so that a sum over fan_in inputs begins as their mean."""
    return np.full(shape, 1.0 / fan_in)


def normal(rng: Generator, shape: Shape, fan_in: int, fan_out: int) -> Values:
    """Gaussian of standard deviation 1, Nielsen's choice for biases (chapter 1)."""
    return rng.normal(0.0, 1.0, shape)


def inverse_sqrt(rng: Generator, shape: Shape, fan_in: int, fan_out: int) -> Values:
    """Gaussian of standard deviation 1/sqrt(fan_in), Nielsen's choice for weights (chapter 3)."""
    return rng.normal(0.0, fan_in**-0.5, shape)


def he(rng: Generator, shape: Shape, fan_in: int, fan_out: int) -> Values:
    """Gaussian of variance 2/fan_in, which keeps the scale through ReLU (He et al., 2015)."""
    return rng.normal(0.0, (2.0 / fan_in) ** 0.5, shape)


def glorot(rng: Generator, shape: Shape, fan_in: int, fan_out: int) -> Values:
    """Uniform of variance 2/(fan_in + fan_out) (Glorot and Bengio, 2010)."""
    limit = (6.0 / (fan_in + fan_out)) ** 0.5
    return rng.uniform(-limit, limit, shape)


INITIALIZERS: dict[str, Initializer] = {
    function.__name__: function
    for function in (glorot, he, inverse_sqrt, normal, ones, reciprocal, zeros)
}


#: What constructors take.
InitializerName = Annotated[str, OneOf(*INITIALIZERS)]


@checked
def initializer(name: InitializerName) -> Initializer:
    """Return the initializer of this name.

    Raises:
        ArgumentError: there is none.

    >>> initializer("he") is he
    True
    >>> initializer("xavier")
    Traceback (most recent call last):
    tinyconv.errors.ArgumentError: initializer: name is 'xavier', expected 'glorot', 'he',
    'inverse_sqrt', 'normal', 'ones', 'reciprocal' or 'zeros'; the nearest is 'glorot'
    """
    return INITIALIZERS[name]
