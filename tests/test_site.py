"""The site: every operation has its equations, every name and link of its pages is there."""

import importlib.util
import re
import shutil
import subprocess
from pathlib import Path

import pytest

import tinyconv as tc
from tinyconv import ops

ROOT = Path(__file__).parents[1]
DOCS = ROOT / "docs"
PAGES = sorted(DOCS.glob("*.md"))
NAVIGATION = (ROOT / "mkdocs.yml").read_text()


def module(name):
    spec = importlib.util.spec_from_file_location(name, DOCS / f"{name}.py")
    loaded = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(loaded)
    return loaded


def test_every_operation_has_its_equations():
    pairs = {name for name in ops.__all__ if f"{name}_backward" in ops.__all__}
    assert set(module("equations").EQUATIONS) == pairs | {"im2col"}


def test_examples_of_docstrings_are_fenced():
    pytest.importorskip("griffe")
    text = module("docstrings").tidy("Add, as :func:`~a.f` does.\n\n    >>> 1 + 1\n    2\n\nMore.")
    fenced = "    ```pycon\n    >>> 1 + 1\n    2\n    ```"
    assert text == f"Add, as `a.f` does.\n\n{fenced}\n\nMore."


def test_equations_close_what_they_open():
    for forward, backward in module("equations").EQUATIONS.values():
        for tex in (forward, backward):
            assert tex.count("{") == tex.count("}")
            assert tex.count(r"\left") == tex.count(r"\right")


def test_what_is_ours_in_the_table_is_there():
    table = (DOCS / "from_elsewhere.md").read_text().partition("## What differs")[0]
    rows = [line.split("|")[2] for line in table.splitlines() if line.startswith("| ")][2:]
    assert len(rows) >= 14
    for row in rows:
        for name in re.findall(r"`tc\.(\w+)", row):
            assert hasattr(tc, name), row
        for name in re.findall(r"`net\.(\w+)", row):
            assert hasattr(tc.Sequential, name), row


def test_every_page_is_in_the_navigation_and_the_other_way_round():
    named = set(re.findall(r": (\S+\.(?:md|ipynb))$", NAVIGATION, re.MULTILINE))
    assert {page.name for page in PAGES} <= named
    made = (DOCS / "build_pages.py").read_text()
    for name in named - {page.name for page in PAGES}:
        assert name.startswith("lessons/") or f'"{name}"' in made or name == "ops/index.md", name
    shipped = {path.name for path in (ROOT / "tinyconv" / "lessons").glob("*.ipynb")}
    assert {Path(name).name for name in named if name.endswith(".ipynb")} == shipped


@pytest.mark.parametrize("page", PAGES, ids=lambda page: page.name)
def test_the_links_of_a_page_lead_somewhere(page):
    for target in re.findall(r"\]\(([^)#]+?)(?:#[^)]*)?\)", page.read_text()):
        assert "://" in target or (DOCS / target).exists() or f": {target}\n" in NAVIGATION, target


@pytest.mark.slow
def test_the_site_is_built_without_a_warning(tmp_path):
    if importlib.util.find_spec("mkdocs") is None:
        pytest.skip('needs pip install "tinyconv[docs]"')
    program = shutil.which("mkdocs") or "mkdocs"
    command = [program, "build", "--strict", "--site-dir", str(tmp_path / "site")]
    done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, timeout=900)
    assert done.returncode == 0, done.stderr
    for page in ("index", "explore", "ops/conv2d/index", "lessons/index", "reference/index"):
        place = tmp_path / "site" / f"{page}.html"
        assert place.exists() or (place.with_suffix("") / "index.html").exists()
