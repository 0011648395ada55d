"""The convolutional network of Simard et al., which strides instead of pooling.

Source: Simard, Steinkraus and Platt, "Best practices for convolutional neural networks applied to
visual document analysis" (ICDAR 2003).
"""

from tinyconv.layers import Conv2d, Flatten, Layer, Linear, Tanh
from tinyconv.models.builder import network


@network(input_shape=(1, 28, 28))
def simard2003(classes: int) -> list[Layer]:
    """Two 5x5 convolutions of stride 2, with 5 and 50 maps, then 100 hidden units.

    One row and one column of zeros make 28 x 28 pixels the paper's 29 x 29, from which windows at
    every second place leave 13 x 13 and 5 x 5. Trained with :mod:`tinyconv.data.augment`.

    >>> simard2003().parameters.flat.size
    132540
    """
    return [
        Conv2d(None, 5, 5, stride=2, padding=((0, 1), (0, 1)), weight_init="glorot"),
        Tanh(),
        Conv2d(5, 50, 5, stride=2, weight_init="glorot"),
        Tanh(),
        Flatten(),
        Linear(None, 100, weight_init="glorot"),
        Tanh(),
        Linear(100, classes, weight_init="glorot"),
    ]
