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
