"""The networks of chapter 6 of Nielsen, "Neural Networks and Deep Learning".

The book pools before it adds the bias and applies the activation. A maximum commutes with adding
a bias, so convolution with bias, pooling, activation is the same network. Each takes the shape of a
sample and the number of classes, for data other than digits.
"""

from collections.abc import Callable
from typing import TypedDict

from tinyconv.arguments import Count, checked
from tinyconv.layers import Conv2d, Dropout, Flatten, Layer, Linear, MaxPool2d, ReLU, Sigmoid, Tanh
from tinyconv.network import Sequential

__all__ = [
    "nielsen_conv",
    "nielsen_conv_conv",
    "nielsen_conv_conv_relu",
    "nielsen_conv_conv_tanh",
    "nielsen_conv_softmax",
    "nielsen_dropout",
    "nielsen_fully_connected",
]

#: One sample of MNIST.
IMAGE = (1, 28, 28)


class Initial(TypedDict):
    """The initial values of a layer, as its constructor takes them."""

    weight_init: str
    bias_init: str


#: The book's: weights of variance 1/fan_in, biases of variance 1.
BOOK: Initial = {"weight_init": "inverse_sqrt", "bias_init": "normal"}
#: Made for rectified linear units.
FOR_RELU: Initial = {"weight_init": "he", "bias_init": "zeros"}


@checked
def nielsen_fully_connected(
    *,
    input_shape: tuple[int, ...] = IMAGE,
    classes: Count = 10,
    seed: int = 0,
    dtype: str = "float32",
    device: str = "cpu",
) -> Sequential:
    """100 sigmoid units and a softmax layer, without convolution: the chapter's baseline.

    >>> nielsen_fully_connected().parameters.flat.size
    79510
    """
    layers = [Flatten(), Linear(None, 100, **BOOK), Sigmoid(), Linear(100, classes, **BOOK)]
    return Sequential(layers, seed=seed, dtype=dtype, device=device, input_shape=input_shape)


@checked
def nielsen_conv(
    *,
    input_shape: tuple[int, ...] = IMAGE,
    classes: Count = 10,
    seed: int = 0,
    dtype: str = "float32",
    device: str = "cpu",
) -> Sequential:
    """20 kernels of 5x5, max-pooling, 100 sigmoid units, softmax.

    >>> nielsen_conv().parameters.flat.size
    289630
    """
    layers = [
        Conv2d(None, 20, 5, **BOOK),
        MaxPool2d(2),
        Sigmoid(),
        Flatten(),
        Linear(None, 100, **BOOK),
        Sigmoid(),
        Linear(100, classes, **BOOK),
    ]
    return Sequential(layers, seed=seed, dtype=dtype, device=device, input_shape=input_shape)


@checked
def nielsen_conv_softmax(
    *,
    input_shape: tuple[int, ...] = IMAGE,
    classes: Count = 10,
    seed: int = 0,
    dtype: str = "float32",
    device: str = "cpu",
) -> Sequential:
    """20 kernels of 5x5, max-pooling, softmax: the exercise that omits the hidden layer.

    >>> nielsen_conv_softmax().parameters.flat.size
    29330
    """
    layers = [
        Conv2d(None, 20, 5, **BOOK),
        MaxPool2d(2),
        Sigmoid(),
        Flatten(),
        Linear(None, classes, **BOOK),
    ]
    return Sequential(layers, seed=seed, dtype=dtype, device=device, input_shape=input_shape)


@checked
def nielsen_conv_conv(
    *,
    input_shape: tuple[int, ...] = IMAGE,
    classes: Count = 10,
    seed: int = 0,
    dtype: str = "float32",
    device: str = "cpu",
) -> Sequential:
    """Two convolutional layers (20 and 40 kernels of 5x5), 100 sigmoid units, softmax.

    >>> nielsen_conv_conv().parameters.flat.size
    85670
    """
    layers = _conv_conv(Sigmoid, BOOK, classes)
    return Sequential(layers, seed=seed, dtype=dtype, device=device, input_shape=input_shape)


@checked
def nielsen_conv_conv_tanh(
    *,
    input_shape: tuple[int, ...] = IMAGE,
    classes: Count = 10,
    seed: int = 0,
    dtype: str = "float32",
    device: str = "cpu",
) -> Sequential:
    """The same with tanh for sigmoid: the chapter's problem.

    >>> nielsen_conv_conv_tanh().parameters.flat.size
    85670
    """
    layers = _conv_conv(Tanh, BOOK, classes)
    return Sequential(layers, seed=seed, dtype=dtype, device=device, input_shape=input_shape)


@checked
def nielsen_conv_conv_relu(
    *,
    input_shape: tuple[int, ...] = IMAGE,
    classes: Count = 10,
    seed: int = 0,
    dtype: str = "float32",
    device: str = "cpu",
) -> Sequential:
    """The same with rectified linear units, and initial weights made for them.

    >>> nielsen_conv_conv_relu().parameters.flat.size
    85670
    """
    layers = _conv_conv(ReLU, FOR_RELU, classes)
    return Sequential(layers, seed=seed, dtype=dtype, device=device, input_shape=input_shape)


@checked
def nielsen_dropout(
    *,
    units: int = 1000,
    input_shape: tuple[int, ...] = IMAGE,
    classes: Count = 10,
    seed: int = 0,
    dtype: str = "float32",
    device: str = "cpu",
) -> Sequential:
    """Two hidden layers of ``units`` with dropout 0.5 on the input of each of the last three.

    Dropout is in the book's form, scaled outside training, for which its learning rate is meant.

    >>> nielsen_dropout().parameters.flat.size
    1672570
    """
    layers: list[Layer] = [
        *_conv_conv(ReLU, FOR_RELU, classes)[:7],
        Dropout(0.5, scale_at_test=True),
        Linear(None, units, **FOR_RELU),
        ReLU(),
        Dropout(0.5, scale_at_test=True),
        Linear(units, units, **FOR_RELU),
        ReLU(),
        Dropout(0.5, scale_at_test=True),
        Linear(units, classes, **FOR_RELU),
    ]
    return Sequential(layers, seed=seed, dtype=dtype, device=device, input_shape=input_shape)


def _conv_conv(activation: Callable[[], Layer], initial: Initial, classes: Count) -> list[Layer]:
    """Return the ten layers that the book varies: conv, conv, 100 hidden units, softmax."""
    return [
        Conv2d(None, 20, 5, **initial),
        MaxPool2d(2),
        activation(),
        Conv2d(20, 40, 5, **initial),
        MaxPool2d(2),
        activation(),
        Flatten(),
        Linear(None, 100, **initial),
        activation(),
        Linear(100, classes, **initial),
    ]
