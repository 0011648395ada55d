"""The ReLU network on each image and its four shifts by a pixel; 99.37 % in the book."""

from experiment import run
from nets import EXPANDED_BATCHES

import tinyconv as tc

run(
    "expanded",
    build=tc.models.nielsen_conv_conv_relu,
    optimizer=tc.SGD(lr=0.03, weight_decay=0.1 / EXPANDED_BATCHES),
    epochs=60,
    expanded=True,
)
