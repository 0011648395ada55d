"""The layers of the book's program, and the functions and arrays that it makes them of."""

from collections.abc import Callable
from math import prod
from typing import Any, TypeAlias

import numpy as np

from tinyconv import layers as L
from tinyconv.backend import Array, Values
from tinyconv.errors import ShapeError
from tinyconv.layers.base import Shape

__all__ = ["ConvPoolLayer", "FullyConnectedLayer", "ReLU", "Shared", "SoftmaxLayer"]
__all__ += ["linear", "sigmoid", "tanh"]

Activation: TypeAlias = Callable[[Values], Values]


def linear(z: Values) -> Values:
    """Return z itself."""
    return z


def ReLU(z: Values) -> Values:
    """Return max(0, z).

    >>> ReLU(np.array([-1.0, 2.0])).tolist()
    [0.0, 2.0]
    """
    return np.maximum(0.0, z)


def sigmoid(z: Values) -> Values:
    """Return 1 / (1 + exp(-z)).

    >>> sigmoid(np.array([0.0])).tolist()
    [0.5]
    """
    return np.asarray(0.5 + 0.5 * np.tanh(0.5 * z))


def tanh(z: Values) -> Values:
    """Return tanh(z).

    >>> tanh(np.array([0.0])).tolist()
    [0.0]
    """
    return np.tanh(z)


_LAYER_OF: dict[Activation, Callable[[], list[L.Layer]]] = {
    linear: list,
    ReLU: lambda: [L.ReLU()],
    sigmoid: lambda: [L.Sigmoid()],
    tanh: lambda: [L.Tanh()],
}


class Shared:
    """An array behind the methods of Theano's shared variables, which the book uses.

    >>> w = Shared(np.zeros(2))
    >>> w.set_value([1, 2])
    >>> w.get_value().tolist(), w.eval().tolist()
    ([1.0, 2.0], [1.0, 2.0])
    """

    def __init__(self, value: Array) -> None:
        self.value = value

    def get_value(self, borrow: bool = False) -> Values:
        """Return a copy; the array itself if ``borrow``, where that is possible."""
        array = np.asarray(self.value)
        return array if borrow else array.copy()

    def eval(self) -> Values:
        """Return a copy."""
        return self.get_value()

    def set_value(self, value: Any, borrow: bool = False) -> None:
        """Write new values into the array."""
        self.value[...] = value


class ConvPoolLayer:
    """A convolution, max-pooling, then bias and activation.

    Args:
        filter_shape: (filters, input feature maps, height, width).
        image_shape: (mini-batch size, input feature maps, height, width).
        poolsize: height and width of the pooled windows.
        activation_fn: one of ``sigmoid``, ``tanh``, ``ReLU``, ``linear``.

    Attributes:
        w: (filters, input feature maps, height, width), a :class:`Shared`.
        b: (filters,), a :class:`Shared`.

    Raises:
        ShapeError: the shapes do not fit each other, or the activation is unknown.

    >>> layer = ConvPoolLayer(image_shape=(10, 1, 28, 28), filter_shape=(20, 1, 5, 5))
    >>> layer.w.get_value().shape, layer.output_shape
    ((20, 1, 5, 5), (20, 12, 12))
    """

    def __init__(
        self,
        filter_shape: tuple[int, int, int, int],
        image_shape: tuple[int, int, int, int],
        poolsize: tuple[int, int] = (2, 2),
        activation_fn: Activation = sigmoid,
    ) -> None:
        for name, given, size in (
            ("filter_shape", filter_shape, 4),
            ("image_shape", image_shape, 4),
            ("poolsize", poolsize, 2),
        ):
            if np.shape(given) != (size,):
                raise ShapeError(f"ConvPoolLayer: {name} is {given}, expected {size} numbers")
        if filter_shape[1] != image_shape[1]:
            raise ShapeError(
                f"ConvPoolLayer: filter_shape {filter_shape} and image_shape {image_shape} differ "
                "in their second number, the input feature maps"
            )
        self.filter_shape = filter_shape
        self.image_shape = image_shape
        self.poolsize = poolsize
        self.activation_fn = activation_fn
        self.stack: list[L.Layer] = [
            L.Conv2d(filter_shape[1], filter_shape[0], (filter_shape[2], filter_shape[3])),
            # A maximum commutes with adding a bias, so the convolution may add it.
            L.MaxPool2d(poolsize),
            *_activation("ConvPoolLayer", activation_fn),
        ]
        shape: Shape = tuple(image_shape[1:])
        for layer in self.stack:
            shape = layer.output_shape(shape)
        self.input_shape: Shape = tuple(image_shape[1:])
        self.output_shape: Shape = shape
        n_out = filter_shape[0] * prod(filter_shape[2:]) / prod(poolsize)
        self.w = Shared(_gaussian(n_out**-0.5, filter_shape))
        self.b = Shared(_gaussian(1.0, filter_shape[:1]))
        self.params = [self.w, self.b]


class FullyConnectedLayer:
    """Weights (n_in, n_out), biases and an activation, with dropout on the input.

    Args:
        n_in: numbers that come in.
        n_out: neurons.
        activation_fn: one of ``sigmoid``, ``tanh``, ``ReLU``, ``linear``.
        p_dropout: probability of dropping an input, 0 <= p_dropout < 1.

    Attributes:
        w: (n_in, n_out), a :class:`Shared`.
        b: (n_out,), a :class:`Shared`.

    Raises:
        ShapeError: the activation is unknown, or a number out of range.

    >>> FullyConnectedLayer(n_in=784, n_out=100, activation_fn=ReLU).w.get_value().shape
    (784, 100)
    """

    def __init__(
        self, n_in: int, n_out: int, activation_fn: Activation = sigmoid, p_dropout: float = 0.0
    ) -> None:
        self.n_in = n_in
        self.n_out = n_out
        self.activation_fn = activation_fn
        self.p_dropout = p_dropout
        self.stack = [
            *([L.Dropout(p_dropout, scale_at_test=True)] if p_dropout else []),
            L.Linear(n_in, n_out),
            *_activation(type(self).__name__, activation_fn),
        ]
        self.input_shape: Shape = (n_in,)
        self.output_shape: Shape = (n_out,)
        w, b = self._initial()
        self.w, self.b = Shared(w), Shared(b)
        self.params = [self.w, self.b]

    def _initial(self) -> tuple[Values, Values]:
        w = _gaussian(self.n_out**-0.5, (self.n_in, self.n_out))
        return w, _gaussian(1.0, (self.n_out,))


class SoftmaxLayer(FullyConnectedLayer):
    """Weights (n_in, n_out) and biases, all zero at first, and softmax; the last layer.

    The arguments are those of :class:`FullyConnectedLayer`; n_out counts the classes.

    >>> SoftmaxLayer(n_in=100, n_out=10).w.get_value().any()
    np.False_
    """

    def __init__(self, n_in: int, n_out: int, p_dropout: float = 0.0) -> None:
        super().__init__(n_in, n_out, linear, p_dropout)

    def _initial(self) -> tuple[Values, Values]:
        return np.zeros((self.n_in, self.n_out), "f4"), np.zeros(self.n_out, "f4")


def _activation(where: str, function: Activation) -> list[L.Layer]:
    if not callable(function) or function not in _LAYER_OF:
        names = ", ".join(known.__name__ for known in _LAYER_OF)
        raise ShapeError(f"{where}: activation_fn is {function!r}, expected one of {names}")
    return _LAYER_OF[function]()


def _gaussian(deviation: float, shape: tuple[int, ...]) -> Values:
    # The book draws from the global generator, in this order, so that its seeds serve here.
    return np.random.normal(0.0, deviation, shape).astype(np.float32)  # noqa: NPY002
