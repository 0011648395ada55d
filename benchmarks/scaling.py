"""How a step scales: ``python benchmarks/scaling.py`` with threads, batch size, samples."""

import os
from collections.abc import Callable
from statistics import median
from time import perf_counter

from nets import NETS
from report import table, write

import tinyconv as tc

NET = "conv-conv-ReLU"
ROUNDS = 7


def trainer(samples: int, batch: int, threads: int) -> Callable[[], float]:
    """Return a function that trains for an epoch and returns the microseconds a sample."""
    net, (x, y) = NETS[NET].build(), NETS[NET].data(samples)
    rule = tc.SGD(lr=0.01)

    def epoch(count: int = samples) -> float:
        tc.set_num_threads(threads)
        start = perf_counter()
        net.fit(x[:count], y[:count], batch_size=batch, optimizer=rule, verbose=False)
        return 1e6 * (perf_counter() - start) / count

    epoch(batch)
    return epoch


def medians(sides: list[Callable[[], float]]) -> list[float]:
    """Let the sides take turns, and return the median of each."""
    rounds = [[side() for side in sides] for _ in range(ROUNDS)]
    return [median(times) for times in zip(*rounds, strict=True)]


def main() -> None:
    cores = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count()
    rows = []
    for batch in (1, 10, 32, 128, 512):
        samples = max(20 * batch, 1000)
        one, all_ = medians([trainer(samples, batch, threads) for threads in (1, cores or 1)])
        rows.append([str(batch), f"{one:.1f}", f"{all_:.1f}", f"{one / all_:.2f}"])
        print(" | ".join(rows[-1]), flush=True)
    sizes = (1280, 5120, 20480, 61440)
    times = medians([trainer(samples, 128, cores or 1) for samples in sizes])
    lengths = [[f"{n:,}", f"{time:.1f}"] for n, time in zip(sizes, times, strict=True)]
    write(
        "Scaling",
        f"{NET}, microseconds a sample of training, medians of {ROUNDS} rounds.\n\n"
        + table(["batch", "1 thread", f"{cores} threads", "speed-up"], rows)
        + "\n\n"
        + table(["samples, batch 128", f"{cores} threads"], lengths),
    )


if __name__ == "__main__":
    main()
