"""``tinyconv explore``: writes the page on which gradients can be watched, and opens it."""

import argparse
import webbrowser
from pathlib import Path

import numpy as np

import tinyconv as tc
from tinyconv import models
from tinyconv.backend import Values
from tinyconv.cli import data
from tinyconv.cli.options import Verbs

#: Epochs of the network that is trained where no model is named and none is found.
EPOCHS = 3


def add(verbs: Verbs) -> None:
    """Add ``explore`` to the command line."""
    about = "write and open a page that shows where gradients go"
    parser = verbs.add("explore", _explore, about)
    parser.add_argument(
        "model",
        type=Path,
        nargs="?",
        metavar="MODEL",
        help="file or run folder of 'train', or ONNX",
    )
    parser.add_argument(
        "--image", type=Path, action="append", default=[], help="a picture to start from"
    )
    parser.add_argument("--out", type=Path, help="file to write (default: explore.html)")
    parser.add_argument("--no-open", action="store_true", help="write the file, do not open it")


def _explore(options: argparse.Namespace) -> int:
    """Write one HTML file, which needs no network.

    A small convolutional net whose every number can be edited and followed forward and backward,
    and a trained one for digits that are drawn. Without MODEL it shows the newest run of runs/, or
    else a net that it trains on the sample first.
    """
    from tinyconv.explore import page

    net, path = _net(options.model)
    x, y = _samples(net, path, options.image)
    text = page(net, x, y, version=tc.__version__)
    out = options.out or Path("explore.html")
    out.parent.mkdir(parents=True, exist_ok=True)
    out.write_text(text, encoding="utf-8")
    print(f"{out}: {out.stat().st_size / 1e6:.2f} MB")
    if not options.no_open:
        webbrowser.open(out.resolve().as_uri())
    return 0


def _net(model: Path | None) -> tuple[tc.Sequential, Path]:
    if model is None:
        runs = Path("runs").glob("*/model.safetensors")
        model = max(runs, key=lambda path: path.stat().st_mtime, default=None)
    if model is not None:
        print(f"showing {model}")
        return data.open_model(model), model
    print(f"no model named and none in runs/: training one on the sample, {EPOCHS} epochs")
    samples = tc.data.load("mnist-sample")
    named = models.named_net("nielsen-conv-conv-relu")
    net = named.build(seed=0)
    net.fit(*samples.train, epochs=EPOCHS, batch_size=10, optimizer=tc.SGD(lr=named.lr))
    return net, Path("mnist-sample")


def _samples(net: tc.Sequential, path: Path, pictures: list[Path]) -> tuple[Values, list[int]]:
    """Return images to start from: the pictures that are named, one of each digit, or nothing."""
    shape = net.input_shape
    if pictures:
        x = np.stack([data.picture(net, path, picture) for picture in pictures])
        return x, net.predict(x).tolist()
    if shape == (1, 28, 28):
        x, y = tc.data.load("mnist-sample").test
        first = [int(np.flatnonzero(y == digit)[0]) for digit in range(10)]
        (classes,) = net.output_shape(shape)
        return x[first], (np.arange(10) % classes).tolist()
    if shape is None or len(shape) != 3:
        raise tc.ShapeError(f"{path}: takes inputs of shape {shape}, expected images (C, H, W)")
    return np.zeros((1, *shape), np.float32), [0]
