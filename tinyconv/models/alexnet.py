"""AlexNet, with the two columns that its two GPUs held.

Source: Krizhevsky, Sutskever and Hinton, "ImageNet classification with deep convolutional neural
networks" (NIPS 2012).
"""

from tinyconv.layers import (
    Conv2d,
    Dropout,
    Flatten,
    Layer,
    Linear,
    LocalResponseNorm,
    MaxPool2d,
    ReLU,
)
from tinyconv.models.builder import network


@network(input_shape=(3, 227, 227), classes=1000)
def alexnet(classes: int) -> list[Layer]:
    """Five convolutions, three of them in two groups, overlapping pooling, dropout, 4096 units.

    An image has 227 x 227 pixels: the paper says 224, from which windows of 11 at every fourth
    pixel would not leave its 55 x 55. Local responses are normalised as the paper does, whose
    coefficient 1e-4 multiplies the sum where the layer's alpha multiplies the mean of 5. With 1000
    classes it has 60,965,224 parameters.
    """
    return [
        Conv2d(3, 96, 11, stride=4),
        ReLU(),
        LocalResponseNorm(5, alpha=5e-4, beta=0.75, k=2.0),
        MaxPool2d(3, 2),
        Conv2d(96, 256, 5, padding=2, groups=2),
        ReLU(),
        LocalResponseNorm(5, alpha=5e-4, beta=0.75, k=2.0),
        MaxPool2d(3, 2),
        Conv2d(256, 384, 3, padding=1),
        ReLU(),
        Conv2d(384, 384, 3, padding=1, groups=2),
        ReLU(),
        Conv2d(384, 256, 3, padding=1, groups=2),
        ReLU(),
        MaxPool2d(3, 2),
        Flatten(),
        Dropout(0.5),
        Linear(None, 4096),
        ReLU(),
        Dropout(0.5),
        Linear(4096, 4096),
        ReLU(),
        Linear(4096, classes),
    ]
