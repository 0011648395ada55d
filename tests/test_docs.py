"""Every snippet of the documentation runs, and prints what the comment behind it says."""

import re
from pathlib import Path

import pytest

from tinyconv.layers import LAYERS
from tinyconv.losses import LOSSES

PAGES = sorted((Path(__file__).parents[1] / "docs").glob("*.md"))


@pytest.fixture(autouse=True)
def registries():
    """What a page registers is forgotten after it."""
    kept = [(registry, dict(registry)) for registry in (LAYERS, LOSSES)]
    yield
    for registry, before in kept:
        registry.clear()
        registry.update(before)


@pytest.mark.parametrize("page", PAGES, ids=lambda page: page.name)
def test_the_snippets_of_a_page_run_in_order(page, tmp_path, monkeypatch, capsys):
    monkeypatch.chdir(tmp_path)
    text = page.read_text()
    names: dict[str, object] = {"__name__": "page"}
    for block in re.findall(r"^```python\n(.*?)^```", text, re.MULTILINE | re.DOTALL):
        exec(compile(block, page.name, "exec"), names)
    printed = capsys.readouterr().out.splitlines()
    promises = re.findall(r"^ *print\([^#\n]*\) +# (.*)$", text, re.MULTILINE)
    assert all(promise in printed for promise in promises)


@pytest.mark.parametrize("page", PAGES, ids=lambda page: page.name)
def test_a_class_of_ones_own_has_at_most_15_lines(page):
    for block in re.findall(r"^```python\n(.*?)^```", page.read_text(), re.MULTILINE | re.DOTALL):
        starts = [m.start() for m in re.finditer(r"^(?:@\S+\n)*class ", block, re.MULTILINE)]
        for start in starts:
            body = re.match(r"(?:@.*\n)*class .*\n(?:(?: .*)?\n)*", block[start:])
            assert body is not None
            lines = [line for line in body.group().splitlines() if line.strip()]
            assert len(lines) <= 15, lines[0]
