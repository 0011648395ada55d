"""100 sigmoid units and softmax, without convolution; 97.80 % in the book."""

from experiment import run

import tinyconv as tc

run(
    "fully-connected",
    build=tc.models.nielsen_fully_connected,
    optimizer=tc.SGD(lr=0.1),
    epochs=60,
)
