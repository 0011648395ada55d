"""Gradient checks against PyTorch's and against one random direction: speed, and mistakes found.

    python benchmarks/gradcheck.py speed    ratios to torch.autograd.gradcheck
    python benchmarks/gradcheck.py bugs     the table of planted mistakes
    python benchmarks/gradcheck.py          both
    python benchmarks/gradcheck.py whole    every element of the whole net, in some minutes

Writes its tables into ``tinyconv/gradcheck/README.md``. Needs PyTorch: pip install
"tinyconv[oracle]". Both sides get one thread. Figures are medians of alternating runs in one
process.
"""

import argparse
import re
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
from report import machine, table

import tinyconv as tc
from tinyconv.gradcheck import check
from tinyconv.testing import check_network

ROOT = Path(__file__).parent.parent
README = ROOT / "tinyconv" / "gradcheck" / "README.md"


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


def alternate(
    ours: Callable[[], Any], theirs: Callable[[], Any], runs: int
) -> tuple[list[float], list[float]]:
    """Return the times of both in seconds; where there are several, after one that is left out."""
    times: tuple[list[float], list[float]] = ([], [])
    for run in range(runs + (runs > 1)):
        for which, function in enumerate((ours, theirs)):
            start = time.perf_counter()
            function()
            if run or runs == 1:
                times[which].append(time.perf_counter() - start)
    return times


def compare(what: str, net: tuple[int, int, int], samples: Any, fast: bool, runs: int) -> list[str]:
    """Return a row of the table: medians, and the range of the ratios of neighbouring runs."""
    first, second, hidden = net
    ours, theirs = contest((first, second), hidden)
    times = alternate(lambda: ours(samples), lambda: theirs(fast), runs)
    mine, other = map(statistics.median, times)
    ratios = sorted(b / a for a, b in zip(*times, strict=True))
    median = statistics.median(ratios)
    row = [what, str(net), f"{1e3 * mine:,.0f} ms", f"{1e3 * other:,.0f} ms"]
    return [*row, f"**{median:.1f}** ({ratios[0]:.1f} to {ratios[-1]:.1f})", str(runs)]


BOOK, SMALL = (20, 40, 100), (4, 8, 16)


def measure_speed() -> None:
    tabulate_speed(
        "Speed",
        compare("projection; fast mode", BOOK, 0, True, runs=21),
        compare("projection and 4 elements of each tensor; fast mode", BOOK, 4, True, runs=11),
        compare("every element; slow mode", SMALL, "all", False, runs=3),
    )


def measure_every_element() -> None:
    row = compare("every element; slow mode", BOOK, "all", False, runs=1)
    tabulate_speed("Every element of the whole net", row)


def tabulate_speed(section: str, *rows: list[str]) -> None:
    header = ["this checker; PyTorch's", "net", "ours", "PyTorch's", "times as fast", "runs"]
    versions = f"{machine()}, PyTorch {torch.__version__}; one thread each."
    put(section, f"{versions}\n\n{table(header, list(rows))}")


def put(section: str, text: str) -> None:
    """Replace what follows the first paragraph of a section of the checker's page."""
    parts = re.split(r"(?m)^(?=## )", README.read_text(encoding="utf-8"))
    (place,) = (k for k, part in enumerate(parts) if part.startswith(f"## {section}\n"))
    title, paragraph, _ = parts[place].split("\n\n", 2)
    parts[place] = f"{title}\n\n{paragraph}\n\n{text}\n\n"
    README.write_text("".join(parts).rstrip() + "\n", encoding="utf-8")
    print(text)


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

    header = ["planted mistake", "verdict", "hint", "torch gradcheck", "one direction"]
    rows: list[list[str]] = []
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
        others = ["found" if answer else "**missed**" for answer in answers[1:]]
        rows.append([bug.name, report.verdict, report.hint, *others])
    counts = [f"**{n}**" for n in found]
    rows.append([f"**found, of {len(BUGS)}**", counts[0], "", *counts[1:]])
    rows.append(["**right verdict**", f"**{right}**", "", "", ""])
    rows.append(["**explained**", "", f"**{explained}**", "", ""])
    unharmed = [case for case in CASES if not np.any(case.inputs[0] == 0)]
    alarms = [0, 0, 0]
    for case in unharmed:
        bug = SimpleNamespace(
            forward=case.forward, make_backward=lambda c=case: c.backward, inputs=case.inputs
        )
        alarms[0] += check(case.forward, case.backward, case.inputs).failed
        alarms[1] += torch_finds(bug)
        alarms[2] += one_direction(bug)
    name = f"**false alarms, of {len(unharmed)} right gradients**"
    rows.append([name, f"**{alarms[0]}**", "", str(alarms[1]), str(alarms[2])])
    mine, *others = (f"{1e3 * total / len(BUGS):.1f} ms" for total in times)
    rows.append(["**time, mean**", f"**{mine}**", "", *others])
    put("Planted mistakes", table(header, rows))


def main() -> None:
    parser = argparse.ArgumentParser(description=(__doc__ or "").partition("\n")[0])
    parser.add_argument(
        "what", choices=["speed", "bugs", "both", "whole"], nargs="?", default="both"
    )
    what = parser.parse_args().what
    torch.set_num_threads(1)
    with threadpoolctl.threadpool_limits(1):
        if what in ("speed", "both"):
            measure_speed()
        if what in ("bugs", "both"):
            tabulate_bugs()
        if what == "whole":
            measure_every_element()


if __name__ == "__main__":
    main()
