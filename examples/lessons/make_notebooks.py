"""Run the lessons as notebooks, and put them with their results into the package.

Needs ``pip install "tinyconv[lessons]"``::

    python examples/lessons/make_notebooks.py            # all of them
    python examples/lessons/make_notebooks.py 3 5        # these
"""

import json
import re
import sys
import tempfile
from pathlib import Path
from typing import Any

import nbformat
from nbclient import NotebookClient

HERE = Path(__file__).parent
SHIPPED = HERE.parents[1] / "tinyconv" / "lessons"


def cells_of(source: str) -> list[dict[str, Any]]:
    """Return the cells of a script in percent format, each with its kind and its text."""
    cells = []
    for part in re.split(r"^# %%", source, flags=re.MULTILINE)[1:]:
        head, _, text = part.partition("\n")
        text = text.strip("\n")
        kind = "markdown" if "[markdown]" in head else "code"
        if kind == "markdown":
            text = re.sub(r"^# ?", "", text, flags=re.MULTILINE)
        cells.append({"kind": kind, "text": text})
    return cells


def notebook_of(source: str) -> Any:
    """Return a notebook of a script, not yet run."""
    make = {"markdown": nbformat.v4.new_markdown_cell, "code": nbformat.v4.new_code_cell}
    cells = [make[cell["kind"]](cell["text"]) for cell in cells_of(source)]
    for number, cell in enumerate(cells):
        cell["id"] = f"cell-{number}"  # the same in every run
    kernel = {"name": "python3", "display_name": "Python 3", "language": "python"}
    return nbformat.v4.new_notebook(cells=cells, metadata={"kernelspec": kernel})


def run(notebook: Any) -> None:
    """Run a notebook in a folder of its own; the results come to stand in it."""
    with tempfile.TemporaryDirectory() as folder:
        place = {"metadata": {"path": folder}}
        NotebookClient(notebook, timeout=900, kernel_name="python3", resources=place).execute()
    for cell in notebook.cells:
        cell.metadata.pop("execution", None)  # the time of the day


def main(chosen: list[str]) -> None:
    """Run the lessons whose names begin so, all if none are named."""
    for path in sorted(HERE.glob("*.py")):
        is_wanted = not chosen or any(path.stem.startswith(name) for name in chosen)
        if path == Path(__file__) or not is_wanted:
            continue
        notebook = notebook_of(path.read_text())
        run(notebook)
        text = json.dumps(notebook, indent=1, ensure_ascii=False, sort_keys=True) + "\n"
        (SHIPPED / f"{path.stem}.ipynb").write_text(text, encoding="utf-8")
        print(f"{path.stem}.ipynb: {len(text) / 1e6:.2f} MB")


if __name__ == "__main__":
    main(sys.argv[1:])
