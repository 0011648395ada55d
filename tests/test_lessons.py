"""The lessons that ship are those of the sources, run, with pictures; exercises are graded."""

import base64
import importlib.util
import json
import re
from pathlib import Path

import numpy as np
import pytest

import tinyconv as tc
from tinyconv.cli import main
from tinyconv.lessons import EXERCISES, copy_to, grade, slopes, titles

ROOT = Path(__file__).parents[1]
FOLDER = ROOT / "examples" / "lessons"
SHIPPED = ROOT / "tinyconv" / "lessons"
LESSONS = sorted(FOLDER.glob("[0-9]*.py"))
SOURCES = [*LESSONS, FOLDER / "exercises.py", FOLDER / "solutions.py"]


def cells_of(path):
    """Return (kind, text) of the cells of a source."""
    cells = []
    for part in re.split(r"^# %%", path.read_text(), flags=re.MULTILINE)[1:]:
        head, _, text = part.partition("\n")
        text = text.strip("\n")
        if "[markdown]" in head:
            cells.append(("markdown", re.sub(r"^# ?", "", text, flags=re.MULTILINE)))
        else:
            cells.append(("code", text))
    return cells


def shipped(path):
    return json.loads((SHIPPED / f"{path.stem}.ipynb").read_text(encoding="utf-8"))["cells"]


def text_of(value):
    return value if isinstance(value, str) else "".join(value)


def pictures_of(cells):
    return [
        output["data"]["image/png"]
        for cell in cells
        for output in cell.get("outputs", [])
        if "image/png" in output.get("data", {})
    ]


def test_there_are_six_lessons():
    assert [path.name[0] for path in LESSONS] == list("123456")
    assert {f"{path.stem}.ipynb" for path in SOURCES} == {
        path.name for path in SHIPPED.glob("*.ipynb")
    }


@pytest.mark.parametrize("path", SOURCES, ids=lambda path: path.stem)
def test_a_notebook_is_its_source(path):
    found = [(cell["cell_type"], text_of(cell["source"])) for cell in shipped(path)]
    assert found == cells_of(path), "run examples/lessons/make_notebooks.py"


@pytest.mark.parametrize("path", SOURCES, ids=lambda path: path.stem)
def test_a_notebook_was_run_without_an_error(path):
    code = [cell for cell in shipped(path) if cell["cell_type"] == "code"]
    assert [cell["execution_count"] for cell in code] == list(range(1, len(code) + 1))
    kinds = {output["output_type"] for cell in code for output in cell["outputs"]}
    assert kinds <= {"stream", "display_data", "execute_result"}
    assert "/work" not in json.dumps(code)


@pytest.mark.parametrize("path", LESSONS, ids=lambda path: path.stem)
def test_every_figure_of_a_lesson_is_in_it(path):
    source = path.read_text()
    drawn = len(re.findall(r"^(?:figure|plots\.\w+\(.*\))$", source, re.MULTILINE))
    pictures = pictures_of(shipped(path))
    assert len(pictures) == drawn > 0
    assert all(base64.b64decode(picture).startswith(b"\x89PNG") for picture in pictures)
    assert source.count("assert ") > 3


@pytest.mark.slow
@pytest.mark.parametrize("path", SOURCES, ids=lambda path: path.stem)
def test_a_lesson_runs_as_a_notebook_and_shows_its_pictures(path):
    pytest.importorskip("nbclient")
    pytest.importorskip("ipykernel")
    spec = importlib.util.spec_from_file_location("make_notebooks", FOLDER / "make_notebooks.py")
    make = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(make)
    notebook = make.notebook_of(path.read_text())
    make.run(notebook)
    assert len(pictures_of(notebook.cells)) == len(pictures_of(shipped(path)))


@pytest.mark.slow
def test_a_fit_in_a_notebook_leaves_one_bar():
    nbformat, nbclient = pytest.importorskip("nbformat"), pytest.importorskip("nbclient")
    pytest.importorskip("ipykernel")
    source = """import numpy as np, tinyconv as tc
net = tc.Sequential([tc.Linear(2, 2)], input_shape=(2,))
net.fit(np.eye(2), np.arange(2), epochs=3)
net"""
    notebook = nbformat.v4.new_notebook(cells=[nbformat.v4.new_code_cell(source)])
    nbclient.NotebookClient(notebook, kernel_name="python3").execute()
    bar, *lines, table = notebook.cells[0].outputs
    assert "epoch 3/3 ██████████ 3/3 batches" in bar.data["text/plain"]
    text = "".join(line.text for line in lines)
    assert [line[:9] for line in text.splitlines() if line.startswith("epoch")] == [
        f"epoch {k}/3" for k in (1, 2, 3)
    ]
    assert table.data["text/html"].startswith("<table>")


def solutions():
    """Return the functions of the solutions by the name of their exercise."""
    source = (FOLDER / "solutions.py").read_text()
    names = {}
    exec(compile(source, "solutions.py", "exec"), names)
    return {name: names[function] for name, function in graded("solutions.py")}


def graded(name):
    return re.findall(r'grade\("([^"]+)", (\w+)\)', (FOLDER / name).read_text())


def test_every_exercise_has_a_blank_and_a_solution(capsys):
    assert graded("exercises.py") == graded("solutions.py")
    assert [name for name, _ in graded("solutions.py")] == list(EXERCISES)
    assert sorted({exercise.lesson for exercise in EXERCISES.values()}) == [1, 2, 3, 4, 5, 6]
    assert {name: grade(name, function) for name, function in solutions().items()} == dict.fromkeys(
        EXERCISES, "right"
    )
    exec(compile((FOLDER / "exercises.py").read_text(), "exercises.py", "exec"), {})
    assert capsys.readouterr().out.count("not filled in yet") == len(EXERCISES)


def unflipped(dy, x, w):
    """The natural mistake: an ordinary convolution of the gradient, the kernel not turned."""
    dx, dw = solutions()["convolution"](dy, x, w)
    padded = np.pad(dy, [(side - 1, side - 1) for side in w.shape])
    for h, v in np.ndindex(x.shape):
        dx[h, v] = np.sum(w * padded[h : h + w.shape[0], v : v + w.shape[1]])
    return dx, dw


@pytest.mark.parametrize(
    ("name", "mistaken", "words"),
    [
        ("convolution", unflipped, "flip"),
        ("layer", lambda dz, x, w, b: (dz @ w, dz.T @ x / len(x), dz.sum(axis=0)), "inputs[1]"),
        ("layer", lambda dz, x, w, b: (dz @ w, dz.T @ x, -dz.sum(axis=0)), "sign"),
        ("softplus", lambda dy, x: dy * x, "inputs[0]"),
    ],
)
def test_a_mistake_is_named(name, mistaken, words):
    assert words in grade(name, mistaken)


def test_an_unknown_exercise_is_refused():
    with pytest.raises(tc.ArgumentError, match=r"grade: no exercise 'knitting', expected one of"):
        grade("knitting", lambda dy, x: dy)


def test_slopes_leave_the_values_as_they_were():
    values = np.array([[1.0, 2.0]])
    found = slopes(lambda: float(values[0, 0] * values[0, 1]), values)
    np.testing.assert_allclose(found, [[2, 1]])
    assert values.tolist() == [[1, 2]]


def test_the_command_copies_the_lessons(tmp_path, capsys):
    folder = tmp_path / "course"
    assert main(["lessons", "--out", str(folder), "--no-open"]) == 0
    assert {path.name for path in folder.iterdir()} == set(titles())
    assert "Lesson 3: the equations of backpropagation" in capsys.readouterr().out
    assert len(copy_to(folder)) == len(titles())  # the same ones once more
    (folder / "exercises.ipynb").write_text("{}")
    assert main(["lessons", "--out", str(folder), "--no-open"]) == 1
    assert "exercises.ipynb: is there already, with changes" in capsys.readouterr().err
