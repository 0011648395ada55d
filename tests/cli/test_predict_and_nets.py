"""``tinyconv predict`` reads digits from pictures; ``tinyconv nets`` lists the networks."""

import numpy as np
import pytest
from PIL import Image

import tinyconv as tc
from tinyconv.cli import main
from tinyconv.testing.examples import layer_names, op_names


@pytest.fixture(scope="module")
def model(tmp_path_factory):
    """A network trained for a moment: good enough to read clear digits."""
    path = tmp_path_factory.mktemp("model") / "model.safetensors"
    net = tc.models.nielsen_conv_softmax(seed=1)
    x, y = tc.data.load().train
    net.fit(x, y, epochs=3, batch_size=10, optimizer=tc.SGD(lr=0.1), verbose=False)
    net.save(path)
    return path


def test_predict_reads_pictures_of_any_size_and_polarity(model, tmp_path, capsys):
    (x, y), net = tc.data.load().test, tc.load(model)
    sure = np.flatnonzero(net.predict_proba(x).max(axis=1) > 0.999)
    clear = [i for i in sure if net.predict(x[i : i + 1])[0] == y[i]][:4]
    paths = []
    for number, i in enumerate(clear):
        pixels = np.round(x[i, 0] * 255).astype(np.uint8)
        pixels = pixels if number % 2 else 255 - pixels
        suffix = ("png", "jpg")[number // 2]
        path = tmp_path / f"{number}.{suffix}"
        Image.fromarray(pixels).resize((112 + 40 * number,) * 2, Image.Resampling.BICUBIC).save(
            path
        )
        paths.append(str(path))
    assert main(["predict", str(model), *paths]) == 0
    lines = capsys.readouterr().out.splitlines()
    assert [line.split(": ")[1].split()[0] for line in lines] == [str(y[i]) for i in clear]
    assert all(line.count("%") == 10 for line in lines)


def test_predict_refuses_what_is_no_picture_or_no_model(model, tmp_path, capsys):
    text = tmp_path / "text.png"
    text.write_text("no picture")
    for arguments in ([str(model), str(text)], [str(text), str(text)], ["missing", str(text)]):
        assert main(["predict", *arguments]) == 1
        printed = capsys.readouterr()
        assert printed.err.startswith("tinyconv: ")
        assert len(printed.err.splitlines()) == 1
        assert printed.out == ""


def test_predict_refuses_a_model_of_other_images(tmp_path, capsys):
    tc.Sequential([tc.Linear(4, 3)], input_shape=(4,)).save(tmp_path / "small.safetensors")
    assert main(["predict", str(tmp_path / "small.safetensors"), "x.png"]) == 1
    assert "input of shape (4,), which is no picture" in capsys.readouterr().err


def test_nets_lists_every_net_with_its_parameters(capsys):
    assert main(["nets"]) == 0
    printed = capsys.readouterr().out
    for name, named in tc.models.NETS.items():
        assert name in printed
        assert f"{named.build().parameters.flat.size:,}" in printed


def test_gradcheck_lists_every_operation_and_layer(capsys, monkeypatch):
    """A share of them: tests/test_testing.py checks all."""
    some_ops, some_layers = op_names()[::6], layer_names()[::6]
    monkeypatch.setattr("tinyconv.testing.checks.op_names", lambda: some_ops)
    monkeypatch.setattr("tinyconv.testing.checks.layer_names", lambda: some_layers)
    assert main(["gradcheck", "--seed", "1"]) == 0
    lines = capsys.readouterr().out.splitlines()
    verdicts = dict(line.split()[:2] for line in lines[1:])
    names = {f"ops.{name}" for name in some_ops} | {f"layers.{name}" for name in some_layers}
    assert verdicts == dict.fromkeys(names, "ok")


def test_gradcheck_fails_where_a_gradient_is_wrong(capsys, monkeypatch):
    from tinyconv import ops

    monkeypatch.setattr(ops, "tanh_backward", lambda dy, y: -dy * (1 - y * y))
    monkeypatch.setattr("tinyconv.testing.checks.op_names", lambda: ["relu", "tanh"])
    monkeypatch.setattr("tinyconv.testing.checks.layer_names", list)
    assert main(["gradcheck"]) == 1
    assert "ops.tanh" in capsys.readouterr().out


def test_version_and_help(capsys):
    for arguments in (["--version"], ["--help"], ["train", "--help"], ["predict", "--help"]):
        with pytest.raises(SystemExit) as exit_:
            main(arguments)
        assert exit_.value.code == 0
        assert "tinyconv" in capsys.readouterr().out


def test_predict_of_labels_of_which_several_may_be_there(tmp_path, capsys):
    picture = tmp_path / "grey.png"
    Image.fromarray(np.full((8, 8), 51, np.uint8)).save(picture)
    net = tc.Sequential(tc.Flatten(), tc.Linear(64, 2), input_shape=(1, 8, 8))
    net.loss, net.class_names = "bce_with_logits", ("cat", "dog")
    net.save(tmp_path / "labels")
    assert main(["predict", str(tmp_path / "labels"), str(picture)]) == 0
    cat, dog = net.predict_proba(np.full((1, 1, 8, 8), 0.2, np.float32))[0]
    assert capsys.readouterr().out == f"{picture}: cat {cat:.1%}  dog {dog:.1%}\n"


def test_predict_of_numbers_and_of_pixels(tmp_path, capsys):
    picture = tmp_path / "grey.png"
    Image.fromarray(np.full((8, 8), 51, np.uint8)).save(picture)
    net = tc.Sequential(tc.Flatten(), tc.Linear(64, 2), input_shape=(1, 8, 8))
    net.loss = "mse"
    net.save(tmp_path / "numbers")
    assert main(["predict", str(tmp_path / "numbers"), str(picture)]) == 0
    values = capsys.readouterr().out.removeprefix(f"{picture}: ").split()
    expected = net.predict(np.full((1, 1, 8, 8), 0.2, np.float32))[0]
    np.testing.assert_allclose([float(value) for value in values], expected, rtol=1e-5)
    tc.Sequential(tc.Conv2d(1, 3, 1), input_shape=(1, 8, 8)).save(tmp_path / "pixels")
    assert main(["predict", str(tmp_path / "pixels"), str(picture)]) == 1
    message = f"tinyconv: {tmp_path}/pixels: gives classes of pixels, expected one an image\n"
    assert capsys.readouterr().err == message
