"""A small convolutional net for at least 99.70 % of the test digits, median of three seeds.

What it is made of, and where that was found:

- pairs of 3x3 convolutions with batch normalisation, after each pair a halving, one linear layer:
  An, Lee, Park, Yang and So, "An ensemble of simple convolutional neural network models for MNIST
  digit recognition" (2020), who do not pool, and average the weights as we do; the pairs and the
  dropout are those of C. Deotte's net in Kaggle's "Digit recognizer" (2018);
- digits that are turned, scaled, sheared, shifted and distorted elastically, in every epoch anew:
  Simard, Steinkraus and Platt, "Best practices for convolutional neural networks applied to
  visual document analysis" (2003);
- a rate that rises and falls once: Smith and Topin, "Super-convergence" (2018), with a cosine;
- a moving average of the weights: Polyak and Juditsky (1992), see ``tc.AverageWeights``;
- a finished net looks at a digit as it is and at distorted ones, and answers with the mean:
  Krizhevsky, Sutskever and Hinton, "ImageNet classification with deep convolutional neural
  networks" (2012), who cut out ten pieces.

The settings were chosen by the validation digits, see ``small_net_settings.py``; then all 60,000
are trained on.
"""

import math
from dataclasses import dataclass

import numpy as np
from runs import run

import tinyconv as tc

NAME = "small-net"

#: How many nets are trained, all of which are the row of the table, and vote.
SEEDS = 10

#: Times that a finished net looks at a digit distorted a little, beside the digit as it is. After
#: 12 epochs of 50,000 digits, a net had 41 of the other 10,000 wrong at first sight and 37 so.
LOOKS = 8


@dataclass(frozen=True)
class Settings:
    """Everything that was chosen.

    Attributes:
        channels: of each pair of convolutions.
        padding: of the pairs after the first one.
        hidden: units between the convolutions and the classes, or 0.
        rate: the highest learning rate.
        rise: share of the steps in which the rate rises.
        dropout: share of the features that is dropped.
        smoothing: of the labels.
        decay: of the average of the weights, a step.
        degrees, factors, slopes, pixels, alpha, sigma: of :func:`tinyconv.data.augment.distort`.
    """

    channels: tuple[int, ...] = (32, 64, 128)
    padding: int = 1
    hidden: int = 0
    rate: float = 0.1
    rise: float = 0.2
    dropout: float = 0.4
    smoothing: float = 0
    decay: float = 0.999
    degrees: float = 15
    factors: float = 0.1
    slopes: float = 0.1
    pixels: float = 3
    alpha: float = 15
    sigma: float = 4

    def build(self, seed: int) -> tc.Sequential:
        """Return the net; its planes have 26, 24 and, halved, 12, 12, 6, 6 and 3 pixels."""
        layers: list[tc.Layer] = []
        inputs, padding = 1, 0
        for outputs in self.channels:
            layers += [tc.Conv2d(inputs, outputs, 3, padding=padding)]
            layers += [tc.BatchNorm2d(outputs), tc.ReLU()]
            layers += [tc.Conv2d(outputs, outputs, 3, padding=padding), tc.MaxPool2d(2)]
            layers += [tc.BatchNorm2d(outputs), tc.ReLU()]
            inputs, padding = outputs, self.padding
        layers += [tc.Flatten(), tc.Dropout(self.dropout)]
        if self.hidden:
            layers += [tc.Linear(None, self.hidden), tc.BatchNorm1d(self.hidden), tc.ReLU()]
            layers += [tc.Dropout(self.dropout)]
        layers += [tc.Linear(None, 10)]
        return tc.Sequential(layers, seed=seed, input_shape=(1, 28, 28))

    def distort(self, x: np.ndarray, key: int) -> np.ndarray:
        """Return a batch of distorted digits."""
        return tc.data.augment.distort(
            x,
            key,
            degrees=self.degrees,
            factors=self.factors,
            slopes=self.slopes,
            pixels=self.pixels,
            alpha=self.alpha,
            sigma=self.sigma,
        )

    def callbacks(self, epochs: int, batches: int) -> list[tc.Callback]:
        """Return the rate's rise and fall, and the average."""
        steps = epochs * batches
        rising = self.rise * steps

        def rate(step: int, rows: object) -> float:
            if step < rising:
                return max(step / rising, 0.04)
            return (1 + math.cos(math.pi * (step - rising) / (steps - rising))) / 2

        return [tc.Schedule(rate, per="step"), tc.AverageWeights(self.decay)]

    def train(self, name: str, **how: object) -> None:
        """Train nets with these settings."""
        run(
            name,
            build=self.build,
            optimizer=tc.SGD(lr=self.rate, momentum=0.9, weight_decay=1e-4),
            loss=tc.CrossEntropyLoss(label_smoothing=self.smoothing),
            batch_size=128,
            augment=self.distort,
            callbacks=self.callbacks,
            **how,
        )


def look(net: tc.Sequential, x: np.ndarray) -> np.ndarray:
    """Return the probabilities of the classes (N, 10), the mean over all looks."""
    total = net.predict_proba(x)
    for key in range(LOOKS):
        seen = tc.data.augment.distort(x, key, degrees=5, factors=0.05, pixels=0.5)
        total += net.predict_proba(seen)
    return total / (1 + LOOKS)


if __name__ == "__main__":
    Settings().train(NAME, epochs=45, seeds=SEEDS, all_digits=True, voting=True, look=look)
