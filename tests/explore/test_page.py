"""The file that ``tinyconv explore`` writes needs nothing but itself."""

import json
import re

import numpy as np
import pytest

import tinyconv as tc
from tinyconv.cli import main
from tinyconv.explore import EXAMPLE, numbers, pack, page


@pytest.fixture(scope="module")
def net():
    layers = [tc.Conv2d(1, 2, 5), tc.MaxPool2d(4), tc.ReLU(), tc.Flatten(), tc.Linear(None, 10)]
    return tc.Sequential(layers, seed=0, input_shape=(1, 28, 28))


def data_of(text):
    found = re.search(r'<script type="application/json" id="data">(.*?)</script>', text)
    return json.loads(found.group(1))


def test_the_page_asks_for_nothing_from_elsewhere(net):
    text = page(net, np.zeros((1, 1, 28, 28)), [0])
    assert not re.search(r"\b(?:src|href)=|@import|\bimport\s|url\(|fetch\(|https?://", text)
    assert "{{" not in text
    assert len(text.encode()) < 2_000_000


def test_the_page_holds_the_numbers_of_the_operations():
    data = data_of(page())
    assert data["example"] == EXAMPLE
    assert data["reference"] == numbers(EXAMPLE)
    assert data["net"] is None


@pytest.mark.parametrize(
    ("entry", "value", "kind", "message"),
    [
        ("x", [0.0] * 35, tc.ShapeError, r"x has 35 numbers, expected 36 of shape \(1, 1, 6, 6\)"),
        ("w", [1.0], tc.ShapeError, r"w has 1 numbers, expected 18 of shape \(2, 1, 3, 3\)"),
        ("W", [], tc.ShapeError, r"W has 0 numbers, expected 24 of shape \(3, 8\)"),
        ("B", 3, tc.ArgumentError, "B is 3, expected numbers"),
        ("size", 2.5, tc.ArgumentError, "size is 2.5, expected an integer of at least 1"),
        ("pool", "mean", tc.ArgumentError, "pool is 'mean', expected 'max', 'average' or 'l2'"),
    ],
)
def test_numbers_of_what_is_no_state(entry, value, kind, message):
    with pytest.raises(kind, match=f"explore: {message}"):
        numbers({**EXAMPLE, entry: value})
    with pytest.raises(tc.ArgumentError, match=f"explore: {entry} missing"):
        numbers({name: each for name, each in EXAMPLE.items() if name != entry})


def test_names_of_classes_cannot_end_the_data(net):
    net.class_names = ("</script><b>", *"123456789")
    data = data_of(page(net, np.zeros((1, 1, 28, 28)), [0]))
    assert data["net"]["classes"][0] == "</script><b>"
    net.class_names = None


@pytest.mark.parametrize(
    ("layers", "words"),
    [
        ([tc.Residual([tc.Conv2d(1, 1, 1)]), tc.Flatten(), tc.Linear(None, 2)], "Residual"),
        ([tc.Conv2d(1, 1, 3, padding=1, padding_mode="reflect"), tc.Flatten()], "Conv2d"),
    ],
)
def test_layers_that_it_cannot_show_are_refused(layers, words):
    other = tc.Sequential(layers, input_shape=(1, 6, 6))
    with pytest.raises(tc.ArgumentError, match=rf"explore: the page cannot show .*{words}"):
        page(other, np.zeros((1, 1, 6, 6)), [0])


def test_shapes_are_checked(net):
    with pytest.raises(tc.ShapeError, match=r"explore: x has shape \(0, 1, 1, 1\)"):
        page(net)
    with pytest.raises(tc.ShapeError, match=r"2, 28, 28\) and y 1 labels"):
        pack(net, np.zeros((1, 2, 28, 28)), [0])
    with pytest.raises(tc.ShapeError, match=r"gives \(2, 24, 24\) of an image, expected its log"):
        pack(tc.Sequential([tc.Conv2d(1, 2, 5)]), np.zeros((1, 1, 28, 28)), [0])


def test_the_command_writes_the_page_of_a_model(net, tmp_path, monkeypatch, capsys):
    monkeypatch.chdir(tmp_path)
    opened = []
    monkeypatch.setattr("webbrowser.open", opened.append)
    (tmp_path / "runs/a").mkdir(parents=True)
    net.save(tmp_path / "runs/a/model.safetensors")
    assert main(["explore"]) == 0  # the newest run
    assert opened == [(tmp_path / "explore.html").as_uri()]
    packed = data_of((tmp_path / "explore.html").read_text())["net"]
    assert [sample["label"] for sample in packed["samples"]] == list(range(10))
    assert main(["explore", "runs/a/model.safetensors", "--no-open", "--out", "b/c.html"]) == 0
    assert (tmp_path / "b/c.html").exists()
    assert len(opened) == 1
    assert "showing runs/a/model.safetensors" in capsys.readouterr().out


def test_the_command_trains_where_there_is_no_model(tmp_path, monkeypatch, capsys):
    monkeypatch.chdir(tmp_path)
    trained = []

    def fit(self, x, y, **options):
        trained.append((x.shape, options["epochs"]))

    monkeypatch.setattr(tc.Sequential, "fit", fit)
    assert main(["explore", "--no-open"]) == 0
    assert trained == [((3500, 1, 28, 28), 3)]
    assert "training one on the sample, 3 epochs" in capsys.readouterr().out


def test_the_command_refuses_what_takes_no_images(tmp_path, capsys):
    path = tmp_path / "flat.safetensors"
    tc.Sequential([tc.Linear(3, 2)], input_shape=(3,)).save(path)
    assert main(["explore", str(path), "--no-open"]) == 1
    assert "takes inputs of shape (3,), expected images" in capsys.readouterr().err
