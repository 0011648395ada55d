"""Network in network: every convolution is followed by a small perceptron at each position.

Source: Lin, Chen and Yan, "Network in network" (2013).
"""

from tinyconv.layers import Conv2d, Dropout, Flatten, GlobalAvgPool, Layer, MaxPool2d, ReLU
from tinyconv.models.builder import network


@network(input_shape=(1, 28, 28))
def network_in_network(classes: int) -> list[Layer]:
    """Three mlpconv blocks (a convolution, two of 1x1), then the average of one map a class.

    The widths are those that the authors published for CIFAR-10, whose images are (3, 32, 32).

    >>> network_in_network(input_shape=(3, 32, 32)).parameters.flat.size
    966986
    >>> network_in_network().parameters.flat.size
    957386
    """
    return [
        *_mlpconv(None, (192, 160, 96), 5),
        MaxPool2d(3, 2, 1),
        Dropout(0.5),
        *_mlpconv(96, (192, 192, 192), 5),
        MaxPool2d(3, 2, 1),
        Dropout(0.5),
        *_mlpconv(192, (192, 192, classes), 3),
        GlobalAvgPool(),
        Flatten(),
    ]


def _mlpconv(channels: int | None, widths: tuple[int, int, int], kernel_size: int) -> list[Layer]:
    """Return a convolution and the perceptron that slides over its maps."""
    first, second, third = widths
    return [
        Conv2d(channels, first, kernel_size, padding=kernel_size // 2),
        ReLU(),
        Conv2d(first, second, 1),
        ReLU(),
        Conv2d(second, third, 1),
        ReLU(),
    ]
