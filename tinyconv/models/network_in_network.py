"""Network in network: every convolution is followed by a small perceptron at each position.

Source: Lin, Chen and Yan, "Network in network" (2013).
"""

from tinyconv.arguments import Count, checked
from tinyconv.layers import Conv2d, Dropout, Flatten, GlobalAvgPool, Layer, MaxPool2d, ReLU
from tinyconv.network import Sequential

__all__ = ["network_in_network"]


@checked
def network_in_network(
    *,
    input_shape: tuple[int, int, int] = (1, 28, 28),
    classes: Count = 10,
    seed: int = 0,
    dtype: str = "float32",
    device: str = "cpu",
) -> Sequential:
    """Three mlpconv blocks (a convolution, two of 1x1), then the average of one map a class.

    The widths are those that the authors published for CIFAR-10.

    Args:
        input_shape: (C, H, W); (3, 32, 32) is CIFAR-10.
        classes: number of classes.

    >>> network_in_network(input_shape=(3, 32, 32)).parameters.flat.size
    966986
    >>> network_in_network().parameters.flat.size
    957386
    """
    layers: list[Layer] = [
        *_mlpconv(input_shape[0], (192, 160, 96), 5),
        MaxPool2d(3, 2, 1),
        Dropout(0.5),
        *_mlpconv(96, (192, 192, 192), 5),
        MaxPool2d(3, 2, 1),
        Dropout(0.5),
        *_mlpconv(192, (192, 192, classes), 3),
        GlobalAvgPool(),
        Flatten(),
    ]
    return Sequential(layers, seed=seed, dtype=dtype, device=device, input_shape=input_shape)


def _mlpconv(channels: int, widths: tuple[int, int, int], kernel_size: int) -> list[Layer]:
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
