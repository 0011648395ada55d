"""MNIST-1D: the generator makes the published set."""

import os
from pathlib import Path

import numpy as np
import pytest

from tinyconv import data
from tinyconv.data.mnist1d import TEMPLATES, generate, resample, smooth

FROZEN = Path(os.environ.get("TINYCONV_DATA", ""), "mnist1d.npz")


@pytest.fixture(scope="module")
def sets():
    return data.load("mnist1d")


def test_the_splits(sets):
    assert [split.x.shape for split in sets] == [(4000, 1, 40), (1000, 1, 40), (1000, 1, 40)]
    for x, y in sets:
        assert x.dtype == np.float32
        assert y.dtype == np.int64
        assert set(y) == set(range(10))


def test_the_first_numbers_of_the_published_set(sets):
    (x, y), _, (xt, yt) = sets
    published = [-0.33200568, -0.47191036, -0.7786971, -1.0097408, -0.8823526]
    np.testing.assert_allclose(x[0, 0, :5], published, rtol=1e-6)
    assert y[:5].tolist() == [2, 6, 4, 5, 6]
    published = [-0.07877078, -0.2107317, -0.09175138, 0.28267112, 0.32605815]
    np.testing.assert_allclose(xt[0, 0, :5], published, rtol=1e-6)
    assert yt[:5].tolist() == [2, 6, 3, 9, 4]


@pytest.mark.skipif(not FROZEN.is_file(), reason="needs mnist1d.npz in TINYCONV_DATA")
def test_every_number_of_the_published_set(sets):
    with np.load(FROZEN) as frozen:
        np.testing.assert_array_equal(sets.train.y, frozen["y"])
        np.testing.assert_array_equal(sets.test.y, frozen["y_test"])
        np.testing.assert_allclose(sets.train.x[:, 0], frozen["x"], rtol=1e-5, atol=1e-6)
        np.testing.assert_allclose(sets.test.x[:, 0], frozen["x_test"], rtol=1e-5, atol=1e-6)


def test_the_validation_split_is_new_and_of_the_same_distribution(sets):
    """Compare each class's mean and spread at each point, in standard errors."""
    (x, y), (xv, yv), _ = sets
    assert not (set(map(bytes, x)) & set(map(bytes, xv)))
    for digit in range(10):
        ours, published = xv[yv == digit, 0], x[y == digit, 0]
        error = published.std(axis=0) * np.sqrt(1 / len(ours) + 1 / len(published))
        z = (ours.mean(axis=0) - published.mean(axis=0)) / error
        assert np.abs(z).max() < 5
        assert 0.7 < np.median(ours.std(axis=0) / published.std(axis=0)) < 1.4


def test_the_same_seed_gives_the_same_curves():
    assert np.array_equal(generate(20, seed=1).x, generate(20, seed=1).x)
    assert not np.array_equal(generate(20, seed=1).x, generate(20, seed=2).x)


def test_a_generated_set_has_mean_0_and_standard_deviation_1():
    x, _ = generate(200, seed=3)
    assert abs(float(x.mean())) < 1e-6
    assert abs(float(x.std()) - 1) < 1e-6


def test_templates_start_and_end_at_the_same_height():
    assert TEMPLATES.shape == (10, 12)
    assert (TEMPLATES[:, 0] == TEMPLATES[:, -1]).all()


def test_resampling_keeps_the_ends_and_straight_lines():
    line = np.linspace(-3.0, 5.0, 7)
    np.testing.assert_allclose(resample(line, 72), np.linspace(-3, 5, 72), rtol=1e-12)


def test_smoothing_keeps_a_constant_and_lowers_noise():
    np.testing.assert_allclose(smooth(np.full(72, 0.3), 2.0), 0.3, rtol=1e-12)
    noise = np.random.default_rng(0).normal(size=72)
    # White noise loses all but 1 / (2 sigma sqrt(pi)) of its variance.
    assert smooth(noise, 2.0).var() < 0.3 * noise.var()
