"""Runs the kernels of the GPU on the CPU: the launcher of tests, over g++ and ``emulate.h``."""

import ctypes
import hashlib
import os
import shutil
import subprocess
import tempfile
from collections.abc import Callable, Sequence
from functools import cache
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from tinyconv.engines.gpu.program import PythonCall
from tinyconv.kernels.gpu import source
from tinyconv.kernels.gpu.source import Instance

Array = np.ndarray[Any, Any]

FOLDER = Path(__file__).parent
COMPILER = shutil.which("g++")
needs_compiler = pytest.mark.skipif(COMPILER is None, reason="emulating a GPU needs g++")

#: Set by the test that runs the others once more with the compiler's checks.
IS_CHECKED = "TINYCONV_CHECK_KERNELS" in os.environ
FLAGS = ["-std=c++17", "-fPIC", "-shared", "-U_FORTIFY_SOURCE", "-w"]
#: Contractions would round otherwise than NumPy does.
FLAGS += ["-O1", "-ffp-contract=off"]
if IS_CHECKED:
    FLAGS += ["-g", "-fsanitize=address,undefined", "-fno-sanitize-recover=undefined"]


def emulated_source() -> str:
    """All kernels, with variables for sizes, so that they are compiled once for all sizes."""
    parts = ['#include "emulate.h"', f'#include "{source.COMMON}"']
    for family in source.FAMILIES:
        names = source.sizes_of(family)
        assignments = " ".join(f"{name} = values[{i}];" for i, name in enumerate(names))
        parts += [
            f"namespace {family} {{",
            f"static int {', '.join(names)};",
            f'extern "C" void set_{family}(const int *values) {{ {assignments} }}',
            f'#include "{family}.cu"',
        ]
        for kernel in source.kernels_of(family):
            parts.append(
                f'extern "C" const char *launch_{kernel}(const unsigned *shape, int order, '
                "void **arguments, const int *sizes, int count) { return "
                f"emulated::launch({kernel}, shape, order, arguments, sizes, count); }}"
            )
        parts.append("}")
    return "\n".join(parts)


@cache
def library() -> ctypes.CDLL:
    """The compiled kernels; compiled where the texts have changed."""
    assert COMPILER is not None
    texts = [emulated_source(), (FOLDER / "emulate.h").read_text(), *FLAGS]
    texts += [path.read_text() for path in sorted(source.FOLDER.glob("*.cu*"))]
    name = hashlib.sha256("\0".join(texts).encode()).hexdigest()[:16]
    folder = Path(tempfile.gettempdir()) / f"tinyconv-emulated-{os.getuid()}"
    folder.mkdir(mode=0o700, exist_ok=True)
    path = folder / f"{name}.so"
    if not path.exists():
        text, made = folder / f"{name}-{os.getpid()}.cpp", folder / f"{name}-{os.getpid()}.so"
        text.write_text(texts[0])
        include = [f"-I{FOLDER}", f"-I{source.FOLDER}"]
        subprocess.run([COMPILER, *FLAGS, *include, str(text), "-o", str(made)], check=True)
        made.replace(path)  # whole or not at all, for test processes side by side
        text.unlink()
    return ctypes.CDLL(str(path))


class Emulator:
    """A launcher whose device is the host's memory.

    Args:
        order: bit 0: threads run from the last to the first; bit 1: blocks do.

    Attributes:
        largest_upload: in bytes.
        is_whole: whether nothing but kernels was run.
    """

    def __init__(self, order: int = 0) -> None:
        self.order, self.is_whole = order, True
        self.replays = self.reads = self.writes = self.uploads = self.largest_upload = 0

    def counts(self) -> dict[str, int]:
        """How often the host did what."""
        return {name: getattr(self, name) for name in ("replays", "reads", "writes", "uploads")}

    free_bytes = 1 << 30

    def empty(self, shape: Sequence[int], dtype: Any = np.float32) -> Array:
        array = np.empty(tuple(shape), dtype)
        array.reshape(-1).view(np.uint8)[...] = 0xFF  # NaN, or -1
        return array

    def upload(self, values: Array) -> Array:
        self.uploads += 1
        self.largest_upload = max(self.largest_upload, values.nbytes)
        return np.array(values, order="C")

    def write(self, array: Array, values: Any) -> None:
        self.writes += 1
        array[...] = values

    def read(self, array: Array) -> Array:
        self.reads += 1
        return array.copy()

    def address(self, array: Array) -> int:
        return int(array.ctypes.data)

    def load(self, instances: Sequence[Instance]) -> Callable[..., None]:
        return self.launch

    def launch(
        self,
        instance: Instance,
        kernel: str,
        grid: tuple[int, int, int],
        threads: int,
        arguments: Sequence[Any],
    ) -> None:
        assert threads <= source.threads_of(instance.family)
        values = [value for _, value in instance.sizes]
        getattr(library(), f"set_{instance.family}")((ctypes.c_int * len(values))(*values))
        held, sizes = [], []
        for argument in arguments:
            if argument is None:
                argument = np.uint64(0)
            elif isinstance(argument, np.ndarray):
                assert argument.flags.c_contiguous
                argument = np.uint64(argument.ctypes.data)
            assert isinstance(argument, np.generic), f"{kernel}: {argument!r}"
            held.append(np.array(argument))
            sizes.append(argument.nbytes)
        pointers = (ctypes.c_void_p * len(held))(*(each.ctypes.data for each in held))
        function = getattr(library(), f"launch_{kernel}")
        function.restype = ctypes.c_char_p
        fault = function(
            (ctypes.c_uint * 6)(*grid, threads, 1, 1),
            self.order,
            pointers,
            (ctypes.c_int * len(held))(*sizes),
            len(held),
        )
        if fault is not None:
            raise RuntimeError(f"{kernel}: {fault.decode()}")

    def run(self, function: Callable[[], None]) -> None:
        self.is_whole &= not isinstance(function, PythonCall)
        function()

    def capture(self, function: Callable[[], None]) -> Callable[[], None]:
        """A graph does again what it did when it was captured."""

        def replay() -> None:
            self.replays += 1
            function()

        return replay
