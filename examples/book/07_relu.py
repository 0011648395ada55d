"""The same with rectified linear units, lambda 0.1 and rate 0.03; 99.23 % in the book."""

from experiment import run

import tinyconv as tc

# Batches of an epoch: the book divides its lambda of 0.1 by their number.
BATCHES = 5_000

run(
    "conv-conv-relu",
    build=tc.models.nielsen_conv_conv_relu,
    optimizer=tc.SGD(lr=0.03, weight_decay=0.1 / BATCHES),
    epochs=60,
)
