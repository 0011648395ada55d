"""The residual network of 20 layers for small images.

Source: He, Zhang, Ren and Sun, "Deep residual learning for image recognition" (2015), section 4.2.
"""

from tinyconv import layers as L
from tinyconv.models.builder import network


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
