"""MNIST-1D: digits drawn as one-dimensional curves, 40 numbers each, made by a generator.

Sam Greydanus and Dmitry Kobak, "Scaling Down Deep Learning with MNIST-1D", ICML 2024
(https://arxiv.org/abs/2011.14439). Ten templates of 12 points are padded, stretched, scaled,
shifted in a circle, covered with noise and sheared. The generator here draws the same random
numbers in the same order as the published one, so that the same seed gives the same set.
"""

from typing import Any, TypeAlias

import numpy as np

from tinyconv.data.splits import DataSet, Split

Floats: TypeAlias = np.ndarray[Any, np.dtype[np.float64]]

#: The height of each digit's curve at 12 equally spaced points, by class.
TEMPLATES = np.array(
    [
        [5, 6, 6.5, 6.75, 7, 7, 7, 7, 6.75, 6.5, 6, 5],
        [5, 3, 3, 3.4, 3.8, 4.2, 4.6, 5, 5.4, 5.8, 5, 5],
        [5, 6, 6.5, 6.5, 6, 5.25, 4.75, 4, 3.5, 3.5, 4, 5],
        [5, 6, 6.5, 6.5, 6, 5, 5, 6, 6.5, 6.5, 6, 5],
        [5, 4.4, 3.8, 3.2, 2.6, 2.6, 5, 5, 5, 5, 5, 5],
        [5, 3, 3, 3, 3, 5, 6, 6.5, 6.5, 6, 4.5, 5],
        [5, 4, 3.5, 3.25, 3, 3, 3, 3, 3.25, 3.5, 4, 5],
        [5, 7, 7, 6.6, 6.2, 5.8, 5.4, 5, 4.6, 4.2, 5, 5],
        [5, 4, 3.5, 3.5, 4, 5, 5, 4, 3.5, 3.5, 4, 5],
        [5, 4, 3.5, 3.5, 4, 5, 5, 5, 5, 4.7, 4.3, 5],
    ]
)

PADDING = (36, 60)  # zeros after the template: at least, at most
STRETCHED = 72  # points after stretching: 12 and the most padding
SCALE_RANGE = 0.4  # heights are multiplied by 0.8 to 1.2
MAX_SHIFT = 48  # in points of the stretched curve, exclusive
SMOOTH_NOISE = 0.25  # standard deviation before smoothing; in the padding alone
SMOOTHING = 2.0  # standard deviation of the Gaussian that smooths it, in points
WHITE_NOISE = 0.02  # standard deviation; everywhere
SHEAR_RANGE = 0.75  # the line that is subtracted falls or rises by up to half of this
LENGTH = 40  # points of the final curve

TRAIN, TEST, VALIDATION = 4000, 1000, 1000
SEED, VALIDATION_SEED = 42, 43


def resample(curve: Floats, points: int) -> Floats:
    """Return ``curve`` at ``points`` equally spaced places, linearly interpolated.

    >>> resample(np.array([0.0, 1.0, 4.0]), 5).tolist()
    [0.0, 0.5, 1.0, 2.5, 4.0]
    """
    return np.interp(np.linspace(0, 1, points), np.linspace(0, 1, len(curve)), curve)


def smooth(noise: Floats, sigma: float) -> Floats:
    """Return ``noise`` filtered by a Gaussian cut off at 4 sigma, mirrored beyond its ends.

    >>> smooth(np.array([0.0, 0.0, 1.0, 0.0, 0.0]), 0.5).round(3).tolist()
    [0.0, 0.106, 0.787, 0.106, 0.0]
    """
    radius = int(4 * sigma + 0.5)
    kernel = np.exp(-0.5 * (np.arange(-radius, radius + 1) / sigma) ** 2)
    return np.convolve(np.pad(noise, radius, mode="symmetric"), kernel / kernel.sum(), "valid")


def deform(template: Floats, random: np.random.RandomState) -> Floats:
    """Return one example: a template padded, stretched, scaled, shifted, made noisy, sheared."""
    low, high = PADDING
    padding = np.zeros(low + int(random.rand() * (high - low + 1)))
    # The tiny height tells the template's own zeros from the padding, which alone becomes noise.
    curve = resample(np.concatenate([template + 1e-8, padding]), STRETCHED)
    curve *= 1 + SCALE_RANGE * (random.rand() - 0.5)
    curve = np.roll(curve, random.choice(MAX_SHIFT))
    noise = smooth(SMOOTH_NOISE * random.randn(STRETCHED), SMOOTHING)
    curve = np.where(curve != 0, curve, noise)
    curve += WHITE_NOISE * random.randn(STRETCHED)
    curve -= SHEAR_RANGE * (random.rand() - 0.5) * np.linspace(-0.5, 0.5, STRETCHED)
    return resample(curve, LENGTH)


def generate(n: int, seed: int) -> Split:
    """Return ``n`` curves of mean 0 and standard deviation 1, as many of each digit, shuffled.

    >>> x, y = generate(50, seed=0)
    >>> x.shape, np.bincount(y).tolist()
    ((50, 1, 40), [5, 5, 5, 5, 5, 5, 5, 5, 5, 5])
    """
    templates = TEMPLATES - TEMPLATES.mean(axis=1, keepdims=True)
    templates /= templates.std(axis=1, keepdims=True)
    templates -= templates[:, :1]  # every curve starts at 0, and so joins the padding
    templates /= 6
    # The published set came from this older generator; its streams never change.
    random = np.random.RandomState(seed)
    y = np.repeat(np.arange(10), n // 10)
    x = np.stack([deform(templates[label], random) for label in y])
    order = random.permutation(len(y))
    x = (x - x.mean()) / x.std()
    return Split(x[order, np.newaxis].astype(np.float32), y[order])


def load_mnist1d() -> DataSet:
    """Return the published set, 4,000 curves for training and 1,000 for test.

    It has no validation split. Ours is 1,000 further curves of the same generator, so that no
    curve of the published splits is lost or seen twice.
    """
    x, y = generate(TRAIN + TEST, SEED)
    return DataSet(
        train=Split(x[:TRAIN], y[:TRAIN]),
        validation=generate(VALIDATION, VALIDATION_SEED),
        test=Split(x[TRAIN:], y[TRAIN:]),
        source="mnist1d",
        kind="numbers",
    )
