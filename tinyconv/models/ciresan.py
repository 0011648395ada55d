"""The multilayer perceptron of Cireşan et al.: no convolution, but deformed digits without end.

Source: Cireşan, Meier, Gambardella and Schmidhuber, "Deep big simple neural nets excel on
handwritten digit recognition" (Neural Computation, 2010).
"""

from tinyconv.layers import Flatten, Layer, Linear, Pad, ScaledTanh
from tinyconv.models.builder import network


@network(input_shape=(1, 28, 28))
def ciresan_mlp(
    classes: int, *, hidden: tuple[int, ...] = (2500, 2000, 1500, 1000, 500)
) -> list[Layer]:
    """Five hidden layers of 2500, 2000, 1500, 1000 and 500 scaled tanh units, softmax.

    One row and one column of zeros make 28 x 28 pixels the paper's 29 x 29, so that the count is
    its 12.11 million. The paper draws weights uniformly from -0.05 to 0.05; the limits of the
    initializer here depend on the layer and are 0.04 to 0.06 in the hidden ones.

    Args:
        hidden: units of each hidden layer; the paper's other nets are shorter.

    >>> ciresan_mlp().parameters.flat.size
    12115010
    >>> ciresan_mlp(hidden=(1000, 500)).parameters.flat.size
    1347510
    """
    sizes = (None, *hidden)  # what Flatten gives, then the units
    layers: list[Layer] = [Pad(((0, 1), (0, 1))), Flatten()]
    for inputs, outputs in zip(sizes, hidden, strict=False):
        layers += [Linear(inputs, outputs, weight_init="glorot"), ScaledTanh()]
    layers.append(Linear(sizes[-1], classes, weight_init="glorot"))
    return layers
