"""Every snippet of the README runs, and what it names exists."""

import re
import shlex
from pathlib import Path

import pytest

from tinyconv.cli import main

README = Path(__file__).parents[1] / "README.md"
TEXT = README.read_text()


def blocks(language: str) -> list[str]:
    return re.findall(rf"^```{language}\n(.*?)^```", TEXT, re.MULTILINE | re.DOTALL)


def test_the_python_snippets_run_in_order(tmp_path, monkeypatch, capsys):
    monkeypatch.chdir(tmp_path)
    names: dict[str, object] = {}
    assert len(blocks("python")) >= 3
    for block in blocks("python"):
        exec(compile(block, "README.md", "exec"), names)
    assert (tmp_path / "net.safetensors").exists()
    # A comment behind a print says what is printed.
    printed = capsys.readouterr().out.splitlines()
    promises = re.findall(r"print\([^#\n]*\) +# (\([\d, ()]+\)|wrong)", TEXT)
    assert len(promises) == 4
    assert all(promise in printed for promise in promises)


def test_the_two_opening_commands_are_what_a_fresh_machine_needs():
    first, second = (block.strip() for block in blocks("sh")[:2])
    venv = "python3 -m venv .venv && .venv/bin/pip install -e "
    assert first == venv + ". && .venv/bin/tinyconv train"
    assert second == venv + '".[test]" && .venv/bin/pytest -n auto'
    assert second in (README.parent / ".ci" / "run").read_text()


def test_the_command_lines_are_accepted(tmp_path, capsys, monkeypatch):
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("TINYCONV_DATA", str(tmp_path))
    monkeypatch.setattr("tinyconv.testing.check_everything", lambda seed: {})
    (tmp_path / "photos").mkdir()
    lines = [line for block in blocks("sh")[2:] for line in block.splitlines()]
    assert len(lines) >= 4
    for line in lines:
        program, *arguments = shlex.split(line, comments=True)
        assert program == "tinyconv"
        if arguments in (["nets"], ["gradcheck"], ["book"], ["lessons", "--no-open"]):
            assert main(arguments) == 0
        else:  # wrong usage would exit with 2; that there is no such file or data is status 1
            assert main(arguments) == 1
    assert "error:" not in capsys.readouterr().err


@pytest.mark.parametrize("path", re.findall(r"\]\(([^)#:]+)\)", TEXT))
def test_the_files_that_it_shows_exist(path):
    assert (README.parent / path).exists()


@pytest.mark.parametrize("place", re.findall(r"`([a-z_]+(?:\.py|/))`", TEXT.partition("## How")[2]))
def test_the_places_of_the_table_exist(place):
    assert (README.parent / "tinyconv" / place).exists()


def rows(path: str, section: str = "") -> list[list[str]]:
    """Return the cells of the rows of the first table of a section."""
    text = (README.parent / path).read_text()
    assert section in text
    text = text.partition(section)[2] if section else text
    table = re.search(r"(?:^\|.*\n)+", text, re.MULTILINE)
    assert table is not None
    lines = table.group().splitlines()[2:]
    return [[cell.strip().strip("*") for cell in line.split("|")[1:-1]] for line in lines]


def ratio(cell: str) -> str:
    return cell.split("*")[0]


#: In the order of the README.
LARGER = (
    "resnet20",
    "VGG-like, batch norm",
    "depthwise and 1x1",
    "autoencoder, transposed convolutions",
    "three dimensions",
)


def test_the_figures_of_speed_are_those_of_the_tables():
    results = "benchmarks/RESULTS.md"
    steps = rows(results, "## A training step")
    for batch in ("10", "128"):
        ratios = {row[0]: ratio(row[5]) for row in steps if row[1] == batch}
        assert len(ratios) == 8
        low, high = min(map(float, ratios.values())), max(map(float, ratios.values()))
        text = f"{ratios['conv-conv-ReLU']} (conv-conv-ReLU), {low} to {high} over eight nets"
        assert text in TEXT
    predictions = [row for row in rows(results, "## Prediction") if row[1] == "ONNX Runtime"]
    assert len(predictions) == 4
    assert ", ".join(ratio(row[5]) for row in predictions) in TEXT
    by_torch = [row for row in rows(results, "## Prediction") if row[1] == "PyTorch"]
    figures = []
    for table in (steps, by_torch):
        found = {row[0]: ratio(row[5]) for row in table}
        figures.append(", ".join(found[net] for net in LARGER))
    assert "; ".join(figures) in TEXT
    firsts = rows(results, "## The first step")
    cold, warm = (float(row[1].split()[0]) for row in firsts[:2])
    assert f"{cold:.1f} s; {warm:.1f} s" in TEXT


def test_the_accuracies_are_those_of_the_tables():
    medians = {row[0]: (row[1], row[2]) for row in rows("examples/book/RESULTS.md")}
    for row, words in (("the same with ReLU, lambda 0.1", "ReLU"), ("vote of 5 such nets", "vote")):
        book, ours = medians[row]
        assert f"{words} | {ours} % (the book: {book} %)" in TEXT
    small, *_ = rows("examples/beyond/RESULTS.md")
    assert f"median of {len(small[3].split(', '))} seeds | {small[2]} %" in TEXT
    assert f"{round(float(small[8]))} minutes of one core" in TEXT
