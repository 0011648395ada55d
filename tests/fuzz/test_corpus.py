"""Damaged files are read or refused: what once failed, and a share of the harness's inputs."""

import shutil
import sys
from pathlib import Path

import pytest

sys.path.insert(0, str(Path(__file__).parent))
import harness
import seeds

CORPUS = sorted(path for path in (Path(__file__).parent / "corpus").iterdir())
SHARE = {"checkpoint": 40, "folder": 20}


@pytest.mark.parametrize("path", CORPUS, ids=lambda path: path.name)
def test_what_once_failed(path: Path, tmp_path: Path) -> None:
    """The name begins with the reader's."""
    reader = seeds.READERS[path.name.partition("-")[0]]
    (tmp_path / reader.file).parent.mkdir(exist_ok=True)
    shutil.copy(path, tmp_path / reader.file)
    assert harness.outcome(reader, tmp_path / reader.file) == "refused"


@pytest.mark.filterwarnings("ignore")  # of a picture's or a table's reader: it was damaged
@pytest.mark.parametrize("name", seeds.READERS)
def test_a_share_of_the_inputs(name: str, tmp_path: Path) -> None:
    reader = seeds.READERS[name]
    outcomes = {
        number: harness.outcome(reader, harness.damage(name, number, tmp_path))
        for number in range(SHARE.get(name, 100))
    }
    findings = {n: found for n, found in outcomes.items() if found not in ("read", "refused")}
    assert not findings
    assert "refused" in outcomes.values()


def test_the_harness_notices(tmp_path: Path) -> None:
    """Another exception, a hang, and that a whole file is read."""

    def loop(path: Path) -> None:
        while True:
            pass

    def fail(path: Path) -> None:
        raise KeyError(7)

    def reader(read: object) -> seeds.Reader:
        return seeds.Reader("x", read, list)  # type: ignore[arg-type]

    assert harness.outcome(reader(fail), tmp_path) == "KeyError: 7"
    with pytest.MonkeyPatch.context() as patched:
        patched.setattr(harness, "SECONDS", 0.05)
        assert harness.outcome(reader(loop), tmp_path) == "took over 0.05 s"
    for name, each in seeds.READERS.items():
        if each.fill is None:
            (tmp_path / each.file).parent.mkdir(exist_ok=True)
            (tmp_path / each.file).write_bytes(each.seeds()[0])
            assert harness.outcome(each, tmp_path / each.file) == "read", name
