"""What a goal asks of the machine: ``python benchmarks/peak.py [--isa avx2]``.

A step of a dense net is products and little else. Its operations over its time are a rate, and
so are its operations over the time that a goal allows. Both stand here beside what is taken for
the peak: the best rate at which NumPy or PyTorch multiply two square matrices on all cores.
"""

from functools import partial
from itertools import pairwise
from pathlib import Path
from statistics import median
from time import perf_counter
from typing import Any

import numpy as np
from nets import NETS
from report import table, write
from sides import Side, parser, restart_with

STEP = str(Path(__file__).with_name("step.py"))
CORES, TRIES = 2, 20


def peak() -> float:
    """Return the best GFLOP/s of large products, by NumPy and by PyTorch."""
    import torch
    from threadpoolctl import threadpool_limits

    torch.set_num_threads(CORES)
    best = 0.0
    with threadpool_limits(CORES):
        for n in (512, 768, 1024, 1536):
            a = np.random.default_rng(0).random((n, n), np.float32)
            out, tensor = np.empty_like(a), torch.from_numpy(a)
            calls = partial(np.matmul, a, a, out=out), partial(torch.mm, tensor, tensor)
            for call in calls * TRIES:
                start = perf_counter()
                call()
                best = max(best, 2 * n**3 / (perf_counter() - start) / 1e9)
    return best


def operations(sizes: list[int], batch: int) -> int:
    """Return the floating-point operations of a step's products.

    Forward, for the gradient of each weight, and for that of each input but the net's own.
    """
    weights = [a * b for a, b in pairwise(sizes)]
    return 2 * batch * (3 * sum(weights) - weights[0])


def sizes_of(net: Any) -> list[int] | None:
    """Return the units of a net's layers; None for one with other weights than these."""
    import tinyconv as tc

    made = [layer for layer in net.layers if layer.params]
    if not all(isinstance(layer, tc.Linear) for layer in made):
        return None
    shapes = [layer.params["weight"].shape for layer in made]
    return [shapes[0][1], *(shape[0] for shape in shapes)]


def main() -> None:
    arguments = parser(__doc__, rounds=3, seconds=0.3).parse_args()
    restart_with(arguments.isa)
    rate = peak()
    rows = []
    for name, net in NETS.items():
        sizes = sizes_of(net.build())
        if sizes is None:
            continue
        for batch, goal in net.steps.items():
            seconds = {}
            for library in ("tinyconv", "PyTorch"):
                side = Side(STEP, library, name, batch)
                side.answer()
                variants = [""] if library == "tinyconv" else ["eager", "channels-last"]
                seconds[library] = median(
                    min(
                        side.measure(variant, threads, arguments.seconds)
                        for variant in variants
                        for threads in (1, CORES)
                    )
                    for _ in range(arguments.rounds)
                )
                side.close()
            work = operations(sizes, batch) / 1e9
            rates = [work / seconds["tinyconv"], work / seconds["PyTorch"]]
            rates.append(goal * rates[1])
            cells = [f"{r:.0f} ({r / rate:.0%})" for r in rates]
            rows.append([name, str(batch), f"{work:.3f}", *cells, f"{goal:g}"])
            print(" | ".join(rows[-1]), flush=True)
    write(
        "What dense goals ask" + (", restricted to AVX2" if arguments.isa == "avx2" else ""),
        f"The best that NumPy or PyTorch make of large square products on {CORES} cores: "
        f"{rate:.0f} GFLOP/s. The operations of a step's products over its time are a rate, too, "
        "here in GFLOP/s and in percent of that best; the last but one column has the rate at "
        "which the goal would be reached.\n\n"
        + table(["net", "batch", "GFLOP", "tinyconv", "PyTorch", "goal's rate", "goal"], rows),
    )


if __name__ == "__main__":
    main()
