"""The readers of the library, each with whole files to begin from and what damages them."""

import gzip
import io
import os
import pickle
import random
import tempfile
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import cache
from importlib.util import find_spec
from pathlib import Path
from typing import Any

import mutate
import numpy as np

import tinyconv as tc
from tinyconv.data.book_pickle import read_book_pickle
from tinyconv.data.idx import read_idx
from tinyconv.data.own import load_own

MEMORY_DISK = "/dev/shm" if os.access("/dev/shm", os.W_OK) else None

RNG = np.random.default_rng(0)
X, Y = RNG.random((6, 1, 6, 6), np.float32), np.arange(6) % 3
MANY = np.repeat(X, 8, axis=0), np.repeat(Y, 8)


@dataclass(frozen=True)
class Reader:
    """A function of a path, whole files for it, and what is done to them.

    Attributes:
        file: what the file is called, below a folder.
        read: reads it.
        seeds: makes the whole files.
        mutations: one of them changes a file.
        fill: instead of them, what fills a folder.
    """

    file: str
    read: Callable[[Path], Any]
    seeds: Callable[[], Sequence[bytes]]
    mutations: Sequence[mutate.Mutation] = ()
    fill: Callable[[random.Random, Path, bytes], None] | None = None


def network() -> tc.Sequential:
    """Return a small network of many kinds of layers."""
    return tc.Sequential(
        [
            tc.Conv2d(1, 2, 3, padding=1),
            tc.BatchNorm2d(2),
            tc.Residual([tc.Conv2d(2, 2, 3, padding="same"), tc.ReLU()]),
            tc.Parallel([tc.MaxPool2d(2), [tc.AvgPool2d(2), tc.ELU()]]),
            tc.LocalResponseNorm(3),
            tc.Upsample(scale_factor=2),
            tc.Pad(((0, 1), (1, 0)), mode="replicate"),
            tc.Dropout(0.2),
            tc.GroupNorm(2, 4),
            tc.Flatten(),
            tc.Linear(None, 3),
        ],
        input_shape=(1, 6, 6),
    )


def _trained(folder: Path) -> tc.History:
    return network().fit(
        X,
        Y,
        epochs=2,
        batch_size=4,
        optimizer=tc.Adam(),
        validation_data=(X, Y),
        callbacks=[tc.KeepBest()],
        checkpoint=folder,
        resume=True,
        verbose=False,
        engine="eager",
    )


@cache
def networks() -> list[bytes]:
    """Return the files of networks."""
    nets = [network(), tc.Sequential([tc.Linear(4, 3)]), tc.models.nielsen_fully_connected()]
    nets[0].loss = tc.SoftmaxLogLikelihood(weight=[1, 2, 3], label_smoothing=0.1)
    nets[1].class_names = ("a", "b", "c")
    with tempfile.TemporaryDirectory() as folder:
        for number, net in enumerate(nets):
            net.save(Path(folder) / str(number))
        return [(Path(folder) / str(number)).read_bytes() for number in range(len(nets))]


@cache
def checkpoints() -> list[bytes]:
    """Return the file of a checkpoint."""
    with tempfile.TemporaryDirectory() as folder:
        _trained(Path(folder))
        return [(Path(folder) / "checkpoint.safetensors").read_bytes()]


@cache
def idx() -> list[bytes]:
    """Return an IDX file, plain and gzipped."""
    data = b"\0\0\x08\x03" + b"".join(n.to_bytes(4, "big") for n in (3, 28, 28)) + bytes(3 * 784)
    return [data, gzip.compress(data)]


@cache
def pickles() -> list[bytes]:
    """Return pickles as the book's, gzipped, of several protocols."""
    pairs = [(RNG.random((2, 784)).astype("f4"), np.array([3, 9])) for _ in range(3)]
    rows = [[list(x), list(y)] for x, y in pairs]
    return [gzip.compress(pickle.dumps(v, p)) for v in (pairs, rows) for p in (0, 2, 4)]


@cache
def pictures() -> list[bytes]:
    """Return pictures of several formats and modes."""
    from PIL import Image

    base = np.zeros((40, 30), np.uint8)
    base[8:30, 12:18] = 200
    image = Image.fromarray(base)
    out = []
    for mode in ("L", "RGB", "RGBA", "P", "1", "LA", "I;16"):
        buffer = io.BytesIO()
        changed = (
            Image.fromarray(base.astype("u2") * 257) if mode == "I;16" else image.convert(mode)
        )
        changed.save(buffer, "PNG", icc_profile=b"\0" * 128 if mode == "RGB" else None)
        out.append(buffer.getvalue())
    for mode in ("L", "RGB", "CMYK"):
        buffer = io.BytesIO()
        exif = Image.Exif()
        exif[0x0112] = 6
        image.convert(mode).save(buffer, "JPEG", exif=exif)
        out.append(buffer.getvalue())
    return out


@cache
def tables() -> list[bytes]:
    """Return tables of numbers."""
    lines = [",".join(map(str, [k % 3, *RNG.integers(0, 256, 4)])) for k in range(40)]
    return [
        "\n".join(["label,a,b,c,d", *lines]).encode(),
        "\n".join(["class;a", *(f"{'cat' if n % 2 else 'dog'};{n / 7:.3f}" for n in range(40))])
        .replace(";", ",")
        .encode(),
    ]


@cache
def archives() -> list[bytes]:
    """Return .npz files."""
    out = []
    for arrays in (
        {"x": MANY[0], "y": MANY[1]},
        {"x_train": MANY[0], "y_train": MANY[1], "x_test": X, "y_test": Y},
        {"images": (MANY[0] * 255).astype("u1"), "labels": MANY[1]},
    ):
        for save in (np.savez, np.savez_compressed):
            buffer = io.BytesIO()
            save(buffer, **arrays)
            out.append(buffer.getvalue())
    return out


@cache
def graphs() -> list[bytes]:
    """Return ONNX files."""
    from tinyconv.interop import onnx

    joined = tc.Sequential(
        [
            tc.Residual([tc.Conv2d(1, 1, 3, padding=1), tc.BatchNorm2d(1)]),
            *(tc.SiLU(), tc.MaxPool2d(2), tc.Flatten(), tc.Linear(None, 2)),
        ],
        input_shape=(1, 4, 4),
    )
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "net.onnx"
        out = []
        for net in (network(), joined, tc.Sequential([tc.Linear(4, 3)], input_shape=(4,))):
            onnx.export(net, path)
            out.append(path.read_bytes())
    return out


def _read_graph(path: Path) -> tc.Sequential:
    from tinyconv.interop import onnx

    return onnx.import_(path)


READERS = {
    "idx": Reader(
        "data.idx",
        lambda path: read_idx(path, (3, 28, 28)),
        idx,
        (mutate.of_bytes, mutate.gzipped(mutate.of_bytes)),
    ),
    "pickle": Reader(
        "mnist.pkl.gz",
        read_book_pickle,
        pickles,
        (mutate.of_bytes, mutate.gzipped(mutate.of_bytes), mutate.gzipped(mutate.pickled)),
    ),
    "network": Reader(
        "net.safetensors", tc.load, networks, (mutate.of_bytes, mutate.described, mutate.described)
    ),
    "checkpoint": Reader(
        "run/checkpoint.safetensors",
        lambda path: _trained(path.parent),
        checkpoints,
        (mutate.of_bytes, mutate.described, mutate.described),
    ),
    "picture": Reader("digit.png", tc.data.read_digit, pictures, (mutate.of_bytes, mutate.png)),
    "csv": Reader("data.csv", load_own, tables, (mutate.of_bytes, mutate.cells)),
    "npz": Reader("data.npz", load_own, archives, (mutate.of_bytes, mutate.zipped)),
    "folder": Reader("data", load_own, pictures, fill=mutate.in_a_folder(mutate.of_bytes)),
}
if find_spec("onnx") is not None:
    READERS["onnx"] = Reader("net.onnx", _read_graph, graphs, (mutate.of_bytes, mutate.graph))
