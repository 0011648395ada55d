"""Where compiled kernels go when the folder of the package cannot be written to."""

import contextlib
import importlib
import io
import os
import shutil
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numba
import numpy as np
import pytest
from numba.core.caching import IndexDataCacheFile

import tinyconv
from tinyconv.engines import plan_engine
from tinyconv.kernels.cpu import kernel

TRAIN = """
import numpy as np, tinyconv as tc
tc.set_num_threads(1)  # the loop for several takes as long to compile as all the kernels
net = tc.Sequential([tc.Linear(6, 3)], seed=0)
net.fit(np.eye(6, dtype=np.float32), np.arange(6) % 3)
"""


COPY = """
import tinyconv
from tinyconv.kernels.cpu import batch
kernel = batch.flatten(4, False)
kernel.compile()
print(tinyconv.__file__, kernel.cache_hits)
"""


@pytest.mark.skipif(os.name == "nt", reason="Windows keeps the user's cache elsewhere")
def test_a_read_only_install_uses_the_users_cache(tmp_path: Path) -> None:
    package = tmp_path / "site" / "tinyconv"
    source = Path(tinyconv.__file__).parent
    shutil.copytree(source, package, ignore=shutil.ignore_patterns("__pycache__"))
    for folder in [path.parent for path in package.rglob("*.py")]:
        # also root, whom no permission stops, makes no folder where a file is
        (folder / "__pycache__").write_text("")
    unset = ("NUMBA_CACHE_DIR", "XDG_CACHE_HOME", "PYTHONPYCACHEPREFIX")
    environment = {key: value for key, value in os.environ.items() if key not in unset}
    environment |= {"HOME": str(tmp_path), "PYTHONPATH": str(package.parent)}

    def said() -> str:
        done = subprocess.run(
            [sys.executable, "-c", COPY],
            cwd=tmp_path,
            env=environment,
            capture_output=True,
            text=True,
            check=True,
        )
        assert done.stderr == ""
        return done.stdout

    assert said() == f"{package / '__init__.py'} 0\n"
    cached = set(tmp_path.rglob("*.nbc"))
    assert cached
    assert all(package not in path.parents for path in cached)
    assert said() == f"{package / '__init__.py'} 1\n"


@pytest.mark.parametrize("verbose", [True, False])
def test_training_says_that_it_compiles(
    verbose: bool, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: Any
) -> None:
    """A kernel more than the plan has is compiled with it, whatever the cache holds."""
    real = plan_engine.Plan

    def plan(*arguments: Any) -> Any:
        with pytest.MonkeyPatch.context() as patched:
            patched.setattr(numba.config, "CACHE_DIR", str(tmp_path))

            @kernel.kernel(kernel.record("n"))
            def nothing(a, thread, first, last):  # type: ignore[no-untyped-def]
                pass

            nothing.compile()

        return real(*arguments)

    monkeypatch.setattr(plan_engine, "Plan", plan)
    net = tinyconv.Sequential([tinyconv.Linear(6, 3)], seed=0)
    net.fit(np.eye(6, dtype=np.float32), np.arange(6) % 3, verbose=verbose)
    assert capsys.readouterr().err.count("compiling kernels for this machine") == verbose


ONE = """
from tinyconv.kernels.cpu.kernel import kernel, njit, record, when_compiling
from numba import types
said = []
with when_compiling(lambda: said.append("compiling")):
    @kernel(record("n"))
    def nothing(a, thread, first, last):
        pass
    @kernel(record("n"))
    def nought(a, thread, first, last):
        pass
    nothing.compile(), nought.compile()
@njit(types.int64(types.int64))
def same(n):
    return n
print(nothing.cache_hits, nought.cache_hits, sum(same.stats.cache_hits.values()), *said)
"""


def hits(folder: Path) -> str:
    """Import a module of two kernels and a function, and return which came from the cache.

    Every import reads the cache's files anew, so one process says as much as several.
    """
    if not (folder / "one.py").exists():  # its time is part of what Numba compares
        (folder / "one.py").write_text(ONE)
    printed = io.StringIO()
    kernel._sources.cache_clear()
    with pytest.MonkeyPatch.context() as patched, contextlib.redirect_stdout(printed):
        patched.syspath_prepend(folder)
        try:
            importlib.import_module("one")
        finally:
            sys.modules.pop("one", None)
    return printed.getvalue()


@pytest.fixture(autouse=True)
def fresh_sources() -> Iterator[None]:
    """Forget the digest of a folder of kernels that is gone."""
    yield
    kernel._sources.cache_clear()


COMPILED, CACHED = "0 0 0 compiling\n", "1 1 1\n"


def test_a_change_in_any_file_of_the_kernels_compiles_them_anew(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Numba looks at a kernel's own file alone, and kernels call functions of simd.py."""
    folder = tmp_path / "kernels"
    shutil.copytree(Path(tinyconv.__file__).parent / "kernels" / "cpu", folder)
    monkeypatch.setattr(kernel, "__file__", str(folder / "kernel.py"))
    monkeypatch.setattr(numba.config, "CACHE_DIR", str(tmp_path / "cache"))
    assert [hits(tmp_path) for _ in range(2)] == [COMPILED, CACHED]
    with (folder / "simd.py").open("a") as simd:
        simd.write("# another line\n")
    assert [hits(tmp_path) for _ in range(2)] == [COMPILED, CACHED]


def test_damaged_files_of_the_cache_are_made_again(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(numba.config, "CACHE_DIR", str(tmp_path / "cache"))
    assert hits(tmp_path) == COMPILED
    broken = {}
    files = sorted(tmp_path.rglob("*.nbc"))
    for number, path in enumerate(files):
        whole = path.read_bytes()
        middle = len(whole) // 2
        flipped = whole[:middle] + bytes([whole[middle] ^ 4]) + whole[middle + 1 :]
        broken[path] = (b"", whole[:30], flipped)[number]
        path.write_bytes(broken[path])
    assert len(broken) == 3
    assert hits(tmp_path) == COMPILED
    assert not [path for path, damage in broken.items() if path.read_bytes() == damage]
    assert hits(tmp_path) == CACHED


def test_processes_that_compile_at_once_do_not_take_each_others_code(tmp_path: Path) -> None:
    """One finds no file, the other neither; both write, the first one last."""
    one, other = (kernel._Files(str(tmp_path), "convolve-7.py311", "stamp") for _ in range(2))
    open_for_write, is_writing = one._open_for_write, []

    @contextlib.contextmanager
    def slowly(path: str) -> Iterator[io.BytesIO]:
        with open_for_write(path) as file:
            if not is_writing:
                is_writing.append(path)
                other.save(("3 x 3",), "code of 3 x 3")
            yield file

    one._open_for_write = slowly
    one.save(("5 x 5",), "code of 5 x 5")
    assert is_writing
    for size in ("3 x 3", "5 x 5"):
        assert one.load((size,)) == other.load((size,)) == f"code of {size}"


def test_a_cache_that_cannot_be_written(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A full disk, of which the error is made up."""

    def full(*arguments: Any) -> None:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(numba.config, "CACHE_DIR", str(tmp_path / "cache"))
    monkeypatch.setattr(IndexDataCacheFile, "_open_for_write", full)
    kernel._say_uncached.cache_clear()
    with pytest.warns(RuntimeWarning) as said:
        assert hits(tmp_path) == COMPILED
    kernel._say_uncached.cache_clear()
    words = "No space left on device), so they are compiled at every start"
    assert [words in str(warning.message) for warning in said].count(True) == 1


def test_without_compiling_the_layers_run_one_by_one() -> None:
    done = subprocess.run(
        [sys.executable, "-c", TRAIN],
        env={**os.environ, "NUMBA_DISABLE_JIT": "1"},
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    assert done.stderr.count("NUMBA_DISABLE_JIT is set, so nothing is compiled") == 1
