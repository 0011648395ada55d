"""Sequential as its user sees it: gradients, asking, files, and what it refuses."""

import copy
import json
import pickle
import re
import struct
import subprocess
import sys
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from contextlib import suppress
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from safetensors.numpy import save_file

import tinyconv as tc
from tinyconv import files
from tinyconv.errors import (
    ArgumentError,
    DeviceError,
    DtypeError,
    FileError,
    ShapeError,
    StateError,
)
from tinyconv.layers import Chain, Layer

IMAGE = (1, 8, 8)

NETS: dict[str, tuple[Callable[[], list[Layer]], tuple[int, ...]]] = {
    "conv-conv-relu": (
        lambda: [
            tc.Conv2d(1, 3, 3),
            tc.MaxPool2d(2),
            tc.ReLU(),
            tc.Conv2d(3, 4, 2),
            tc.ReLU(),
            tc.Flatten(),
            tc.Linear(None, 6),
            tc.ReLU(),
            tc.Linear(6, 4),
        ],
        IMAGE,
    ),
    "sigmoid-l2": (
        lambda: [
            tc.Conv2d(None, 3, 3, 2, 1, bias_init="normal"),
            tc.L2Pool2d(2),
            tc.Sigmoid(),
            tc.Flatten(),
            tc.Linear(None, 4, weight_init="inverse_sqrt", bias_init="normal"),
        ],
        IMAGE,
    ),
    "tanh-average": (
        lambda: [
            tc.Conv2d(2, 4, (3, 2), padding=(1, 2), groups=2, weight_init="glorot"),
            tc.AvgPool2d(3, 2, 1),
            tc.Tanh(),
            Chain([tc.Conv2d(4, 2, 2, dilation=2, bias=False), tc.Sigmoid()]),
            tc.Flatten(),
            tc.Dropout(0.5),
            tc.Linear(None, 4, bias=False),
        ],
        (2, 6, 7),
    ),
    "perceptron": (lambda: [tc.Linear(7, 5), tc.Tanh(), tc.Linear(5, 4)], (7,)),
}


def make(name: str, seed: int = 3, **options: Any) -> tc.Sequential:
    layers, shape = NETS[name]
    return tc.Sequential(layers(), seed=seed, input_shape=shape, **options)


def batch(name: str, n: int = 5, dtype: str = "float64") -> tuple[np.ndarray, np.ndarray]:
    rng = np.random.default_rng(0)
    return rng.normal(size=(n, *NETS[name][1])).astype(dtype), rng.integers(0, 4, n)


EVERY_NET = pytest.mark.parametrize("name", NETS)


# Gradients.


@EVERY_NET
def test_gradients_against_numeric_derivatives(name: str) -> None:
    net = make(name, dtype="float64")
    x, y = batch(name)
    net.parameters.flat_grad[...] = np.nan
    loss, grads = net.loss_and_grads(x, y)
    assert loss == pytest.approx(net.evaluate(x, y)["loss"], rel=1e-14)
    assert {n: g.shape for n, g in grads.items()} == {
        n: w.shape for n, w in net.state_dict().items()
    }
    rng = np.random.default_rng(1)
    for parameter, w in net.parameters.values.items():
        for place in rng.choice(w.size, min(w.size, 12), replace=False):
            where = np.unravel_index(place, w.shape)
            kept = w[where]
            losses = []
            for h in (1e-5, -1e-5):
                w[where] = kept + h
                losses.append(net.evaluate(x, y)["loss"])
            w[where] = kept
            slope = (losses[0] - losses[1]) / 2e-5
            assert grads[parameter][where] == pytest.approx(slope, rel=1e-6, abs=1e-9), parameter


@EVERY_NET
def test_the_gradient_of_the_input_with_dropout_on(name: str) -> None:
    net = make(name, dtype="float64")
    x, _ = batch(name)
    rng = np.random.default_rng(2)
    dy = rng.normal(size=net.forward(x, training=True, step=4).shape)
    dx = net.backward(dy)
    assert dx.shape == x.shape
    assert net.dx is dx
    for _ in range(10):
        where = tuple(int(rng.integers(n)) for n in x.shape)
        values = []
        for h in (1e-5, -1e-5):
            moved = x.copy()
            moved[where] += h
            values.append((net.forward(moved, training=True, step=4) * dy).sum())
        assert dx[where] == pytest.approx((values[0] - values[1]) / 2e-5, rel=1e-6, abs=1e-9)


def test_loss_and_grads_returns_copies_and_leaves_dropout_off() -> None:
    net = make("tanh-average", dtype="float64")
    x, y = batch("tanh-average")
    loss, grads = net.loss_and_grads(x, y)
    again, other = net.loss_and_grads(x * 2, y)
    assert loss != again
    for name, grad in grads.items():
        assert not np.shares_memory(grad, net.parameters.flat_grad)
        assert (grad != other[name]).any()
    assert net.loss_and_grads(x, y)[0] == loss


def test_every_layer_keeps_its_last_pass() -> None:
    net = make("conv-conv-relu", dtype="float64")
    x, y = batch("conv-conv-relu")
    _, grads = net.loss_and_grads(x, y)
    for before, after in zip(net.layers, net.layers[1:], strict=False):
        assert after.x is before.y
        assert before.dy is after.dx
    assert net.layers[0].x is x
    np.testing.assert_array_equal(net.layers[0].grads["weight"], grads["0.weight"])


# Asking.


@EVERY_NET
def test_answers_do_not_depend_on_the_batches(name: str) -> None:
    net = make(name, dtype="float64")
    x, y = batch(name, 11)
    logits = net.logits(x)
    np.testing.assert_allclose(net.logits(x, batch_size=3), logits, rtol=1e-12)
    np.testing.assert_array_equal(net.predict(x, batch_size=4), logits.argmax(axis=1))
    assert net.predict(x).dtype == np.int64
    p = net.predict_proba(x)
    np.testing.assert_allclose(p.sum(axis=1), 1, rtol=1e-12)
    np.testing.assert_array_equal(p.argmax(axis=1), net.predict(x))
    figures = net.evaluate(x, y, metrics=["accuracy", "top_2"], batch_size=4)
    assert list(figures) == ["loss", "accuracy", "top_2"]
    assert figures["loss"] == pytest.approx(-np.log(p[np.arange(11), y]).mean(), rel=1e-12)
    assert figures["accuracy"] == (net.predict(x) == y).mean()
    ranks = (p > p[np.arange(11), y][:, None]).sum(axis=1)
    assert figures["top_2"] == (ranks < 2).mean()


def test_top_k_by_hand() -> None:
    net = tc.Sequential([tc.Linear(3, 3, bias=False)], dtype="float64")
    net.load_state_dict({"0.weight": np.eye(3)})
    x = np.array([[3.0, 2, 1], [3, 1, 2], [1, 2, 3], [1, 3, 2]])
    y = np.array([0, 1, 1, 0])
    figures = net.evaluate(x, y, metrics=["top_1", "top_2", "top_3"])
    assert [figures[f"top_{k}"] for k in (1, 2, 3)] == [0.25, 0.5, 1.0]
    with pytest.raises(ArgumentError, match="evaluate: the metric 'top_4' makes no sense: the net"):
        net.evaluate(x, y, metrics=["top_4"])
    with pytest.raises(ArgumentError, match="evaluate: metric 'top_0', expected 'accuracy', 'mae'"):
        net.evaluate(x, y, metrics=["top_0"])


def test_samples_of_another_precision_are_converted() -> None:
    net = make("perceptron")
    x, y = batch("perceptron")
    assert net.logits(x).dtype == np.float32
    np.testing.assert_array_equal(net.logits(x), net.logits(x.astype(np.float32)))
    assert net.evaluate(x, y) == net.evaluate(x.astype(np.float32), y)
    with pytest.raises(DtypeError, match="w has dtype float32, expected float64 like x"):
        net.forward(x)  # one pass for teaching converts nothing


def test_no_samples_no_answers() -> None:
    net = make("conv-conv-relu")
    none = np.zeros((0, *IMAGE), np.float32)
    assert net.predict(none).shape == (0,)
    assert net.predict(none).dtype == np.int64
    assert net.predict_proba(none).shape == (0, 4)
    with pytest.raises(ArgumentError, match="evaluate: no samples, expected at least one"):
        net.evaluate(none, np.zeros(0, int))


@pytest.mark.parametrize("dtype", ["float32", "float64"])
def test_threads_may_ask_one_network(dtype: str) -> None:
    net = make("conv-conv-relu", dtype=dtype)
    rng = np.random.default_rng(0)
    inputs = [rng.normal(size=(3, *IMAGE)).astype(dtype) for _ in range(200)]
    expected = [net.logits(x) for x in inputs]
    with ThreadPoolExecutor(8) as pool:
        answers = list(pool.map(net.logits, inputs))
    for answer, alone in zip(answers, expected, strict=True):
        np.testing.assert_array_equal(answer, alone)


# Making.


def test_sizes_follow_from_the_input_shape_or_the_first_batch() -> None:
    def layers() -> list[Layer]:
        return [tc.Conv2d(None, 3, 3), tc.Flatten(), tc.Linear(None, 4)]

    told = tc.Sequential(layers(), input_shape=IMAGE)
    seen = tc.Sequential(layers())
    for premature in (lambda: seen.parameters, seen.state_dict, lambda: seen.save("x")):
        with pytest.raises(StateError, match="the parameters do not exist yet, because a layer"):
            premature()
    seen.forward(np.zeros((2, *IMAGE), np.float32))
    assert seen.input_shape == IMAGE
    for name, w in told.state_dict().items():
        np.testing.assert_array_equal(seen.state_dict()[name], w)


@pytest.mark.parametrize("shape", [[7], (7,), 7])
def test_an_input_shape_may_be_a_list_or_one_number(shape: Any) -> None:
    net = tc.Sequential([tc.Linear(None, 3)])
    net.build(shape)
    assert net.input_shape == (7,)
    assert net.predict(np.zeros((2, 7), np.float32)).tolist() == [0, 0]


def test_equal_seeds_give_equal_networks() -> None:
    one, same, other = make("perceptron", 1), make("perceptron", 1), make("perceptron", 2)
    assert (one.parameters.flat == same.parameters.flat).all()
    assert (one.parameters.values["0.weight"] != other.parameters.values["0.weight"]).any()


def test_summary_of_the_books_net() -> None:
    net = tc.Sequential(
        [
            tc.Conv2d(1, 20, 5),
            tc.MaxPool2d(2),
            tc.ReLU(),
            tc.Conv2d(20, 40, 5),
            tc.MaxPool2d(2),
            tc.ReLU(),
            tc.Flatten(),
            tc.Linear(640, 100),
            tc.ReLU(),
            tc.Linear(100, 10),
        ]
    )
    assert "?" in str(net)  # shapes are not known yet
    net.build((1, 28, 28))
    expected = """
           layer      output    parameters  multiply-adds
        0  Conv2d     20x24x24         520        288,000
        1  MaxPool2d  20x12x12           0              0
        2  ReLU       20x12x12           0              0
        3  Conv2d     40x8x8        20,040      1,280,000
        4  MaxPool2d  40x4x4             0              0
        5  ReLU       40x4x4             0              0
        6  Flatten    640                0              0
        7  Linear     100           64,100         64,000
        8  ReLU       100                0              0
        9  Linear     10             1,010          1,000
           total                    85,670      1,633,000"""
    assert [line[8:] for line in expected.split("\n")[1:]] == str(net).split("\n")
    assert net.parameters.flat.size == 85670


@pytest.mark.parametrize(
    ("layers", "options", "error", "message"),
    [
        ([], {}, ArgumentError, "Sequential: no layers, expected at least one"),
        (["relu"], {}, ArgumentError, "Sequential: element 0 is 'relu', expected a layer"),
        ([tc.ReLU], {}, ArgumentError, "Sequential: element 0 is the class ReLU, expected a layer"),
        ([tc.ReLU()] * 2, {}, ShapeError, "same layer object stands in two places"),
        (
            [tc.Sequential([tc.ReLU()])],
            {},
            ArgumentError,
            "a layer is a Sequential, which owns its parameters",
        ),
        ([tc.ReLU()], {"dtype": "float16"}, DtypeError, "dtype is 'float16', expected 'float32'"),
        ([tc.ReLU()], {"dtype": None}, DtypeError, "dtype is None, expected 'float32'"),
        ([tc.ReLU()], {"input_shape": (0,)}, ShapeError, r"input_shape is \(0,\), expected in"),
        ([tc.ReLU()], {"input_shape": (None, 2)}, ShapeError, r"input_shape is \(None, 2\)"),
        (
            [tc.ReLU(), tc.Linear(3, 2)],
            {"input_shape": (4,)},
            ShapeError,
            r"layer 1: Linear: input of shape \(4,\), expected \(3,\)",
        ),
        (
            [tc.Conv2d(1, 2, 3), tc.Linear(None, 2)],
            {"input_shape": IMAGE},
            ShapeError,
            r"layer 1: Linear: input of shape \(2, 6, 6\), expected \(I,\)",
        ),
    ],
)
def test_networks_that_cannot_be(
    layers: list[Any], options: dict[str, Any], error: type[Exception], message: str
) -> None:
    with pytest.raises(error, match=message):
        tc.Sequential(layers, **options)


# What answers are refused.


X, Y = np.zeros((3, 7), np.float32), np.array([0, 1, 2])


@pytest.mark.parametrize(
    ("x", "y", "error", "message"),
    [
        (X, Y[:2], ShapeError, r"y has shape \(2,\), expected 3 samples as x has"),
        (X, np.eye(3), ShapeError, r"y has shape \(3, 3\), expected \(3,\)"),
        (np.float32(1), Y, ShapeError, r"x has shape \(\), expected \(N, \.\.\.\)"),
        (X, Y.astype(float), DtypeError, "y has dtype float64, expected integer class indices"),
        (X, Y > 0, DtypeError, "y has dtype bool, expected integer class indices"),
        (X, Y + 2, ArgumentError, "y runs from 2 to 4, expected 0 to 3 because the network has 4"),
        (X, Y - 1, ArgumentError, "y runs from -1 to 1, expected 0 to 3"),
        (X, 5, DeviceError, "y is a int, expected an array"),
        (X, [[0], [1, 2], [0]], DeviceError, "y cannot become a NumPy array"),
        (None, Y, DeviceError, "x is a NoneType, expected an array"),
        (X.astype(np.uint8), Y, DtypeError, r"x has dtype uint8, .*; pass x / 255"),
        (X.astype(complex), Y, DtypeError, "x has dtype complex128, expected a floating-point"),
        (X[:, :6], Y, ShapeError, r"layer 0: .*|x has shape \(3, 6\), expected \(N, 7\)"),
    ],
)
def test_samples_and_labels_that_do_not_fit(
    x: Any, y: Any, error: type[Exception], message: str
) -> None:
    net = make("perceptron")
    with pytest.raises(error, match=f"^evaluate: .*{message}"):
        net.evaluate(x, y)
    with pytest.raises(error, match=f"^fit: .*{message}"):
        net.fit(x, y, verbose=False)
    with pytest.raises(error, match=f"^fit: validation_data: .*{message}"):
        net.fit(X, Y, validation_data=(x, y), verbose=False)
    assert net.position.step == 0


@pytest.mark.parametrize("dy", [None, 1.5, [[1.0] * 4], "dy"])
def test_what_is_no_gradient_is_refused(dy: Any) -> None:
    net = make("perceptron")
    net.forward(X)
    with pytest.raises(DeviceError, match=r"backward: dy is a .*, expected an array"):
        net.backward(dy)


def test_arrays_in_place_of_options_are_refused(tmp_path: Path) -> None:
    net, several = make("perceptron"), np.ones(2)
    with pytest.raises(ArgumentError, match="start_training: optimizer is an array of shape"):
        net.start_training(optimizer=several)  # type: ignore[arg-type]
    with pytest.raises(ArgumentError, match="load_state_dict: strict is an array of shape"):
        net.load_state_dict(net.state_dict(), strict=several)  # type: ignore[arg-type]
    with pytest.raises(DeviceError, match="device is "):
        tc.Sequential(tc.Linear(2, 2), device=several)
    for layer in (tc.MaxPool2d, tc.AvgPool1d, tc.L2Pool2d):
        with pytest.raises(ShapeError, match="padding is an array of shape"):
            layer(2, padding=several)
    (tmp_path / "file").touch()
    with pytest.raises(FileError, match="file/run: is in a file, expected a folder"):
        net.fit(X, Y, checkpoint=tmp_path / "file" / "run", verbose=False)


@pytest.mark.parametrize("x", [None, 1.5, [[1.0] * 7], "x", np.ones])
def test_what_is_no_array_is_refused_by_a_network_that_was_built(x: Any) -> None:
    net = make("perceptron")
    net.forward(X)
    with pytest.raises(DeviceError, match=r"Sequential: x is a .*, expected an array"):
        net.forward(x)


@pytest.mark.parametrize(
    ("x", "error", "message"),
    [
        (np.zeros((2, 7), int), DtypeError, "x has dtype int64"),
        (np.zeros(7), ShapeError, r"x has shape \(7,\), expected \(N, 7\)"),
        (np.zeros((2, 3, 7)), ShapeError, r"x has shape \(2, 3, 7\), expected \(N, 7\)"),
    ],
)
def test_questions_that_do_not_fit(x: Any, error: type[Exception], message: str) -> None:
    net = make("perceptron", dtype="float64")
    for ask in (net.predict, net.predict_proba, net.logits, net.forward):
        with pytest.raises(error, match=f"Sequential: {message}"):
            ask(x)


@pytest.mark.parametrize("size", [0, -3, 2.5, None, True])
def test_batch_sizes_that_do_not_fit(size: Any) -> None:
    net = make("perceptron")
    net.predict(X, batch_size=1)  # which is remembered as good, and equals True
    with pytest.raises(ArgumentError, match=f"batch_size is {size}, expected an integer of"):
        net.predict(X, batch_size=size)


def test_a_network_that_ends_in_images_takes_no_class_a_sample() -> None:
    net = tc.Sequential([tc.Conv2d(1, 4, 3)])
    message = (
        r"y has shape \(2,\), expected \(2, 6, 6\) with class indices because the network maps a "
        r"sample to shape \(4, 6, 6\); for one class a sample end it with Flatten\(\) and Linear"
    )
    with pytest.raises(ShapeError, match=message):
        net.evaluate(np.zeros((2, *IMAGE)), np.zeros(2, int))


def test_backward_before_forward() -> None:
    with pytest.raises(StateError, match="backward was called before forward"):
        make("perceptron").backward(np.zeros((3, 4), np.float32))


# Copies.


@pytest.mark.parametrize(
    "copied", [copy.deepcopy, copy.copy, lambda net: pickle.loads(pickle.dumps(net))]
)
def test_a_copy_is_a_network_of_its_own(copied: Callable[[tc.Sequential], tc.Sequential]) -> None:
    net = make("tanh-average")
    x, y = batch("tanh-average", 20, "float32")
    net.fit(x, y, epochs=2, optimizer=tc.Adam(), verbose=False)
    before = net.parameters.flat.copy()
    twin = copied(net)
    assert twin.position == net.position
    assert twin.seed == net.seed
    np.testing.assert_array_equal(twin.logits(x), net.logits(x))
    for values in twin.parameters.values.values():
        assert np.shares_memory(values, twin.parameters.flat)
    first = net.fit(x, y, verbose=False)  # with what the optimizer remembers
    assert (net.parameters.flat != before).any()
    assert (twin.parameters.flat == before).all()
    second = twin.fit(x, y, verbose=False)
    assert first["loss"] == second["loss"]  # shuffles and masks go on where they were
    assert (net.parameters.flat == twin.parameters.flat).all()


def test_a_network_without_parameters_yet_can_be_copied() -> None:
    twin = copy.deepcopy(tc.Sequential([tc.Linear(None, 3)], seed=4))
    assert twin.predict(np.zeros((2, 5), np.float32)).shape == (2,)
    assert twin.seed == 4


# Files.


@EVERY_NET
@pytest.mark.parametrize("dtype", ["float32", "float64"])
def test_a_saved_network_returns(name: str, dtype: str, tmp_path: Path) -> None:
    net = make(name, dtype=dtype)
    x, y = batch(name, 12, dtype)
    net.fit(x, y, epochs=2, batch_size=5, verbose=False)
    net.save(tmp_path / "new" / "net.safetensors")
    back = tc.load(str(tmp_path / "new" / "net.safetensors"))
    assert [path.name for path in (tmp_path / "new").iterdir()] == ["net.safetensors"]
    assert back.parameters.flat.dtype == dtype
    np.testing.assert_array_equal(back.parameters.flat, net.parameters.flat)
    np.testing.assert_array_equal(back.logits(x), net.logits(x))
    assert (back.seed, back.position) == (net.seed, net.position)
    assert back.position.epoch == 2
    assert back.position.step == 6
    assert back.input_shape == net.input_shape
    assert type(back.loss) is type(net.loss)
    assert str(back) == str(net)
    # Trained on, both go the same way.
    for each in (net, back):
        each.fit(x, y, epochs=1, batch_size=5, verbose=False)
    np.testing.assert_array_equal(back.parameters.flat, net.parameters.flat)


def test_a_network_saved_before_its_first_batch_has_no_input_shape(tmp_path: Path) -> None:
    net = tc.Sequential([tc.Linear(7, 4)])
    net.save(tmp_path / "net")
    back = tc.load(tmp_path / "net")
    assert back.input_shape is None
    assert back.predict(X).tolist() == net.predict(X).tolist()


def test_saving_over_a_file_replaces_it_or_leaves_it(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    path = tmp_path / "net"
    old, new = make("perceptron", 1), make("perceptron", 2)
    old.save(path)
    kept = path.read_bytes()

    def fail(*arguments: Any) -> None:
        raise OSError("disk full")

    with monkeypatch.context() as patched:
        patched.setattr("os.fsync", fail)
        with pytest.raises(OSError, match="disk full"):
            new.save(path)
    assert path.read_bytes() == kept
    assert [p.name for p in tmp_path.iterdir()] == ["net"]
    new.save(path)
    assert (tc.load(path).parameters.flat == new.parameters.flat).all()


def parts(path: Path) -> tuple[dict[str, Any], bytes]:
    """Header and tensors of a safetensors file."""
    data = path.read_bytes()
    (length,) = struct.unpack("<Q", data[:8])
    return json.loads(data[8 : 8 + length]), data[8 + length :]


def join(path: Path, header: dict[str, Any], tensors: bytes) -> None:
    text = json.dumps(header).encode()
    text += b" " * (-len(text) % 8)
    path.write_bytes(struct.pack("<Q", len(text)) + text + tensors)


@pytest.fixture
def saved(tmp_path: Path) -> Path:
    path = tmp_path / "net.safetensors"
    make("perceptron").save(path)
    return path


def refused(path: Path, message: str) -> None:
    """Loading fails with one clear error that names the file."""
    with pytest.raises(FileError, match=message) as caught:
        tc.load(path)
    assert str(path) in str(caught.value)
    assert caught.value.__cause__ is None


def test_a_file_that_is_not_there(tmp_path: Path) -> None:
    refused(tmp_path / "nowhere", "no such file")


def test_a_folder_is_no_file(tmp_path: Path) -> None:
    refused(tmp_path, "not a whole safetensors file")


def test_truncated_files(saved: Path) -> None:
    data = saved.read_bytes()
    for length in [*range(40), *range(40, len(data), 37), len(data) - 1]:
        saved.write_bytes(data[:length])
        refused(saved, "not a whole safetensors file")
    saved.write_bytes(data + b"\0")
    refused(saved, "not a whole safetensors file")


def test_a_picture_with_another_name(saved: Path) -> None:
    saved.write_bytes(b"\x89PNG\r\n\x1a\n" + bytes(range(256)) * 4)
    refused(saved, "not a whole safetensors file")


def test_a_bit_flipped_anywhere_is_refused(saved: Path) -> None:
    data, net = saved.read_bytes(), tc.load(saved)
    rng = np.random.default_rng(0)
    for place in range(len(data)):
        flipped = bytearray(data)
        flipped[place] ^= 1 << int(rng.integers(8))
        saved.write_bytes(flipped)
        with suppress(FileError):  # unless it was in the space between two things
            assert (tc.load(saved).parameters.flat == net.parameters.flat).all()
            assert data[place] in b" " or flipped[place] in b" "


def test_identical_networks_make_identical_files(tmp_path: Path) -> None:
    """Also in processes whose hashes differ."""
    code = "import sys, tinyconv as tc; tc.Sequential([tc.Linear(7, 4)], seed=3).save(sys.argv[1])"
    for place in "ab":
        subprocess.run([sys.executable, "-c", code, str(tmp_path / place)], check=True)
    assert (tmp_path / "a").read_bytes() == (tmp_path / "b").read_bytes()


def test_a_foreign_safetensors_file(saved: Path) -> None:
    header, tensors = parts(saved)
    del header["__metadata__"]
    join(saved, header, tensors)
    refused(saved, "a safetensors file, but not a network of tinyconv")
    header["__metadata__"] = {"format": "pt"}
    join(saved, header, tensors)
    refused(saved, "a safetensors file, but not a network of tinyconv")


def test_a_checkpoint_is_no_network(tmp_path: Path) -> None:
    make("perceptron").fit(X, Y, checkpoint=tmp_path, verbose=False)
    refused(tmp_path / "checkpoint.safetensors", "but not a network of tinyconv")


def test_a_later_version(saved: Path) -> None:
    header, tensors = parts(saved)
    header["__metadata__"]["tinyconv"] = json.dumps({"format": "network", "version": 1000})
    join(saved, header, tensors)
    refused(saved, "written by a later version of tinyconv")


def rewrite(path: Path, change: Callable[[dict[str, Any]], Any]) -> None:
    """Change the description of the network in a file, and make its checksum right again."""
    header, raw = parts(path)
    tensors, about = files.read_tensors(path, "network")
    replaced = change(about)
    about = about if replaced is None else replaced
    if isinstance(about, dict):
        about["checksum"] = files._checksum(tensors, about)
    header["__metadata__"]["tinyconv"] = json.dumps(about)
    join(path, header, raw)


def layer(about: dict[str, Any], place: int) -> dict[str, Any]:
    return about["layers"][place]


def linear(inputs: int, outputs: int) -> dict[str, Any]:
    return {"layer": "Linear", "config": {"in_features": inputs, "out_features": outputs}}


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (lambda a: layer(a, 1).update(layer="Lambda"), "unknown layer 'Lambda'"),
        (lambda a: layer(a, 1).update(layer="__import__"), "unknown layer '__import__'"),
        (lambda a: layer(a, 1).update(layer=["ReLU"]), "damaged"),
        (lambda a: layer(a, 0)["config"].update(surprise=1), "layer Linear does not take"),
        (lambda a: layer(a, 0)["config"].update(out_features=-5), "layer Linear does not take"),
        (lambda a: layer(a, 2)["config"].update(out_features=6), "2.* has shape .*, expected"),
        (lambda a: layer(a, 0)["config"].update(weight_init="x"), "Linear: weight_init is 'x'"),
        (lambda a: layer(a, 0)["config"].update(weight_init=[]), "layer Linear does not take"),
        (lambda a: layer(a, 0)["config"].update(bias=False), "unknown to this network: 0.bias"),
        (lambda a: a["layers"].append(linear(4, 4)), "tensors missing: 3.bias, 3.weight"),
        (lambda a: a["layers"].append(linear(7, 4)), "layer 3: Linear: input of shape"),
        (lambda a: a["layers"].append("ReLU"), "damaged|expected a layer"),
        (lambda a: a.update(layers=[]), "damaged"),
        (lambda a: a.update(layers=7), "damaged"),
        (lambda a: a.update(input_shape=[9]), "damaged"),
        (lambda a: a.update(input_shape="x"), "damaged"),
        (lambda a: a.update(dtype="float16"), "damaged"),
        (lambda a: a.update(seed="x"), "damaged"),
        (lambda a: a.update(loss="Surprise"), "unknown loss 'Surprise'"),
        (lambda a: a.update(loss=[]), "damaged"),
        (lambda a: a.pop("epochs") and None, "damaged"),
        (lambda a: [1, 2], "damaged"),
        (lambda a: {}, "not a network of tinyconv"),
    ],
)
def test_descriptions_that_do_not_fit(
    saved: Path, change: Callable[[dict[str, Any]], Any], message: str
) -> None:
    rewrite(saved, change)
    refused(saved, message)


@pytest.mark.parametrize("text", ["{", "", "[" * 100_000, "nan"])
def test_descriptions_that_are_no_json(saved: Path, text: str) -> None:
    header, tensors = parts(saved)
    header["__metadata__"]["tinyconv"] = text
    join(saved, header, tensors)
    refused(saved, "its description is damaged")


def test_sizes_that_a_file_merely_claims_are_not_allocated(saved: Path) -> None:
    for huge in (10**9, 10**30):
        rewrite(saved, lambda a, n=huge: layer(a, 2)["config"].update(out_features=n))
        refused(saved, "has shape .*, expected")


def test_tensors_of_another_type_are_refused_or_converted(saved: Path) -> None:
    header, tensors = parts(saved)
    for dtype in ("BF16", "F8_E4M3"):
        header["2.bias"]["dtype"] = dtype
        join(saved, header, tensors)
        refused(saved, "not a whole safetensors file")


def test_load_to_a_device_that_is_not_there(saved: Path) -> None:
    with pytest.raises(DeviceError, match="device is 'tpu'"):
        tc.load(saved, device="tpu")


@pytest.mark.skipif(tc.backend.gpu_is_available(), reason="tells what happens without a GPU")
def test_load_to_the_gpu_where_there_is_none(saved: Path) -> None:
    with pytest.raises(DeviceError, match="pip install"):
        tc.load(saved, device="gpu")


def test_load_state_dict() -> None:
    net, other = make("perceptron", 1), make("perceptron", 2)
    flat = net.parameters.flat
    net.load_state_dict(other.state_dict())
    assert net.parameters.flat is flat
    assert (flat == other.parameters.flat).all()
    good = other.state_dict()
    for change, message in [
        ({"0.weight": np.zeros((5, 6))}, r"0.weight has shape \(5, 6\), expected \(5, 7\)"),
        ({"9.weight": np.zeros(1)}, "unknown to this network: 9.weight"),
    ]:
        with pytest.raises(FileError, match=f"load_state_dict: .*{message}"):
            net.load_state_dict({**good, **change})
    del good["0.bias"], good["2.weight"]
    with pytest.raises(FileError, match=re.escape("tensors missing: 0.bias, 2.weight")):
        net.load_state_dict(good)
    assert (flat == other.parameters.flat).all()  # nothing was changed halfway


def test_all_that_does_not_fit_is_said_at_once_and_strict_may_be_off() -> None:
    net, other = make("perceptron", 1), make("perceptron", 2)
    tensors = {**other.state_dict(), "extra": np.zeros(1), "0.weight": np.zeros((5, 6))}
    del tensors["2.weight"]
    message = (
        "load_state_dict: tensors missing: 2.weight; tensors unknown to this network: extra; "
        "0.weight has shape (5, 6), expected (5, 7)"
    )
    with pytest.raises(FileError, match=f"^{re.escape(message)}$"):
        net.load_state_dict(tensors)
    with pytest.raises(FileError, match=r"^load_state_dict: 0.weight has shape \(5, 6\)"):
        net.load_state_dict(tensors, strict=False)
    kept = net.state_dict()["2.weight"].copy()
    tensors["0.weight"] = other.state_dict()["0.weight"]
    assert net.load_state_dict(tensors, strict=False) == (["2.weight"], ["extra"])
    np.testing.assert_array_equal(net.state_dict()["2.weight"], kept)
    np.testing.assert_array_equal(net.state_dict()["0.weight"], tensors["0.weight"])
    words = {**other.state_dict(), "0.bias": np.array(["a"] * 5), "2.bias": np.ones(4, complex)}
    with pytest.raises(FileError, match=r"0.bias has dtype <U1.*; 2.bias has dtype complex128"):
        net.load_state_dict(words)


def test_files_of_half_precision_load(tmp_path: Path) -> None:
    net, path = make("perceptron"), tmp_path / "weights.safetensors"
    halves = {name: a.astype(np.float16) for name, a in net.state_dict().items()}
    # bfloat16 by hand: the upper half of a float32, 16 bits, least significant byte first.
    header, data = {}, b""
    for name, a in halves.items():
        bits = (a.astype(np.float32).view(np.uint32) >> 16).astype("<u2").tobytes()
        offsets = [len(data), len(data) + len(bits)]
        header[name] = {"dtype": "BF16", "shape": list(a.shape), "data_offsets": offsets}
        data += bits
    text = json.dumps(header).encode()
    path.write_bytes(len(text).to_bytes(8, "little") + text + data)
    net.load_state_dict(path)
    for name, a in net.state_dict().items():
        expected = (halves[name].astype(np.float32).view(np.uint32) & 0xFFFF0000).view(np.float32)
        np.testing.assert_array_equal(a, expected)
    save_file(halves, path)
    net.load_state_dict(str(path))
    np.testing.assert_array_equal(net.state_dict()["0.weight"], halves["0.weight"])
    text = b'{"a":{"dtype":"F8_E4M3","shape":[1],"data_offsets":[0,1]}}'
    path.write_bytes(len(text).to_bytes(8, "little") + text + b"1")
    with pytest.raises(FileError, match="a has numbers of the format F8_E4M3, which is not known"):
        net.load_state_dict(path)
    path.write_bytes(b"")
    with pytest.raises(FileError, match="not a whole safetensors file"):
        net.load_state_dict(path)
    path.unlink()
    with pytest.raises(FileError, match="no such file"):
        net.load_state_dict(path)


# PyTorch.


def torch_twin(torch: Any) -> Any:
    nn = torch.nn
    return nn.Sequential(
        nn.Conv2d(1, 3, 3),
        nn.MaxPool2d(2),
        nn.ReLU(),
        nn.Conv2d(3, 4, 2),
        nn.ReLU(),
        nn.Flatten(),
        nn.Linear(16, 6),
        nn.ReLU(),
        nn.Linear(6, 4),
    )


@pytest.mark.oracle
@pytest.mark.parametrize("direction", ["ours to theirs", "theirs to ours"])
def test_the_twin_in_pytorch(torch: Any, direction: str) -> None:
    net = make("conv-conv-relu", dtype="float64")
    torch.manual_seed(0)
    twin = torch_twin(torch).double()
    shapes = {name: tuple(w.shape) for name, w in twin.state_dict().items()}
    assert {name: w.shape for name, w in net.state_dict().items()} == shapes
    assert list(net.state_dict()) == list(shapes)
    if direction == "ours to theirs":
        twin.load_state_dict({n: torch.from_numpy(w) for n, w in net.state_dict().items()})
    else:
        net.load_state_dict(twin.state_dict())
    x, y = batch("conv-conv-relu", 9)
    logits = twin(torch.from_numpy(x))
    np.testing.assert_allclose(net.logits(x), logits.detach().numpy(), rtol=1e-10, atol=1e-12)
    theirs = torch.nn.functional.cross_entropy(logits, torch.from_numpy(y))
    theirs.backward()
    loss, grads = net.loss_and_grads(x, y)
    assert loss == pytest.approx(theirs.item(), rel=1e-12)
    for name, p in twin.named_parameters():
        np.testing.assert_allclose(grads[name], p.grad.numpy(), rtol=1e-9, atol=1e-12)


@pytest.mark.oracle
def test_parameters_of_pytorch_are_taken_as_they_are(torch: Any) -> None:
    net, twin = make("conv-conv-relu"), torch_twin(torch)
    net.load_state_dict(dict(twin.named_parameters()))  # they require gradients
    np.testing.assert_array_equal(net.state_dict()["0.weight"], twin[0].weight.detach().numpy())
    net.load_state_dict(twin.bfloat16().state_dict())
    np.testing.assert_array_equal(
        net.state_dict()["0.weight"], twin[0].weight.detach().float().numpy()
    )


@pytest.mark.oracle
def test_files_go_both_ways_with_pytorch(torch: Any, tmp_path: Path) -> None:
    from safetensors.torch import load_file

    net = make("conv-conv-relu")
    net.save(tmp_path / "net.safetensors")
    twin = torch_twin(torch)
    twin.load_state_dict(load_file(tmp_path / "net.safetensors"))
    x, _ = batch("conv-conv-relu", 9, "float32")
    with torch.no_grad():
        theirs = twin(torch.from_numpy(x)).numpy()
    np.testing.assert_allclose(net.logits(x), theirs, rtol=1e-4, atol=1e-5)


# On the GPU.


@pytest.mark.gpu
@EVERY_NET
def test_the_gpu_computes_what_the_cpu_does(name: str, tmp_path: Path) -> None:
    """Host arrays are uploaded batch by batch; the weights start equal and stay close."""
    here, there = (make(name, dtype="float64", device=device) for device in ("cpu", "gpu"))
    x, y = batch(name, 25)
    assert (here.parameters.flat == tc.backend.to_numpy(there.parameters.flat)).all()
    for net in (here, there):
        how = {"optimizer": tc.SGD(lr=0.1, momentum=0.9), "validation_data": (x, y)}
        net.fit(x, y, epochs=3, batch_size=4, checkpoint=tmp_path / net.device, **how)
    for parameter, w in here.state_dict().items():
        np.testing.assert_allclose(there.state_dict()[parameter], w, rtol=1e-6, atol=1e-8)
    np.testing.assert_allclose(there.predict_proba(x), here.predict_proba(x), rtol=1e-6)
    metrics = ["accuracy", "top_2"]
    assert there.evaluate(x, y, metrics=metrics) == pytest.approx(
        here.evaluate(x, y, metrics=metrics)
    )
    there.save(tmp_path / "net")
    back = tc.load(tmp_path / "net")
    np.testing.assert_array_equal(back.state_dict()["0.weight"], there.state_dict()["0.weight"])
    with pytest.raises(DeviceError, match="arrays of one library expected"):
        there.forward(x)  # one pass for teaching moves nothing
