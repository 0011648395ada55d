"""``tinyconv lessons``: copies the lessons, notebooks that have been run, and opens Jupyter."""

import argparse
import importlib.util
import subprocess
import sys
from pathlib import Path

from tinyconv.cli.options import Verbs


def add(verbs: Verbs) -> None:
    """Add ``lessons`` to the command line."""
    parser = verbs.add(
        "lessons",
        _lessons,
        "copy the lessons on backpropagation and convolution, as notebooks",
        "Copy the lessons and exercises to a folder, notebooks with their results and "
        "pictures in them, and open them where Jupyter is installed.",
    )
    parser.add_argument("--out", type=Path, default=Path("lessons"), help="default: lessons")
    parser.add_argument("--no-open", action="store_true", help="copy them, do not open them")


def _lessons(options: argparse.Namespace) -> int:
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
