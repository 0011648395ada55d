"""``tinyconv plot``: each verb writes one picture."""

import argparse
from pathlib import Path
from typing import Any, TypeAlias

import tinyconv as tc
from tinyconv.backend import Values
from tinyconv.cli import data
from tinyconv.cli.options import COUNT, PLACE, WHOLE, Verbs, taken_by

Figure: TypeAlias = Any  # matplotlib's; only the pictures themselves import it


def add(verbs: Verbs) -> None:
    """Add ``plot`` and its verbs to the command line."""
    about = "Write a picture of runs, networks or images to a file."
    parser = verbs.actions.add_parser("plot", help="write a picture", description=about)
    pictures = Verbs(parser.add_subparsers(metavar="PICTURE", required=True), verbs.shared)

    def picture(name: str, draw: Any, about: str) -> Any:
        verb = pictures.add(name, _write, about, about + ".")
        verb.add_argument(
            "-o", "--out", type=Path, default=Path(f"{name}.png"),
            help=f"file to write; its ending says the format (default: {name}.png)",
        )  # fmt: skip
        verb.set_defaults(draw=draw)
        return verb

    curves = picture("curves", _curves, "loss and accuracy of one or several runs by epoch")
    curves.add_argument(
        "runs", type=Path, nargs="+", metavar="RUN", help="run folder, or a history as CSV file"
    )

    filters = picture("filters", _filters, "the kernels of a convolution")
    _add_model(filters)
    filters.add_argument(
        "--layer", type=taken_by(PLACE), help="place of the layer (default: the first convolution)"
    )

    features = picture("features", _features, "what the layers of a network make of an image")
    _add_model(features)
    features.add_argument("--layer", type=taken_by(PLACE), help="place of the layer (default: all)")
    _add_image(features)

    mistakes = picture("mistakes", _mistakes, "misclassified images, true and predicted class")
    mistakes.add_argument(
        "--limit", type=taken_by(COUNT), default=60, help="images at most (default: 60)"
    )
    confusion = picture("confusion", _confusion, "which class is taken for which, as a table")
    for verb in (mistakes, confusion):
        verb.add_argument(
            "models", type=Path, nargs="+", metavar="MODEL", help="several models vote"
        )
        data.add_options(verb, default="mnist-sample")

    augmentations = picture("augmentations", _augmentations, "what each distortion does to a digit")
    _add_image(augmentations)
    augmentations.add_argument(
        "--seed", type=taken_by(WHOLE), default=0, help="fixes the distortions"
    )


def _add_model(verb: argparse.ArgumentParser) -> None:
    verb.add_argument("model", type=Path, metavar="MODEL", help="file of 'train', or ONNX")


def _add_image(verb: argparse.ArgumentParser) -> None:
    data.add_options(verb, default="mnist-sample")
    verb.add_argument(
        "--index", type=taken_by(PLACE), default=0, help="number of a test image (default: 0)"
    )
    verb.add_argument("--image", type=Path, help="a picture of your own instead")


def _write(options: argparse.Namespace) -> int:
    if options.out.is_dir():
        raise tc.FileError(f"{options.out}: is a folder, expected a file to write")
    if not options.out.suffix:
        options.out = options.out.with_name(f"{options.out.name}.png")
    from tinyconv import plots  # with matplotlib, which no other verb needs

    figure: Figure = options.draw(plots, options)
    options.out.parent.mkdir(parents=True, exist_ok=True)
    figure.savefig(options.out, dpi=120)
    print(options.out)
    return 0


def _image(options: argparse.Namespace, net: tc.Sequential | None = None) -> Values:
    """Return the image that the options name, (C, H, W), as a network takes it if there is one."""
    if options.image is not None:
        if net is None:
            return tc.data.read_digit(options.image)
        return data.picture(net, options.model, options.image)
    samples = (
        data.load(vars(options)) if net is None else data.load_for(net, options.model, options)
    )
    x, y = samples.test
    if options.index >= len(y):
        raise tc.DataError(f"--index is {options.index}, expected 0 to {len(y) - 1}")
    image: Values = x[options.index]
    return image


# The pictures.


def _curves(plots: Any, options: argparse.Namespace) -> Figure:
    runs = {}
    for run in options.runs:
        path = run / "history.csv" if run.is_dir() else run
        try:
            runs[run.stem if run.suffix == ".csv" else run.name] = tc.History.from_csv(
                path.read_text()
            )
        except FileNotFoundError:
            raise tc.FileError(f"{path}: no such file") from None
        except ValueError as error:  # of the text's letters too
            raise tc.FileError(f"{path}: {error}") from None
    return plots.learning_curves(runs)


def _filters(plots: Any, options: argparse.Namespace) -> Figure:
    net = data.open_model(options.model)
    places = {n: part for n, part in enumerate(net.layers) if isinstance(part, tc.Conv2d)}
    layer = min(places, default=None) if options.layer is None else options.layer
    if layer not in places:
        there = f"the convolutions are layers {list(places)}, not {layer}"
        raise tc.ShapeError(f"{options.model}: {there if places else 'has no convolutions'}")
    return plots.filters(places[layer], f"filters of layer {layer}")


def _features(plots: Any, options: argparse.Namespace) -> Figure:
    net = data.open_model(options.model)
    return plots.feature_maps(net, _image(options, net), options.layer)


def _answers(options: argparse.Namespace) -> tuple[tc.data.DataSet, Values]:
    """Return the data and what the models predict of its test samples."""
    nets = [data.open_model(path) for path in options.models]
    samples = data.load_for(nets[0], options.models[0], options)
    return samples, tc.Ensemble(nets).predict(samples.test.x)


def _mistakes(plots: Any, options: argparse.Namespace) -> Figure:
    samples, predicted = _answers(options)
    return plots.mistakes(
        *samples.test,
        predicted,
        limit=options.limit,
        class_names=samples.class_names,
        cmap="gray_r" if samples.kind == "digits" else "gray",
    )


def _confusion(plots: Any, options: argparse.Namespace) -> Figure:
    samples, predicted = _answers(options)
    return plots.confusion_matrix(samples.test.y, predicted, class_names=samples.class_names)


def _augmentations(plots: Any, options: argparse.Namespace) -> Figure:
    return plots.augmentations(_image(options), key=options.seed)
