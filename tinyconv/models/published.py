"""Networks that were published, each a function that lists its layers.

Sources: LeCun, Bottou, Bengio and Haffner, "Gradient-based learning applied to document
recognition" (1998), section II.B (``lenet5``); Simard, Steinkraus and Platt, "Best practices for
convolutional neural networks applied to visual document analysis" (ICDAR 2003) (``simard2003``);
Cireşan, Meier, Gambardella and Schmidhuber, "Deep big simple neural nets excel on handwritten digit
recognition" (Neural Computation, 2010) (``ciresan_mlp``, which deforms its digits without end);
Prince, "Understanding deep learning" (2023), section 10.2 (``mnist1d_cnn`` and ``mnist1d_mlp``, as
many units with 2,050 and 59,065 parameters); Olah, "Conv nets: a modular perspective" (2014)
(``audio_conv1d``, built up from modules A, B and F to predict whether a human is speaking);
Maturana and Scherer, "VoxNet: a 3D convolutional neural network for real-time object recognition"
(IROS 2015) (``conv3d_small``); Krizhevsky, Sutskever and Hinton, "ImageNet classification with deep
convolutional neural networks" (NIPS 2012) (``alexnet``); Lin, Chen and Yan, "Network in network"
(2013) (``network_in_network``); He, Zhang, Ren and Sun, "Deep residual learning for image
recognition" (2015), section 4.2 (``resnet20``).
"""

from tinyconv import layers as L
from tinyconv.models.builder import network

__all__ = ["alexnet", "audio_conv1d", "ciresan_mlp", "conv3d_small", "lenet5", "mnist1d_cnn"]
__all__ += ["mnist1d_mlp", "network_in_network", "resnet20", "simard2003"]


@network(input_shape=(1, 28, 28))
def lenet5(classes: int) -> list[L.Layer]:
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
        L.Conv2d(None, 6, 5, padding=2, weight_init="glorot"),
        L.Tanh(),
        L.AvgPool2d(2),
        L.Conv2d(6, 16, 5, weight_init="glorot"),
        L.Tanh(),
        L.AvgPool2d(2),
        L.Flatten(),
        L.Linear(None, 120, weight_init="glorot"),
        L.Tanh(),
        L.Linear(120, 84, weight_init="glorot"),
        L.Tanh(),
        L.Linear(84, classes, weight_init="glorot"),
    ]


@network(input_shape=(1, 28, 28))
def simard2003(classes: int) -> list[L.Layer]:
    """Two 5x5 convolutions of stride 2, with 5 and 50 maps, then 100 hidden units.

    One row and one column of zeros make 28 x 28 pixels the paper's 29 x 29, from which windows at
    every second place leave 13 x 13 and 5 x 5. Trained with :mod:`tinyconv.data.augment`.

    >>> simard2003().parameters.flat.size
    132540
    """
    return [
        L.Conv2d(None, 5, 5, stride=2, padding=((0, 1), (0, 1)), weight_init="glorot"),
        L.Tanh(),
        L.Conv2d(5, 50, 5, stride=2, weight_init="glorot"),
        L.Tanh(),
        L.Flatten(),
        L.Linear(None, 100, weight_init="glorot"),
        L.Tanh(),
        L.Linear(100, classes, weight_init="glorot"),
    ]


@network(input_shape=(1, 28, 28))
def ciresan_mlp(
    classes: int, *, hidden: tuple[int, ...] = (2500, 2000, 1500, 1000, 500)
) -> list[L.Layer]:
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
    layers: list[L.Layer] = [L.Pad(((0, 1), (0, 1))), L.Flatten()]
    for inputs, outputs in zip(sizes, hidden, strict=False):
        layers += [L.Linear(inputs, outputs, weight_init="glorot"), L.ScaledTanh()]
    layers.append(L.Linear(sizes[-1], classes, weight_init="glorot"))
    return layers


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


@network(input_shape=(1, 128), classes=2)
def audio_conv1d(classes: int) -> list[L.Layer]:
    """Neurons A over pairs of samples, B over pairs of those, max-pooling, then F over all.

    The two classes are speech and none; a piece of sound has one channel and at least 4 samples.

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


@network(input_shape=(1, 28, 28))
def network_in_network(classes: int) -> list[L.Layer]:
    """Three mlpconv blocks (a convolution, two of 1x1), then the average of one map a class.

    The widths are those that the authors published for CIFAR-10, whose images are (3, 32, 32).

    >>> network_in_network(input_shape=(3, 32, 32)).parameters.flat.size
    966986
    >>> network_in_network().parameters.flat.size
    957386
    """
    return [
        *_mlpconv(None, (192, 160, 96), 5),
        L.MaxPool2d(3, 2, 1),
        L.Dropout(0.5),
        *_mlpconv(96, (192, 192, 192), 5),
        L.MaxPool2d(3, 2, 1),
        L.Dropout(0.5),
        *_mlpconv(192, (192, 192, classes), 3),
        L.GlobalAvgPool(),
        L.Flatten(),
    ]


def _mlpconv(channels: int | None, widths: tuple[int, int, int], kernel_size: int) -> list[L.Layer]:
    """Return a convolution and the perceptron that slides over its maps."""
    first, second, third = widths
    return [
        L.Conv2d(channels, first, kernel_size, padding=kernel_size // 2),
        L.ReLU(),
        L.Conv2d(first, second, 1),
        L.ReLU(),
        L.Conv2d(second, third, 1),
        L.ReLU(),
    ]


@network(input_shape=(3, 32, 32))
def resnet20(classes: int) -> list[L.Layer]:
    """Nine residual blocks of two convolutions, three each of 16, 32 and 64 maps.

    Where the maps become more and smaller, the shortcut is a 1x1 convolution of stride 2 (the
    paper's option B).

    >>> resnet20().parameters.flat.size
    272474
    """
    layers: list[L.Layer] = [*_conv_norm(None, 16, 3), L.ReLU()]
    channels = 16
    for width in (16, 32, 64):
        for block in range(3):
            stride = 2 if block == 0 and width > 16 else 1
            body = [*_conv_norm(channels, width, 3, stride), L.ReLU(), *_conv_norm(width, width, 3)]
            shortcut = _conv_norm(channels, width, 1, stride) if channels != width else None
            layers += [L.Residual(body, shortcut), L.ReLU()]
            channels = width
    return [*layers, L.GlobalAvgPool(), L.Flatten(), L.Linear(64, classes)]


def _conv_norm(
    channels: int | None, width: int, kernel_size: int, stride: int = 1
) -> list[L.Layer]:
    """Return a convolution and its batch normalisation, which makes a bias useless."""
    conv = L.Conv2d(channels, width, kernel_size, stride, kernel_size // 2, bias=False)
    return [conv, L.BatchNorm2d(width)]
