"""Uses the library for a long time, and watches what must not grow.

    python benchmarks/soak.py --minutes 30 [--out soak.csv]

A round builds a network of layers drawn from all kinds, with sizes drawn too; trains it on data of
another size, with another optimizer, batch and number of threads; predicts, saves, loads, keeps a
checkpoint and resumes. A line a round: resident memory, threads, open files and compiled kernels.
Memory grows with the kernels that a process has met, which never leave it and of which there is
one for each shape of a tile, a finite number. It ends with 1 if memory beside the kernels, or
anything else but their number, still grows in the second half.
"""

import argparse
import csv
import ctypes
import gc
import os
import random
import sys
import tempfile
import threading
import time
import warnings
from collections.abc import Callable
from contextlib import suppress
from pathlib import Path
from typing import Any

import numpy as np

import tinyconv as tc

#: What the second half may be above the first, in its last quarter: bytes, and counts.
MOST_BYTES_A_ROUND, MOST_MORE = 8_000, 2

MIDDLES: dict[str, Callable[[int], list[tc.layers.Layer]]] = {
    "relu": lambda c: [tc.ReLU()],
    "elu": lambda c: [tc.ELU(), tc.Dropout(0.1)],
    "gelu": lambda c: [tc.GELU()],
    "norm": lambda c: [tc.BatchNorm2d(c), tc.LeakyReLU()],
    "group": lambda c: [tc.GroupNorm(2, c), tc.SiLU()],
    "lrn": lambda c: [tc.LocalResponseNorm(3), tc.Tanh()],
    "residual": lambda c: [tc.Residual([tc.Conv2d(c, c, 3, padding="same"), tc.ReLU()])],
    "parallel": lambda c: [tc.Parallel([tc.Conv2d(c, c, 1), [tc.Sigmoid()]], join="add")],
    "upsample": lambda c: [tc.Upsample(scale_factor=2), tc.AvgPool2d(2)],
    "pad": lambda c: [tc.Pad(1, mode="replicate"), tc.Crop(1)],
    "transpose": lambda c: [tc.ConvTranspose2d(c, c, 2), tc.Softplus()],
    "depthwise": lambda c: [tc.Conv2d(c, c, 3, padding=1, groups=c), tc.ScaledTanh()],
    "l2": lambda c: [tc.L2Pool2d(2, stride=1)],
}
OPTIMIZERS = (
    tc.SGD(0.01, momentum=0.9),
    tc.Adam(),
    tc.AdamW(),
    tc.RMSProp(),
    tc.Adagrad(),
)


def build(rng: random.Random) -> tc.Sequential:
    """Return a network of drawn layers for images of a drawn size."""
    channels, side = 2 * rng.randrange(1, 20), rng.randrange(10, 20)
    middle = [layer for name in rng.sample([*MIDDLES], 2) for layer in MIDDLES[name](channels)]
    pool = rng.choice((tc.MaxPool2d(2), tc.AvgPool2d(2), tc.GlobalAvgPool()))
    return tc.Sequential(
        [tc.Conv2d(1, channels, 3), *middle, pool, tc.Flatten(), tc.Linear(None, 4)],
        seed=rng.randrange(100),
        input_shape=(1, side, side),
    )


def one_round(rng: random.Random, folder: Path) -> None:
    """Do what a user does, with drawn sizes."""
    tc.set_num_threads(rng.choice((1, 2)))
    net = build(rng)
    shape = net.input_shape or ()
    samples = rng.choice((17, 40, 100))
    x = np.random.default_rng(rng.randrange(99)).random((samples, *shape), np.float32)
    y = np.arange(samples) % 4
    how: dict[str, Any] = {
        "batch_size": rng.choice((5, 10)),
        "optimizer": rng.choice(OPTIMIZERS),
        "engine": rng.choice(("auto", "auto", "auto", "eager")),
        "verbose": False,
    }
    with tempfile.TemporaryDirectory(dir=folder) as place:
        run = Path(place) / "run"
        net.fit(x, y, epochs=1, checkpoint=run, **how)
        net.save(run / "model.safetensors")
        again = tc.load(run)
        again.predict(x)
        fresh = tc.Sequential([*_copied(net)], seed=net.seed, input_shape=shape)
        fresh.fit(x, y, epochs=2, checkpoint=run, resume=True, **how)
        for rows in (1, samples, 3):
            fresh.predict_proba(x[:rows], batch_size=rng.choice((1, 7, 256)))
        fresh.evaluate(x, y)


def _copied(net: tc.Sequential) -> list[tc.layers.Layer]:
    """Return new layers with the arguments of those of a network."""
    layers: list[tc.layers.Layer] = tc.layers.decode(tc.layers.encode(net.layers))
    return layers


def watched() -> dict[str, int]:
    """Return what must not grow."""
    with suppress(OSError, AttributeError):  # no GNU C library
        ctypes.CDLL("libc.so.6").malloc_trim(0)  # memory that is free goes back to the system
    pages = int(Path("/proc/self/statm").read_text().split()[1])
    return {
        "bytes": pages * os.sysconf("SC_PAGE_SIZE"),
        "threads": len(os.listdir("/proc/self/task")),
        "python threads": threading.active_count(),
        "files": len(os.listdir("/proc/self/fd")),
        # Numba's compiled C functions; a plan's kernels are nothing else.
        "kernels": sum(type(each).__name__ == "CFunc" for each in gc.get_objects()),
    }


def main() -> int:
    """Run from the command line."""
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("--minutes", type=float, default=30)
    parser.add_argument("--out", type=Path, help="CSV file for a line a round")
    parser.add_argument("--seed", type=int, default=0)
    given = parser.parse_args()
    warnings.simplefilter("ignore", UserWarning)  # of other numbers of threads on resuming
    rng = random.Random(given.seed)
    rows: list[dict[str, int]] = []
    end = time.monotonic() + 60 * given.minutes
    with tempfile.TemporaryDirectory() as folder:
        while time.monotonic() < end:
            one_round(rng, Path(folder))
            gc.collect()
            rows.append({"round": len(rows) + 1, **watched()})
            if given.out:
                with given.out.open("w", newline="") as file:
                    table = csv.DictWriter(file, rows[0])
                    table.writeheader()
                    table.writerows(rows)
    return report(rows)


def beside_kernels(rows: list[dict[str, int]]) -> tuple[float, float]:
    """Return the bytes a round that memory grows beside its kernels, and the bytes of a kernel.

    The line of least squares over the rounds and the number of kernels.
    """
    given = np.array([[row["round"], row["kernels"], 1] for row in rows], float)
    given -= given.mean(0) * (1, 1, 0)
    slopes = np.linalg.lstsq(given, np.array([row["bytes"] for row in rows], float), rcond=None)[0]
    return float(slopes[0]), float(slopes[1])


def report(rows: list[dict[str, int]]) -> int:
    """Say how the second half differs from its beginning; return the status."""
    second = rows[len(rows) // 2 :]
    quarter = max(1, len(second) // 4)
    bad = 0
    for name in [key for key in rows[0] if key != "round"]:
        first = sum(row[name] for row in second[:quarter]) / quarter
        last = sum(row[name] for row in second[-quarter:]) / quarter
        growth = (last - first) / max(1, len(second) - quarter)
        if name == "bytes":
            growth, kernel = beside_kernels(second)
            print(f"          bytes  {kernel:+,.0f} a kernel; beside the kernels:")
        grows = growth > MOST_BYTES_A_ROUND if name == "bytes" else last - first > MOST_MORE
        grows &= name != "kernels"
        bad += grows
        print(
            f"{name:>15}  first {rows[0][name]:>13,}  second half {first:>13,.0f} to {last:>13,.0f}"
            f"  {growth:+10,.1f} a round{'  GROWS' * grows}"
        )
    print(f"{len(rows):,} rounds")
    return 1 if bad else 0


if __name__ == "__main__":
    sys.exit(main())
