"""One training step against PyTorch: ``python benchmarks/step.py [--isa avx2] [--compile]``.

Each library trains in a process of its own, on 1 and on 2 threads, PyTorch eagerly and with the
channels last. They take turns: a round is a slice of steps of each, one after the other, and gives
one ratio, the best PyTorch variant over the better of tinyconv's. Both sides gather the batch from
the whole set, run forward and backward, and update with plain SGD or Adam (PyTorch's fused ones).
Peak memory is that of the whole process.
"""

import time
from collections.abc import Callable
from statistics import median
from typing import Any

import numpy as np
from nets import NETS
from report import table, write
from sides import Side, measured, parser, restart_with, serve, torch_variants

SAMPLES = 6000


def tinyconv_steps(name: str, batch: int, variant: str, threads: int) -> Callable[[float], float]:
    """Return a function that trains for some seconds and returns the median seconds a step."""
    import tinyconv as tc

    net = NETS[name].build()
    x, y = NETS[name].data(SAMPLES)
    options: dict[str, Any] = {
        "batch_size": batch,
        "optimizer": tc.Adam(lr=1e-4) if NETS[name].adam else tc.SGD(lr=0.01),
        "verbose": False,
    }
    if NETS[name].is_autoencoder:
        options["loss"] = tc.losses.MSELoss()
    tc.set_num_threads(threads)
    net.fit(x[: 2 * batch], y[: 2 * batch], **options)

    class Clock(tc.Callback):
        def __init__(self, seconds: float) -> None:
            self.times: list[float] = []
            self.end = time.perf_counter() + seconds

        def on_batch_end(self, training: Any) -> None:
            now = time.perf_counter()
            self.times.append(now)
            if now > self.end and len(self.times) > 3:
                training.stop = "the time is over"

    def measure(seconds: float) -> float:
        tc.set_num_threads(threads)
        clock = Clock(seconds)
        net.fit(x, y, epochs=1000, callbacks=[clock], **options)
        return median(np.diff(clock.times[1:]).tolist())

    return measure


def torch_steps(name: str, batch: int, variant: str, threads: int) -> Callable[[float], float]:
    """Return the same for PyTorch."""
    import torch

    torch.set_num_threads(threads)
    torch.manual_seed(0)
    net, prepare = torch_variants(NETS[name].build(), variant)
    x, y = map(torch.from_numpy, NETS[name].data(SAMPLES))
    x = prepare(x)
    loss: Any = torch.nn.MSELoss() if NETS[name].is_autoencoder else torch.nn.CrossEntropyLoss()
    rule: Any = torch.optim.Adam if NETS[name].adam else torch.optim.SGD
    rule = rule(net.parameters(), lr=1e-4, fused=True)
    net.train()
    permuted: Any = torch.randperm
    order = iter(permuted(len(x)).split(batch))

    def step() -> None:
        nonlocal order
        index = next(order, None)
        if index is None or len(index) < batch:
            order = iter(permuted(len(x)).split(batch))
            index = next(order)
        rule.zero_grad(set_to_none=True)
        loss(net(x[index]), y[index]).backward()
        rule.step()

    def measure(seconds: float) -> float:
        torch.set_num_threads(threads)
        return measured(step, seconds)

    return measure


def main() -> None:
    options = parser(__doc__, rounds=3, seconds=0.3)
    options.add_argument("--compile", action="store_true", help="also torch.compile (minutes)")
    arguments = options.parse_args()
    restart_with(arguments.isa)
    if arguments.side:
        library, name, batch = arguments.side
        steps = {"tinyconv": tinyconv_steps, "PyTorch": torch_steps}[library]
        serve(lambda variant, threads: steps(name, int(batch), variant, threads))
        return
    variants = ["eager", "channels-last"] + (["compiled"] if arguments.compile else [])
    rows = []
    for name, net in NETS.items():
        if arguments.only not in name:
            continue
        for batch, goal in net.steps.items():
            ours, theirs = (Side(__file__, side, name, batch) for side in ("tinyconv", "PyTorch"))
            ours.answer(), theirs.answer()
            own, best = [], []
            for _ in range(arguments.rounds):
                own.append(min(ours.measure("", threads, arguments.seconds) for threads in (1, 2)))
                best.append(
                    {
                        f"{variant}, {threads} threads": theirs.measure(
                            variant, threads, arguments.seconds
                        )
                        for variant in variants
                        for threads in (1, 2)
                    }
                )
            ratios = [min(b.values()) / a for a, b in zip(own, best, strict=True)]
            rows.append(
                [
                    name,
                    str(batch),
                    f"{1e3 * median(own):.3f}",
                    f"{1e3 * median(min(b.values()) for b in best):.3f}",
                    min(best[0], key=lambda label: median(b[label] for b in best)),
                    f"**{median(ratios):.2f}** ({min(ratios):.2f} to {max(ratios):.2f})",
                    f"{goal:g}",
                    f"{ours.memory / theirs.memory:.2f}",
                ]
            )
            print(" | ".join(rows[-1]), flush=True)
            ours.close()
            theirs.close()
    if arguments.only:
        return
    import torch

    compiled = "" if arguments.compile else " (torch.compile was not run)"
    write(
        "A training step" + (", restricted to AVX2" if arguments.isa == "avx2" else ""),
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
