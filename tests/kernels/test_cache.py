"""Where compiled kernels go when the folder of the package cannot be written to."""

import os
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

import tinyconv

TRAIN = """
import numpy as np, tinyconv as tc
tc.set_num_threads(1)  # the loop for several takes as long to compile as all the kernels
net = tc.Sequential([tc.Linear(6, 3)], seed=0)
net.fit(np.eye(6, dtype=np.float32), np.arange(6) % 3)
print(tc.__file__)
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

    def train() -> str:
        done = subprocess.run(
            [sys.executable, "-c", TRAIN],
            cwd=tmp_path,
            env=environment,
            capture_output=True,
            text=True,
            check=True,
        )
        assert done.stdout.splitlines()[-1] == str(package / "__init__.py")
        return done.stderr

    assert "compiling kernels" in train()
    cached = set(tmp_path.rglob("*.nbi"))
    assert cached
    assert all(package not in path.parents for path in cached)
    assert "compiling kernels" not in train()


ONE = """
from tinyconv.kernels.cpu.kernel import kernel, njit, when_compiling
from numba import types
said = []
with when_compiling(lambda: said.append("compiling")):
    @kernel
    def nothing(args, thread, first, last):
        pass
    @kernel
    def nought(args, thread, first, last):
        pass
@njit(types.int64(types.int64))
def same(n):
    return n
print(nothing.cache_hits, nought.cache_hits, sum(same.stats.cache_hits.values()), *said)
"""


def hits(folder: Path, before: str = "", **environment: str) -> subprocess.CompletedProcess[str]:
    """Import a module of two kernels and a function, and print which came from the cache."""
    (folder / "one.py").write_text(ONE)
    return subprocess.run(
        [
            sys.executable,
            "-c",
            f"import sys; sys.path.insert(0, {str(folder)!r})\n{before}import one",
        ],
        env={**os.environ, **environment},
        capture_output=True,
        text=True,
        check=True,
    )


COMPILED, CACHED = "0 0 0 compiling\n", "1 1 1\n"


def test_a_change_in_any_file_of_the_kernels_compiles_them_anew(tmp_path: Path) -> None:
    """Numba looks at a kernel's own file alone, and kernels call functions of simd.py."""
    folder = tmp_path / "kernels"
    shutil.copytree(Path(tinyconv.__file__).parent / "kernels" / "cpu", folder)
    moved = (
        "import tinyconv.kernels.cpu.kernel as module\n"
        f"module.__file__ = {str(folder / 'kernel.py')!r}\n"
    )
    assert [hits(tmp_path, moved).stdout for _ in range(2)] == [COMPILED, CACHED]
    with (folder / "simd.py").open("a") as simd:
        simd.write("# another line\n")
    assert [hits(tmp_path, moved).stdout for _ in range(2)] == [COMPILED, CACHED]


def test_damaged_files_of_the_cache_are_made_again(tmp_path: Path) -> None:
    cache = {"NUMBA_CACHE_DIR": str(tmp_path / "cache")}
    assert hits(tmp_path, **cache).stdout == COMPILED
    indices, kernels = sorted(tmp_path.rglob("*.nbi")), sorted(tmp_path.rglob("*.nbc"))
    assert (len(indices), len(kernels)) == (3, 3)
    for damaged in (indices, kernels):
        broken = {}
        for number, path in enumerate(damaged):
            whole = path.read_bytes()
            middle = len(whole) // 2
            flipped = whole[:middle] + bytes([whole[middle] ^ 4]) + whole[middle + 1 :]
            broken[path] = (b"", whole[:30], flipped)[number]
            path.write_bytes(broken[path])
        assert hits(tmp_path, **cache).stdout == COMPILED
        assert not [path for path, damage in broken.items() if path.read_bytes() == damage]
        assert hits(tmp_path, **cache).stdout == CACHED


def test_a_cache_that_cannot_be_written(tmp_path: Path) -> None:
    """A full disk, of which the error is made up."""
    full = (
        "from numba.core.caching import IndexDataCacheFile as File\n"
        "def full(*arguments): raise OSError(28, 'No space left on device')\n"
        "File._save_data = full\n"
    )
    done = hits(tmp_path, full, NUMBA_CACHE_DIR=str(tmp_path / "cache"))
    assert done.stdout == COMPILED
    assert done.stderr.count("No space left on device), so they are compiled at every start") == 1


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
