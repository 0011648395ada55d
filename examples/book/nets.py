"""The two convolutional layers of the chapter's last networks, with what it puts on top."""

from collections.abc import Sequence

import tinyconv as tc

#: Batches of an epoch of the expanded data: the book divides its lambda by their number.
EXPANDED_BATCHES = 25_000


def relu_net(units: Sequence[int], seed: int) -> tc.Sequential:
    """Return two convolutional layers and fully connected ones of so many units, all ReLU."""
    layers = [
        tc.Conv2d(1, 20, 5),
        tc.MaxPool2d(2),
        tc.ReLU(),
        tc.Conv2d(20, 40, 5),
        tc.MaxPool2d(2),
        tc.ReLU(),
        tc.Flatten(),
    ]
    before = 640
    for after in units:
        layers += [tc.Linear(before, after), tc.ReLU()]
        before = after
    layers.append(tc.Linear(before, 10))
    return tc.Sequential(layers, seed=seed, input_shape=(1, 28, 28))
