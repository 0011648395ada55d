"""Simard's convolutional net on elastic distortions; 99.60 % in the paper.

Its settings: two convolutions that stride, 100 hidden units, cross-entropy, a rate of 0.005 times
0.3 every 100 epochs, neither momentum nor weight decay, elastic fields of sigma 4 and alpha 34.
The paper speaks of fields with a norm of 1 before alpha; most programs that follow it smooth with a
Gaussian whose sum is 1, which moves the pixels half as far again. What it says is done here.
Here it ends after 500 epochs, of which the last hundred have a rate below a hundredth of the first.

Source: Simard, Steinkraus and Platt, "Best practices for convolutional neural networks applied to
visual document analysis" (ICDAR 2003).
"""

from collections.abc import Callable

import numpy as np
from runs import run

import tinyconv as tc

#: The paper steps after every digit: the mean of ten with ten times the rate goes as far.
RATE, BATCH = 0.005, 10


def distort(x: np.ndarray, key: int) -> np.ndarray:
    """Return digits that are distorted elastically, as in the paper."""
    return tc.data.augment.distort(x, key, alpha=34, sigma=4, normalized=True)


def falling(epochs: int, batches: int) -> list[tc.Callback]:
    """Return the schedule of the rate."""
    return [tc.Schedule(tc.schedules.Step(every=100, factor=0.3))]


def train(name: str, build: Callable[..., tc.Sequential], seeds: int) -> None:
    """Train nets so, as a row of the table."""
    run(
        name,
        build=build,
        optimizer=tc.SGD(lr=RATE * BATCH),
        epochs=500,
        batch_size=BATCH,
        augment=distort,
        callbacks=falling,
        seeds=seeds,
    )


if __name__ == "__main__":
    train("simard", tc.models.simard2003, seeds=3)
