"""Convolution, pooling and softmax, the fully connected layer omitted: the book's exercise."""

from experiment import run

import tinyconv as tc

run("conv-softmax", build=tc.models.nielsen_conv_softmax, optimizer=tc.SGD(lr=0.1), epochs=60)
