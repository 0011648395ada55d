"""The two networks that are compared on MNIST-1D: convolutional, and fully connected.

Source: Prince, "Understanding deep learning" (2023), section 10.2, where the first one has 2,050
parameters and the second, with the same numbers of hidden units, 59,065.
"""

from tinyconv.layers import Conv1d, Flatten, Layer, Linear, ReLU
from tinyconv.models.builder import network


@network(input_shape=(1, 40))
def mnist1d_cnn(classes: int) -> list[Layer]:
    """Three convolutions of 15 channels, kernel 3 and stride 2, over 40 samples.

    >>> mnist1d_cnn().parameters.flat.size
    2050
    """
    return [
        Conv1d(1, 15, 3, stride=2),
        ReLU(),
        Conv1d(15, 15, 3, stride=2),
        ReLU(),
        Conv1d(15, 15, 3, stride=2),
        ReLU(),
        Flatten(),
        Linear(None, classes),
    ]


@network(input_shape=(1, 40))
def mnist1d_mlp(classes: int) -> list[Layer]:
    """Three hidden layers of 285, 135 and 60 units: as many as the convolutions have.

    >>> mnist1d_mlp().parameters.flat.size
    59065
    """
    return [
        Flatten(),
        Linear(None, 285),
        ReLU(),
        Linear(285, 135),
        ReLU(),
        Linear(135, 60),
        ReLU(),
        Linear(60, classes),
    ]
