"""A convolutional network over sound.

Source: Olah, "Conv nets: a modular perspective" (2014), which builds it up from modules A, B and F
to predict whether a human is speaking.
"""

from tinyconv.arguments import Count, checked
from tinyconv.layers import Conv1d, Flatten, Linear, MaxPool1d, ReLU
from tinyconv.network import Sequential

__all__ = ["audio_conv1d"]


@checked
def audio_conv1d(
    *,
    samples: int = 128,
    classes: Count = 2,
    seed: int = 0,
    dtype: str = "float32",
    device: str = "cpu",
) -> Sequential:
    """Neurons A over pairs of samples, B over pairs of those, max-pooling, then F over all.

    Args:
        samples: length of a piece of sound, at least 4; one channel.
        classes: number of classes: speech or none.

    >>> audio_conv1d().parameters.flat.size
    2594
    """
    layers = [
        Conv1d(1, 16, 2),  # A
        ReLU(),
        Conv1d(16, 16, 2),  # B
        ReLU(),
        MaxPool1d(2),
        Flatten(),
        Linear(None, classes),  # F
    ]
    return Sequential(layers, seed=seed, dtype=dtype, device=device, input_shape=(1, samples))
