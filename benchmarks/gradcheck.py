"""The gradient checker against others: what is found, what is claimed, false alarms, time.

    python benchmarks/gradcheck.py bugs       100 planted mistakes, five checkers
    python benchmarks/gradcheck.py unseen     36 mistakes that no hint was made for
    python benchmarks/gradcheck.py alarms     10,000 right gradients, five checkers
    python benchmarks/gradcheck.py times      seconds of the processor for the first 300 of them
    python benchmarks/gradcheck.py locate     one wrong element among a million
    python benchmarks/gradcheck.py speed      ratios to torch.autograd.gradcheck
    python benchmarks/gradcheck.py whole      every element of the whole net, in some minutes

``alarms --seconds 60`` measures for a minute and goes on from there the next time. Each writes its
table into ``tinyconv/gradcheck/README.md``; ``--only NAME`` measures one checker
anew, and keeps what ``benchmarks/gradcheck.json`` has of the others. Needs PyTorch and JAX: pip
install "tinyconv[oracle]". All get one thread.
"""

import argparse
import functools
import importlib
import json
import re
import statistics
import sys
import time
import warnings
from collections.abc import Callable
from pathlib import Path
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
CASES, TIMED = 10_000, 300
RESULTS = Path(__file__).with_suffix(".json")

jax: Any = importlib.import_module("jax")
importlib.import_module("jax.test_util")

Functions = tuple[Callable[..., Any], Callable[..., Any]]


# -- the checkers: (forward, backward, inputs, names, seed) -> (whether it failed, its hint) -----


def ours(functions: Functions, inputs: Any, names: Any, seed: int) -> tuple[bool, str]:
    report = check(*functions, inputs, names=names, seed=seed)
    return report.failed, report.hint if report.hint else ""


def as_list(result: Any) -> list[Any]:
    return list(result) if isinstance(result, (tuple, list)) else [result]


def torch_function(functions: Functions) -> Any:
    forward, backward = functions

    def array(t: torch.Tensor) -> Any:
        return t.detach().resolve_conj().numpy()

    class Function(torch.autograd.Function):
        @staticmethod
        def forward(ctx: Any, *tensors: torch.Tensor) -> torch.Tensor:
            ctx.save_for_backward(*tensors)
            return torch.from_numpy(np.array(forward(*map(array, tensors))))

        @staticmethod
        def backward(ctx: Any, *grads: torch.Tensor) -> Any:
            arrays = list(map(array, ctx.saved_tensors))
            result = as_list(backward(np.array(array(grads[0])), *arrays))
            tensors = [None if g is None else torch.from_numpy(np.array(g)) for g in result]
            return tuple([*tensors, *[None] * len(arrays)][: len(arrays)])

    return Function.apply


def by_torch(fast: bool, functions: Functions, inputs: Any, *_: Any) -> tuple[bool, str]:
    """torch.autograd.gradcheck with its defaults, through an autograd.Function."""
    tensors = [torch.from_numpy(a.copy()) for a in inputs]
    for tensor in tensors:
        tensor.requires_grad_(tensor.is_floating_point() or tensor.is_complex())
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            function = torch_function(functions)
            ok = torch.autograd.gradcheck(
                function, tensors, check_undefined_grad=False, fast_mode=fast
            )
    except Exception:
        # GradcheckError and whatever autograd says of wrong shapes: found, in any case.
        return True, ""
    return not ok, ""


class Same(tuple[Any, ...]):
    """Constants of a function for JAX, the same if they are the same objects."""

    __slots__ = ()

    def __hash__(self) -> int:
        return hash(tuple(map(id, self)))

    def __eq__(self, other: object) -> bool:
        return isinstance(other, Same) and list(map(id, self)) == list(map(id, other))


@functools.lru_cache(maxsize=256)
def jax_function(functions: Functions, kinds: str, rest: Same, y: Any) -> Any:
    """Return the functions as one for JAX, of the floating-point inputs; ``rest`` are the others.

    ``y`` is the shape and dtype of its result. The same function again is the same object, so that
    JAX need not compile it anew.
    """
    forward, backward = functions

    def arrange(xs: Any) -> list[Any]:
        floating, others = iter(xs), iter(rest)
        return [np.array(next(floating) if kind in "fc" else next(others)) for kind in kinds]

    def value(*xs: Any) -> Any:
        return np.asarray(forward(*arrange(xs)))

    def gradients(dy: Any, *xs: Any) -> Any:
        # JAX's gradients of complex numbers are the conjugates of PyTorch's.
        result = as_list(backward(np.conj(np.array(dy)), *arrange(xs)))
        result = [*result, *[None] * len(kinds)][: len(kinds)]
        pairs = zip(result, kinds, strict=True)
        return tuple(np.conj(np.asarray(g)) for g, kind in pairs if kind in "fc")

    @jax.custom_vjp  # type: ignore[untyped-decorator]
    def function(*xs: Any) -> Any:
        return jax.pure_callback(value, jax.ShapeDtypeStruct(*y), *xs)

    def forwards(*xs: Any) -> Any:
        return function(*xs), xs

    def backwards(xs: Any, dy: Any) -> Any:
        shapes = tuple(jax.ShapeDtypeStruct(x.shape, x.dtype) for x in xs)
        return jax.pure_callback(gradients, shapes, dy, *xs)

    function.defvjp(forwards, backwards)
    return function


def by_jax(functions: Functions, inputs: Any, *_: Any) -> tuple[bool, str]:
    """jax.test_util.check_grads with its defaults, of order 1 in reverse mode."""
    kinds = "".join(a.dtype.kind for a in inputs)
    xs = tuple(a.copy() for a in inputs if a.dtype.kind in "fc")
    try:
        with warnings.catch_warnings(), np.errstate(all="ignore"):
            warnings.simplefilter("ignore")
            y = np.asarray(functions[0](*(a.copy() for a in inputs)))
            rest = Same(a for a in inputs if a.dtype.kind not in "fc")
            function = jax_function(functions, kinds, rest, (y.shape, y.dtype))
            jax.test_util.check_grads(function, xs, order=1, modes=["rev"])
    except Exception:
        return True, ""
    return False, ""


def by_one_direction(functions: Functions, inputs: Any, *_: Any) -> tuple[bool, str]:
    """A comparison along one random direction, with relative tolerance 1e-4."""
    forward, backward = functions
    rng = np.random.default_rng(0)
    directions = [
        rng.normal(size=a.shape) + (1j * rng.normal(size=a.shape) if a.dtype.kind == "c" else 0)
        if a.dtype.kind in "fc"
        else None
        for a in inputs
    ]

    def at(t: float) -> Any:
        pairs = zip(inputs, directions, strict=True)
        return forward(*(a.copy() if v is None else a + t * v for a, v in pairs))

    try:
        with np.errstate(all="ignore"):
            dy = rng.normal(size=np.shape(at(0)))
            numeric = float(np.sum(np.real(dy * (at(1e-6) - at(-1e-6))))) / 2e-6
            gradients = as_list(backward(dy.copy(), *(a.copy() for a in inputs)))
            pairs = zip(gradients, directions, strict=False)
            analytic = sum(
                float(np.sum(np.real(np.conj(g) * v)))
                for g, v in pairs
                if g is not None and v is not None
            )
    except Exception:
        return True, ""  # shapes that do not fit
    return not abs(analytic - numeric) <= 1e-6 + 1e-4 * abs(numeric), ""


CHECKERS: dict[str, Callable[..., tuple[bool, str]]] = {
    "ours": ours,
    "torch slow": functools.partial(by_torch, False),
    "torch fast": functools.partial(by_torch, True),
    "jax check_grads": by_jax,
    "one direction": by_one_direction,
}


# -- planted mistakes and right gradients -----------------------------------------------------


def the_bank() -> tuple[Any, Any]:
    sys.path.insert(0, str(ROOT))
    right_cases = importlib.import_module("tests.gradcheck.right_cases")  # fills the bank, too
    return right_cases.bugs.BUGS, right_cases.case_of


def measure_bugs(only: list[str]) -> None:
    bugs, _ = the_bank()
    results = load()
    for name in only:
        rows: dict[str, Any] = {}
        for bug in bugs:
            functions = bug.forward, bug.make_backward()
            inputs = [a.copy() for a in bug.inputs]
            start = time.process_time()
            failed, hint = CHECKERS[name](functions, inputs, bug.names, 0)
            seconds = time.process_time() - start
            rows[bug.name] = {"found": failed, "hint": hint, "seconds": seconds}
        results.setdefault("bugs", {})[name] = rows
    save(results)
    tabulate()


def measure_unseen() -> None:
    sys.path.insert(0, str(ROOT))
    unseen = importlib.import_module("tests.gradcheck.bugs_unseen").UNSEEN
    rows, right, wrong = [], 0, 0
    for bug in unseen:
        failed, hint = ours((bug.forward, bug.make_backward()), bug.inputs, bug.names, 0)
        right += bool(bug.hint) and bug.hint in hint
        wrong += bool(hint) and not (bug.hint and bug.hint in hint)
        rows.append([bug.name, "found" if failed else "**missed**", hint])
    found = sum(row[1] == "found" for row in rows)
    text = f"Of {len(unseen)} found {found}, explained rightly {right}, explained wrongly {wrong}."
    put("Mistakes that no hint was made for",
        f"{text}\n\n{table(['planted mistake', '', 'hint'], rows)}")  # fmt: skip


def measure_alarms(only: list[str], seconds: float) -> None:
    """Go on where the last run stopped, for so many seconds a checker."""
    _, case_of = the_bank()
    for name in only:
        row = load().get("alarms", {}).get(name, {"cases": 0, "alarms": {}})
        start = time.perf_counter()
        while row["cases"] < CASES and time.perf_counter() - start < seconds:
            what, family, inputs = case_of(row["cases"])
            functions = family.case.forward, family.case.backward
            names = family.case.names[: len(inputs)]
            failed, _ = CHECKERS[name](functions, inputs, names, row["cases"])
            dtype = what.rpartition(", ")[2]
            row["alarms"][dtype] = row["alarms"].get(dtype, 0) + failed
            row["cases"] += 1
        results = load()
        results.setdefault("alarms", {})[name] = row
        save(results)
        print(name, row, flush=True)
    tabulate()


def measure_times(only: list[str]) -> None:
    """Measure the first right gradients of the alarms once more: the processor's time alone."""
    _, case_of = the_bank()
    results = load()
    for name in only:
        start = time.process_time()
        for seed in range(TIMED):
            _, family, inputs = case_of(seed)
            functions = family.case.forward, family.case.backward
            CHECKERS[name](functions, inputs, family.case.names[: len(inputs)], seed)
        results.setdefault("times", {})[name] = (time.process_time() - start) / TIMED
    save(results)
    tabulate()


def load() -> dict[str, Any]:
    return dict(json.loads(RESULTS.read_text())) if RESULTS.exists() else {}


def save(results: dict[str, Any]) -> None:
    RESULTS.write_text(json.dumps(results, indent=1) + "\n")


def tabulate() -> None:
    """Write what was measured into the page."""
    bugs, _ = the_bank()
    results = load()
    found, alarms = results.get("bugs", {}), results.get("alarms", {})
    header = ["", "found, of 100", "explained rightly", "explained wrongly", "mean time a mistake"]
    header += ["false alarms, of 10,000", "of them in float64", "mean time a right one"]
    rows = []
    for name in CHECKERS:
        mine, right = found.get(name, {}), alarms.get(name)
        hints = [(bug.hint, mine[bug.name]["hint"]) for bug in bugs if bug.name in mine]
        times = [row["seconds"] for row in mine.values()]
        row = [name, str(sum(row["found"] for row in mine.values()))]
        row += [str(sum(bool(want) and want in hint for want, hint in hints))]
        row += [str(sum(bool(hint) and not (want and want in hint) for want, hint in hints))]
        row += [f"{1e3 * statistics.mean(times):.0f} ms" if times else ""]
        if right:
            part = "" if right["cases"] == CASES else f", of {right['cases']:,}"
            row += [f"{sum(right['alarms'].values()):,}{part}"]
            row += [f"{right['alarms'].get('float64', 0):,}"]
            seconds = results.get("times", {}).get(name)
            row += ["" if seconds is None else f"{1e3 * seconds:.0f} ms"]
        rows.append([*row, *[""] * (len(header) - len(row))])
    rows[0] = [cell and f"**{cell}**" for cell in rows[0]]
    put("Planted mistakes and false alarms", f"{versions()}\n\n{table(header, rows)}")
    header = ["planted mistake", "verdict", "hint", *list(CHECKERS)[1:]]
    lines = []
    for bug in bugs:
        others = [found.get(name, {}).get(bug.name) for name in list(CHECKERS)[1:]]
        words = ["" if o is None else "found" if o["found"] else "**missed**" for o in others]
        lines.append([bug.name, bug.verdict, found["ours"][bug.name]["hint"], *words])
    put("Each mistake", table(header, lines))


def versions() -> str:
    return f"{machine()}, PyTorch {torch.__version__}, JAX {jax.__version__}; one thread each."


def put(section: str, text: str) -> None:
    """Replace what follows the first paragraph of a section of the checker's page."""
    parts = re.split(r"(?m)^(?=## )", README.read_text(encoding="utf-8"))
    (place,) = (k for k, part in enumerate(parts) if part.startswith(f"## {section}\n"))
    title, paragraph, *_ = parts[place].split("\n\n", 2)
    parts[place] = f"{title}\n\n{paragraph.rstrip()}\n\n{text}\n\n"
    README.write_text("".join(parts).rstrip() + "\n", encoding="utf-8")
    print(text)


# -- time -----------------------------------------------------------------------------------------


def measure_locating() -> None:
    """One wrong element of a million: how many projections it costs to find it."""
    x = np.random.default_rng(0).normal(size=1_000_000)

    def right(dy: Any, x: Any) -> Any:
        return 2 * x * dy

    def wrong(dy: Any, x: Any) -> Any:
        dx = right(dy, x)
        dx[123_456] *= 1.01
        return dx

    def seconds(function: Callable[[], Any]) -> float:
        """Return the shortest of three times."""
        times = []
        for _ in range(3):
            start = time.perf_counter()
            function()
            times.append(time.perf_counter() - start)
        return min(times)

    tensor = torch.from_numpy(x).requires_grad_()
    theirs = seconds(lambda: torch.autograd.gradcheck(torch.square, tensor, fast_mode=True))
    rows = []
    for method in ("auto", "central"):
        how: Any = {"method": method}
        report = check(np.square, wrong, [x], **how)
        assert report.tensors[0].index == (123_456,)
        one = seconds(functools.partial(check, np.square, right, [x], samples=0, **how))
        found = seconds(functools.partial(check, np.square, wrong, [x], **how))
        row = [report.method, f"{theirs:.2f} s", f"{one:.2f} s", f"{found:.2f} s"]
        rows.append([*row, f"**{found / one:.1f}**", str(report.evaluations)])
    header = ["method", "PyTorch's fast mode", "projection of a right one", "the wrong element"]
    header += ["times a projection", "evaluations"]
    put("One wrong element of a million", f"{versions()}\n\n{table(header, rows)}")


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
    """Return the times of both in seconds; where there are several, after one that is left out.

    A single run, which takes minutes, is measured in seconds of the processor: both have one
    thread, and what else the machine does matters less.
    """
    clock = time.process_time if runs == 1 else time.perf_counter
    times: tuple[list[float], list[float]] = ([], [])
    for run in range(runs + (runs > 1)):
        for which, function in enumerate((ours, theirs)):
            start = clock()
            function()
            if run or runs == 1:
                times[which].append(clock() - start)
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


def measure_speed(which: list[int]) -> None:
    rows = [
        ("projection; fast mode", BOOK, 0, True, 21),
        ("projection and 4 elements of each tensor; fast mode", BOOK, 4, True, 11),
        ("every element; slow mode", SMALL, "all", False, 2),
    ]
    results = load()
    for k in which:
        results.setdefault("speed", {})[str(k)] = compare(*rows[k])
    save(results)
    known = results["speed"]
    tabulate_speed("Speed", *(known[k] for k in sorted(known)))


def measure_every_element() -> None:
    row = compare("every element; slow mode", BOOK, "all", False, runs=1)
    tabulate_speed("Every element of the whole net", row)


def tabulate_speed(section: str, *rows: list[str]) -> None:
    header = ["this checker; PyTorch's", "net", "ours", "PyTorch's", "times as fast", "runs"]
    put(section, f"{versions()}\n\n{table(header, list(rows))}")


def main() -> None:
    parser = argparse.ArgumentParser(description=(__doc__ or "").partition("\n")[0])
    verbs = ["bugs", "unseen", "alarms", "times", "locate", "speed", "whole", "tables"]
    parser.add_argument("what", choices=verbs)
    parser.add_argument("--only", choices=list(CHECKERS), action="append")
    parser.add_argument("--seconds", type=float, default=1e9, help="of alarms, for each checker")
    text = "of speed, to measure them one by one"
    parser.add_argument("--row", type=int, choices=range(3), action="append", help=text)
    options = parser.parse_args()
    only = options.only or list(CHECKERS)
    torch.set_num_threads(1)
    jax.config.update("jax_enable_x64", True)
    with threadpoolctl.threadpool_limits(1):
        if options.what == "bugs":
            measure_bugs(only)
        elif options.what == "unseen":
            measure_unseen()
        elif options.what == "alarms":
            measure_alarms(only, options.seconds)
        elif options.what == "times":
            measure_times(only)
        elif options.what == "locate":
            measure_locating()
        elif options.what == "speed":
            measure_speed(options.row or [0, 1, 2])
        elif options.what == "whole":
            measure_every_element()
        else:
            tabulate()


if __name__ == "__main__":
    main()
