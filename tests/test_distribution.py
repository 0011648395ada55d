"""What is published holds the tests and all that they read."""

import subprocess
import sys
import tomllib
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[1]
PROJECT = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]

#: Folders whose files all belong to the source distribution, the package's own apart.
FOLDERS = (".ci", "benchmarks", "docs", "examples", "tests", "tinyconv")
WRITTEN_BY_RUNNING = ("__pycache__", "runs", ".hypothesis", "node_modules")


def test_the_source_distribution_holds_the_tests_and_what_they_read(tmp_path):
    pytest.importorskip("setuptools", minversion="77")
    # The list of what would be packed, without packing it.
    program = "from setuptools import setup; setup()"
    command = [sys.executable, "-c", program, "-q", "egg_info", "--egg-base", str(tmp_path)]
    subprocess.run(command, cwd=ROOT, check=True, capture_output=True, timeout=100)
    listed = set((tmp_path / "tinyconv.egg-info" / "SOURCES.txt").read_text().splitlines())
    expected = {
        str(path.relative_to(ROOT))
        for folder in FOLDERS
        for path in (ROOT / folder).rglob("*")
        if path.is_file() and not set(path.parts) & set(WRITTEN_BY_RUNNING)
    }
    expected |= {
        "README.md",
        "CHANGELOG.md",
        "LICENSE",
        "mkdocs.yml",
        "pyproject.toml",
        "setup.cfg",
    }
    assert {"tests/conftest.py", "tests/ops/helpers.py", ".ci/run"} <= expected
    assert expected - listed == set()


def test_the_classifiers_name_the_versions_of_python():
    versions = [
        text.rpartition(" ")[2] for text in PROJECT["classifiers"] if "Python :: 3." in text
    ]
    assert versions == ["3.11", "3.12", "3.13", "3.14"]
    assert PROJECT["requires-python"] == f">={versions[0]}"
