"""The lessons as notebooks that have been run, and what they share; ``tinyconv lessons``.

The notebooks beside this file are made from ``examples/lessons`` by ``make_notebooks.py`` there.
"""

import json
from importlib.resources import files
from importlib.resources.abc import Traversable
from pathlib import Path

from tinyconv.errors import FileError
from tinyconv.lessons.grading import EXERCISES, Exercise, grade, slopes

__all__ = ["EXERCISES", "Exercise", "copy_to", "grade", "slopes", "titles"]


def titles() -> dict[str, str]:
    """Return the file name and the heading of each notebook.

    >>> titles()["1_one_neuron.ipynb"]
    'Lesson 1: one neuron, and the four equations of backpropagation'
    """
    found = {}
    for each in _shipped():
        cells = json.loads(each.read_text(encoding="utf-8"))["cells"]
        heading = next(line for line in "".join(cells[0]["source"]).splitlines() if line)
        found[each.name] = heading.lstrip("# ")
    return found


def copy_to(folder: Path) -> list[Path]:
    """Copy the notebooks to a folder, which is made if need be, and return where they are.

    Raises:
        FileError: one of them is there already, and was changed.
    """
    folder.mkdir(parents=True, exist_ok=True)
    copies = []
    for each in _shipped():
        path, text = folder / each.name, each.read_text(encoding="utf-8")
        if path.exists() and path.read_text(encoding="utf-8") != text:
            raise FileError(f"{path}: is there already, with changes; name another folder")
        path.write_text(text, encoding="utf-8")
        copies.append(path)
    return copies


def _shipped() -> list[Traversable]:
    """Return the notebooks in the order of their names."""
    here = files("tinyconv.lessons")
    found = [each for each in here.iterdir() if each.name.endswith(".ipynb")]
    return sorted(found, key=lambda each: each.name)
