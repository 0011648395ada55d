"""A convolutional network over volumes.

Source: Maturana and Scherer, "VoxNet: a 3D convolutional neural network for real-time object
recognition" (IROS 2015).
"""

from tinyconv.layers import Conv3d, Flatten, Layer, LeakyReLU, Linear, MaxPool3d
from tinyconv.models.builder import network


@network(input_shape=(1, 16, 16, 16))
def conv3d_small(classes: int) -> list[Layer]:
    """VoxNet at half its size in everything: two convolutions in three dimensions, pooling.

    A volume has 16 x 16 x 16 elements where VoxNet has 32 x 32 x 32, a convolution 16 maps where
    VoxNet has 32, and the hidden layer 64 units where VoxNet has 128.

    >>> conv3d_small().parameters.flat.size
    17850
    """
    return [
        Conv3d(1, 16, 5, stride=2),
        LeakyReLU(0.1),
        Conv3d(16, 16, 3),
        LeakyReLU(0.1),
        MaxPool3d(2),
        Flatten(),
        Linear(None, 64),
        LeakyReLU(0.1),
        Linear(64, classes),
    ]
