"""Weights of Keras 3: files by hand, and those that Keras writes."""

import os
from pathlib import Path
from typing import Any

import numpy as np
import pytest

import tinyconv as tc
from tinyconv.errors import FileError, StateError

pytestmark = pytest.mark.oracle

rng = np.random.default_rng(0)


@pytest.fixture(scope="module")
def h5py() -> Any:
    return pytest.importorskip("h5py")


def net(*layers: tc.layers.Layer, shape: tuple[int, ...] = (2, 4, 5)) -> tc.Sequential:
    return tc.Sequential(*layers, input_shape=shape)


def write(h5py: Any, path: Path, arrays: dict[str, Any]) -> Path:
    with h5py.File(path, "w") as file:
        file.create_group("layers")
        for name, array in arrays.items():
            layer, _, number = name.partition(":")
            file[f"layers/{layer}/vars/{number}"] = array
    return path


def test_by_hand(h5py: Any, tmp_path: Path) -> None:
    """A kernel of one pixel mixes channels; the dense layer picks row 1, column 2, channel 0."""
    kernel = np.array(
        [[[[1.0, 3.0], [2.0, 4.0]]]]
    )  # from channel 0 to outputs 1, 3; from 1 to 2, 4
    dense = np.zeros((4, 5, 2, 1))
    dense[1, 2, 0] = 1
    path = write(
        h5py,
        tmp_path / "a.weights.h5",
        {
            "conv2d:0": kernel,
            "conv2d:1": [10.0, 20.0],
            "dense:0": dense.reshape(40, 1),
            "dense:1": [0.5],
        },
    )
    ours = net(tc.Conv2d(2, 2, 1), tc.Flatten(), tc.ReLU(), tc.Linear(None, 1))
    tc.interop.keras.load_weights(ours, path)
    x = rng.normal(size=(3, 2, 4, 5)).astype(np.float32)
    expected = np.maximum(x[:, 0, 1, 2] * 1 + x[:, 1, 1, 2] * 2 + 10, 0) + 0.5
    np.testing.assert_allclose(ours.logits(x)[:, 0], expected, rtol=1e-5)


def test_all_that_does_not_fit_is_listed(h5py: Any, tmp_path: Path) -> None:
    path = write(
        h5py, tmp_path / "a.weights.h5", {"dense:0": np.zeros((3, 2)), "conv2d:0": np.zeros(1)}
    )
    ours = net(tc.Linear(2, 3), shape=(2,))
    before = ours.parameters.flat.copy()
    with pytest.raises(
        FileError, match=r"missing: dense/vars/1; .*unknown .* conv2d/vars/0; dense/vars/0 has"
    ):
        tc.interop.keras.load_weights(ours, path)
    np.testing.assert_array_equal(ours.parameters.flat, before)
    with pytest.raises(FileError, match=r"Keras has no layer 0 \(Subsample2d\)"):
        tc.interop.keras.load_weights(net(tc.Subsample2d(2, 2)), path)
    with pytest.raises(StateError, match="the input shape is not known"):
        tc.interop.keras.load_weights(tc.Sequential(tc.Linear(2, 3)), path)


def test_what_is_no_such_file_or_points_elsewhere(h5py: Any, tmp_path: Path) -> None:
    ours, path = net(tc.Linear(2, 3), shape=(2,)), tmp_path / "a.weights.h5"
    for content in (None, b"", b"no file"):
        if content is not None:
            path.write_bytes(content)
        with pytest.raises(FileError, match="not a file of weights of Keras"):
            tc.interop.keras.load_weights(ours, path)
    secret = write(h5py, tmp_path / "secret.h5", {"dense:0": np.zeros((2, 3))})
    with h5py.File(path, "w") as file:
        file["layers/dense/vars/0"] = h5py.ExternalLink(secret, "layers/dense/vars/0")
    with pytest.raises(FileError, match="dense/0 is no array of this file"):
        tc.interop.keras.load_weights(ours, path)
    # A data set that claims a large shape is never read.
    with h5py.File(path, "w") as file:
        file.create_dataset("layers/dense/vars/0", (1 << 20, 1 << 20), "f4", chunks=True)
        file["layers/dense/vars/1"] = np.zeros(3)
    with pytest.raises(FileError, match="dense/vars/0 has shape"):
        tc.interop.keras.load_weights(ours, path)


@pytest.mark.filterwarnings("ignore")
def test_what_keras_writes(h5py: Any, torch: Any, tmp_path: Path) -> None:
    os.environ.setdefault("KERAS_BACKEND", "torch")
    keras = pytest.importorskip("keras")
    layers = keras.layers
    theirs = keras.Sequential(
        [
            keras.Input((9, 8, 3)),
            layers.Conv2D(4, (3, 2), activation="relu"),
            layers.BatchNormalization(),
            layers.DepthwiseConv2D(2, depth_multiplier=2),
            layers.Conv2DTranspose(5, (2, 3)),
            layers.Conv2D(4, 1, use_bias=False),
            layers.Flatten(),
            layers.BatchNormalization(),
            layers.Dense(6, activation="tanh"),
            layers.LayerNormalization(),
            layers.Dense(2),
        ]
    )
    for weight in theirs.weights:
        weight.assign(rng.uniform(0.5, 1.5, weight.shape))
    theirs.save_weights(tmp_path / "net.weights.h5")
    ours = net(
        *(tc.Conv2d(3, 4, (3, 2)), tc.ReLU(), tc.BatchNorm2d(4, eps=1e-3)),
        *(tc.Conv2d(4, 8, 2, groups=4), tc.ConvTranspose2d(8, 5, (2, 3))),
        *(tc.Conv2d(5, 4, 1, bias=False), tc.Flatten(), tc.BatchNorm1d(None, eps=1e-3)),
        *(tc.Linear(None, 6), tc.Tanh(), tc.LayerNorm(6, eps=1e-3), tc.Linear(6, 2)),
        shape=(3, 9, 8),
    )
    tc.interop.keras.load_weights(ours, tmp_path / "net.weights.h5")
    x = rng.normal(size=(2, 3, 9, 8)).astype(np.float32)
    expected = np.asarray(theirs.predict(x.transpose(0, 2, 3, 1), verbose=0))
    np.testing.assert_allclose(ours.logits(x), expected, rtol=1e-4, atol=1e-5)
