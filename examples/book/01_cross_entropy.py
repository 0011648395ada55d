"""100 sigmoid units and sigmoid outputs with cross-entropy, lambda 5: chapter 3's 98.04 %."""

from experiment import run

import tinyconv as tc

# The book divides its lambda of 5 by the number of training images.
IMAGES = 50_000

run(
    "cross-entropy",
    build=tc.models.nielsen_fully_connected,
    optimizer=tc.SGD(lr=0.1, weight_decay=5.0 / IMAGES),
    loss=tc.SigmoidCrossEntropy(),
    epochs=60,
)
