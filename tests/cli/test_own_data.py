"""``--data PATH``: a run on pictures of one's own, and what knows their classes afterwards."""

import json

import numpy as np
import pytest
from PIL import Image

import tinyconv as tc
from tinyconv.cli import main

NAMES = ("left", "right $a$", "top")


def pictures(folder, count=20, side=20, mode="RGB", names=NAMES):
    """Pictures of which one half is bright: the left, the right or the upper one."""
    rng = np.random.default_rng(0)
    for label, name in enumerate(names):
        (folder / name).mkdir(parents=True)
        for number in range(count):
            pixels = rng.integers(0, 60, (side, side + number % 3, 3)).astype(np.uint8)
            bright = (np.s_[:, : side // 2], np.s_[:, side // 2 :], np.s_[: side // 2])[label % 3]
            pixels[bright] += 180
            image = Image.fromarray(pixels).convert(mode)
            image.save(folder / name / f"{number}.{'png' if number % 2 else 'jpg'}")
    return folder


@pytest.fixture(scope="module")
def run(tmp_path_factory):
    """A run on pictures: its folder, the pictures, what it printed."""
    folder = tmp_path_factory.mktemp("own")
    pictures(folder / "photos")
    arguments = ["--size", "10x8", "--epochs", "4", "--out", str(folder / "run"), "--lr", "0.3"]
    assert main(["train", "--data", str(folder / "photos"), *arguments]) == 0
    return folder


def test_the_report_comes_before_the_training(tmp_path, capsys):
    arguments = ["--size", "8", "--epochs", "1", "--out", str(tmp_path / "run")]
    assert main(["train", "--data", str(pictures(tmp_path / "photos")), *arguments]) == 0
    out = capsys.readouterr().out
    first, *table = out.splitlines()[:6]
    assert first.endswith(
        "photos: 60 samples of 3 x 8 x 8 (20 x 20 to 20 x 22 pixels, scaled to 8 x 8)"
    )
    assert [line.split() for line in table] == [
        ["class", "train", "validation", "test"],
        ["left", "14", "2", "4"],
        ["right", "$a$", "14", "2", "4"],
        ["top", "14", "2", "4"],
        ["all", "42", "6", "12"],
    ]
    assert "nielsen-fully-connected on " in out  # 8 pixels are too few for two convolutions
    assert "on 12 samples" in out


def test_the_model_knows_the_classes_and_predict_names_them(run, capsys):
    net = tc.load(run / "run" / "model.safetensors")
    assert net.class_names == NAMES
    assert net.input_shape == (3, 10, 8)
    assert net.pixels is not None
    assert net.pixels.kind == "pictures"
    paths = [str(run / "photos" / name / "3.png") for name in NAMES]
    assert main(["predict", str(run / "run" / "model.safetensors"), *paths]) == 0
    printed = capsys.readouterr()
    lines = printed.out.splitlines()
    assert [line.split(": ")[1].split("   (")[0] for line in lines] == list(NAMES)
    assert all(f"{name} " in line and line.count("%") == 3 for line in lines for name in NAMES)
    assert printed.err == ""


def test_a_picture_unlike_those_of_the_training_gets_a_warning(run, tmp_path, capsys):
    Image.new("L", (30, 30), 255).save(tmp_path / "white.png")
    assert (
        main(["predict", str(run / "run" / "model.safetensors"), str(tmp_path / "white.png")]) == 0
    )
    assert "white.png: values from 1 to 1, but the net was trained on" in capsys.readouterr().err


def test_a_run_is_resumed_from_another_folder(run, tmp_path, monkeypatch, capsys):
    monkeypatch.chdir(run)
    folder = tmp_path / "run"
    settings = ["--size", "8", "--channels", "1", "--epochs", "1", "--out", str(folder)]
    assert main(["train", "--data", "photos", *settings]) == 0
    monkeypatch.chdir(tmp_path)
    assert main(["train", "--resume", str(folder), "--epochs", "2"]) == 0
    assert tc.load(folder / "model.safetensors").input_shape == (1, 8, 8)
    assert json.loads((folder / "run.json").read_text())["data"] == str(run / "photos")
    capsys.readouterr()
    with pytest.raises(SystemExit):
        main(["train", "--resume", str(folder), "--size", "9"])
    assert "--size cannot be changed on --resume" in capsys.readouterr().err


@pytest.mark.parametrize("verb", ["mistakes", "confusion", "features"])
def test_pictures_name_the_classes(verb, run, tmp_path, capsys, monkeypatch):
    drawn = {}
    write = "tinyconv.plots.{}".format(
        {"mistakes": "mistakes", "confusion": "confusion_matrix", "features": "feature_maps"}[verb]
    )
    module, _, name = write.rpartition(".")
    real = getattr(__import__(module, fromlist=[name]), name)
    monkeypatch.setattr(write, lambda *a, **k: drawn.setdefault("figure", real(*a, **k)))
    net = tc.models.nielsen_fully_connected(input_shape=(3, 10, 8), classes=3, seed=1)
    if verb == "features":
        net = tc.Sequential([tc.Conv2d(3, 2, 3), tc.Flatten()], input_shape=(3, 10, 8))
    net.class_names = NAMES
    net.save(tmp_path / "net.safetensors")
    arguments = ["--data", str(run / "photos"), "-o", str(tmp_path / "out.png")]
    assert main(["plot", verb, str(tmp_path / "net.safetensors"), *arguments]) == 0
    assert (tmp_path / "out.png").stat().st_size > 1000
    texts = [text.get_text() for text in drawn["figure"].findobj(lambda a: hasattr(a, "get_text"))]
    if verb != "features":
        assert any(NAMES[1] in text for text in texts)


def test_models_and_data_that_do_not_fit(run, tmp_path, capsys):
    model = str(run / "run" / "model.safetensors")
    other = pictures(tmp_path / "other", count=12, names=("left", "bottom"))
    for arguments, message in (
        (["--data", str(other)], "knows no class bottom; it knows left, right $a$, top"),
        (["--data", str(run / "photos"), "--size", "9"], "samples of shape (3, 9, 9), but"),
        ([], f"(1, 28, 28), but {model} takes (3, 10, 8): name such data by --data"),
    ):
        assert main(["plot", "confusion", model, *arguments, "-o", str(tmp_path / "o.png")]) == 1
        assert message in capsys.readouterr().err
    fewer = pictures(tmp_path / "fewer", count=12, names=("top", "left"))
    assert (
        main(["plot", "confusion", model, "--data", str(fewer), "-o", str(tmp_path / "o.png")]) == 0
    )


def test_classes_in_another_order_keep_their_numbers(run, tmp_path):
    """Folders sort as their names do; the model's order is what counts."""
    import argparse

    from tinyconv.cli.data import load_for

    net = tc.load(run / "run" / "model.safetensors")
    options = dict.fromkeys(("size", "channels", "shape", "label", "task"))
    options["data"] = str(pictures(tmp_path / "fewer", count=12, names=("top", "left")))
    data = load_for(net, tmp_path, argparse.Namespace(**options))
    assert data.class_names == NAMES
    assert set(data.train.y.tolist()) == {0, 2}


def test_tables_arrays_and_many_classes(tmp_path, capsys):
    rng = np.random.default_rng(0)
    x, y = rng.integers(0, 256, (120, 1, 6, 6)).astype(np.uint8), np.arange(120) % 12
    np.savez(tmp_path / "d.npz", x=x, y=y)
    rows = "\n".join(",".join(map(str, [*v, f"kind {k}"])) for v, k in zip(
        x.reshape(120, 36) / 255, y, strict=True))  # fmt: skip
    (tmp_path / "d.csv").write_text(",".join(f"c{n}" for n in range(36)) + ",species\n" + rows)
    as_image = ["--shape", "1x6x6", "--label", "species"]
    for name, more, shape in (
        ("d.npz", [], (1, 6, 6)), ("d.csv", [], (36,)), ("d.csv", as_image, (1, 6, 6))
    ):  # fmt: skip
        out = tmp_path / f"{name}{len(more)}"
        arguments = ["--data", str(tmp_path / name), "--epochs", "1", "--out", str(out), *more]
        assert main(["train", *arguments]) == 0
        net = tc.load(out / "model.safetensors")
        assert net.input_shape == shape
        assert net.class_names is not None
        assert len(net.class_names) == 12
    Image.fromarray(x[0, 0]).save(tmp_path / "x.png")
    capsys.readouterr()
    assert (
        main(["predict", str(tmp_path / "d.npz0" / "model.safetensors"), str(tmp_path / "x.png")])
        == 0
    )
    assert capsys.readouterr().out.count("%") == 10  # of 12 classes the most likely ones
    assert (
        main(["predict", str(tmp_path / "d.csv0" / "model.safetensors"), str(tmp_path / "x.png")])
        == 1
    )
    assert "input of shape (36,), which is no picture" in capsys.readouterr().err


def test_numbers_to_be_predicted(tmp_path, capsys):
    rng = np.random.default_rng(0)
    x = rng.random((80, 3))
    rows = "\n".join(",".join(map(str, (*v, v @ [1, -1, 0.5]))) for v in x)
    (tmp_path / "d.csv").write_text("a,b,c,y\n" + rows)
    data = ["--data", str(tmp_path / "d.csv")]
    assert main(["train", *data, "--epochs", "20", "--out", str(tmp_path / "run")]) == 0
    out = capsys.readouterr().out
    assert "\ntargets from -" in out
    error = float(out.partition("test mean absolute error ")[2].split()[0])
    net = tc.load(tmp_path / "run" / "model.safetensors")
    assert (net.loss.__class__, net.class_names, net.input_shape) == (tc.MSELoss, None, (3,))
    test = tc.data.load(tmp_path / "d.csv").test
    assert error == pytest.approx(np.abs(net.predict(test.x) - test.y).mean(), rel=1e-3)
    assert error < 0.5 * np.abs(test.y - test.y.mean()).mean()
    assert main(["train", "--resume", str(tmp_path / "run"), "--epochs", "21"]) == 0
    model = str(tmp_path / "run" / "model.safetensors")
    assert main(["plot", "confusion", model, *data, "-o", str(tmp_path / "o.png")]) == 1
    assert "d.csv: its labels are numbers, expected classes" in capsys.readouterr().err


def test_data_that_are_none(tmp_path, capsys):
    for arguments in (["--data", str(tmp_path / "no")], ["--size", "a"], ["--channels", "2"]):
        with pytest.raises(SystemExit) as exit_:
            main(["train", *arguments])
        assert exit_.value.code == 2
    assert main(["train", "--data", str(tmp_path), "--out", str(tmp_path / "run")]) == 1
    assert "holds neither IDX files nor a folder" in capsys.readouterr().err.splitlines()[-1]
    assert not (tmp_path / "run").exists()
