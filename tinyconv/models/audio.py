"""A convolutional network over sound.

Source: Olah, "Conv nets: a modular perspective" (2014), which builds it up from modules A, B and F
to predict whether a human is speaking.
"""

from tinyconv.layers import Conv1d, Flatten, Layer, Linear, MaxPool1d, ReLU
from tinyconv.models.builder import network


@network(input_shape=(1, 128), classes=2)
def audio_conv1d(classes: int) -> list[Layer]:
    """Neurons A over pairs of samples, B over pairs of those, max-pooling, then F over all.

    The two classes are speech and none; a piece of sound has one channel and at least 4 samples.

    >>> audio_conv1d().parameters.flat.size
    2594
    """
    return [
        Conv1d(1, 16, 2),  # A
        ReLU(),
        Conv1d(16, 16, 2),  # B
        ReLU(),
        MaxPool1d(2),
        Flatten(),
        Linear(None, classes),  # F
    ]
