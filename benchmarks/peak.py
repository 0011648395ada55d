"""What a goal asks of the machine: ``python benchmarks/peak.py [--isa avx2]``.

A step of a dense net is products and little else. Its operations over its time are a rate, and
so are its operations over the time that a goal allows; both stand here beside the peak, the rate
of the cores when they do nothing but multiply and add in registers. No library that makes the
products by their definition goes beyond the peak, whatever it is compared with.
"""

from concurrent.futures import ThreadPoolExecutor
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
CORES, TIMES = 2, 20_000


def peak() -> float:
    """Return the GFLOP/s of two threads that only multiply and add in registers."""
    import numba

    from tinyconv.kernels.cpu.simd import LANES, REGISTERS, pointer
    from tinyconv.kernels.cpu.tiles import outer, store_tile, zeros

    # Twelve sums keep two units busy whose results take up to six cycles.
    rows, columns = (6, 4) if REGISTERS > 16 else (6, 2)

    @numba.njit(nogil=True)  # type: ignore[untyped-decorator]
    def multiply(address: int, times: int) -> None:
        p = pointer(address)
        tile = zeros(rows, columns, LANES)
        for _ in range(times):
            for i in range(16):  # always the same numbers, in the first cache
                tile = outer(tile, rows, p, (i,), 16, 1, p, i * columns * LANES)
        store_tile(p, 0, rows, columns * LANES, tile, columns * LANES)

    data = [np.zeros(4096, np.float32) for _ in range(CORES)]
    operations = 2 * CORES * TIMES * 16 * rows * columns * LANES
    best = np.inf
    with ThreadPoolExecutor(CORES) as pool:
        for _ in range(8):
            start = perf_counter()
            list(pool.map(multiply, [a.ctypes.data for a in data], [TIMES] * CORES))
            best = min(best, perf_counter() - start)
    return operations / best / 1e9


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
    return [shapes[0][0], *(shape[1] for shape in shapes)]


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
        f"The peak of {CORES} cores, multiplying and adding in registers: {rate:.0f} GFLOP/s. "
        "Operations of the products of a step over its time, in GFLOP/s, and of the peak; the last "
        "but one column is the rate at which the goal would be reached.\n\n"
        + table(["net", "batch", "GFLOP", "tinyconv", "PyTorch", "goal's rate", "goal"], rows),
    )


if __name__ == "__main__":
    main()
