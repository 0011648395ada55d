"""Gradient checks against PyTorch's and against one random direction: speed, and mistakes found.

    python benchmarks/gradcheck.py speed        ratios to torch.autograd.gradcheck
    python benchmarks/gradcheck.py elements     the same for every element of every parameter
    python benchmarks/gradcheck.py bugs         the table of planted mistakes, as Markdown

Needs PyTorch: pip install "tinyconv[oracle]". Both sides get one thread. Figures are medians of
alternating runs in one process.
"""

import argparse
import statistics
import sys
import time
from collections.abc import Callable
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import threadpoolctl
import torch

import tinyconv as tc
from tinyconv.gradcheck import check
from tinyconv.testing import check_network

ROOT = Path(__file__).parent.parent


def networks(channels: tuple[int, int], hidden: int) -> tuple[tc.Sequential, torch.nn.Module]:
    """Return the conv-conv-ReLU net of the book, here and in PyTorch, with the same parameters."""
    first, second = channels
    ours = tc.Sequential(
        [
            *(tc.Conv2d(1, first, 5), tc.MaxPool2d(2), tc.ReLU()),
            *(tc.Conv2d(first, second, 5), tc.MaxPool2d(2), tc.ReLU()),
            *(tc.Flatten(), tc.Linear(16 * second, hidden), tc.ReLU(), tc.Linear(hidden, 10)),
        ],
        dtype="float64",
        input_shape=(1, 28, 28),
    )
    nn = torch.nn
    theirs = nn.Sequential(
        *(nn.Conv2d(1, first, 5), nn.MaxPool2d(2), nn.ReLU()),
        *(nn.Conv2d(first, second, 5), nn.MaxPool2d(2), nn.ReLU()),
        *(nn.Flatten(), nn.Linear(16 * second, hidden), nn.ReLU(), nn.Linear(hidden, 10)),
    ).double()
    theirs.load_state_dict({k: torch.from_numpy(v) for k, v in ours.state_dict().items()})
    return ours, theirs


def contest(
    channels: tuple[int, int], hidden: int
) -> tuple[Callable[..., Any], Callable[..., Any]]:
    """Return our check of the net at batch 4 and PyTorch's, of all parameters and the batch."""
    ours, theirs = networks(channels, hidden)
    rng = np.random.default_rng(0)
    x, labels = rng.random((4, 1, 28, 28)), np.array([3, 1, 4, 1])
    names = [name for name, _ in theirs.named_parameters()]
    parameters = [p.detach().clone().requires_grad_() for p in theirs.parameters()]
    tx, tlabels = torch.from_numpy(x).requires_grad_(), torch.from_numpy(labels)

    def loss(tx: torch.Tensor, *parameters: torch.Tensor) -> torch.Tensor:
        named = dict(zip(names, parameters, strict=True))
        logits = torch.func.functional_call(theirs, named, tx)
        return torch.nn.functional.cross_entropy(logits, tlabels)

    def check_ours(samples: Any) -> None:
        report = check_network(ours, x, labels, samples=samples)
        assert report.ok, str(report)

    def check_theirs(fast: bool) -> None:
        assert torch.autograd.gradcheck(loss, (tx, *parameters), fast_mode=fast)

    return check_ours, check_theirs


def alternate(ours: Callable[[], Any], theirs: Callable[[], Any], runs: int) -> tuple[float, float]:
    """Return the median time of each in seconds, after a run of each that does not count."""
    times: tuple[list[float], list[float]] = ([], [])
    for run in range(runs + 1):
        for which, function in enumerate((ours, theirs)):
            start = time.perf_counter()
            function()
            if run:
                times[which].append(time.perf_counter() - start)
    return statistics.median(times[0]), statistics.median(times[1])


def measure_projection() -> None:
    ours, theirs = contest((20, 40), 100)
    mine, other = alternate(lambda: ours(0), lambda: theirs(True), runs=21)
    print("conv-conv-ReLU net (20, 40, 100), batch 4, float64, all parameters and the batch")
    print(f"projection      {1e3 * mine:8.1f} ms, torch fast mode {1e3 * other:8.1f} ms,", end=" ")
    print(f"ratio {mine / other:.2f}")
    mine, _ = alternate(lambda: ours(4), lambda: None, runs=11)
    print(f"with 4 samples  {1e3 * mine:8.1f} ms of each tensor, the default")


def measure_elements() -> None:
    ours, theirs = contest((4, 8), 16)
    mine, other = alternate(lambda: ours("all"), lambda: theirs(False), runs=3)
    print("conv-conv-ReLU net (4, 8, 16), batch 4, float64, all parameters and the batch")
    print(f"every element   {mine:8.2f} s,  torch slow mode {other:8.2f} s,", end=" ")
    print(f"ratio {mine / other:.2f}")


# -- planted mistakes -------------------------------------------------------------------------


def one_direction(bug: Any) -> bool:
    """Return whether a check along one random direction, as JAX's check_grads, finds the bug."""
    rng = np.random.default_rng(0)
    floating = [a for a in bug.inputs if a.dtype.kind == "f"]
    directions = [rng.normal(size=a.shape) for a in floating]

    def at(t: float) -> Any:
        moved = iter(directions)
        arrays = [a + t * next(moved) if a.dtype.kind == "f" else a.copy() for a in bug.inputs]
        return bug.forward(*arrays)

    dy = rng.normal(size=np.shape(at(0)))
    numeric = float(np.sum(dy * (at(1e-6) - at(-1e-6)))) / 2e-6
    gradients = bug.make_backward()(dy.copy(), *(a.copy() for a in bug.inputs))
    gradients = gradients if isinstance(gradients, (tuple, list)) else [gradients]
    try:
        pairs = zip(gradients, directions, strict=False)
        analytic = sum(float(np.sum(g * v)) for g, v in pairs if g is not None)
    except ValueError:
        return True  # shapes that do not fit
    return not abs(analytic - numeric) <= 1e-6 + 1e-4 * abs(numeric)


def torch_finds(bug: Any) -> bool:
    """Return whether torch.autograd.gradcheck with its defaults finds the bug."""
    backward = bug.make_backward()

    class Function(torch.autograd.Function):
        @staticmethod
        def forward(ctx: Any, *tensors: torch.Tensor) -> torch.Tensor:
            ctx.save_for_backward(*tensors)
            return torch.from_numpy(np.array(bug.forward(*(t.numpy() for t in tensors))))

        @staticmethod
        def backward(ctx: Any, *grads: torch.Tensor) -> Any:
            arrays = [t.numpy() for t in ctx.saved_tensors]
            result = backward(np.array(grads[0].numpy()), *arrays)
            result = list(result) if isinstance(result, (tuple, list)) else [result]
            tensors = [None if g is None else torch.from_numpy(np.array(g)) for g in result]
            return tuple([*tensors, *[None] * len(arrays)][: len(arrays)])

    inputs = [torch.from_numpy(a.copy()) for a in bug.inputs]
    for tensor in inputs:
        tensor.requires_grad_(tensor.is_floating_point())
    try:
        return not torch.autograd.gradcheck(
            lambda *tensors: Function.apply(*tensors),  # type: ignore[no-untyped-call]
            inputs,
            check_undefined_grad=False,
        )
    except Exception:
        # GradcheckError and whatever autograd says of wrong shapes: found, in any case.
        return True


def tabulate_bugs() -> None:
    sys.path.insert(0, str(ROOT / "tests" / "gradcheck"))
    from bugs import BUGS, CASES  # type: ignore[import-not-found]

    print("| planted mistake | verdict | hint | torch gradcheck | one direction |")
    print("|---|---|---|---|---|")
    found, times = [0, 0, 0], [0.0, 0.0, 0.0]
    explained = right = 0
    for bug in BUGS:
        start = time.perf_counter()
        report = check(bug.forward, bug.make_backward(), bug.inputs, names=bug.names)
        stamps = [time.perf_counter()]
        answers = [report.failed]
        for method in (torch_finds, one_direction):
            answers.append(method(bug))
            stamps.append(time.perf_counter())
        found = [n + answer for n, answer in zip(found, answers, strict=True)]
        spans = np.diff([start, *stamps])
        times = [total + float(span) for total, span in zip(times, spans, strict=True)]
        right += report.verdict == bug.verdict
        explained += bool(bug.hint) and bug.hint in report.hint
        others = " | ".join("found" if answer else "**missed**" for answer in answers[1:])
        print(f"| {bug.name} | {report.verdict} | {report.hint} | {others} |")
    print(f"| **found, of {len(BUGS)}** | **{found[0]}** | | **{found[1]}** | **{found[2]}** |")
    print(f"| **right verdict** | **{right}** | | | |")
    print(f"| **explained** | | **{explained}** | | |")
    unharmed = [case for case in CASES if not np.any(case.inputs[0] == 0)]
    alarms = [0, 0, 0]
    for case in unharmed:
        bug = SimpleNamespace(
            forward=case.forward, make_backward=lambda c=case: c.backward, inputs=case.inputs
        )
        alarms[0] += check(case.forward, case.backward, case.inputs).failed
        alarms[1] += torch_finds(bug)
        alarms[2] += one_direction(bug)
    counts = f"**{alarms[0]}** | | {alarms[1]} | {alarms[2]} |"
    print(f"| **false alarms, of {len(unharmed)} right gradients** | {counts}")
    mine, torch_time, direction = (f"{1e3 * total / len(BUGS):.1f} ms" for total in times)
    print(f"| **time, mean** | **{mine}** | | {torch_time} | {direction} |")


def main() -> None:
    parser = argparse.ArgumentParser(description=(__doc__ or "").partition("\n")[0])
    parser.add_argument("what", choices=["speed", "elements", "bugs"])
    what = parser.parse_args().what
    torch.set_num_threads(1)
    with threadpoolctl.threadpool_limits(1):
        {"speed": measure_projection, "elements": measure_elements, "bugs": tabulate_bugs}[what]()


if __name__ == "__main__":
    main()
