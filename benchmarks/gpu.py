"""All that needs a GPU, in one call of less than ten minutes: ``python benchmarks/gpu.py``.

It runs the tests that are marked ``gpu``; times training steps against PyTorch, eagerly, as a CUDA
graph and compiled, with and without TF32; times an epoch of MNIST and compares the accuracy after
three epochs and the weights after one with the CPU's; times single kernels; and has
``compute-sanitizer``, where that is installed, look at a few steps. Each part is a process of its
own, so that what fails or hangs says so in the table and takes nothing else with it; what there is
no time left for says that. The text goes to ``RESULTS.md``. ``--dry-run`` does the same on the CPU
with next to no data, to see that the script itself is whole; it writes nothing.

A step of ours is an epoch's time over its steps, with the progress read once at its end; one of
PyTorch's is timed by events around as many. Both have the data on the GPU and gather the batch
there.
"""

import argparse
import contextlib
import json
import shutil
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable
from pathlib import Path
from statistics import median
from typing import Any

import numpy as np
from nets import NETS
from report import table, write

import tinyconv as tc

ROOT = Path(__file__).parent.parent
TIMED = (
    "784-100-10, sigmoid",
    "one convolution, sigmoid",
    "conv-conv-ReLU",
    "conv-conv-ReLU, FC 1000, dropout",
    "784-2500-2000-1500-1000-500-10, tanh",
    "resnet20",
)
BATCHES: tuple[int, ...] = (10, 64, 128, 1024)
ROUNDS = 5

#: Milliseconds that a step of a net at a batch size is to take at most, and PyTorch's over ours.
GOALS = {("conv-conv-ReLU", 10): (0.035, 2.0), ("conv-conv-ReLU", 64): (0.05, 1.0)}


def moved(net: tc.Sequential, device: str) -> tc.Sequential:
    """Return a copy of a net on a device."""
    with tempfile.TemporaryDirectory() as folder:
        net.save(f"{folder}/net.safetensors")
        return tc.load(f"{folder}/net.safetensors", device)


def our_step(name: str, batch: int, steps: int, device: str) -> float:
    """Return the median milliseconds of a training step of an epoch of so many."""
    x, y = NETS[name].data(batch * steps)
    net, steps = moved(NETS[name].build(), device), len(x) // batch
    history = net.fit(
        x[: steps * batch],
        y[: steps * batch],
        epochs=ROUNDS + 1,
        batch_size=batch,
        optimizer=tc.SGD(lr=0.01),
        verbose=False,
    )
    # Of the first epoch, compiling is a part.
    return 1000 * batch / median(history["samples_per_second"][1:])


def torch_steps(name: str, batch: int, steps: int) -> dict[str, float]:
    """Return the same of PyTorch: variant -> milliseconds."""
    import torch

    from tinyconv.interop.torch import to_module

    x, y = (torch.from_numpy(array).cuda() for array in NETS[name].data(batch * steps))
    steps = len(x) // batch
    found = {}
    for tf32 in (False, True):
        torch.backends.cuda.matmul.allow_tf32 = torch.backends.cudnn.allow_tf32 = tf32
        for variant in ("eager", "graph", "compiled"):
            label = f"{variant}{', TF32' if tf32 else ''}"
            try:
                module = to_module(NETS[name].build()).cuda().train()
                rule = torch.optim.SGD(module.parameters(), lr=0.01, fused=True)
                if variant == "compiled":
                    module = torch.compile(module, mode="reduce-overhead")
                run = _torch_step(module, rule, x, y, batch, variant == "graph")
                found[label] = _timed(run, steps)
            except Exception as error:  # a compiler that is not there is no result
                print(f"{name}, batch {batch}, {label}: {shown(error)}", file=sys.stderr)
    return found


def _torch_step(
    module: Any, rule: Any, x: Any, y: Any, batch: int, as_graph: bool
) -> Callable[[], None]:
    import torch

    loss, index = torch.nn.CrossEntropyLoss(), torch.zeros(batch, dtype=torch.int64).cuda()

    def step() -> None:
        rule.zero_grad(set_to_none=not as_graph)
        loss(module(x[index]), y[index]).backward()
        rule.step()

    replayed = step
    if as_graph:
        side: Any = torch.cuda.Stream()  # type: ignore[no-untyped-call]
        side.wait_stream(torch.cuda.current_stream())
        with torch.cuda.stream(side):
            for _ in range(3):
                step()
        torch.cuda.current_stream().wait_stream(side)
        graph = torch.cuda.CUDAGraph()
        with torch.cuda.graph(graph):
            step()
        replayed = graph.replay
    order, place = torch.randperm(len(x)).cuda(), 0

    def run() -> None:
        nonlocal place
        place = 0 if place + 2 * batch > len(x) else place + batch
        index.copy_(order[place : place + batch])
        replayed()

    return run


def _timed(run: Callable[[], None], steps: int) -> float:
    """Return the median milliseconds of a call, of rounds of so many."""
    import torch

    for _ in range(5):
        run()
    rounds: list[float] = []
    for _ in range(ROUNDS):
        event: Any = torch.cuda.Event
        begin, end = (event(enable_timing=True) for _ in range(2))
        begin.record()
        for _ in range(steps):
            run()
        end.record()
        torch.cuda.synchronize()
        rounds.append(begin.elapsed_time(end) / steps)
    return median(rounds)


def steps_of(name: str, device: str, steps: int) -> list[list[str]]:
    """Return the rows of a net: what fails has its error where its time would be."""
    rows = []
    for batch in BATCHES:
        try:
            ours, said = our_step(name, batch, steps, device), ""
        except Exception as error:
            ours, said = float("nan"), shown(error)
        theirs = {}
        if device == "gpu" and has_torch():
            with contextlib.suppress(Exception):
                theirs = torch_steps(name, batch, steps)
        best = min((t for k, t in theirs.items() if "TF32" not in k), default=float("nan"))
        most, ratio = GOALS.get((name, batch), (float("inf"), 1.0 if batch >= 1024 else 0.0))
        met = ours <= most and not best / ours < ratio
        others = ", ".join(f"{label} {time:.3f}" for label, time in theirs.items()) or "-"
        row = [name, str(batch), said or f"{ours:.4f}", others, f"{best / ours:.2f}"]
        has_goal = most < float("inf") or (ratio > 0 and best == best)
        rows.append([*row, ("yes" if met else "NO") if has_goal else "-"])
        print(json.dumps(rows[-1]), flush=True)
    return rows


def kernels_of(device: str) -> str:
    """Return the times of the parts of a step, launched one by one and waited for."""
    lines = []
    for batch in BATCHES[:1] + BATCHES[-1:]:
        x, y = NETS["conv-conv-ReLU"].data(batch * 20)
        net = moved(NETS["conv-conv-ReLU"].build(), device)
        options: dict[str, Any] = {"batch_size": batch, "verbose": False, "profile": True}
        net.fit(x, y, epochs=1, **options)
        parts = net.fit(x, y, epochs=1, **options).profile
        said = ", ".join(f"{name} {1e6 * seconds:.0f}" for name, seconds in parts.items())
        lines.append(f"- batch {batch}, µs with launch and wait: {said}")
    return "\n".join(lines)


def shown(error: Exception) -> str:
    """Return an error in one short line that a table can hold."""
    text = f"{type(error).__name__}: {error}".replace("|", "/")
    return " ".join(text.split())[:300]


def has_torch() -> bool:
    with contextlib.suppress(ImportError):
        import torch

        return bool(torch.cuda.is_available())
    return False


def epoch_of_digits(device: str, samples: int) -> str:
    """Time an epoch, and compare accuracy and weights with the CPU's."""
    lines = []
    try:
        data = tc.data.load("mnist" if samples > 1000 else "mnist-sample")
    except Exception as error:  # a machine without a network
        lines.append(f"the sample's digits instead of MNIST's ({shown(error)})")
        data = tc.data.load("mnist-sample")
    x, y = data.train
    x, y = x[:samples], y[:samples]
    weights, scores = [], []
    for where in dict.fromkeys((device, "cpu")):
        net = tc.models.nielsen_conv_conv_relu(device=where)
        options: dict[str, Any] = {"batch_size": 128, "optimizer": tc.SGD(lr=0.05)}
        history = net.fit(x, y, epochs=1, verbose=False, **options)
        weights.append(np.concatenate([a.ravel() for a in net.state_dict().values()]))
        history = net.fit(x, y, epochs=2, verbose=False, **options)
        scores.append(net.evaluate(*data.test)["accuracy"])
        lines.append(
            f"{where}: an epoch of {len(x)} digits at batch 128 in {history['seconds'][-1]:.3f} s, "
            f"accuracy after 3 epochs {scores[-1]:.4f}"
        )
    away = float(np.abs(weights[0] - weights[-1]).max())
    lines.append(f"largest difference of a weight after an epoch: {away:.1e}")
    return "\n".join(f"- {line}" for line in lines)


def few_steps(device: str) -> str:
    """What ``compute-sanitizer`` looks at: a few steps of nets with all families of kernels."""
    for name in ("conv-conv-ReLU, FC 1000, dropout", "resnet20"):
        our_step(name, 10, 4, device)
    return ""


def sanitized(check: str, limit: float) -> str:
    """Return what a tool of ``compute-sanitizer`` says."""
    tool = shutil.which("compute-sanitizer")
    if tool is None:
        return "compute-sanitizer is not installed"
    command = [tool, "--tool", check, "--error-exitcode", "9"]
    code, said = ended([*command, sys.executable, __file__, "--part", "few-steps"], limit)
    return f"{'clean' if code == 0 else 'NOT CLEAN'} ({said[-1][:300]})"


def ended(command: list[str], limit: float) -> tuple[int, list[str]]:
    """Run a command; return its code, -1 after ``limit`` seconds, and the lines that it printed."""
    with tempfile.TemporaryFile("w+") as file:
        try:
            options: dict[str, Any] = {"stdout": file, "stderr": subprocess.STDOUT, "cwd": ROOT}
            code = subprocess.run(command, timeout=limit, check=False, **options).returncode
        except subprocess.TimeoutExpired:
            code = -1
        file.seek(0)
        return code, file.read().strip().splitlines() or [""]


HEADER = ["net", "batch", "tinyconv, ms", "PyTorch, ms", "best in fp32 over ours", "goal met"]


class Report:
    """The text so far; it is written after each part, so that a call that is cut short leaves it.

    Args:
        is_dry: whether this is the CPU and nothing is written.
        seconds: that all parts may take together.
    """

    def __init__(self, is_dry: bool, seconds: float) -> None:
        self.is_dry, self.ends = is_dry, time.perf_counter() + seconds
        self.rows: list[list[str]] = []
        self.notes: list[str] = []

    @property
    def left(self) -> float:
        """Seconds left."""
        return self.ends - time.perf_counter()

    def part(self, name: str, limit: float) -> None:
        """Run a part as a process; take over its rows, its text, or why there are none."""
        if self.left < 15:
            self.note(f"{name}: no time left")
            return
        command = [sys.executable, __file__, "--part", name, *["--dry-run"] * self.is_dry]
        code, lines = ended(command, min(limit, self.left))
        for line in lines:
            if line.startswith(("[", "- ")):
                print(line, flush=True)
            if line.startswith("["):
                with contextlib.suppress(ValueError):
                    self.rows.append(json.loads(line))
            elif line.startswith("- "):
                self.notes.append(line)
        if code:
            why = "took too long" if code == -1 else f"ended with {code}"
            self.note(f"{name} {why}: {' / '.join(lines[-3:])[:600]}")
        self.write()

    def note(self, text: str) -> None:
        """Add a line."""
        self.notes.append(f"- {text}")
        print(self.notes[-1], flush=True)

    def write(self) -> None:
        """Write what there is to ``RESULTS.md``."""
        text = "\n".join(self.notes) + "\n\n" + table(HEADER, self.rows)
        if not self.is_dry:
            write("GPU", text)


def run_part(name: str, device: str, is_dry: bool) -> None:
    """Do one part in this process; its rows are lists in JSON, its text begins with a dash."""
    if name in TIMED:
        steps_of(name, device, 2 if is_dry else 60)
        return
    parts: dict[str, Callable[[], str]] = {
        "first step": lambda: f"- the first step runs: {our_step(TIMED[0], 10, 2, device):.3f} ms",
        "epoch": lambda: epoch_of_digits(device, 300 if is_dry else 50_000),
        "kernels": lambda: kernels_of(device),
        "few-steps": lambda: few_steps(device),
    }
    print(parts[name]())


def main() -> None:
    options = argparse.ArgumentParser(description=__doc__)
    options.add_argument("--dry-run", action="store_true", help="on the CPU, with little data")
    options.add_argument("--part", help=argparse.SUPPRESS)
    arguments = options.parse_args()
    is_dry = arguments.dry_run
    if is_dry:
        global BATCHES, ROUNDS
        BATCHES, ROUNDS = (4,), 1
    if arguments.part is not None:
        run_part(arguments.part, "cpu" if is_dry else "gpu", is_dry)
        return
    report = Report(is_dry, 560)
    if not is_dry:
        for command in (["nvidia-smi", "-L"], [sys.executable, "-m", "pip", "list"]):
            with contextlib.suppress(OSError):
                _, lines = ended(command, 20)
                named = [line for line in lines if "GPU" in line or "cu" in line or "torch" in line]
                report.note("; ".join(" ".join(line.split()) for line in named)[:600])
    report.part("first step", 90)
    report.part("conv-conv-ReLU", 120)
    report.part("epoch", 100)
    report.part("kernels", 60)
    if not is_dry:
        code, lines = ended([sys.executable, "-m", "pytest", "-q", "-m", "gpu", "tests"], 150)
        report.note(f"the tests marked gpu {'FAIL' if code else 'pass'}: {' / '.join(lines[-8:])}")
    for name in TIMED:
        if name != "conv-conv-ReLU":
            report.part(name, 90)
    for check in () if is_dry else ("memcheck", "racecheck"):
        if report.left > 20:
            report.note(f"{check}: {sanitized(check, min(90, report.left))}")
    report.note(f"all of it took {560 - report.left:.0f} s")
    report.write()
    print(table(HEADER, report.rows))


if __name__ == "__main__":
    main()
