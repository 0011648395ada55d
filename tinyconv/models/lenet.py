"""LeNet-5.

Source: LeCun, Bottou, Bengio and Haffner, "Gradient-based learning applied to document
recognition" (1998), section II.B.
"""

from tinyconv.layers import AvgPool2d, Conv2d, Flatten, Layer, Linear, Tanh
from tinyconv.models.builder import network


@network(input_shape=(1, 28, 28))
def lenet5(classes: int) -> list[Layer]:
    """LeNet-5: two convolutions with average pooling, then 120, 84 and 10 units.

    The form that is common today: every map of the second convolution sees all maps of the first
    one, pooling has no coefficients, units are tanh and the output is a softmax of ten logits.
    In the paper they see chosen ones, pooling is :class:`tinyconv.Subsample2d`, units are
    :class:`tinyconv.ScaledTanh` and the output compares with bitmaps of the digits. A padding of 2
    makes 28 x 28 pixels the paper's 32 x 32.

    >>> lenet5().parameters.flat.size
    61706
    """
    return [
        Conv2d(None, 6, 5, padding=2, weight_init="glorot"),
        Tanh(),
        AvgPool2d(2),
        Conv2d(6, 16, 5, weight_init="glorot"),
        Tanh(),
        AvgPool2d(2),
        Flatten(),
        Linear(None, 120, weight_init="glorot"),
        Tanh(),
        Linear(120, 84, weight_init="glorot"),
        Tanh(),
        Linear(84, classes, weight_init="glorot"),
    ]
