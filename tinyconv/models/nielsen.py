"""The networks of chapter 6 of Nielsen, "Neural Networks and Deep Learning".

The book pools before it adds the bias and applies the activation. A maximum commutes with adding
a bias, so convolution with bias, pooling, activation is the same network. Each takes the shape of a
sample and the number of classes, for data other than digits.
"""

from collections.abc import Callable
from typing import TypedDict

from tinyconv.layers import Conv2d, Dropout, Flatten, Layer, Linear, MaxPool2d, ReLU, Sigmoid, Tanh
from tinyconv.models.builder import network

__all__ = ["nielsen_conv", "nielsen_conv_conv", "nielsen_conv_conv_relu", "nielsen_conv_conv_tanh"]
__all__ += ["nielsen_conv_softmax", "nielsen_dropout", "nielsen_fully_connected"]

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


@network(input_shape=IMAGE)
def nielsen_fully_connected(classes: int) -> list[Layer]:
    """100 sigmoid units and a softmax layer, without convolution: the chapter's baseline.

    >>> nielsen_fully_connected().parameters.flat.size
    79510
    """
    return _hidden(Sigmoid, BOOK, classes)


@network(input_shape=IMAGE)
def nielsen_conv(classes: int) -> list[Layer]:
    """20 kernels of 5x5, max-pooling, 100 sigmoid units, softmax.

    >>> nielsen_conv().parameters.flat.size
    289630
    """
    return [*_conv(None, 20, Sigmoid, BOOK), *_hidden(Sigmoid, BOOK, classes)]


@network(input_shape=IMAGE)
def nielsen_conv_softmax(classes: int) -> list[Layer]:
    """20 kernels of 5x5, max-pooling, softmax: the exercise that omits the hidden layer.

    >>> nielsen_conv_softmax().parameters.flat.size
    29330
    """
    return [*_conv(None, 20, Sigmoid, BOOK), Flatten(), Linear(None, classes, **BOOK)]


@network(input_shape=IMAGE)
def nielsen_conv_conv(classes: int) -> list[Layer]:
    """Two convolutional layers (20 and 40 kernels of 5x5), 100 sigmoid units, softmax.

    >>> nielsen_conv_conv().parameters.flat.size
    85670
    """
    return _conv_conv(Sigmoid, BOOK, classes)


@network(input_shape=IMAGE)
def nielsen_conv_conv_tanh(classes: int) -> list[Layer]:
    """The same with tanh for sigmoid: the chapter's problem.

    >>> nielsen_conv_conv_tanh().parameters.flat.size
    85670
    """
    return _conv_conv(Tanh, BOOK, classes)


@network(input_shape=IMAGE)
def nielsen_conv_conv_relu(classes: int) -> list[Layer]:
    """The same with rectified linear units, and initial weights made for them.

    >>> nielsen_conv_conv_relu().parameters.flat.size
    85670
    """
    return _conv_conv(ReLU, FOR_RELU, classes)


@network(input_shape=IMAGE)
def nielsen_dropout(classes: int, *, units: int = 1000) -> list[Layer]:
    """Two hidden layers of ``units`` with dropout 0.5 on the input of each of the last three.

    Dropout is in the book's form, scaled outside training, for which its learning rate is meant.

    >>> nielsen_dropout().parameters.flat.size
    1672570
    """
    return [
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


def _conv_conv(activation: Callable[[], Layer], initial: Initial, classes: int) -> list[Layer]:
    """Return the ten layers that the book varies: conv, conv, 100 hidden units, softmax."""
    first, second = _conv(None, 20, activation, initial), _conv(20, 40, activation, initial)
    return [*first, *second, *_hidden(activation, initial, classes)]


def _conv(
    channels: int | None, kernels: int, activation: Callable[[], Layer], initial: Initial
) -> list[Layer]:
    """Return a convolution with kernels of 5x5, its pooling and its activation."""
    return [Conv2d(channels, kernels, 5, **initial), MaxPool2d(2), activation()]


def _hidden(activation: Callable[[], Layer], initial: Initial, classes: int) -> list[Layer]:
    """Return 100 hidden units and the softmax layer."""
    return [Flatten(), Linear(None, 100, **initial), activation(), Linear(100, classes, **initial)]
