"""Networks written as ONNX: what ONNX Runtime makes of them, and what comes back."""

from pathlib import Path

import numpy as np
import pytest

import tinyconv as tc
from tinyconv.cli import main
from tinyconv.errors import FileError, StateError
from tinyconv.interop import onnx as tonnx
from tinyconv.models import NETS

from .onnx_cases import CASES, network, random_network, runtime_outputs

pytestmark = pytest.mark.oracle


def check_round_trip(net: tc.Sequential, path: Path, samples: int = 3) -> tc.Sequential:
    """ONNX Runtime gives what the network gives; the network that comes back, the same bits."""
    assert net.input_shape is not None
    rng = np.random.default_rng(0)
    x = rng.normal(size=(samples, *net.input_shape)).astype(net.dtype)
    tonnx.export(net, path)
    expected = net.forward(x)
    found = runtime_outputs(path, x)
    scale = np.abs(expected).max() + 1e-9
    assert np.abs(found["logits"] - expected).max() <= 1e-5 * scale
    if "probabilities" in found and expected.ndim == 2:
        own = net.loss.probabilities(found["logits"])
        np.testing.assert_allclose(found["probabilities"], own, rtol=1e-5, atol=1e-7)
    back = tonnx.import_(path)
    assert back.dtype == net.dtype
    np.testing.assert_array_equal(back.forward(x), expected)
    return back


@pytest.mark.parametrize("name", CASES)
def test_every_layer(name: str, tmp_path: Path) -> None:
    shape, layers = CASES[name]
    check_round_trip(network(layers(), shape, seed=3), tmp_path / "net.onnx")


@pytest.mark.parametrize("name", ["max", "batch norm", "linear", "Tanh()"])
def test_float64(name: str, tmp_path: Path) -> None:
    shape, layers = CASES[name]
    check_round_trip(network(layers(), shape, seed=3, dtype="float64"), tmp_path / "net.onnx")


@pytest.mark.parametrize("seed", range(40))
def test_random_networks(seed: int, tmp_path: Path) -> None:
    check_round_trip(random_network(seed), tmp_path / "net.onnx")


@pytest.mark.slow
@pytest.mark.parametrize("seed", range(1000, 2000))
def test_many_random_networks(seed: int, tmp_path: Path) -> None:
    check_round_trip(random_network(seed), tmp_path / "net.onnx")


@pytest.mark.parametrize("name", [*NETS, "resnet20", "mnist1d_cnn", "network_in_network"])
def test_named_networks(name: str, tmp_path: Path) -> None:
    net = (NETS[name].build if name in NETS else getattr(tc.models, name))(seed=1)
    back = check_round_trip(net, tmp_path / "net.onnx", samples=2)
    assert list(back.state_dict()) == list(net.state_dict())


def test_a_network_that_came_back_trains_on(tmp_path: Path) -> None:
    (x, y), *_ = tc.data.load()
    net = NETS["nielsen-conv"].build(seed=0)
    net.fit(x[:200], y[:200], verbose=False)
    tonnx.export(net, tmp_path / "net.onnx")
    back = tonnx.import_(tmp_path / "net.onnx")
    before = back.evaluate(x[:200], y[:200])["loss"]
    back.fit(x[:200], y[:200], epochs=2, verbose=False)
    assert back.evaluate(x[:200], y[:200])["loss"] < before


def test_names_of_classes_and_metadata_travel(tmp_path: Path) -> None:
    onnx = pytest.importorskip("onnx")
    path = tmp_path / "net.onnx"
    net = tc.Sequential([tc.Linear(4, 2)])
    net.build((4,))
    net.class_names = ["cat", "dog"]
    tonnx.export(net, path, metadata={"scale": "1/255"})
    about = {item.key: item.value for item in onnx.load(path).metadata_props}
    assert about["class_names"] == '["cat", "dog"]'
    assert about["scale"] == "1/255"
    assert tonnx.import_(path).class_names == ("cat", "dog")


def test_what_onnx_cannot_say_is_named_all_at_once_and_nothing_is_written(tmp_path: Path) -> None:
    path = tmp_path / "net.onnx"
    net = tc.Sequential(
        [
            tc.LPPool2d(2.5, 2),
            tc.LocalResponseNorm(4),
            tc.Residual([tc.BatchNorm2d(1, track_running_stats=False)]),
        ],
        input_shape=(1, 4, 4),
    )
    with pytest.raises(FileError, match=r"norm_type is 2\.5.*size is 4.*statistics of the batch"):
        tonnx.export(net, path)
    assert list(tmp_path.iterdir()) == []


def test_a_layer_without_an_exporter_is_named_and_can_get_one(tmp_path: Path) -> None:
    class Twice(tc.Identity):
        def compute(self, x, training, step):  # type: ignore[no-untyped-def]
            return x + x, None

    path = tmp_path / "net.onnx"
    net = tc.Sequential([tc.ReLU(), tc.Residual([Twice()])], input_shape=(3,))
    with pytest.raises(FileError, match=r"no exporter for layer 1\.body\.0 \(Twice\)"):
        tonnx.export(net, path)
    tonnx.exports(Twice)(lambda graph, layer, x, shape: graph.node("Add", x, x))
    tonnx.export(net, path)
    x = np.array([[-1.0, 2.0, 3.0]], np.float32)
    np.testing.assert_array_equal(runtime_outputs(path, x)["logits"], net.forward(x))


def test_the_input_shape_must_be_known(tmp_path: Path) -> None:
    with pytest.raises(StateError, match="input shape is not known"):
        tonnx.export(tc.Sequential([tc.ReLU()]), tmp_path / "net.onnx")


def test_a_target_that_cannot_be_written(tmp_path: Path) -> None:
    net = tc.Sequential([tc.ReLU()], input_shape=(3,))
    with pytest.raises(FileError, match="there is no folder"):
        tonnx.export(net, tmp_path / "no" / "net.onnx")


def test_on_the_command_line(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    model, out = tmp_path / "model.safetensors", tmp_path / "net.onnx"
    NETS["nielsen-conv"].build(seed=0).save(model)
    assert main(["export", str(model), str(out)]) == 0
    assert capsys.readouterr().out == f"{out}: 289,630 parameters\n"
    digit = tmp_path / "seven.png"
    plt = pytest.importorskip("matplotlib.pyplot")
    plt.imsave(digit, np.eye(28), cmap="gray")
    assert main(["predict", str(model), str(digit)]) == 0
    own = capsys.readouterr().out
    assert main(["predict", str(out), str(digit)]) == 0
    assert capsys.readouterr().out == own
    assert main(["export", str(model), str(tmp_path / "net.pb")]) == 1
    assert "does not end in .onnx" in capsys.readouterr().err


@pytest.mark.parametrize(
    ("loss", "operator"),
    [
        (tc.CrossEntropyLoss(label_smoothing=0.1), "Softmax"),
        (tc.BCEWithLogitsLoss(), "Sigmoid"),
        (tc.Quadratic(), "Sigmoid"),
        (tc.MSELoss(), None),
    ],
)
def test_the_loss_travels_and_gives_the_probabilities(
    loss: tc.losses.Loss, operator: str | None, tmp_path: Path
) -> None:
    net = tc.Sequential([tc.Linear(4, 3)], input_shape=(4,))
    net.loss = loss
    back = check_round_trip(net, tmp_path / "net.onnx")
    assert repr(back.loss) == repr(loss)
    found = runtime_outputs(tmp_path / "net.onnx", np.ones((1, 4), np.float32))
    assert ("probabilities" in found) == (operator is not None)


@pytest.mark.parametrize("join", ["concat", "add"])
def test_a_container_of_one_branch(join: str, tmp_path: Path) -> None:
    layers = (
        tc.Parallel([[tc.Conv2d(1, 2, 3), tc.Tanh()]], join),
        tc.Flatten(),
        tc.Linear(None, 2),
    )
    check_round_trip(tc.Sequential(*layers, input_shape=(1, 5, 5)), tmp_path / "net.onnx")


def test_images_of_another_size(tmp_path: Path) -> None:
    """The file is for the size that the network is built for last; so is the summary."""
    layers = (tc.Conv2d(1, 4, 3), tc.GlobalAvgPool(), tc.Flatten(), tc.Linear(4, 3))
    net = tc.Sequential(*layers, input_shape=(1, 8, 8))
    weights = net.state_dict()
    net.build((1, 13, 11))
    assert "4x11x9" in net.summary()
    back = check_round_trip(net, tmp_path / "net.onnx")
    assert back.input_shape == (1, 13, 11)
    for name, array in weights.items():
        np.testing.assert_array_equal(net.state_dict()[name], array)


def test_plots_of_an_onnx_file(tmp_path: Path) -> None:
    pytest.importorskip("matplotlib")
    net = tc.Sequential(
        tc.Conv2d(1, 2, 3), tc.Flatten(), tc.Linear(None, 10), input_shape=(1, 28, 28)
    )
    tonnx.export(net, tmp_path / "net.onnx")
    out = tmp_path / "out.png"
    for verb in ("filters", "features", "confusion"):
        assert main(["plot", verb, str(tmp_path / "net.onnx"), "-o", str(out)]) == 0
        out.unlink()
