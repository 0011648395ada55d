"""A run of a second's fraction that uses everything a checkpoint must hold.

Also a program: ``python small_run.py FOLDER`` trains with a checkpoint and says on standard output
when an epoch begins; ``python small_run.py`` prints the digest of the weights.
"""

import hashlib
import sys
from pathlib import Path
from typing import Any

import numpy as np

import tinyconv as tc

EPOCHS, SAMPLES, BATCH = 4, 46, 8
BATCHES = 6  # in an epoch, the last of 6 samples


def data(n: int = SAMPLES, seed: int = 0) -> tuple[np.ndarray, np.ndarray]:
    """Noisy images of four classes: a bright row each."""
    rng = np.random.default_rng(seed)
    x, y = rng.normal(0, 0.5, (n, 1, 8, 8)).astype(np.float32), rng.integers(0, 4, n)
    x[np.arange(n), 0, 2 * y] += 1
    return x, y


def network(seed: int = 0, dropout: float = 0.2) -> tc.Sequential:
    return tc.Sequential(
        [
            tc.Conv2d(1, 4, 3),
            tc.MaxPool2d(2),
            tc.ReLU(),
            tc.Dropout(dropout),
            tc.Flatten(),
            tc.Linear(36, 4),
        ],
        seed=seed,
    )


def run(net: tc.Sequential, **how: Any) -> tc.History:
    """Train on the data with momentum and weight decay."""
    x, y = data()
    settings: dict[str, Any] = {
        "epochs": EPOCHS,
        "batch_size": BATCH,
        "optimizer": tc.SGD(lr=0.05, momentum=0.9, weight_decay=0.01),
        "validation_data": data(20, seed=1),
        "verbose": False,
    }
    return net.fit(x, y, **{**settings, **how})


class Announce(tc.Callback):
    """Says when an epoch begins: then the checkpoint of the one before is complete."""

    def on_epoch_begin(self, training: Any) -> None:
        print(training.position.epoch, flush=True)


if __name__ == "__main__":
    seed, *folder = sys.argv[1:]
    net = network(int(seed))
    if folder:
        run(net, epochs=10**6, checkpoint=Path(folder[0]), resume=True, callbacks=[Announce()])
    else:
        run(net)
        print(hashlib.sha256(net.parameters.flat.tobytes()).hexdigest())
