"""How long until the first step: ``python benchmarks/start.py``, kernels compiled and cached.

Each start is a process of its own, with the net and the data that ``tinyconv train`` takes if it
is told nothing. Cold: an empty cache of kernels. Warm: the cache that the cold start left.
"""

import argparse
import os
import subprocess
import sys
import tempfile
import time
from statistics import median

from report import table, write

COLD_GOAL, WARM_GOAL = 8, 0.7
START = """
import time
import tinyconv as tc
class First(tc.Callback):
    def on_batch_end(self, training):
        print(imported, time.time(), flush=True)
        training.stop = "that is all"
imported = time.time()
name = next(iter(tc.models.NETS))
net = tc.models.NETS[name].build(seed=0)
rule = tc.SGD(lr=tc.models.NETS[name].lr)
net.fit(*tc.data.load("mnist-sample").train, batch_size=10, optimizer=rule, verbose=False,
        callbacks=[First()])
"""


def start(cache: str) -> tuple[float, float]:
    """Return the seconds from the start of a process, and from its imports, to the first step."""
    began = time.time()
    line = subprocess.run(
        [sys.executable, "-c", START],
        env=os.environ | {"NUMBA_CACHE_DIR": cache},
        stdout=subprocess.PIPE,
        text=True,
        check=True,
    ).stdout
    imported, stepped = map(float, line.split())
    return stepped - began, stepped - imported


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--rounds", type=int, default=3)
    rounds = parser.parse_args().rounds
    cold, warm = [], []
    for _ in range(rounds):
        with tempfile.TemporaryDirectory() as cache:
            cold.append(start(cache))
            warm += [start(cache) for _ in range(3)]
    rows = [
        [
            name,
            *(f"{median(column):.2f} ({min(column):.2f} to {max(column):.2f})" for column in sides),
            goal,
        ]
        for name, sides, goal in (
            ("cold", list(zip(*cold, strict=True)), f"{COLD_GOAL} from the start"),
            ("warm", list(zip(*warm, strict=True)), f"{WARM_GOAL} after the imports"),
        )
    ]
    for row in rows:
        print(" | ".join(row))
    write(
        "The first step",
        f"Seconds until the first step of `tinyconv train` is done, kernels compiled (cold, "
        f"{len(cold)} times) or cached (warm, {len(warm)} times): median (range).\n\n"
        + table(["", "from the start", "after the imports", "goal"], rows),
    )


if __name__ == "__main__":
    main()
