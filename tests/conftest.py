"""What all tests share: Hypothesis without deadlines, and markers that skip themselves."""

import gc
import importlib
import os
import signal
from collections.abc import Generator
from pathlib import Path
from typing import Any

import pytest
from hypothesis import settings

from tinyconv.backend import gpu_is_available

# The processes of pytest-xdist have a core each. Threads of two of them that wait for each other
# take five times as long; the tests of threads ask for as many as they need. Nor does another
# process help to compile.
if "PYTEST_XDIST_WORKER" in os.environ:
    os.environ.setdefault("OMP_NUM_THREADS", "1")
    importlib.import_module("tinyconv.kernels.cpu.compiling").MANY = 1000

# A script's background jobs ignore Ctrl-C, and so would the programs that tests interrupt.
if signal.getsignal(signal.SIGINT) is signal.SIG_IGN:
    signal.signal(signal.SIGINT, signal.default_int_handler)

# The programs that tests start share the package's bytecode: else each compiles all sources anew.
os.environ.pop("PYTHONDONTWRITEBYTECODE", None)

settings.register_profile("local", deadline=None)
settings.register_profile("ci", deadline=None, derandomize=True)
settings.load_profile("ci" if "CI" in os.environ else "local")


def pytest_configure(config: pytest.Config) -> None:
    # Examples in the docstrings of interop are for those who have the other libraries, and to
    # collect them imports those: a quarter of all collecting.
    if "not oracle" in config.option.markexpr:
        interop = Path(__file__).parents[1] / "tinyconv" / "interop"
        config.option.ignore = [*(config.option.ignore or []), str(interop)]


@pytest.hookimpl(tryfirst=True)  # before markers are selected by
def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    for item in items:
        if "tinyconv/interop/" in item.path.as_posix():  # the examples in docstrings
            item.add_marker(pytest.mark.oracle)
    on_gpu = [item for item in items if item.get_closest_marker("gpu")]
    if on_gpu and not gpu_is_available():
        for item in on_gpu:
            item.add_marker(pytest.mark.skip(reason="needs CuPy and a GPU"))


@pytest.hookimpl(wrapper=True)
def pytest_collection() -> Generator[None, object, object]:
    """Collect without looking for garbage, again and again, in what stays to the end.

    Compiling makes much that stays, too, so garbage is looked for more rarely afterwards: at
    Python's own thresholds that took a twelfth of compiling's time.
    """
    gc.disable()
    try:
        return (yield)
    finally:
        gc.freeze()
        gc.set_threshold(10_000, 20, 20)
        gc.enable()


def pytest_make_parametrize_id(config: pytest.Config, val: object, argname: str) -> str | None:
    """Name parameters that are bytes by their place: what is in them may differ between processes.

    The time in a gzip header does, and the processes of pytest-xdist must name all tests alike.
    """
    return argname if isinstance(val, bytes) else None


@pytest.fixture(scope="session")
def torch() -> Any:
    """PyTorch, imported by the tests that compare with it and by no other."""
    try:
        module = importlib.import_module("torch")
    except ImportError:
        pytest.skip('needs PyTorch: pip install "tinyconv[oracle]"')
    module.set_num_threads(1)  # its threads would fight NumPy's for the cores
    return module
