"""``tinyconv book``: lists and runs the experiments of chapter 6 of Nielsen's book.

The experiments are the scripts of ``examples/book``, each runnable on its own. They are found
beside the package in a checkout, and among the data files of an installation.
"""

import argparse
import ast
import runpy
import sys
import sysconfig
from pathlib import Path

import tinyconv as tc
from tinyconv.cli.options import WHOLE, Verbs, taken_by
from tinyconv.messages import hint
from tinyconv.tables import text_table
from tinyconv.trials import attempt_all

#: Where the scripts may lie, in this order.
PLACES = (
    Path(__file__).parents[2] / "examples" / "book",
    Path(sysconfig.get_path("data")) / "share" / "tinyconv" / "book",
)


def add(verbs: Verbs) -> None:
    """Add ``book`` to the command line."""
    parser = verbs.add("book", _book, "list or run the experiments of Nielsen's book")
    parser.add_argument("name", nargs="?", metavar="NAME", help="an experiment of the list")
    parser.add_argument("--quick", action="store_true", help="a tenth of the epochs")
    parser.add_argument(
        "--seed",
        type=taken_by(WHOLE),
        nargs="+",
        default=[0],
        help="of the run; of several, each has a process of its own (default: 0)",
    )
    parser.add_argument(
        "--out",
        type=Path,
        default=Path("runs") / "book",
        help="folder for checkpoints, models and results (default: runs/book)",
    )


def folder() -> Path:
    """Return the folder with the scripts.

    Raises:
        FileError: there is none.
    """
    for place in PLACES:
        if place.is_dir():
            return place
    raise tc.FileError(f"{PLACES[0]}: no such folder; the experiments are not installed")


def _scripts() -> dict[str, Path]:
    """Return the scripts that are experiments, by name: those whose name starts with a number."""
    return {
        path.stem.partition("_")[2].replace("_", "-"): path
        for path in sorted(folder().glob("[0-9]*_*.py"))
    }


def _book(options: argparse.Namespace) -> int:
    """List the experiments of chapter 6 of Nielsen's book; with a name, run that one on MNIST.

    A run that was stopped continues where it was.
    """
    scripts = _scripts()
    if options.name is None:
        about = {n: ast.get_docstring(ast.parse(p.read_text())) or "" for n, p in scripts.items()}
        print(text_table([(name, text.partition("\n")[0]) for name, text in about.items()], left=2))
        print("\ntinyconv book NAME --quick runs one on a tenth of its epochs.")
        return 0
    if options.name not in scripts:
        raise tc.ArgumentError(
            f"no experiment {options.name!r}, expected one of {', '.join(scripts)}"
            f"{hint(options.name, scripts)}"
        )
    always = ["--out", str(options.out), *["--quick"] * options.quick]
    runs = [(scripts[options.name], [*always, "--seed", str(seed)]) for seed in options.seed]
    if len(runs) == 1:
        return _execute(*runs[0])
    worst = 0
    for seed, attempt in zip(options.seed, attempt_all(_execute, runs, None), strict=True):
        if attempt.error is not None:
            print(f"tinyconv: seed {seed}: {attempt.error}", file=sys.stderr)
        worst = max(worst, 1 if attempt.error is not None else attempt.value)
    return worst


def _execute(script: Path, arguments: list[str]) -> int:
    """Run a script as ``python SCRIPT ARGUMENTS`` does, but in this process.

    So a signal that ends one ends the other. What it imports from its folder is its own.
    """
    before = sys.argv, [*sys.path]
    beside = {path.stem for path in script.parent.glob("*.py")} & sys.modules.keys()
    others = {name: sys.modules.pop(name) for name in beside}
    sys.argv, sys.path = [str(script), *arguments], [str(script.parent), *sys.path]
    try:
        runpy.run_path(str(script), run_name="__main__")
    except SystemExit as end:
        return end.code if isinstance(end.code, int) else int(end.code is not None)
    finally:
        sys.argv, sys.path[:] = before
        for path in script.parent.glob("*.py"):
            sys.modules.pop(path.stem, None)
        sys.modules.update(others)
    return 0
