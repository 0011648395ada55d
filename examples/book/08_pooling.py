"""L2 pooling and average pooling, to be compared with the max-pooling of the ReLU network."""

from experiment import run

import tinyconv as tc

# Batches of an epoch: the book divides its lambda of 0.1 by their number.
BATCHES = 5_000


def build(pool: type[tc.L2Pool2d] | type[tc.AvgPool2d], seed: int) -> tc.Sequential:
    """Return the ReLU network with another pooling, after the activation.

    A maximum commutes with rectifying, these two do not.
    """
    layers = [
        tc.Conv2d(1, 20, 5),
        tc.ReLU(),
        pool(2),
        tc.Conv2d(20, 40, 5),
        tc.ReLU(),
        pool(2),
        tc.Flatten(),
        tc.Linear(640, 100),
        tc.ReLU(),
        tc.Linear(100, 10),
    ]
    return tc.Sequential(layers, seed=seed, input_shape=(1, 28, 28))


for name, pool in (("l2", tc.L2Pool2d), ("average", tc.AvgPool2d)):
    run(
        f"conv-conv-relu-{name}",
        build=lambda seed, pool=pool: build(pool, seed),
        optimizer=tc.SGD(lr=0.03, weight_decay=0.1 / BATCHES),
        epochs=60,
    )
