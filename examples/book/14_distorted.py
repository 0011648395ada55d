"""Beyond the chapter: a single net on images distorted anew in every epoch (Simard 2003)."""

from experiment import run

import tinyconv as tc


def build(seed: int) -> tc.Sequential:
    """Return two convolutional layers, 200 units with dropout, softmax, all ReLU."""
    layers = [
        tc.Conv2d(1, 32, 5),
        tc.MaxPool2d(2),
        tc.ReLU(),
        tc.Conv2d(32, 64, 5),
        tc.MaxPool2d(2),
        tc.ReLU(),
        tc.Flatten(),
        tc.Dropout(0.4),
        tc.Linear(1024, 200),
        tc.ReLU(),
        tc.Dropout(0.4),
        tc.Linear(200, 10),
    ]
    return tc.Sequential(layers, seed=seed, input_shape=(1, 28, 28))


def distort(x, key: int):
    """Turn, scale, shear, shift and distort elastically, each a little."""
    return tc.data.augment.distort(
        x, key, degrees=8, factors=0.1, slopes=0.1, pixels=1.0, alpha=24, sigma=4
    )


run(
    "distorted",
    build=build,
    optimizer=tc.SGD(lr=0.03, momentum=0.9, weight_decay=1e-5),
    epochs=60,
    batch_size=50,
    augment=distort,
    schedule=tc.schedules.Cosine,
)
