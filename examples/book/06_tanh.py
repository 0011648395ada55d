"""The same with tanh, to be plotted against sigmoid: the book's problem."""

from experiment import run

import tinyconv as tc

# Batches of an epoch: the book divides its lambda of 0.1 by their number.
BATCHES = 5_000

run(
    "conv-conv-tanh",
    build=tc.models.nielsen_conv_conv_tanh,
    optimizer=tc.SGD(lr=0.03, weight_decay=0.1 / BATCHES),
    epochs=60,
)
