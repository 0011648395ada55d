"""The command line: ``tinyconv train``, ``predict``, ``nets``, ``plot``, ``export``, ``book``."""

import argparse
import importlib.util
import os
import subprocess
import sys
import traceback
from collections.abc import Sequence
from pathlib import Path

import numpy as np

import tinyconv as tc
from tinyconv import models
from tinyconv.cli import book, data, explore, plot, train
from tinyconv.cli.options import WHOLE, Parser, Verbs, taken_by

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
  tinyconv explore                        a page that shows where gradients go
  tinyconv lessons                        notebooks that derive what it shows
  tinyconv book                           the experiments of Nielsen's chapter on convnets
"""

#: Classes whose probabilities "predict" prints: all, or the most likely ones.
MOST_LISTED = 10

#: Exit statuses: of a failure, and of a command ended by Ctrl-C (128 plus the signal's number).
FAILURE, INTERRUPTED = 1, 130


def main(arguments: Sequence[str] | None = None) -> int:
    """Run the command line; return the exit status.

    0 is success, 1 a failure, 2 wrong usage, 130 a run that Ctrl-C stopped, and 128 plus the
    number of the signal one that another signal did.
    """
    for stream in (sys.stdout, sys.stderr):
        if hasattr(stream, "reconfigure"):
            stream.reconfigure(errors="replace")  # a terminal may lack a letter
    options = _parser().parse_args(arguments)
    try:
        return int(options.run(options))
    except KeyboardInterrupt:
        print("tinyconv: interrupted", file=sys.stderr)
        return INTERRUPTED
    except BrokenPipeError:  # who read the output has left; what is buffered finds nobody either
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        return FAILURE
    except MemoryError:
        print("tinyconv: out of memory", file=sys.stderr)
        return FAILURE
    except (OSError, ValueError, TypeError, ArithmeticError, RuntimeError, ImportError) as error:
        if options.debug:
            traceback.print_exc()
        else:
            print(f"tinyconv: {error}", file=sys.stderr)
        return FAILURE


def _parser() -> argparse.ArgumentParser:
    parser: argparse.ArgumentParser = Parser(
        prog="tinyconv",
        description="Train and use small convolutional networks.",
        epilog=EPILOG,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    parser.add_argument("--version", action="version", version=f"tinyconv {tc.__version__}")
    shared = argparse.ArgumentParser(add_help=False)
    shared.add_argument("--debug", action="store_true", help="show the traceback of an error")
    verbs = Verbs(parser.add_subparsers(metavar="VERB", required=True), shared)

    train.add(verbs)
    predict = verbs.add("predict", _predict, "tell what is in images")
    predict.add_argument("model", type=Path, metavar="MODEL", help="file or run folder of 'train'")
    predict.add_argument("images", type=Path, nargs="+", metavar="IMAGE")
    verbs.add("nets", _nets, "list the named networks")
    gradcheck = verbs.add("gradcheck", _gradcheck, "check every gradient of the library")
    gradcheck.add_argument(
        "--seed", type=taken_by(WHOLE), default=0, help="of the inputs (default: 0)"
    )
    plot.add(verbs)
    explore.add(verbs)
    about = "copy the lessons on backpropagation and convolution, as notebooks"
    lessons = verbs.add("lessons", _lessons, about)
    lessons.add_argument("--out", type=Path, default=Path("lessons"), help="default: lessons")
    lessons.add_argument("--no-open", action="store_true", help="copy them, do not open them")
    book.add(verbs)
    export = verbs.add("export", _export, "write a model as ONNX")
    export.add_argument("model", type=Path, metavar="MODEL", help="file that 'train' wrote")
    export.add_argument("out", type=Path, metavar="OUT.onnx")
    return parser


# The verbs.


def _predict(options: argparse.Namespace) -> int:
    """Tell the class of each image, PNG or JPEG of any size, or the numbers that a net predicts.

    Handwritten digits may be dark on light or light on dark.
    """
    net = data.open_model(options.model)
    for path in options.images:
        x = data.picture(net, options.model, path)[None]
        if "accuracy" not in net.loss.metrics:
            print(f"{path}: " + "  ".join(f"{value:.6g}" for value in net.predict(x).ravel()))
            continue
        probabilities = net.predict_proba(x)[0]
        if probabilities.ndim > 1:
            raise tc.ShapeError(f"{options.model}: gives classes of pixels, expected one an image")
        names = net.class_names or [str(number) for number in range(len(probabilities))]
        listed = range(len(names))
        if len(names) > MOST_LISTED:
            listed = np.argsort(-probabilities)[:MOST_LISTED].tolist()
        listing = "  ".join(f"{names[k]} {probabilities[k]:.1%}" for k in listed)
        best = f"{names[int(probabilities.argmax())]}   ({listing})"
        print(f"{path}: {best if net.loss.one_class else listing}")  # of labels any may be there
    return 0


def _nets(options: argparse.Namespace) -> int:
    """List the named networks, each with what it costs.

    The shapes of its layers, their parameters and their multiply-adds for one image.
    """
    for name, named in models.NETS.items():
        net = named.build()
        print(f"{name}  (rate {named.lr})\n  {named.about}")
        print("  input " + "x".join(map(str, net.input_shape or ())))
        print("  " + net.summary().replace("\n", "\n  ") + "\n")
    return 0


def _gradcheck(options: argparse.Namespace) -> int:
    """Compare the backward pass of every operation and every layer with numeric derivatives.

    Prints the table, and exits with 1 if one is not ok.
    """
    from tinyconv.testing import check_everything, format_checks

    reports = check_everything(seed=options.seed)
    print(format_checks(reports))
    return 0 if all(report.ok for report in reports.values()) else FAILURE


def _lessons(options: argparse.Namespace) -> int:
    """Copy the lessons and exercises to a folder, and open them where Jupyter is installed.

    They are notebooks with their results and pictures in them.
    """
    from tinyconv import lessons  # with the gradient checker, which no other verb needs at once

    titles = lessons.titles()
    for path in lessons.copy_to(options.out):
        print(f"{path}  {titles[path.name]}")
    if options.no_open:
        return 0
    for package, application in (("jupyterlab", "lab"), ("notebook", "notebook")):
        if importlib.util.find_spec(package) is not None:
            return subprocess.call([sys.executable, "-m", "jupyter", application, str(options.out)])
    print("Open them with any program that shows notebooks; pip install jupyterlab is one.")
    return 0


def _export(options: argparse.Namespace) -> int:
    """Write a model for ONNX Runtime and every other runtime that reads ONNX.

    Needs pip install "tinyconv[onnx]".
    """
    if options.out.suffix != ".onnx":
        raise tc.ArgumentError(f"export: {options.out} does not end in .onnx")
    net = data.open_model(options.model)
    tc.interop.onnx.export(net, options.out)
    print(f"{options.out}: {net.parameter_count():,} parameters")
    return 0
