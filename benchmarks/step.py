"""One training step against PyTorch: ``python benchmarks/step.py [--rounds 5] [--compile]``.

Each library trains in processes of its own, on 1 and on 2 threads. The processes take turns: a
round is a slice of steps in each, one after the other, and gives one ratio, the best PyTorch
variant over the better of tinyconv's. Both sides gather the batch from the whole set, run forward
and backward, and update with plain SGD (PyTorch's is the fused one). Peak memory is that of the
whole process.
"""

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

import numpy as np
from nets import NETS, data, of_tinyconv, of_torch
from report import table, write

SAMPLES = 6000
#: (net, batch) -> the ratio that the project aims at.
GOALS: dict[str, dict[int, float]] = {
    "conv-conv-ReLU": {10: 4.5, 128: 3},
    "ReLU before the pool": {10: 4.5, 128: 3},
    "with L2 pooling": {10: 2.5, 128: 1.5},
    "with average pooling": {10: 2.5, 128: 1.5},
    "one convolution, sigmoid": {10: 3, 128: 2.5},
    "784-100-10, sigmoid": {10: 4, 128: 2},
    "conv-conv-ReLU, FC 1000, dropout": {10: 2, 128: 2},
    "784-2500-2000-1500-1000-500-10, tanh": {10: 1.3, 128: 1.3},
    "LeNet-5, tanh, average pools": {32: 1},
    "3x3, padding 1, stride 2": {32: 1},
    "MNIST-1D, 3 wide, stride 2": {32: 1},
}


def tinyconv_steps(name: str, batch: int, threads: int, variant: str) -> Callable[[float], float]:
    """Return a function that trains for some seconds and returns the median seconds a step."""
    import tinyconv as tc

    tc.set_num_threads(threads)
    net, (x, y) = of_tinyconv(name), data(name, SAMPLES)
    rule = tc.SGD(lr=0.01)
    net.fit(x[: 4 * batch], y[: 4 * batch], batch_size=batch, optimizer=rule, verbose=False)

    class Clock(tc.Callback):
        def __init__(self, seconds: float) -> None:
            self.times: list[float] = []
            self.end = time.perf_counter() + seconds

        def on_batch_end(self, training: Any) -> None:
            now = time.perf_counter()
            self.times.append(now)
            if now > self.end:
                training.stop = "the time is over"

    def measure(seconds: float) -> float:
        clock = Clock(seconds)
        net.fit(
            x, y, epochs=1000, batch_size=batch, optimizer=rule, verbose=False, callbacks=[clock]
        )
        return median(np.diff(clock.times[3:]).tolist())

    return measure


def torch_steps(name: str, batch: int, threads: int, variant: str) -> Callable[[float], float]:
    """Return the same for PyTorch; the variant is eager, channels-last or compiled."""
    import torch

    torch.set_num_threads(threads)
    torch.manual_seed(0)
    net = of_torch(name)
    x, y = map(torch.from_numpy, data(name, SAMPLES))
    if variant == "channels-last" and x.ndim == 4:
        net = net.to(memory_format=torch.channels_last)
        x = x.to(memory_format=torch.channels_last)
    forward = torch.compile(net) if variant == "compiled" else net
    loss = torch.nn.CrossEntropyLoss()
    rule = torch.optim.SGD(net.parameters(), lr=0.01, fused=True)

    def step(index: Any) -> None:
        rule.zero_grad(set_to_none=True)
        loss(forward(x[index]), y[index]).backward()
        rule.step()

    for _ in range(4):
        step(torch.arange(batch))

    def measure(seconds: float) -> float:
        times, end = [], time.perf_counter() + seconds
        while time.perf_counter() < end:
            order: Any = torch.randperm(SAMPLES)
            for index in order.split(batch)[:-1]:
                start = time.perf_counter()
                step(index)
                times.append(time.perf_counter() - start)
                if start > end:
                    break
        return median(times)

    return measure


class Side:
    """A process that says when it is ready, and measures when it is told to."""

    def __init__(self, library: str, name: str, batch: int, threads: int, variant: str) -> None:
        self.label = f"{library} {variant}, {threads} threads".replace(" ,", ",")
        arguments = [library, name, str(batch), str(threads), variant]
        self.process = subprocess.Popen(
            [sys.executable, __file__, "--side", *arguments],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            text=True,
            # PyTorch's compiler otherwise keeps processes, which start while others measure.
            env=os.environ | {"TORCHINDUCTOR_COMPILE_THREADS": "1"},
        )

    def answer(self) -> Any:
        """Return what the process says next."""
        assert self.process.stdout is not None
        line = self.process.stdout.readline()
        if not line:
            raise RuntimeError(f"{self.label}: the process ended")
        return json.loads(line)

    def measure(self, seconds: float) -> float:
        """Return the median seconds of a step."""
        assert self.process.stdin is not None
        self.process.stdin.write(f"{seconds}\n")
        self.process.stdin.flush()
        answer = self.answer()
        self.memory = answer["memory"]
        return float(answer["seconds"])

    def close(self) -> None:
        """End the process."""
        self.process.communicate()


def run_side(library: str, name: str, batch: str, threads: str, variant: str) -> None:
    steps = {"tinyconv": tinyconv_steps, "PyTorch": torch_steps}[library]
    measure = steps(name, int(batch), int(threads), variant)
    print(json.dumps("ready"), flush=True)
    for line in sys.stdin:
        seconds = measure(float(line))
        memory = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * 1024
        print(json.dumps({"seconds": seconds, "memory": memory}), flush=True)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--seconds", type=float, default=0.5)
    parser.add_argument("--compile", action="store_true", help="also torch.compile (minutes)")
    parser.add_argument("--only", default="", help="nets whose name contains this")
    parser.add_argument("--side", nargs=5)
    arguments = parser.parse_args()
    if arguments.side:
        run_side(*arguments.side)
        return
    variants = ["eager", "channels-last"] + (["compiled"] if arguments.compile else [])
    rows = []
    for name in NETS:
        if arguments.only not in name:
            continue
        for batch, goal in GOALS[name].items():
            ours = [Side("tinyconv", name, batch, threads, "") for threads in (1, 2)]
            theirs = [
                Side("PyTorch", name, batch, threads, variant)
                for variant in variants
                for threads in (1, 2)
            ]
            for side in (*ours, *theirs):
                side.answer()
            own, best = [], []
            for _ in range(arguments.rounds):
                own.append(min(side.measure(arguments.seconds) for side in ours))
                best.append({side.label: side.measure(arguments.seconds) for side in theirs})
            ratios = [min(b.values()) / a for a, b in zip(own, best, strict=True)]
            winner = min(theirs, key=lambda side: median(b[side.label] for b in best))
            rows.append(
                [
                    name,
                    str(batch),
                    f"{1e3 * median(own):.3f}",
                    f"{1e3 * median(min(b.values()) for b in best):.3f}",
                    winner.label.removeprefix("PyTorch "),
                    f"**{median(ratios):.1f}** ({min(ratios):.1f} to {max(ratios):.1f})",
                    f"{goal:g}",
                    f"{max(side.memory for side in ours) / winner.memory:.2f}",
                ]
            )
            print(" | ".join(rows[-1]), flush=True)
            for side in (*ours, *theirs):
                side.close()
    import torch

    if not arguments.only:
        compiled = "" if arguments.compile else " (torch.compile was not run)"
        write(
            "A training step",
            f"Against PyTorch {torch.__version__}{compiled}, float32, {arguments.rounds} rounds; "
            "milliseconds are medians over the rounds, the ratio is PyTorch's best variant of a "
            "round over tinyconv's, each on 1 or 2 threads as is faster: median (range). Memory: "
            "peak of the process over that of PyTorch's.\n\n"
            + table(
                [
                    "net",
                    "batch",
                    "tinyconv ms",
                    "PyTorch ms",
                    "its best variant",
                    "ratio",
                    "goal",
                    "memory",
                ],
                rows,
            ),
        )


if __name__ == "__main__":
    main()
