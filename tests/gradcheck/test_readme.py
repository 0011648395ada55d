"""The snippets of the checker's README run, each where its library is installed."""

import importlib.util
import re
from pathlib import Path
from typing import get_args

import pytest

import tinyconv.gradcheck
from tinyconv.gradcheck import Verdict

from . import bugs, bugs_elsewhere

README = Path(tinyconv.gradcheck.__file__).with_name("README.md").read_text(encoding="utf-8")
SNIPPETS = re.findall(r"```python\n(.*?)```", README, flags=re.DOTALL)
PLAIN = [s for s in SNIPPETS if "import torch" not in s and "import jax" not in s]


def run(snippet, capsys):
    """Run a snippet; return its names and what it prints."""
    names = {"__name__": "snippet"}
    exec(compile(snippet, "README.md", "exec"), names)
    return names, capsys.readouterr().out


def promises(snippet):
    """What the comments behind prints say is printed, up to an ellipsis."""
    found = re.findall(r"^print\(.*\)  # (.*)$", snippet, re.MULTILINE)
    found += re.findall(r"^# (.*)$", snippet.rpartition("print(")[2], re.MULTILINE)
    return [text.removesuffix(" ...") for text in found if not text.startswith("the table")]


@pytest.mark.parametrize("snippet", PLAIN, ids=range(len(PLAIN)))
def test_the_snippets_run_and_print_what_they_say(snippet, capsys):
    _, printed = run(snippet, capsys)
    for promise in promises(snippet):
        assert promise in printed


def test_there_are_snippets():
    assert len(PLAIN) == 5
    assert len(SNIPPETS) == 7
    assert sum(len(promises(snippet)) for snippet in SNIPPETS) == 12


@pytest.mark.oracle
def test_the_pytorch_functions(torch, capsys):
    torch.manual_seed(0)
    (snippet,) = [s for s in SNIPPETS if "import torch\n" in s]
    _, printed = run(snippet, capsys)
    for promise in promises(snippet):
        assert promise in printed


@pytest.mark.oracle
@pytest.mark.skipif(importlib.util.find_spec("jax") is None, reason="needs JAX: pip install jax")
def test_the_jax_functions(capsys):
    (snippet,) = [s for s in SNIPPETS if "import jax\n" in s]
    _, printed = run(snippet, capsys)
    for promise in promises(snippet):
        assert promise in printed


def test_every_verdict_is_explained():
    for verdict in get_args(Verdict):
        assert f"| `{verdict}` |" in README


def test_the_table_lists_every_planted_mistake():
    assert bugs_elsewhere.CASES is bugs.CASES
    for bug in bugs.BUGS:
        assert f"| {bug.name} | {bug.verdict} |" in README
