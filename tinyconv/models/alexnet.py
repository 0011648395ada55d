"""AlexNet, with the two columns that its two GPUs held.

Source: Krizhevsky, Sutskever and Hinton, "ImageNet classification with deep convolutional neural
networks" (NIPS 2012).
"""

from tinyconv import layers as L
from tinyconv.models.builder import network


@network(input_shape=(3, 227, 227), classes=1000)
def alexnet(classes: int) -> list[L.Layer]:
    """Five convolutions, three of them in two groups, overlapping pooling, dropout, 4096 units.

    An image has 227 x 227 pixels: the paper says 224, from which windows of 11 at every fourth
    pixel would not leave its 55 x 55. Local responses are normalised as the paper does, whose
    coefficient 1e-4 multiplies the sum where the layer's alpha multiplies the mean of 5. With 1000
    classes it has 60,965,224 parameters.
    """
    return [
        L.Conv2d(3, 96, 11, stride=4),
        L.ReLU(),
        L.LocalResponseNorm(5, alpha=5e-4, beta=0.75, k=2.0),
        L.MaxPool2d(3, 2),
        L.Conv2d(96, 256, 5, padding=2, groups=2),
        L.ReLU(),
        L.LocalResponseNorm(5, alpha=5e-4, beta=0.75, k=2.0),
        L.MaxPool2d(3, 2),
        L.Conv2d(256, 384, 3, padding=1),
        L.ReLU(),
        L.Conv2d(384, 384, 3, padding=1, groups=2),
        L.ReLU(),
        L.Conv2d(384, 256, 3, padding=1, groups=2),
        L.ReLU(),
        L.MaxPool2d(3, 2),
        L.Flatten(),
        L.Dropout(0.5),
        L.Linear(None, 4096),
        L.ReLU(),
        L.Dropout(0.5),
        L.Linear(4096, 4096),
        L.ReLU(),
        L.Linear(4096, classes),
    ]
