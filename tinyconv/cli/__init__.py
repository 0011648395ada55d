"""The command line: ``tinyconv train``, ``predict``, ``nets``, ``plot``, ``export``, ``book``."""

import argparse
import json
import sys
import time
import traceback
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np

import tinyconv as tc
from tinyconv import models
from tinyconv.cli import book, data, export, plot
from tinyconv.training import checkpoint

__all__ = ["main"]

EPILOG = """\
examples:
  tinyconv train                          5,000 digits that ship with the package
  tinyconv train --data mnist --epochs 3  all of MNIST
  tinyconv train --data photos --size 32  pictures of your own, a folder a class
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
SETTINGS = ("data", *data.OPTIONS, "net", "epochs", "batch_size", "lr", "weight_decay", "seed")

#: Pixels a side below which two convolutions of 5x5 with their pools leave too little.
LEAST_SIDE = 16

#: Classes whose probabilities "predict" prints: all, or the most likely ones.
MOST_LISTED = 10

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
        help="train a network on digits or on data of your own",
        description="Train a network. Writes the model, its history and a picture of both to a "
        "run folder, with a checkpoint after every epoch.",
    )
    data.add_options(train)
    train.add_argument(
        "--net",
        choices=tuple(models.NETS),
        metavar="NET",
        help="a name that 'tinyconv nets' lists (default: nielsen-conv-conv-relu; for samples that "
        "are no pictures of at least 16 x 16, nielsen-fully-connected)",
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
        help="tell what is in images",
        description="Tell the class of each image, PNG or JPEG of any size. Handwritten digits may "
        "be dark on light or light on dark.",
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


# The verbs.


def _train(options: argparse.Namespace) -> int:
    folder, settings, samples = _resumed(options) if options.resume else _started(options)
    net = models.named_net(settings["net"]).build(
        input_shape=samples.train.x.shape[1:],
        classes=len(samples.class_names),
        seed=settings["seed"],
        device=options.device,
    )
    report = tc.data.report(samples)
    net.class_names, net.pixels = report.class_names, report.pixels
    folder.mkdir(parents=True, exist_ok=True)
    (folder / "run.json").write_text(json.dumps(settings, indent=2) + "\n")
    print(report)
    print(
        f"{settings['net']} on {settings['data']}: {len(samples.train.y):,} samples, "
        f"{net.parameters.flat.size:,} parameters, to {folder}/"
    )

    interrupt = tc.StopOnInterrupt()
    started = time.perf_counter()
    history = net.fit(
        *samples.train,
        epochs=settings["epochs"],
        batch_size=settings["batch_size"],
        optimizer=tc.SGD(lr=settings["lr"], weight_decay=settings["weight_decay"]),
        validation_data=samples.validation,
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
    figures = net.evaluate(*samples.test)
    print(
        f"test accuracy {figures['accuracy']:.2%} on {len(samples.test.y):,} samples, "
        f"trained in {seconds:.1f} s"
    )
    print(f"{folder}/: model.safetensors, history.csv, training.png")
    return 0


def _started(options: argparse.Namespace) -> tuple[Path, dict[str, Any], tc.data.DataSet]:
    """Return the folder, the settings and the data of a run that starts now."""
    options.data = options.data or "mnist-sample"
    samples = data.load(vars(options))
    net = options.net or _default_net(samples.train.x.shape[1:])
    settings = {
        "data": options.data,
        **{name: getattr(options, name) for name in data.OPTIONS},
        "net": net,
        "epochs": options.epochs or EPOCHS.get(options.data, DEFAULT_EPOCHS),
        "batch_size": options.batch_size or 10,
        "lr": options.lr or models.named_net(net).lr,
        "weight_decay": options.weight_decay or 0.0,
        "seed": options.seed or 0,
    }
    name = f"{net}-{Path(options.data).stem}-{time.strftime('%Y%m%d-%H%M%S')}"
    folder = options.out or Path("runs") / name
    if checkpoint.exists(folder / "checkpoint"):
        options.parser.error(
            f"{folder} holds a run already; continue it with --resume {folder}, "
            "or name another folder"
        )
    return folder, settings, samples


def _default_net(shape: tuple[int, ...]) -> str:
    """Return the first net of the list, which convolves twice, or the one for all other samples."""
    convolves = len(shape) == 3 and min(shape[1:]) >= LEAST_SIDE
    return "nielsen-conv-conv-relu" if convolves else "nielsen-fully-connected"


def _resumed(options: argparse.Namespace) -> tuple[Path, dict[str, Any], tc.data.DataSet]:
    """Return the folder, the settings and the data of the run to continue."""
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
    return folder, settings, data.load(settings)


def _predict(options: argparse.Namespace) -> int:
    net = export.open_model(options.model)
    for path in options.images:
        probabilities = net.predict_proba(data.picture(net, options.model, path)[None])[0]
        names = net.class_names or [str(number) for number in range(len(probabilities))]
        listed = range(len(names))
        if len(names) > MOST_LISTED:
            listed = np.argsort(-probabilities)[:MOST_LISTED].tolist()
        listing = "  ".join(f"{names[k]} {probabilities[k]:.1%}" for k in listed)
        print(f"{path}: {names[int(probabilities.argmax())]}   ({listing})")
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
