"""Simard's convolutional net, trained as in ``simard.py``, with rectified linear units.

The paper does not name its units; those of its years were sigmoids. Rectified ones were preferred
to tanh and to LeCun's scaled tanh by the validation digits after 20 epochs.
"""

from simard import train

import tinyconv as tc


def rectified(seed: int) -> tc.Sequential:
    """Return the net of ``tc.models.simard2003`` with other units and their initial weights."""
    layers = [
        tc.Conv2d(1, 5, 5, stride=2, padding=((0, 1), (0, 1))),
        tc.ReLU(),
        tc.Conv2d(5, 50, 5, stride=2),
        tc.ReLU(),
        tc.Flatten(),
        tc.Linear(None, 100),
        tc.ReLU(),
        tc.Linear(100, 10),
    ]
    return tc.Sequential(layers, seed=seed, input_shape=(1, 28, 28))


if __name__ == "__main__":
    train("simard-rectified", rectified, seeds=1)
