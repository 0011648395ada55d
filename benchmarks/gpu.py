"""All that needs a GPU, in one call of less than ten minutes: ``python benchmarks/gpu.py``.

It runs the tests that are marked ``gpu``; times training steps against PyTorch, eagerly, as a CUDA
graph and compiled, with and without TF32; times an epoch of MNIST and compares the accuracy after
three epochs and the weights after one with the CPU's; and has ``compute-sanitizer``, where that is
installed, look at a few steps. The table goes to ``RESULTS.md``. ``--dry-run`` does the same on the
CPU with next to no data, to see that the script itself is whole; it writes nothing.

A step of ours is an epoch's time over its steps, with the progress read once at its end; one of
PyTorch's is timed by events around as many. Both have the data on the GPU and gather the batch
there.
"""

import argparse
import contextlib
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
            module = to_module(NETS[name].build()).cuda().train()
            rule = torch.optim.SGD(module.parameters(), lr=0.01, fused=True)
            if variant == "compiled":
                module = torch.compile(module, mode="reduce-overhead")
            run = _torch_step(module, rule, x, y, batch, variant == "graph")
            label = f"{variant}{', TF32' if tf32 else ''}"
            try:
                found[label] = _timed(run, steps)
            except Exception as error:  # a compiler that is not there is no result
                print(f"{name}, batch {batch}, {label}: {error}", file=sys.stderr)
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


def steps_table(device: str, steps: int) -> str:
    rows = []
    for name in TIMED:
        for batch in BATCHES:
            ours = our_step(name, batch, steps, device)
            theirs = torch_steps(name, batch, steps) if device == "gpu" and has_torch() else {}
            best = min((t for k, t in theirs.items() if "TF32" not in k), default=float("nan"))
            most, ratio = GOALS.get((name, batch), (float("inf"), 1.0 if batch >= 1024 else 0.0))
            met = ours <= most and not best / ours < ratio
            said = ", ".join(f"{label} {time:.3f}" for label, time in theirs.items())
            row = [name, str(batch), f"{ours:.3f}", said or "-", f"{best / ours:.2f}"]
            has_goal = most < float("inf") or (ratio > 0 and best == best)
            rows.append([*row, ("yes" if met else "NO") if has_goal else "-"])
            print(" | ".join(rows[-1]), flush=True)
    header = ["net", "batch", "tinyconv, ms", "PyTorch, ms", "best in fp32 over ours", "goal met"]
    return table(header, rows)


def has_torch() -> bool:
    with contextlib.suppress(ImportError):
        import torch

        return bool(torch.cuda.is_available())
    return False


def epoch_of_digits(device: str, samples: int) -> str:
    """Time an epoch, and compare accuracy and weights with the CPU's."""
    data = tc.data.load("mnist" if samples > 1000 else "mnist-sample")
    x, y = data.train
    x, y = x[:samples], y[:samples]
    lines = []
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


def few_steps(device: str) -> None:
    """What ``compute-sanitizer`` looks at: a few steps of nets with all families of kernels."""
    for name in ("conv-conv-ReLU, FC 1000, dropout", "resnet20"):
        our_step(name, 10, 4, device)


def sanitized() -> str:
    tool = shutil.which("compute-sanitizer")
    if tool is None:
        return "- compute-sanitizer is not installed"
    lines = []
    for check in ("memcheck", "racecheck"):
        command = [tool, "--tool", check, "--error-exitcode", "9"]
        command += [sys.executable, __file__, "--few-steps"]
        done = subprocess.run(command, capture_output=True, text=True, check=False)
        last = (done.stdout.strip().splitlines() or [""])[-1]
        lines.append(f"- {check}: {'clean' if done.returncode == 0 else 'NOT CLEAN'} ({last})")
    return "\n".join(lines)


def main() -> None:
    options = argparse.ArgumentParser(description=__doc__)
    options.add_argument("--dry-run", action="store_true", help="on the CPU, with little data")
    options.add_argument("--few-steps", action="store_true", help=argparse.SUPPRESS)
    arguments = options.parse_args()
    device = "cpu" if arguments.dry_run else "gpu"
    if arguments.few_steps:
        few_steps(device)
        return
    began = time.perf_counter()
    tests = [sys.executable, "-m", "pytest", "-q", "-m", "gpu", "tests"]
    parts = []
    if device == "gpu":
        passed = subprocess.run(tests, cwd=ROOT, check=False).returncode == 0
        parts.append(f"The tests marked gpu {'pass' if passed else 'FAIL'}.")
    parts.append(sanitized() if device == "gpu" else "")
    parts.append(epoch_of_digits(device, 300 if arguments.dry_run else 50_000))
    if arguments.dry_run:
        global BATCHES, ROUNDS
        BATCHES, ROUNDS = (4,), 1
    parts.append(steps_table(device, 2 if arguments.dry_run else 60))
    parts.append(f"All of it took {time.perf_counter() - began:.0f} s.")
    text = "\n\n".join(filter(None, parts))
    print(text)
    if not arguments.dry_run:
        write("GPU", text)


if __name__ == "__main__":
    main()
