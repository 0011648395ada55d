"""Kernels that two processes compile: see kernels/cpu/compiling.py."""

import subprocess
import sys
import time
from pathlib import Path
from typing import Any

import numba
import pytest

from tinyconv.engines.cpu.tiling import compiled
from tinyconv.kernels.cpu import batch, compiling, join, linear, update
from tinyconv.kernels.cpu.kernel import Kernel, kernel


@pytest.fixture
def uncached(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> list[Kernel]:
    """Kernels that compile fast, of constants that nothing else asks for, and an empty cache."""
    monkeypatch.setattr(numba.config, "CACHE_DIR", str(tmp_path))
    monkeypatch.setenv("NUMBA_CACHE_DIR", str(tmp_path))
    compiled.cache_clear()
    made = [compiled(update.flat), compiled(batch.multiply), compiled(join.copy, 4)]
    made += [
        compiled(batch.flatten, 4, False),
        compiled(linear.finish, 4, 0),
        compiled(update.keep, 4),
    ]
    monkeypatch.setattr(compiling, "MANY", len(made))
    return made


def test_the_other_process_leaves_its_share_in_the_cache(
    uncached: list[Kernel], monkeypatch: pytest.MonkeyPatch
) -> None:
    def wait_for_the_other(job: Any) -> None:
        first.append(job)
        while not (folders[0] / str(len(uncached) - 1)).exists():
            time.sleep(0.01)
        job()

    first: list[Any] = []
    folders: list[Path] = []
    do = compiling._do

    def slowly(folder: Path, number: int, job: Any) -> bool:
        folders.append(folder)
        return do(folder, number, (lambda: wait_for_the_other(job)) if number == 0 else job)

    monkeypatch.setattr(compiling, "_do", slowly)
    compiling.compile_all(uncached * 2, 2)
    assert len(first) == 1
    assert all(each.fetch() for each in uncached)
    assert (uncached[0].cache_hits, uncached[-1].cache_hits) == (0, 1)
    assert not folders[0].exists()


@pytest.mark.parametrize("executable", [None, "/no/such/python", sys.executable])
def test_one_process_does_it_all_where_there_is_no_other(
    executable: str | None, uncached: list[Kernel], monkeypatch: pytest.MonkeyPatch
) -> None:
    """Or where that ends at once."""
    monkeypatch.setattr(compiling, "get_executable", lambda: executable)
    if executable == sys.executable:
        monkeypatch.setattr(compiling, "__name__", "no.such.module")
    compiling.compile_all(uncached, 2)
    assert [each.cache_hits for each in uncached] == [0] * len(uncached)


def test_one_process_does_it_all_on_a_full_disk(
    uncached: list[Kernel], monkeypatch: pytest.MonkeyPatch
) -> None:
    def full(*arguments: Any, **options: Any) -> Any:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(compiling, "TemporaryDirectory", full)
    compiling.compile_all(uncached, 2)
    assert [each.cache_hits for each in uncached] == [0] * len(uncached)


def test_another_process_that_hangs_is_not_waited_for(
    uncached: list[Kernel], monkeypatch: pytest.MonkeyPatch
) -> None:
    started: list[Any] = []
    real, do = subprocess.Popen, compiling._do

    def hang(*arguments: Any, **options: Any) -> Any:
        started.append(real([sys.executable, "-c", "import time; time.sleep(600)"]))
        return started[0]

    def leave_the_first(folder: Path, number: int, job: Any) -> bool:
        return number > 0 and do(folder, number, job)

    monkeypatch.setattr(subprocess, "Popen", hang)
    monkeypatch.setattr(compiling, "_do", leave_the_first)
    monkeypatch.setattr(compiling, "PATIENCE", 0.01)
    compiling.compile_all(uncached, 2)
    assert started[0].returncode != 0
    assert [each.cache_hits for each in uncached] == [0] * len(uncached)


def test_few_kernels_start_no_process(
    uncached: list[Kernel], monkeypatch: pytest.MonkeyPatch
) -> None:
    def refuse(*arguments: Any, **options: Any) -> None:
        raise AssertionError

    @kernel(batch.DROPOUT)
    def of_nowhere(a, thread, first, last):  # type: ignore[no-untyped-def]
        pass

    of_no_module = compiled(lambda: batch.multiply())
    monkeypatch.setattr(subprocess, "Popen", refuse)
    compiling.compile_all([*uncached[1:], of_nowhere, of_no_module], 2)
    compiling.compile_all(uncached, 1)
    assert uncached[0].cache_hits == of_nowhere.cache_hits == 0


def test_a_failure_ends_the_other_process(
    uncached: list[Kernel], monkeypatch: pytest.MonkeyPatch
) -> None:
    started = []
    real = subprocess.Popen

    def start(*arguments: Any, **options: Any) -> Any:
        started.append(real(*arguments, **options))
        return started[-1]

    monkeypatch.setattr(subprocess, "Popen", start)

    def fail() -> None:
        raise KeyboardInterrupt

    monkeypatch.setattr(uncached[0], "compile", fail)
    with pytest.raises(KeyboardInterrupt):
        compiling.compile_all(uncached, 2)
    assert [other.returncode is None for other in started] == [False]
