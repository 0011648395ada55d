"""Two convolutional layers, 100 sigmoid units, softmax; 99.06 % in the book."""

from experiment import run

import tinyconv as tc

run("conv-conv", build=tc.models.nielsen_conv_conv, optimizer=tc.SGD(lr=0.1), epochs=60)
