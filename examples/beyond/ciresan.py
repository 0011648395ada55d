"""Cireşan's multilayer perceptron: five hidden layers, 12.11 million weights, no convolution.

The paper's net made 35 mistakes among 10,000 digits after some 800 epochs on a GPU. This is its
recipe: deformations in every epoch anew (elastic, rotation, scaling), and a rate that falls from
1e-3 to 1e-6 by the same factor every epoch, over the 400 epochs that four hours of two cores carry
or those that ``--epochs`` says. It ends after these hours in any case.

Source: Cireşan, Meier, Gambardella and Schmidhuber, "Deep big simple neural nets excel on
handwritten digit recognition" (Neural Computation, 2010).
"""

import numpy as np
from runs import run

import tinyconv as tc

#: The paper's rates, for one sample a step. The mean over a batch of B moves the weights once where
#: single samples would B times, which a rate B times as large makes up for.
FIRST_RATE, LAST_RATE = 1e-3, 1e-6
BATCH = 20


def deform(x: np.ndarray, key: int) -> np.ndarray:
    """Deform as the paper does: up to 15 degrees and 15 %, elastic of sigma 6 and alpha 36.

    The paper turns the digits 1 and 7 by half as much; labels are not at hand here.
    """
    return tc.data.augment.distort(x, key, degrees=15, factors=0.15, alpha=36, sigma=6)


def falling(epochs: int, batches: int) -> list[tc.Callback]:
    """Return the schedule of the rate."""
    fall = (LAST_RATE / FIRST_RATE) ** (1 / max(1, epochs - 1))
    return [tc.Schedule(tc.schedules.Exponential(fall))]


if __name__ == "__main__":
    run(
        "ciresan",
        build=tc.models.ciresan_mlp,
        optimizer=tc.SGD(lr=FIRST_RATE * BATCH),
        epochs=400,
        batch_size=BATCH,
        augment=deform,
        callbacks=falling,
        hours=8,
    )
