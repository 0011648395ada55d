"""The same with tanh and the same rate, to be plotted against sigmoid: the book's problem."""

from experiment import run

import tinyconv as tc

run(
    "conv-conv-tanh",
    build=tc.models.nielsen_conv_conv_tanh,
    optimizer=tc.SGD(lr=0.1),
    epochs=60,
)
