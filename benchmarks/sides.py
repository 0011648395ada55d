"""Two libraries that take turns: a process for each, and what is common to their measurements."""

import argparse
import json
import os
import resource
import subprocess
import sys
import time
from collections.abc import Callable
from statistics import median
from typing import Any

__all__ = ["ISAS", "Side", "measured", "parser", "restart_with", "serve", "torch_variants"]

#: What restricts each library to AVX2. ONNX Runtime's own kernels know no such switch.
ISAS = {
    "full": {},
    "avx2": {
        "NUMBA_CPU_NAME": "haswell",
        "NUMBA_CPU_FEATURES": "",  # no others than that machine's
        "ATEN_CPU_CAPABILITY": "avx2",
        "ONEDNN_MAX_CPU_ISA": "AVX2",
        "MKL_ENABLE_INSTRUCTIONS": "AVX2",
        "OPENBLAS_CORETYPE": "Haswell",
    },
}


def parser(text: str | None, rounds: int, seconds: float) -> argparse.ArgumentParser:
    """Return the options that all such scripts have."""
    made = argparse.ArgumentParser(description=text)
    made.add_argument("--rounds", type=int, default=rounds)
    made.add_argument("--seconds", type=float, default=seconds)
    made.add_argument("--only", default="", help="nets whose name contains this")
    made.add_argument("--isa", choices=ISAS, default="full", help="the instructions that are used")
    made.add_argument("--side", nargs=3, help=argparse.SUPPRESS)
    return made


def restart_with(isa: str) -> None:
    """Begin anew with the environment that an instruction set needs, unless that is there."""
    if any(os.environ.get(name) != value for name, value in ISAS[isa].items()):
        os.execve(sys.executable, [sys.executable, *sys.argv], os.environ | ISAS[isa])


class Side:
    """A process of a library, which measures when it is told to."""

    def __init__(self, script: str, library: str, net: str, batch: int) -> None:
        self.library = library
        self.memory = 0
        self.process = subprocess.Popen(
            [sys.executable, script, "--side", library, net, str(batch)],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            text=True,
            # PyTorch's compiler otherwise keeps processes, which start while others measure.
            env=os.environ | {"TORCHINDUCTOR_COMPILE_THREADS": "1"},
        )

    def answer(self) -> Any:
        """Return what the process says next; the first answer is that it is ready."""
        assert self.process.stdout is not None
        line = self.process.stdout.readline()
        if not line:
            raise RuntimeError(f"{self.library}: the process ended")
        return json.loads(line)

    def measure(self, variant: str, threads: int, seconds: float) -> float:
        """Return the median seconds of one call."""
        assert self.process.stdin is not None
        self.process.stdin.write(json.dumps([variant, threads, seconds]) + "\n")
        self.process.stdin.flush()
        found, self.memory = self.answer()
        return float(found)

    def close(self) -> None:
        """End the process."""
        self.process.communicate()


def serve(make: Callable[[str, int], Callable[[float], float]], first: Any = "ready") -> None:
    """Be such a process.

    Args:
        make: gives for a variant and a number of threads what measures for some seconds.
        first: the first answer.
    """
    print(json.dumps(first), flush=True)
    made: dict[tuple[str, int], Callable[[float], float]] = {}
    for line in sys.stdin:
        variant, threads, seconds = json.loads(line)
        measure = made.get((variant, threads)) or make(variant, threads)
        made[variant, threads] = measure
        found = measure(seconds)
        memory = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * 1024
        print(json.dumps([found, memory]), flush=True)


def measured(call: Callable[[], Any], seconds: float) -> float:
    """Return the median time of a call, of at least two after one that is not counted."""
    call()
    times: list[float] = []
    end = time.perf_counter() + seconds
    while len(times) < 2 or time.perf_counter() < end:
        start = time.perf_counter()
        call()
        times.append(time.perf_counter() - start)
    return median(times)


def torch_variants(net: Any, variant: str) -> tuple[Any, Callable[[Any], Any]]:
    """Return PyTorch's twin of a net in one variant, and what prepares its input."""
    import copy

    import torch

    from tinyconv.interop.torch import to_module

    module = copy.deepcopy(to_module(net))
    if variant == "channels-last" and len(net.input_shape) in (3, 4):
        order = torch.channels_last if len(net.input_shape) == 3 else torch.channels_last_3d
        return module.to(memory_format=order), lambda x: x.to(memory_format=order)
    return torch.compile(module) if variant == "compiled" else module, lambda x: x
