"""Registers and spills of every kernel, as a compiler of CUDA says them; no GPU is needed.

As a program it prints the table of ``benchmarks/GPU.md``.
"""

import re
import shutil
import subprocess
import tempfile
from pathlib import Path
from typing import NamedTuple

from tinyconv.kernels.gpu.source import OPTIONS, Instance, kernels_of, module_source

ARCHITECTURES = ("sm_75", "sm_80", "sm_90", "sm_100")

_PLANE = {"D": 1, "OD": 1, "KD": 1, "SD": 1, "LD": 1, "SH": 1, "SW": 1, "LH": 1, "LW": 1}
_TERMS = {"D": 1, "OD": 1, "H": 8, "W": 8, "OH": 16, "OW": 16, "TD": 1, "TH": 2, "TW": 2}
_POINT = _PLANE | dict.fromkeys(("GROUPS", "H", "W", "OH", "OW", "KH", "KW", "QD", "QH", "QW"), 1)
_CONV = {**_POINT, "H": 12, "W": 12, "OH": 8, "OW": 8, "KH": 5, "KW": 5}

#: The convolutions of the book's largest net and a strided one in groups, and of the other families
#: what compiles to the most: GELU behind everything, every switch of the optimizers.
INSTANCES = [
    Instance.of("conv", {**_CONV, "C": 20, "O": 40, "QH": 2, "QW": 2, "ACTIVATION": 1}),
    Instance.of(
        "conv",
        {**_CONV, "C": 32, "O": 64, "GROUPS": 4, "ACTIVATION": 7, "GATHER": 2}
        | {"SH": 2, "SW": 2, "PH": 2, "PW": 2},
    ),
    Instance.of("conv", {**_POINT, "C": 640, "O": 100, "ACTIVATION": 7}),
    Instance.of(
        "pool",
        {**_PLANE, "PLANES": 20, "H": 24, "W": 24, "OH": 12, "OW": 12, "KH": 2, "KW": 2}
        | {"SH": 2, "SW": 2},
    ),
    Instance.of("elements", {"COUNT": 100, "ACTIVATION": 7}),
    Instance.of("norm", {"C": 16, "P": 64, "ACTIVATION": 7}),
    Instance.of("norm", {"C": 16, "P": 64, "GROUPS": 4, "ACTIVATION": 7}),
    Instance.of("resample", {**_TERMS, "PLANES": 20}),
    Instance.of("response", {"C": 20, "P": 64, "BEFORE": 2, "AFTER": 2}),
    Instance.of("loss", {"K": 10, "P": 64, "KIND": 4, "HARD": 1, "CLASSES": 1, "METRICS": 2}),
    Instance.of("batch", {"COUNT": 784, "GATHER": 2}),
    Instance.of(
        "update",
        {"SIZE": 10**5, "SLOTS": 128, "POSITIONS": 64, "METRICS": 2, "DECAYS": 2, "MOMENTUM": 1}
        | {"NESTEROV": 1, "CENTERED": 1},
    ),
]


class Kernel(NamedTuple):
    """What a kernel takes of a multiprocessor."""

    name: str
    registers: int
    spilled: int  # bytes
    shared: int  # bytes


def compilers() -> list[str]:
    """Which compilers are at hand: ``nvcc``, ``nvrtc``."""
    found = ["nvcc"] if shutil.which("nvcc") else []
    try:
        from cupy.cuda import nvrtc  # type: ignore[import-not-found,unused-ignore]

        nvrtc.getVersion()
    except Exception:  # it is not installed, or lacks the library
        return found
    return [*found, "nvrtc"]


def compiled(architecture: str, compiler: str) -> list[Kernel]:
    """Compile all instances, and return what the assembler says of each kernel."""
    text = module_source(INSTANCES)
    said = (_nvcc if compiler == "nvcc" else _nvrtc)(text, architecture)
    pattern = (
        r"Function properties for (\w+)\n.*?(\d+) bytes spill stores, (\d+) bytes spill loads\n"
        r".*?Used (\d+) registers(.*)"
    )
    kernels = []
    for name, stores, loads, registers, rest in re.findall(pattern, said):
        shared = re.search(r"(\d+) bytes smem", rest)
        spilled = int(stores) + int(loads)
        kernels.append(Kernel(name, int(registers), spilled, int(shared[1]) if shared else 0))
    names = [f"{k}_{i}" for i, each in enumerate(INSTANCES) for k in kernels_of(each.family)]
    assert sorted(kernel.name for kernel in kernels) == sorted(names), said[-2000:]
    return sorted(kernels, key=lambda kernel: names.index(kernel.name))


def _nvcc(text: str, architecture: str) -> str:
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "all.cu"
        path.write_text(text)
        command = ["nvcc", f"-arch={architecture}", "-std=c++17", "-cubin", "-Xptxas", "-v"]
        command += ["-o", str(path.with_suffix(".cubin")), str(path)]
        done = subprocess.run(command, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    return done.stderr


def _nvrtc(text: str, architecture: str) -> str:
    from cupy.cuda import nvrtc

    program = nvrtc.createProgram(text, "all.cu", (), ())
    # Those of the launcher, and what CuPy adds.
    options = (f"--gpu-architecture={architecture}", *OPTIONS, "-ftz=true", "--ptxas-options=-v")
    try:
        nvrtc.compileProgram(program, options)
        return str(nvrtc.getProgramLog(program))
    except nvrtc.NVRTCError:
        raise AssertionError(nvrtc.getProgramLog(program)) from None


def table() -> str:
    """Return the kernels in rows, with registers on each architecture."""
    compiler = compilers()[0]
    columns = [compiled(architecture, compiler) for architecture in ARCHITECTURES]
    lines = [f"| kernel | {' | '.join(ARCHITECTURES)} | spilled bytes | shared bytes |"]
    lines.append("|---|" + "--:|" * (len(ARCHITECTURES) + 2))
    for row in zip(*columns, strict=True):
        registers = " | ".join(str(kernel.registers) for kernel in row)
        most = max(kernel.spilled for kernel in row), max(kernel.shared for kernel in row)
        lines.append(f"| {row[0].name} | {registers} | {most[0]} | {most[1]} |")
    return "\n".join(lines)


if __name__ == "__main__":
    print(table())
