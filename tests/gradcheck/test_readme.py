"""The snippets of the checker's README run, each where its library is installed."""

import importlib.util
import re
from pathlib import Path

import pytest

import tinyconv.gradcheck

README = Path(tinyconv.gradcheck.__file__).with_name("README.md").read_text(encoding="utf-8")
SNIPPETS = re.findall(r"```python\n(.*?)```", README, flags=re.DOTALL)


def run(library):
    (snippet,) = [s for s in SNIPPETS if f"import {library}\n" in s] if library else SNIPPETS[:1]
    names = {}
    exec(compile(snippet, "README.md", "exec"), names)
    return names["report"]


def test_the_homework(capsys):
    report = run("")
    assert report.verdict == "wrong"
    assert report.hint.startswith(
        "b: the gradient is 0.25 times what it should be; with axis 0 of x twice as long "
    )
    assert capsys.readouterr().out.startswith("wrong\nb: the gradient is 0.25 times")


@pytest.mark.oracle
def test_the_pytorch_function(torch):
    report = run("torch")
    assert report.verdict == "ok", str(report)


@pytest.mark.oracle
@pytest.mark.skipif(importlib.util.find_spec("jax") is None, reason="needs JAX: pip install jax")
def test_the_jax_function():
    report = run("jax")
    assert report.verdict == "ok", str(report)


def test_every_verdict_is_explained():
    from typing import get_args

    from tinyconv.gradcheck import Verdict

    for verdict in get_args(Verdict):
        assert f"| `{verdict}` |" in README


def test_the_table_lists_every_planted_mistake():
    from .bugs import BUGS

    for bug in BUGS[:64]:
        assert f"| {bug.name} | {bug.verdict} |" in README
