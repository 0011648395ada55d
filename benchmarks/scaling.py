"""How a step scales: ``python benchmarks/scaling.py`` with threads, batch size, samples."""

import os
from statistics import median
from time import perf_counter

from nets import data, of_tinyconv
from report import table, write

import tinyconv as tc

NET = "conv-conv-ReLU"


def microseconds_a_sample(samples: int, batch: int, threads: int, epochs: int = 1) -> float:
    """Return the time of training on one sample, the median of five epochs."""
    tc.set_num_threads(threads)
    net, (x, y) = of_tinyconv(NET), data(NET, samples)
    rule = tc.SGD(lr=0.01)
    net.fit(x[:batch], y[:batch], batch_size=batch, optimizer=rule, verbose=False)
    times = []
    for _ in range(5):
        start = perf_counter()
        net.fit(x, y, epochs=epochs, batch_size=batch, optimizer=rule, verbose=False)
        times.append((perf_counter() - start) / (samples * epochs))
    return 1e6 * median(times)


def main() -> None:
    cores = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count()
    rows = []
    for batch in (1, 10, 32, 128, 512):
        samples = max(20 * batch, 1000)
        row = [microseconds_a_sample(samples, batch, threads) for threads in (1, cores or 1)]
        rows.append([str(batch), *(f"{time:.1f}" for time in row), f"{row[0] / row[1]:.2f}"])
        print(" | ".join(rows[-1]), flush=True)
    sizes = [
        [f"{samples:,}", f"{microseconds_a_sample(samples, 128, cores or 1):.1f}"]
        for samples in (1280, 5120, 20480, 61440)
    ]
    write(
        "Scaling",
        f"{NET}, microseconds a sample of training.\n\n"
        + table(["batch", "1 thread", f"{cores} threads", "speed-up"], rows)
        + "\n\n"
        + table(["samples, batch 128", f"{cores} threads"], sizes),
    )


if __name__ == "__main__":
    main()
