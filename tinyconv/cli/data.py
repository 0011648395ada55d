"""What a verb works on: a model, and data, a named set or a path, and how they are to be read."""

import argparse
import sys
from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np

import tinyconv as tc
from tinyconv.backend import Values
from tinyconv.cli.options import COUNT, taken_by
from tinyconv.data import Pixels, read_picture
from tinyconv.data.idx import is_idx_folder
from tinyconv.messages import hint

#: The options of :func:`add_options` besides ``data``: how data of one's own are read.
OPTIONS = ("size", "channels", "shape", "label", "task")


def add_options(verb: argparse.ArgumentParser, default: str | None = None) -> None:
    """Add ``--data`` and what says how it is read."""
    verb.add_argument(
        "--data",
        type=_source,
        default=default,
        metavar="DATA",
        help="mnist-sample (default, in the package), mnist, mnist1d, or data of your own: a "
        "folder of pictures per class, a folder of IDX files, a .csv or .npz file",
    )
    verb.add_argument(
        "--size",
        type=_sizes,
        metavar="N[xN]",
        help="pixels that pictures are scaled to, height x width (default: their own, else 28)",
    )
    verb.add_argument(
        "--channels",
        type=taken_by(COUNT),
        choices=(1, 3),
        help="1 for grey pictures, 3 for coloured ones",
    )
    verb.add_argument(
        "--shape",
        type=_sizes,
        metavar="CxHxW",
        help="shape of a sample in a .csv or .npz file, such as 1x28x28 for gray pictures",
    )
    verb.add_argument("--label", help="name or number of the column of a .csv that is the label")
    verb.add_argument(
        "--task",
        choices=("classification", "regression"),
        help="what the labels of a .csv or .npz file are: classes, or numbers to be predicted "
        "(default: numbers if one of them is not whole)",
    )


def _source(text: str) -> str:
    """Return a name as it is, and a path so that it holds in other folders too."""
    names = tc.data.names()
    if text in names:
        return text
    if Path(text).expanduser().exists():
        return str(Path(text).expanduser().resolve())
    raise argparse.ArgumentTypeError(
        f"{text!r} is none of {', '.join(names)}, and no such path{hint(text, names)}"
    )


def _sizes(text: str) -> tuple[int, ...]:
    return tuple(taken_by(COUNT)(side) for side in text.split("x"))


def open_model(path: Path) -> tc.Sequential:
    """Read a network from its own file or, where the name ends so, from an ONNX one."""
    if path.suffix == ".onnx":
        net: tc.Sequential = tc.interop.onnx.import_(path)
        return net
    return tc.load(path)


def load(settings: Mapping[str, Any]) -> tc.data.DataSet:
    """Load the data that options or the settings of a run name."""
    options: dict[str, Any] = {name: settings.get(name) for name in OPTIONS}
    if options["size"] is not None:
        size = tuple(options["size"])
        options["size"] = size * 2 if len(size) == 1 else size
    if options["shape"] is not None:
        options["shape"] = tuple(options["shape"])
    return tc.data.load(settings["data"], **options)


def load_for(net: tc.Sequential, model: Path, options: argparse.Namespace) -> tc.data.DataSet:
    """Load the data that options name as a network takes them, the classes in its order.

    Raises:
        DataError: the samples have another shape, or a class is unknown to the network, or they
            have numbers for classes.
    """
    settings = vars(options).copy()
    shape, path = net.input_shape or (), Path(settings["data"])
    if len(shape) == 3 and path.is_dir() and not is_idx_folder(path):
        settings["size"] = settings["size"] or shape[1:]
        settings["channels"] = settings["channels"] or shape[0]
    data = load(settings)
    if data.test.x.shape[1:] != shape:
        raise tc.DataError(f"{data.source}: samples of shape {data.test.x.shape[1:]}, but {model} "
                           f"takes {shape}: name such data by --data")  # fmt: skip
    if net.pixels is not None:
        warn(data.source, Pixels.of(data.test.x).differs(net.pixels))
    if not data.class_names:
        raise tc.DataError(f"{data.source}: its labels are numbers, expected classes")
    if net.class_names is None:
        return data
    names = list(net.class_names)
    if unknown := sorted(set(data.class_names) - set(names)):
        raise tc.DataError(f"{data.source}: {model} knows no class {', '.join(unknown)}; it knows "
                           f"{', '.join(names[:10])}{' …' * (len(names) > 10)}")  # fmt: skip
    places = np.array([names.index(name) for name in data.class_names])
    train, validation, test = (tc.data.Split(x, places[y]) for x, y in data)
    return replace(
        data, train=train, validation=validation, test=test, class_names=tuple(net.class_names)
    )


def picture(net: tc.Sequential, model: Path, path: Path) -> Values:
    """Read a picture as a network takes it, (C, H, W).

    A digit is found, made light on dark and centred, as MNIST's are; any other picture is scaled.

    Raises:
        ShapeError: the network takes no pictures.
    """
    shape = net.input_shape or ()
    kind = "digits" if net.pixels is None and shape == (1, 28, 28) else "pictures"
    if net.pixels is not None:
        kind = net.pixels.kind
    if len(shape) != 3 or shape[0] not in (1, 3) or kind == "numbers":
        raise tc.ShapeError(f"{model}: input of shape {shape}, which is no picture")
    if kind == "digits":
        return tc.data.read_digit(path)
    image = read_picture(path, (shape[1], shape[2]), shape[0]).astype(np.float32) / 255
    if net.pixels is not None:
        warn(str(path), Pixels.of(image[None]).differs(net.pixels))
    return image


def warn(source: str, text: str | None) -> None:
    """Print a warning on standard error, if there is one."""
    if text:
        print(f"tinyconv: warning: {source}: {text}", file=sys.stderr)
