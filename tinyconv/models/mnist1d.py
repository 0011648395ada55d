"""The two networks that are compared on MNIST-1D: convolutional, and fully connected.

Source: Prince, "Understanding deep learning" (2023), section 10.2, where the first one has 2,050
parameters and the second, with the same numbers of hidden units, 59,065.
"""

from tinyconv.arguments import checked
from tinyconv.layers import Conv1d, Flatten, Linear, ReLU
from tinyconv.network import Sequential

__all__ = ["mnist1d_cnn", "mnist1d_mlp"]


@checked
def mnist1d_cnn(*, seed: int = 0, dtype: str = "float32", device: str = "cpu") -> Sequential:
    """Three convolutions of 15 channels, kernel 3 and stride 2, over 40 samples.

    >>> mnist1d_cnn().parameters.flat.size
    2050
    """
    layers = [
        Conv1d(1, 15, 3, stride=2),
        ReLU(),
        Conv1d(15, 15, 3, stride=2),
        ReLU(),
        Conv1d(15, 15, 3, stride=2),
        ReLU(),
        Flatten(),
        Linear(60, 10),
    ]
    return Sequential(layers, seed=seed, dtype=dtype, device=device, input_shape=(1, 40))


@checked
def mnist1d_mlp(*, seed: int = 0, dtype: str = "float32", device: str = "cpu") -> Sequential:
    """Three hidden layers of 285, 135 and 60 units: as many as the convolutions have.

    >>> mnist1d_mlp().parameters.flat.size
    59065
    """
    layers = [
        Flatten(),
        Linear(40, 285),
        ReLU(),
        Linear(285, 135),
        ReLU(),
        Linear(135, 60),
        ReLU(),
        Linear(60, 10),
    ]
    return Sequential(layers, seed=seed, dtype=dtype, device=device, input_shape=(1, 40))
