"""The emulator of a GPU finds what is wrong with a kernel; the compiler's checks find the rest."""

import ctypes
import os
import subprocess
import sys
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from emulator import COMPILER, FLAGS, FOLDER, IS_CHECKED, needs_compiler

pytestmark = needs_compiler

#: Kernels with faults, over 64 threads: each turns 64 numbers round, or adds them up.
FAULTY = r"""
#include "emulate.h"
KERNEL(right)(const float *x, float *y) {
    __shared__ float room[64];
    room[threadIdx.x] = x[threadIdx.x];
    __syncthreads();
    y[threadIdx.x] = room[63 - threadIdx.x];
}
KERNEL(no_barrier)(const float *x, float *y) {
    __shared__ float room[64];
    room[threadIdx.x] = x[threadIdx.x];
    y[threadIdx.x] = room[63 - threadIdx.x];
}
KERNEL(missed_barrier)(const float *x, float *y) {
    if (threadIdx.x < 63) __syncthreads();
    y[threadIdx.x] = x[63 - threadIdx.x];
}
KERNEL(missed_shuffle)(const float *x, float *y) {
    y[threadIdx.x] = x[63 - threadIdx.x];
    if (threadIdx.x % 32) __shfl_xor_sync(0xffffffffu, y[threadIdx.x], 1);
}
KERNEL(different_barriers)(const float *x, float *y) {
    if (threadIdx.x % 2) __syncwarp(); else __syncthreads();
}
KERNEL(race)(const float *x, float *y) {  // right as long as thread 0 is the last to write
    __shared__ float last;
    last = x[threadIdx.x];
    __syncthreads();
    y[threadIdx.x] = last - x[0] + x[63 - threadIdx.x];
}
KERNEL(warps)(const float *x, float *y) {
    int lane = threadIdx.x % 32, other = threadIdx.x / 32 ? 0 : 32;
    float turned = __shfl_sync(0xffffffffu, x[threadIdx.x], 31 - lane);
    unsigned votes = __ballot_sync(0xffffffffu, lane < 3);
    float next = __shfl_down_sync(0xffffffffu, x[threadIdx.x], 1);
    bool good = votes == 7 && next == x[threadIdx.x + (lane < 31)];
    y[other + lane] = good ? turned : -1;
}
KERNEL(counters)(int *count) { atomicAdd(count, 1); atomicMax(count + 1, (int)threadIdx.x); }
"""
LAUNCH = r"""
extern "C" const char *launch_%s(const unsigned *shape, int order, void **arguments,
                                 const int *sizes, int count) {
    return emulated::launch(%s, shape, order, arguments, sizes, count);
}
"""


@pytest.fixture(scope="module")
def faulty(tmp_path_factory: pytest.TempPathFactory) -> ctypes.CDLL:
    folder = tmp_path_factory.mktemp("faulty")
    text, made = folder / "faulty.cpp", folder / "faulty.so"
    names = [line.split("(")[1].split(")")[0] for line in FAULTY.splitlines() if "KERNEL" in line]
    text.write_text(FAULTY + "".join(LAUNCH % (name, name) for name in names))
    assert COMPILER is not None
    flags = [flag for flag in FLAGS if "sanitize" not in flag]
    subprocess.run([COMPILER, *flags, f"-I{FOLDER}", str(text), "-o", str(made)], check=True)
    return ctypes.CDLL(str(made))


def launched(library: Any, name: str, *arrays: Any, order: int = 0) -> str | None:
    function = getattr(library, f"launch_{name}")
    function.restype = ctypes.c_char_p
    addresses = [np.array(array.ctypes.data) for array in arrays]
    pointers = (ctypes.c_void_p * len(arrays))(*(each.ctypes.data for each in addresses))
    sizes = (ctypes.c_int * len(arrays))(*[8] * len(arrays))
    shape = (ctypes.c_uint * 6)(2, 1, 1, 64, 1, 1)
    fault = function(shape, order, pointers, sizes, len(arrays))
    return None if fault is None else str(fault.decode())


def turned(library: Any, name: str, order: int) -> tuple[bool, str | None]:
    """Whether a kernel turns 64 numbers round, and what the emulator has to say."""
    x, y = np.arange(64, dtype=np.float32), np.full(64, np.nan, np.float32)
    fault = launched(library, name, x, y, order=order)
    return bool((y == x[::-1]).all()), fault


@pytest.mark.parametrize("order", range(4))
def test_kernels_without_a_fault(faulty: Any, order: int) -> None:
    assert turned(faulty, "right", order) == (True, None)
    assert turned(faulty, "warps", order) == (True, None)
    counts = np.zeros(2, np.int32)
    assert launched(faulty, "counters", counts, order=order) is None
    assert counts.tolist() == [128, 63]


@pytest.mark.parametrize("order", [0, 1])
def test_a_missing_barrier_shows_in_poisoned_memory(faulty: Any, order: int) -> None:
    assert turned(faulty, "no_barrier", order)[0] is False


@pytest.mark.parametrize(
    ("name", "text"),
    [
        ("missed_barrier", "a barrier that part of a block misses"),
        ("missed_shuffle", "a warp operation that part of a warp misses"),
        ("different_barriers", "threads that wait for each other at different barriers"),
    ],
)
def test_what_some_threads_miss_is_named(faulty: Any, name: str, text: str) -> None:
    assert turned(faulty, name, 0)[1] == text
    assert turned(faulty, "right", 0) == (True, None)  # the next launch is whole again


def test_a_race_shows_where_threads_run_in_the_other_order(faulty: Any) -> None:
    assert turned(faulty, "race", 1)[0] is True
    assert turned(faulty, "race", 0)[0] is False


def test_arguments_are_counted_and_measured(faulty: Any) -> None:
    x = np.zeros(64, np.float32)
    assert launched(faulty, "right", x) == "another number of arguments than the kernel has"


def with_checks(*tests: str) -> subprocess.CompletedProcess[str]:
    """Run tests over kernels that were compiled with AddressSanitizer and UBSan."""
    assert COMPILER is not None
    names = ("libasan.so", "libubsan.so")
    found = [
        subprocess.run([COMPILER, f"-print-file-name={name}"], capture_output=True, text=True)
        for name in names
    ]
    libraries = [each.stdout.strip() for each in found]
    if not all(Path(path).is_absolute() for path in libraries):
        pytest.skip("the compiler has no sanitizers")
    environment = os.environ | {
        "TINYCONV_CHECK_KERNELS": "1",
        "LD_PRELOAD": " ".join(libraries),
        "ASAN_OPTIONS": "detect_leaks=0,detect_stack_use_after_return=0",
        "NUMBA_DISABLE_JIT": "1",
    }
    command = [sys.executable, "-m", "pytest", "-q", "-x", "-s", "-p", "no:cacheprovider", *tests]
    return subprocess.run(
        command, env=environment, capture_output=True, text=True, cwd=FOLDER.parent.parent
    )


@pytest.mark.slow
@pytest.mark.skipif(IS_CHECKED, reason="runs itself")
def test_all_kernels_are_clean_under_the_compilers_checks() -> None:
    place = FOLDER / "test_gpu_plan_equals_eager.py"
    done = with_checks(f"{place}", f"{FOLDER / 'test_gpu_engine.py'}", "-k", "forwards or every")
    assert done.returncode == 0, done.stdout + done.stderr


@pytest.mark.slow
@pytest.mark.skipif(IS_CHECKED, reason="runs itself")
def test_the_compilers_checks_find_a_read_beyond_an_array() -> None:
    done = with_checks(f"{Path(__file__)}::test_a_read_beyond_an_array")
    assert done.returncode != 0
    assert "heap-buffer-overflow" in done.stdout + done.stderr


@pytest.mark.skipif(not IS_CHECKED, reason="breaks off the process that runs it")
def test_a_read_beyond_an_array() -> None:
    from emulator import Emulator

    from tinyconv.kernels.gpu.source import Instance

    x, y = np.zeros(5, np.float32), np.zeros(8, np.float32)
    instance = Instance.of("elements", {"COUNT": 8})
    arguments = (x, y, np.float32(0), np.int32(1))
    Emulator().launch(instance, "activation_forward", (1, 1, 1), 32, arguments)
