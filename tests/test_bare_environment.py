"""Ops, gradient checks and data need NumPy and array-api-compat, and nothing else."""

import subprocess
import sys
from pathlib import Path

import array_api_compat
import numpy as np
import pytest

import tinyconv

#: All that is installed there.
PACKAGES = (np, array_api_compat, tinyconv)

PROGRAMS = {
    "nothing else is there": """
import importlib.util
for name in ("numba", "llvmlite", "matplotlib", "PIL", "safetensors", "tqdm", "pooch",
             "threadpoolctl", "pytest", "pip"):
    assert importlib.util.find_spec(name) is None, name
""",
    "ops": """
from tinyconv import ops
x, w = np.arange(16.0).reshape(1, 1, 4, 4), np.ones((1, 1, 2, 2))
y, saved = ops.conv2d(x, w)
assert y[0, 0, 0, 0] == 0 + 1 + 4 + 5
dx, dw, db = ops.conv2d_backward(np.ones_like(y), saved)
assert dx[0, 0, 1, 1] == 4
""",
    "checker": """
from tinyconv.gradcheck import check
x = np.array([1.0, 2.0, 3.0])
assert check(lambda x: x**2, lambda dy, x: (2 * x * dy,), [x]).ok
assert not check(lambda x: x**2, lambda dy, x: (x * dy,), [x]).ok
""",
    "checks of the library": """
from tinyconv.testing import check_layer, check_op
assert check_layer(tc.Conv2d(2, 3, 3), np.random.default_rng(0).normal(size=(2, 2, 5, 5))).ok
assert check_op("max_pool2d").ok
""",
    "data": """
(x, y), *_ = data = tc.data.load("mnist-sample")
assert tc.data.report(data).counts["test"] == (100,) * 10
np.savez(folder / "d.npz", x=x[:50], y=y[:50])
(folder / "d.csv").write_text("a,b,label\\n" + "1,2,ant\\n3,4,bee\\n" * 20)
assert tc.data.load(folder / "d.npz").train.x.shape[1:] == (1, 28, 28)
assert tc.data.load(folder / "d.csv").class_names == ("ant", "bee")
moved = tc.data.augment.distort(x[:5], 0, degrees=5)
assert moved.shape == x[:5].shape
""",
    "a network, layer by layer": """
(x, y), *_ = tc.data.load("mnist-sample")
net = tc.Sequential([tc.Flatten(), tc.Linear(784, 10)], seed=0)
history = net.fit(x[:200], y[:200], epochs=2, engine="eager")
assert history["loss"][1] < history["loss"][0]
""",
}


@pytest.fixture(scope="module")
def environment(tmp_path_factory):
    """A folder that holds the packages and no others."""
    folder = tmp_path_factory.mktemp("site-packages")
    for package in PACKAGES:
        assert package.__file__ is not None
        place = Path(package.__file__).parent
        (folder / place.name).symlink_to(place)
        libraries = place.with_name(f"{place.name}.libs")  # of NumPy's wheel on Linux: BLAS
        if libraries.is_dir():
            (folder / libraries.name).symlink_to(libraries)
    return folder


def test_without_numba_matplotlib_and_pillow(environment, tmp_path):
    """One process runs all programs, each with names of its own."""
    code = (
        f"import sys; sys.path.insert(0, {str(environment)!r})\n"
        "from pathlib import Path\n"
        "import numpy as np; import tinyconv as tc\n"
        f"for name, program in {PROGRAMS!r}.items():\n"
        f"    names = dict(np=np, tc=tc, folder=Path({str(tmp_path)!r}))\n"
        "    exec(compile(program, name, 'exec'), names)\n"
    )
    # Isolated and without site-packages: the standard library, and the folder.
    command = [sys.executable, "-I", "-S", "-c", code]
    done = subprocess.run(command, capture_output=True, text=True, timeout=100)
    assert done.returncode == 0, done.stderr
