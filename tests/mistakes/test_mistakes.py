"""Natural mistakes, each with the sentence that it gets: ``table.txt``.

A line of the table is a mistake, the indented one below it what comes: the error's class and its
whole text, or "warning" and the text. ``python tests/mistakes/test_mistakes.py`` writes the table
anew, for somebody to read what has changed.
"""

import tempfile
import warnings
from pathlib import Path
from typing import Any

import numpy as np
import pytest

import tinyconv as tc
import tinyconv.errors

TABLE = Path(__file__).with_name("table.txt")
LINES = TABLE.read_text().splitlines()
MISTAKES = dict(zip(LINES[::2], LINES[1::2], strict=True))
X, Y = np.random.default_rng(0).random((12, 8), np.float32), np.arange(12) % 3
DATA = tc.data.load()


def sentence(mistake: str, folder: Path) -> str:
    """Make a mistake; return what comes of it."""
    (folder / "file").write_text("mine")
    names: dict[str, Any] = {
        "tc": tc,
        "np": np,
        "x": X,
        "y": Y,
        "net": tc.Sequential([tc.Linear(8, 3)]),
        "single": tc.Sequential([tc.Linear(8, 1)]),
        "relu": tc.ReLU(),
        "data": DATA,
        "folder": str(folder),
        "file": str(folder / "file"),
    }
    with warnings.catch_warnings(record=True) as seen:
        warnings.simplefilter("always", UserWarning)
        try:
            eval(mistake, names)
        except Exception as error:
            ours = type(error).__module__ == "tinyconv.errors"
            # Python's own error of a name that is not there, with our text: not 'X' object has no …
            python = str(error).startswith(("'", "module ", "type object "))
            ours |= isinstance(error, AttributeError) and not python
            text = f"{type(error).__name__}: {error}" if ours else f"FOREIGN {error!r}"
        else:
            text = f"warning: {seen[0].message}" if seen else "SILENT"
    return "    " + text.replace(str(folder), "FOLDER").replace("\n", " ")


def test_the_table_is_long_and_has_no_silence() -> None:
    assert len(MISTAKES) >= 500
    assert not [text for text in MISTAKES.values() if "SILENT" in text or "FOREIGN" in text]


def test_every_mistake_gets_its_sentence(tmp_path: Path) -> None:
    others = {}
    for number, (mistake, expected) in enumerate(MISTAKES.items()):
        folder = tmp_path / str(number)
        folder.mkdir()
        if (came := sentence(mistake, folder)) != expected:
            others[mistake] = came
    assert not others


@pytest.mark.parametrize(
    "right",
    [
        "tc.Conv2d(np.int64(1), np.int32(20), np.int64(5), padding=np.int64(2))",
        "tc.Sequential([tc.Linear(8, 3)], dtype=np.float32, seed=np.int64(3))",
        "tc.Sequential([tc.Linear(8, 3)], dtype=np.dtype('float64'))",
        "tc.SGD(lr=np.float32(0.1), momentum=0)",
        "tc.Dropout(np.float64(0.5))",
        "net.fit(x, y, batch_size=np.int64(10), epochs=np.int32(1), verbose=False)",
        "net.fit(x, y, verbose=np.bool_(False), callbacks=())",
        "tc.set_num_threads(None)",
    ],
)
def test_what_is_right_passes(right: str, tmp_path: Path) -> None:
    assert sentence(right, tmp_path) == "    SILENT"


if __name__ == "__main__":
    rows = []
    for each in MISTAKES:
        with tempfile.TemporaryDirectory() as place:
            rows += [each, sentence(each, Path(place))]
    TABLE.write_text("\n".join(rows) + "\n")
