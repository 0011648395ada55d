"""Every lesson runs from top to bottom, holds what it asserts, and leaves its pictures."""

import re
import subprocess
import sys
from pathlib import Path

import pytest

FOLDER = Path(__file__).parents[1] / "examples" / "lessons"
LESSONS = sorted(FOLDER.glob("[0-9]*.py"))


def test_there_are_four_lessons():
    assert [path.name[0] for path in LESSONS] == ["1", "2", "3", "4"]


@pytest.mark.parametrize("lesson", LESSONS, ids=lambda path: path.stem)
def test_a_lesson_runs_and_draws(lesson, tmp_path):
    done = subprocess.run(
        [sys.executable, str(lesson)], cwd=tmp_path, capture_output=True, text=True, timeout=200
    )
    assert done.returncode == 0, done.stderr
    text = lesson.read_text()
    named = set(re.findall(r'show\(figure, "([^"]+)"\)', text))
    assert named
    assert {path.stem for path in (tmp_path / "pictures").glob("*.png")} == named
    assert text.count("assert ") > 3


@pytest.mark.parametrize("lesson", LESSONS, ids=lambda path: path.stem)
def test_a_lesson_is_a_notebook_in_percent_format(lesson):
    text = lesson.read_text()
    assert "format_name: percent" in text
    assert text.count("# %% [markdown]") >= 5
    code = [cell for cell in text.split("# %%")[1:] if not cell.startswith(" [markdown]")]
    assert all(re.search(r"^\w", cell, re.MULTILINE) for cell in code)
