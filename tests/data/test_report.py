"""What is said of data before training."""

import copy
from dataclasses import asdict

import numpy as np
import pytest

import tinyconv as tc
from tinyconv.data import DataSet, Pixels, Split
from tinyconv.data.report import CLASS_NAMES, PIXELS
from tinyconv.errors import ArgumentError, FileError
from tinyconv.files import check_json


def split(x, y):
    return Split(np.asarray(x, np.float32), np.asarray(y, np.int64))


def data(train, validation=None, test=None, names=("ant", "bee")):
    validation = validation or split([[0.1, 0.2]], [0])
    return DataSet(train, validation, test or validation, names, "somewhere", "numbers", "as it is")


def test_the_table_counts_the_classes_of_each_split():
    x = np.arange(12).reshape(6, 2) / 12
    found = tc.data.report(data(split(x, [0, 1, 1, 0, 1, 1]), split(x + 2, [1] * 6)))
    assert found.counts == {"train": (2, 4), "validation": (0, 6), "test": (0, 6)}
    assert found.duplicates == {"validation": 0, "test": 0}
    assert found.warnings == ()
    assert str(found).splitlines() == [
        "somewhere: 18 samples of 2 (as it is)",
        "  class  train  validation  test",
        "  ant        2           0     0",
        "  bee        4           6     6",
        "  all        6           6     6",
        "values from 0 to 0.9167, mean 0.4583",
    ]


def test_the_report_in_a_notebook():
    found = tc.data.report(data(split([[1.0, 100.0]], [0]), names=("<ant>", "bee")))
    text = found._repr_html_()
    assert text.startswith("<p>somewhere: 3 samples of 2 (as it is)</p><table><tr><th>class</th>")
    assert "<tr><td>&lt;ant&gt;</td><td>1</td><td>1</td><td>1</td></tr>" in text
    assert "<p>values from 1 to 100, mean 50.5<br>warning: nothing to learn" in text


def test_many_classes_are_not_all_listed():
    names = tuple(f"class {n}" for n in range(50))
    lines = str(tc.data.report(data(split(np.eye(50), range(50)), names=names))).splitlines()
    assert "class 19" in lines[21]
    assert lines[22].split() == ["and", "30", "more", "30", "0", "0"]
    assert lines[23].split()[:2] == ["all", "50"]


def test_samples_that_are_in_training_and_test():
    x = np.arange(12).reshape(6, 2) / 12
    found = tc.data.report(
        data(split(x, [0, 1] * 3), split(x + 2, [0] * 6), split(x[[1, 1]], [0, 0]))
    )
    assert found.duplicates == {"validation": 0, "test": 2}
    assert found.warnings == ("2 of 2 test samples are training samples too",)


@pytest.mark.parametrize(
    ("x", "y", "warning"),
    [
        ([[0, 255]] * 2, [0, 1], "values from 0 to 255 are too large to learn from"),
        ([[0, 1 / 255]] * 2, [0, 1], "were they divided by 255 twice"),
        ([[0.5, 0.5]] * 2, [0, 1], "all values are 0.5"),
        ([[0, 1]] * 2, [0, 0], "nothing to learn these classes from: bee"),
        ([[0, 1]] * 50, [0] * 49 + [1], "ant has 49 training samples and bee 1"),
    ],
)
def test_warnings(x, y, warning):
    found = tc.data.report(data(split(x, y)))
    assert any(warning in text for text in found.warnings)
    assert f"warning: {found.warnings[0]}" in str(found)


def test_pixels_are_measured_over_more_than_one_block():
    x = np.random.default_rng(0).normal(size=(3000, 4, 5))
    pixels = Pixels.of(x, "digits")
    assert (pixels.low, pixels.high, pixels.kind) == (x.min(), x.max(), "digits")
    assert pixels.mean == pytest.approx(x.mean())
    assert pixels.spread == pytest.approx(x.mean(axis=(1, 2)).std())


def test_pixels_unlike_those_of_the_training():
    x = tc.data.load().train.x
    trained = Pixels.of(x)
    assert trained.differs(trained) is None
    assert Pixels.of(tc.data.load().test.x).differs(trained) is None
    assert all(Pixels.of(x[n : n + 1]).differs(trained) is None for n in range(200))
    assert "values from 0 to 255" in (Pixels.of(x * 255).differs(trained) or "")
    assert "values from 0 to 0.003922" in (Pixels.of(x / 255).differs(trained) or "")
    assert "light and dark exchanged" in (Pixels.of(1 - x).differs(trained) or "")
    assert "values of mean 0.4" in (Pixels.of(x * 0.3 + 0.4).differs(trained) or "")


def test_pixels_in_a_file():
    pixels = asdict(Pixels(0.0, 1.0, 0.5, 0.1, "pictures"))
    check_json("a file", pixels, PIXELS)
    check_json("a file", None, PIXELS)
    for wrong in ([], {}, pixels | {"low": "x"}, pixels | {"kind": 3}, pixels | {"high": np.inf}):
        with pytest.raises(FileError, match="a file: its description is damaged"):
            check_json("a file", wrong, PIXELS)


def test_a_network_keeps_the_names_and_the_pixels(tmp_path):
    net = tc.Sequential([tc.Linear(4, 2)])
    net.save(tmp_path / "plain.safetensors")
    plain = tc.load(tmp_path / "plain.safetensors")
    assert (plain.class_names, plain.pixels) == (None, None)
    net.class_names, net.pixels = ("ant", "bée"), Pixels(0.0, 1.0, 0.5, 0.1, "pictures")
    net.save(tmp_path / "net.safetensors")
    for other in (tc.load(tmp_path / "net.safetensors"), copy.deepcopy(net)):
        assert other.class_names == ("ant", "bée")
        assert other.pixels == net.pixels


def test_a_network_that_is_fitted_to_a_data_set_knows_it():
    digits = tc.data.load("mnist1d")
    few = DataSet(*(Split(x[:40], y[:40]) for x, y in digits), digits.class_names, kind="numbers")
    nets = [tc.Sequential(tc.Flatten(), tc.Linear(40, 10), seed=1) for _ in range(2)]
    history = nets[0].fit(few, verbose=False)
    other = nets[1].fit(*few.train, validation_data=few.validation, verbose=False)
    assert history["val_loss"] == other["val_loss"]
    assert nets[0].class_names == digits.class_names
    assert nets[0].pixels == Pixels.of(few.train.x, "numbers")
    assert (nets[1].class_names, nets[1].pixels) == (None, None)
    assert "val_loss" in nets[0].fit(few, validation_split=0.5, verbose=False)
    assert nets[0].evaluate(few.test) == nets[0].evaluate(*few.test)
    assert nets[0].score(few.test) == nets[0].score(*few.test)
    with pytest.raises(ArgumentError, match="fit: x is a data set, which has targets, and y is"):
        nets[0].fit(few, few.train.y)
    with pytest.raises(
        ArgumentError, match="and y is missing; expected x and y, or a pair of them"
    ):
        nets[0].evaluate(few)


@pytest.mark.parametrize("wrong", ["names", [1, 2], ["a", "b\n"], {"a": 1}])
def test_names_in_a_file_that_are_none(wrong):
    with pytest.raises(FileError, match="a file: its description is damaged"):
        check_json("a file", wrong, CLASS_NAMES)
