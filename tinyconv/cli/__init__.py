"""The command line: ``tinyconv train``, ``predict``, ``nets``, ``plot``, ``export``, ``book``."""

import argparse
import json
import sys
import time
import traceback
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import tinyconv as tc
from tinyconv import models
from tinyconv.cli import book, export, plot
from tinyconv.training import checkpoint

__all__ = ["main"]

EPILOG = """\
examples:
  tinyconv train                          5,000 digits that ship with the package
  tinyconv train --data mnist --epochs 3  all of MNIST
  tinyconv train --resume runs/…          continue a run that was stopped
  tinyconv predict runs/…/model.safetensors seven.png
  tinyconv plot mistakes runs/…/model.safetensors
  tinyconv export runs/…/model.safetensors net.onnx
  tinyconv book                           the experiments of Nielsen's chapter on convnets
"""

#: Epochs if none are named: the sample is small, so it is seen more often.
EPOCHS = {"mnist-sample": 12}
DEFAULT_EPOCHS = 3

#: What a run keeps in run.json, and what --resume therefore takes from there.
SETTINGS = ("data", "net", "epochs", "batch_size", "lr", "weight_decay", "seed")

#: Exit statuses: of a failure, and of a run ended by Ctrl-C (128 plus the signal's number).
FAILURE, INTERRUPTED = 1, 130


def main(arguments: Sequence[str] | None = None) -> int:
    """Run the command line; return the exit status.

    0 is success, 1 a failure, 2 wrong usage, 130 a run that Ctrl-C stopped.
    """
    options = _parser().parse_args(arguments)
    try:
        return int(options.run(options))
    except KeyboardInterrupt:
        print("tinyconv: interrupted", file=sys.stderr)
        return INTERRUPTED
    except BrokenPipeError:
        return FAILURE
    except (OSError, ValueError, TypeError, ArithmeticError, RuntimeError, ImportError) as error:
        if options.debug:
            traceback.print_exc()
        else:
            print(f"tinyconv: {error}", file=sys.stderr)
        return FAILURE


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
        prog="tinyconv",
        description="Train and use small convolutional networks.",
        epilog=EPILOG,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    parser.add_argument("--version", action="version", version=f"tinyconv {tc.__version__}")
    verbs = parser.add_subparsers(metavar="VERB", required=True)
    shared = argparse.ArgumentParser(add_help=False)
    shared.add_argument("--debug", action="store_true", help="show the traceback of an error")

    train = verbs.add_parser(
        "train",
        parents=[shared],
        help="train a network on digits",
        description="Train a network. Writes the model, its history and a picture of both to a "
        "run folder, with a checkpoint after every epoch.",
    )
    train.add_argument(
        "--data", choices=_image_sets(), help="data set (default: mnist-sample, in the package)"
    )
    train.add_argument(
        "--net",
        choices=tuple(models.NETS),
        metavar="NET",
        help="a name that 'tinyconv nets' lists (default: nielsen-conv-conv-relu)",
    )
    train.add_argument(
        "--epochs",
        type=_positive(int),
        help="how often to see every image (default: 12 for mnist-sample, else 3)",
    )
    train.add_argument(
        "--batch-size", type=_positive(int), help="images in a training step (default: 10)"
    )
    train.add_argument(
        "--lr", type=_positive(float), help="learning rate (default: what suits the net)"
    )
    train.add_argument(
        "--weight-decay",
        type=_not_negative,
        help="L2 coefficient of one step, on weights and not on biases (default: 0)",
    )
    train.add_argument(
        "--seed", type=int, help="fixes initial weights, shuffles and dropout (default: 0)"
    )
    train.add_argument("--device", choices=("cpu", "gpu"), default="cpu", help="default: cpu")
    train.add_argument("--out", type=Path, help="run folder (default: runs/NET-DATA-TIME)")
    train.add_argument(
        "--resume",
        type=Path,
        metavar="RUN",
        help="continue the run of this folder with its own settings; --epochs may raise the total",
    )
    train.set_defaults(run=_train, parser=train)

    predict = verbs.add_parser(
        "predict",
        parents=[shared],
        help="read digits from images",
        description="Read one handwritten digit from each image: PNG or JPEG of any size, dark on "
        "light or light on dark.",
    )
    predict.add_argument("model", type=Path, metavar="MODEL", help="file that 'train' wrote")
    predict.add_argument("images", type=Path, nargs="+", metavar="IMAGE")
    predict.set_defaults(run=_predict)

    nets = verbs.add_parser(
        "nets",
        parents=[shared],
        help="list the named networks",
        description="List the named networks with the shapes of their layers, their parameters "
        "and their multiply-adds for one image.",
    )
    nets.set_defaults(run=_nets)

    gradcheck = verbs.add_parser(
        "gradcheck",
        parents=[shared],
        help="check every gradient of the library",
        description="Compare the backward pass of every operation and every layer with numeric "
        "derivatives, and print the table. Exits with 1 if one is not ok.",
    )
    gradcheck.add_argument("--seed", type=int, default=0, help="of the inputs (default: 0)")
    gradcheck.set_defaults(run=_gradcheck)

    plot.add(verbs, shared)
    book.add(verbs, shared)
    export.add(verbs, shared)
    return parser


def _positive(kind: type) -> Any:
    def parse(text: str) -> Any:
        value = kind(text)
        if not 0 < value < float("inf"):
            raise ValueError
        return value

    parse.__name__ = f"positive {kind.__name__}"  # argparse puts it into its message
    return parse


def _not_negative(text: str) -> float:
    value = float(text)
    if not 0 <= value < float("inf"):
        raise ValueError
    return value


_not_negative.__name__ = "non-negative float"


def _image_sets() -> tuple[str, ...]:
    return ("mnist-sample", "mnist")


# The verbs.


def _train(options: argparse.Namespace) -> int:
    folder, settings = _resumed(options) if options.resume else _started(options)
    named = models.named_net(settings["net"])
    data = tc.data.load(settings["data"])
    net = named.build(seed=settings["seed"], device=options.device)
    folder.mkdir(parents=True, exist_ok=True)
    (folder / "run.json").write_text(json.dumps(settings, indent=2) + "\n")
    print(
        f"{settings['net']} on {settings['data']}: {len(data.train.y):,} images, "
        f"{net.parameters.flat.size:,} parameters, to {folder}/"
    )

    interrupt = tc.StopOnInterrupt()
    started = time.perf_counter()
    history = net.fit(
        *data.train,
        epochs=settings["epochs"],
        batch_size=settings["batch_size"],
        optimizer=tc.SGD(lr=settings["lr"], weight_decay=settings["weight_decay"]),
        validation_data=data.validation,
        callbacks=[interrupt],
        checkpoint=folder / "checkpoint",
        resume=options.resume is not None,
    )
    seconds = time.perf_counter() - started
    net.save(folder / "model.safetensors")
    history.save(folder / "history.csv")
    if len(history):
        from tinyconv import plots

        plots.training_report(net, history).savefig(folder / "training.png", dpi=120)
    if interrupt.interrupted:
        place = f"epoch {net.position.epoch + 1}, batch {net.position.batch}"
        print(f"\nstopped after {place}; saved. Continue with:\n  tinyconv train --resume {folder}")
        return INTERRUPTED
    figures = net.evaluate(*data.test)
    print(
        f"test accuracy {figures['accuracy']:.2%} on {len(data.test.y):,} images, "
        f"trained in {seconds:.1f} s"
    )
    print(f"{folder}/: model.safetensors, history.csv, training.png")
    return 0


def _started(options: argparse.Namespace) -> tuple[Path, dict[str, Any]]:
    """Return the folder and the settings of a run that starts now."""
    data = options.data or "mnist-sample"
    net = options.net or next(iter(models.NETS))
    settings = {
        "data": data,
        "net": net,
        "epochs": options.epochs or EPOCHS.get(data, DEFAULT_EPOCHS),
        "batch_size": options.batch_size or 10,
        "lr": options.lr or models.named_net(net).lr,
        "weight_decay": options.weight_decay or 0.0,
        "seed": options.seed or 0,
    }
    folder = options.out or Path("runs") / f"{net}-{data}-{time.strftime('%Y%m%d-%H%M%S')}"
    if checkpoint.exists(folder / "checkpoint"):
        options.parser.error(
            f"{folder} holds a run already; continue it with --resume {folder}, "
            "or name another folder"
        )
    return folder, settings


def _resumed(options: argparse.Namespace) -> tuple[Path, dict[str, Any]]:
    """Return the folder and the settings of the run to continue."""
    folder: Path = options.resume
    for name in (*SETTINGS, "out"):
        if name != "epochs" and getattr(options, name) is not None:
            flag = "--" + name.replace("_", "-")
            options.parser.error(f"{flag} cannot be changed on --resume")
    if not checkpoint.exists(folder / "checkpoint"):
        raise tc.FileError(f"{folder}: no checkpoint to resume from")
    try:
        settings = json.loads((folder / "run.json").read_text())
        settings = {name: settings[name] for name in SETTINGS}
    except (OSError, ValueError, KeyError, TypeError):
        raise tc.FileError(f"{folder / 'run.json'}: missing or damaged") from None
    if options.epochs is not None:
        if options.epochs < settings["epochs"]:
            options.parser.error(f"--epochs can only be raised; the run has {settings['epochs']}")
        settings["epochs"] = options.epochs
    return folder, settings


def _predict(options: argparse.Namespace) -> int:
    net = export.open_model(options.model)
    if net.input_shape != (1, 28, 28):
        raise tc.ShapeError(
            f"{options.model}: input of shape {net.input_shape}, expected (1, 28, 28)"
        )
    from tinyconv.data.images import read_digit

    for path in options.images:
        probabilities = net.predict_proba(read_digit(path)[None])[0]
        digit = int(probabilities.argmax())
        listing = "  ".join(f"{k} {p:.1%}" for k, p in enumerate(probabilities))
        print(f"{path}: {digit}   ({listing})")
    return 0


def _nets(options: argparse.Namespace) -> int:
    for name, named in models.NETS.items():
        net = named.build()
        print(f"{name}  (rate {named.lr})\n  {named.about}")
        print("  input " + "x".join(map(str, net.input_shape or ())))
        print("  " + net.summary().replace("\n", "\n  ") + "\n")
    return 0


def _gradcheck(options: argparse.Namespace) -> int:
    from tinyconv.testing import check_everything, format_checks

    reports = check_everything(seed=options.seed)
    print(format_checks(reports))
    return 0 if all(report.ok for report in reports.values()) else FAILURE
