"""The multilayer perceptron of Cireşan et al. on MNIST, deformed anew in every epoch.

Five hidden layers, 12.11 million weights, no convolution: the paper's net made 35 mistakes among
10,000 digits after some 800 epochs on a GPU. Here is its recipe: every epoch sees other
deformations (elastic, rotation, scaling), and the rate falls from 1e-3 to 1e-6 by the same factor
every epoch. The run can be stopped at any time and goes on where it was:

    python examples/ciresan.py --minutes 30            # again and again, until it is done
    python examples/ciresan.py --epochs 20 --hidden 1000 500      # a smaller run

Source: Cireşan, Meier, Gambardella and Schmidhuber, "Deep big simple neural nets excel on
handwritten digit recognition" (Neural Computation, 2010).
"""

import argparse
import time
from typing import Any

import numpy as np

import tinyconv as tc

#: The paper's rates, for one sample a step.
FIRST_RATE, LAST_RATE = 1e-3, 1e-6


def deform(x: np.ndarray, key: int) -> np.ndarray:
    """Deform as the paper does: up to 15 degrees and 15 %, elastic of sigma 6 and alpha 36.

    The paper turns the digits 1 and 7 by half as much; labels are not at hand here.
    """
    return tc.data.augment.distort(x, key, degrees=15, factors=0.15, alpha=36, sigma=6)


class StopAfter(tc.Callback):
    """Stop after so many minutes, between two batches; the checkpoint then holds everything."""

    def __init__(self, minutes: float) -> None:
        self.end = time.monotonic() + 60 * minutes
        self.minutes = minutes

    def on_batch_end(self, training: Any) -> None:
        """Ask for the end once the time is over."""
        if time.monotonic() > self.end:
            training.stop = f"{self.minutes:g} minutes are over"


def main() -> None:
    """Train, or go on with training, and print what has been reached."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawTextHelpFormatter
    )
    parser.add_argument("--data", default="mnist", choices=["mnist", "mnist-sample"])
    parser.add_argument("--epochs", type=int, default=800, help="of the whole run")
    parser.add_argument("--minutes", type=float, default=float("inf"), help="of this part of it")
    parser.add_argument("--batch-size", type=int, default=10)
    parser.add_argument("--hidden", type=int, nargs="+", default=[2500, 2000, 1500, 1000, 500])
    parser.add_argument("--checkpoint", default="ciresan-run", help="folder to resume from")
    given = parser.parse_args()

    digits = tc.data.load(given.data)
    net = tc.models.ciresan_mlp(hidden=tuple(given.hidden))
    # The mean over a batch moves the weights once where single samples would B times. With 10 that
    # is made up for by a larger rate; with 100 the rate would be 0.1, and the loss grows.
    rate = FIRST_RATE * given.batch_size
    fall = (LAST_RATE / FIRST_RATE) ** (1 / max(1, given.epochs - 1))
    history = net.fit(
        *digits.train,
        epochs=given.epochs,
        batch_size=given.batch_size,
        optimizer=tc.SGD(lr=rate),
        validation_data=tuple(digits.validation),
        augment=deform,
        callbacks=[
            tc.Schedule(tc.schedules.Exponential(fall)),
            StopAfter(given.minutes),
            tc.StopOnInterrupt(),
        ],
        checkpoint=given.checkpoint,
        resume=True,
    )
    test = net.evaluate(*digits.test)
    print(
        f"{len(history)} of {given.epochs} epochs: "
        f"{(1 - test['accuracy']) * len(digits.test.y):.0f} mistakes among {len(digits.test.y)} "
        f"test digits ({1 - test['accuracy']:.2%})"
    )


if __name__ == "__main__":
    main()
