"""``tinyconv plot`` writes each picture, and says what is wrong where it cannot."""

import numpy as np
import pytest
from PIL import Image

import tinyconv as tc
from tinyconv.cli import main


@pytest.fixture(scope="module")
def run_folder(tmp_path_factory):
    """What a short run leaves behind."""
    folder = tmp_path_factory.mktemp("run")
    layers = [tc.Conv2d(1, 4, 3), tc.MaxPool2d(2), tc.ReLU(), tc.Flatten(), tc.Linear(None, 10)]
    net = tc.Sequential(layers, seed=1)
    x, y = tc.data.load().train
    history = net.fit(x[:300], y[:300], epochs=2, verbose=False)
    history.save(folder / "history.csv")
    net.save(folder / "model.safetensors")
    return folder


@pytest.fixture
def model(run_folder):
    return str(run_folder / "model.safetensors")


def written(path):
    """Return the size of a picture, which must not be all one colour."""
    with Image.open(path) as image:
        assert len(np.unique(np.asarray(image.convert("L")))) > 1
        return image.size


@pytest.mark.parametrize(
    "arguments",
    [
        ["curves", "RUN", "RUN/history.csv"],
        ["filters", "MODEL"],
        ["filters", "MODEL", "--layer", "0"],
        ["features", "MODEL"],
        ["features", "MODEL", "--layer", "1", "--index", "7"],
        ["mistakes", "MODEL", "--limit", "12"],
        ["confusion", "MODEL"],
        ["augmentations", "--seed", "3"],
        ["augmentations", "--data", "mnist1d"],
    ],
    ids=" ".join,
)
def test_each_verb_writes_a_picture(arguments, run_folder, model, tmp_path, capsys):
    arguments = [a.replace("RUN", str(run_folder)).replace("MODEL", model) for a in arguments]
    out = tmp_path / "new" / "picture.png"
    assert main(["plot", *arguments, "-o", str(out)]) == 0
    assert capsys.readouterr().out == f"{out}\n"
    width, height = written(out)
    assert min(width, height) > 90


def test_the_default_name_is_the_verbs(model, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    assert main(["plot", "confusion", model]) == 0
    written("confusion.png")


def test_a_digit_of_ones_own(model, tmp_path):
    x, _ = tc.data.load().test
    Image.fromarray((255 * x[3, 0]).astype(np.uint8)).save(tmp_path / "digit.png")
    for verb in (["features", model], ["augmentations"]):
        out = str(tmp_path / "out.pdf")
        assert main(["plot", *verb, "--image", str(tmp_path / "digit.png"), "-o", out]) == 0
        assert (tmp_path / "out.pdf").read_bytes().startswith(b"%PDF")


@pytest.mark.parametrize("layer", [[], ["--layer", "0"]])
def test_filters_of_a_net_without_convolutions(layer, tmp_path, capsys):
    path = tmp_path / "net"
    tc.Sequential(tc.Linear(3, 2), input_shape=(3,)).save(path)
    assert main(["plot", "filters", str(path), *layer]) == 1
    assert capsys.readouterr().err == f"tinyconv: {path}: has no convolutions\n"


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["curves", "nowhere"], "nowhere: no such file"),
        (["filters", "nowhere"], "nowhere: no such file"),
        (["filters", "MODEL", "--layer", "1"], "the convolutions are layers [0], not 1"),
        (["features", "MODEL", "--layer", "4"], "layer 4 of 5 does not exist or gives"),
        (["features", "MODEL", "--index", "1000"], "--index is 1000, expected 0 to 999"),
        (["filters", "MODEL", "-o", "."], ".: is a folder, expected a file to write"),
    ],
)
def test_what_cannot_be_drawn(arguments, message, model, tmp_path, monkeypatch, capsys):
    monkeypatch.chdir(tmp_path)
    assert main(["plot", *[a.replace("MODEL", model) for a in arguments]]) == 1
    assert message in capsys.readouterr().err
    assert not [*tmp_path.iterdir()]


def test_a_history_that_is_none(tmp_path, capsys):
    (tmp_path / "history.csv").write_text("epoch,loss\n1,high\n")
    assert main(["plot", "curves", str(tmp_path)]) == 1
    assert "history.csv: not the history of a run" in capsys.readouterr().err
    (tmp_path / "history.csv").write_text("a,label\n1,2\n")
    assert main(["plot", "curves", str(tmp_path)]) == 1
    assert "has rows without an epoch" in capsys.readouterr().err
