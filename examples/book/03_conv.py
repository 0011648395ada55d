"""Convolution and pooling, 100 sigmoid units, softmax; 98.78 % in the book."""

from experiment import run

import tinyconv as tc

run("conv", build=tc.models.nielsen_conv, optimizer=tc.SGD(lr=0.1), epochs=60)
