"""Networks over sound, volumes and curves.

The two over curves are those that Prince, "Understanding deep learning" (2023), section 10.2,
compares on MNIST-1D: the first has 2,050 parameters and the second, with the same numbers of hidden
units, 59,065.
"""

from tinyconv import layers as L
from tinyconv.models.builder import network

__all__ = ["audio_conv1d", "conv3d_small", "mnist1d_cnn", "mnist1d_mlp"]


@network(input_shape=(1, 128), classes=2)
def audio_conv1d(classes: int) -> list[L.Layer]:
    """Neurons A over pairs of samples, B over pairs of those, max-pooling, then F over all.

    The two classes are speech and none; a piece of sound has one channel and at least 4 samples.

    Source: Olah, "Conv nets: a modular perspective" (2014), which builds it up from modules A, B
    and F to predict whether a human is speaking.

    >>> audio_conv1d().parameters.flat.size
    2594
    """
    return [
        L.Conv1d(1, 16, 2),  # A
        L.ReLU(),
        L.Conv1d(16, 16, 2),  # B
        L.ReLU(),
        L.MaxPool1d(2),
        L.Flatten(),
        L.Linear(None, classes),  # F
    ]


@network(input_shape=(1, 16, 16, 16))
def conv3d_small(classes: int) -> list[L.Layer]:
    """VoxNet at half its size in everything: two convolutions in three dimensions, pooling.

    A volume has 16 x 16 x 16 elements where VoxNet has 32 x 32 x 32, a convolution 16 maps where
    VoxNet has 32, and the hidden layer 64 units where VoxNet has 128.

    Source: Maturana and Scherer, "VoxNet: a 3D convolutional neural network for real-time object
    recognition" (IROS 2015).

    >>> conv3d_small().parameters.flat.size
    17850
    """
    return [
        L.Conv3d(1, 16, 5, stride=2),
        L.LeakyReLU(0.1),
        L.Conv3d(16, 16, 3),
        L.LeakyReLU(0.1),
        L.MaxPool3d(2),
        L.Flatten(),
        L.Linear(None, 64),
        L.LeakyReLU(0.1),
        L.Linear(64, classes),
    ]


@network(input_shape=(1, 40))
def mnist1d_cnn(classes: int) -> list[L.Layer]:
    """Three convolutions of 15 channels, kernel 3 and stride 2, over 40 samples.

    >>> mnist1d_cnn().parameters.flat.size
    2050
    """
    return [
        L.Conv1d(1, 15, 3, stride=2),
        L.ReLU(),
        L.Conv1d(15, 15, 3, stride=2),
        L.ReLU(),
        L.Conv1d(15, 15, 3, stride=2),
        L.ReLU(),
        L.Flatten(),
        L.Linear(None, classes),
    ]


@network(input_shape=(1, 40))
def mnist1d_mlp(classes: int) -> list[L.Layer]:
    """Three hidden layers of 285, 135 and 60 units: as many as the convolutions have.

    >>> mnist1d_mlp().parameters.flat.size
    59065
    """
    return [
        L.Flatten(),
        L.Linear(None, 285),
        L.ReLU(),
        L.Linear(285, 135),
        L.ReLU(),
        L.Linear(135, 60),
        L.ReLU(),
        L.Linear(60, classes),
    ]
