"""``tinyconv plot``: each verb writes one picture."""

import argparse
from pathlib import Path
from typing import TYPE_CHECKING, Any, TypeAlias

import numpy as np

import tinyconv as tc

Figure: TypeAlias = Any  # matplotlib's; only the pictures themselves import it

if TYPE_CHECKING:
    Verbs = argparse._SubParsersAction[argparse.ArgumentParser]

__all__ = ["add"]


def add(verbs: "Verbs", shared: argparse.ArgumentParser) -> None:
    """Add ``plot`` and its verbs to the command line."""
    parser = verbs.add_parser(
        "plot",
        help="write a picture",
        description="Write a picture of runs, networks or images to a file.",
    )
    pictures = parser.add_subparsers(metavar="PICTURE", required=True)

    def picture(name: str, draw: Any, about: str) -> argparse.ArgumentParser:
        verb = pictures.add_parser(name, parents=[shared], help=about, description=about + ".")
        verb.add_argument(
            "-o", "--out", type=Path, default=Path(f"{name}.png"),
            help=f"file to write; its ending says the format (default: {name}.png)",
        )  # fmt: skip
        verb.set_defaults(run=_write, draw=draw)
        return verb

    curves = picture("curves", _curves, "loss and accuracy of one or several runs by epoch")
    curves.add_argument(
        "runs", type=Path, nargs="+", metavar="RUN", help="run folder, or a history as CSV file"
    )

    filters = picture("filters", _filters, "the kernels of a convolution")
    _add_model(filters)
    filters.add_argument(
        "--layer", type=int, help="place of the layer (default: the first convolution)"
    )

    features = picture("features", _features, "what the layers of a network make of an image")
    _add_model(features)
    features.add_argument("--layer", type=int, help="place of the layer (default: all)")
    _add_image(features)

    mistakes = picture("mistakes", _mistakes, "misclassified digits, true and predicted label")
    mistakes.add_argument("--limit", type=int, default=60, help="digits at most (default: 60)")
    confusion = picture("confusion", _confusion, "which class is taken for which, as a table")
    for verb in (mistakes, confusion):
        verb.add_argument(
            "models", type=Path, nargs="+", metavar="MODEL", help="several models vote"
        )
        _add_data(verb)

    augmentations = picture("augmentations", _augmentations, "what each distortion does to a digit")
    _add_image(augmentations)
    augmentations.add_argument("--seed", type=int, default=0, help="fixes the distortions")


def _add_model(verb: argparse.ArgumentParser) -> None:
    verb.add_argument("model", type=Path, metavar="MODEL", help="file that 'train' wrote")


def _add_data(verb: argparse.ArgumentParser) -> None:
    verb.add_argument(
        "--data",
        choices=("mnist-sample", "mnist"),
        default="mnist-sample",
        help="data set whose test images are used (default: mnist-sample)",
    )


def _add_image(verb: argparse.ArgumentParser) -> None:
    _add_data(verb)
    verb.add_argument("--index", type=int, default=0, help="number of a test image (default: 0)")
    verb.add_argument("--image", type=Path, help="a picture of a digit of your own instead")


def _write(options: argparse.Namespace) -> int:
    figure: Figure = options.draw(options)
    options.out.parent.mkdir(parents=True, exist_ok=True)
    figure.savefig(options.out, dpi=120)
    print(options.out)
    return 0


def _image(options: argparse.Namespace) -> np.ndarray[Any, Any]:
    """Return the image that the options name, (1, 28, 28)."""
    if options.image is not None:
        return tc.data.read_digit(options.image)
    x, y = tc.data.load(options.data).test
    if not 0 <= options.index < len(y):
        raise tc.DataError(f"--index is {options.index}, expected 0 to {len(y) - 1}")
    image: np.ndarray[Any, Any] = x[options.index]
    return image


# The pictures.


def _curves(options: argparse.Namespace) -> Figure:
    from tinyconv import plots

    runs = {}
    for run in options.runs:
        path = run / "history.csv" if run.is_dir() else run
        try:
            runs[run.stem if run.suffix == ".csv" else run.name] = tc.History.from_csv(
                path.read_text()
            )
        except FileNotFoundError:
            raise tc.FileError(f"{path}: no such file") from None
        except (ValueError, AttributeError) as error:
            raise tc.FileError(f"{path}: not the history of a run ({error})") from None
    return plots.learning_curves(runs)


def _filters(options: argparse.Namespace) -> Figure:
    from tinyconv import plots

    net = tc.load(options.model)
    places = {n: part for n, part in enumerate(net.layers) if isinstance(part, tc.Conv2d)}
    layer = min(places, default=None) if options.layer is None else options.layer
    if layer not in places:
        raise tc.ShapeError(
            f"{options.model}: the convolutions are layers {list(places)}"
            + ("" if layer is None else f", not {layer}")
        )
    return plots.filters(places[layer], f"filters of layer {layer}")


def _features(options: argparse.Namespace) -> Figure:
    from tinyconv import plots

    return plots.feature_maps(tc.load(options.model), _image(options), options.layer)


def _answers(options: argparse.Namespace) -> tuple[Any, Any, Any]:
    """Return the test images, their labels and what the models predict."""
    x, y = tc.data.load(options.data).test
    return x, y, tc.Ensemble([tc.load(path) for path in options.models]).predict(x)


def _mistakes(options: argparse.Namespace) -> Figure:
    from tinyconv import plots

    if options.limit < 1:
        raise tc.ShapeError(f"--limit is {options.limit}, expected at least 1")
    return plots.mistakes(*_answers(options), limit=options.limit)


def _confusion(options: argparse.Namespace) -> Figure:
    from tinyconv import plots

    _, y, predicted = _answers(options)
    return plots.confusion_matrix(y, predicted)


def _augmentations(options: argparse.Namespace) -> Figure:
    from tinyconv import plots

    return plots.augmentations(_image(options), key=options.seed)
