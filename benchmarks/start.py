"""How long until the first step: ``python benchmarks/start.py``, kernels compiled and cached.

Each start is a process of its own: with the net and the data that ``tinyconv train`` takes if it
is told nothing, and with ``resnet20`` on noise.
Cold: an empty cache of kernels. Warm: the cache that the cold start left.
"""

import argparse
import os
import subprocess
import sys
import tempfile
import time
from statistics import median

from report import table, write

#: Seconds from the start when cold.
COLD_GOALS, WARM_GOAL = {"": 8, "resnet20": 20}, 0.7
START = """
import sys, time
import numpy as np
import tinyconv as tc
class First(tc.Callback):
    def on_batch_end(self, training):
        print(imported, time.time(), flush=True)
        training.stop = "that is all"
imported = time.time()
if sys.argv[1]:
    net = getattr(tc.models, sys.argv[1])()
    data = np.zeros((32, *net.input_shape), np.float32), np.zeros(32, int)
else:
    net = next(iter(tc.models.NETS.values())).build(seed=0)
    data = tc.data.load("mnist-sample").train
net.fit(*data, batch_size=10, optimizer=tc.SGD(lr=0.01), verbose=False, callbacks=[First()])
"""


def start(cache: str, net: str) -> tuple[float, float]:
    """Return the seconds from the start of a process, and from its imports, to the first step."""
    began = time.time()
    line = subprocess.run(
        [sys.executable, "-c", START, net],
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
    rows = []
    for net, cold_goal in COLD_GOALS.items():
        cold, warm = [], []
        for _ in range(rounds):
            with tempfile.TemporaryDirectory() as cache:
                cold.append(start(cache, net))
                warm += [start(cache, net) for _ in range(3)]
        for name, times, goal in (
            ("cold", cold, f"{cold_goal} from the start"),
            ("warm", warm, f"{WARM_GOAL} after the imports"),
        ):
            columns = zip(*times, strict=True)
            shown = [f"{median(c):.2f} ({min(c):.2f} to {max(c):.2f})" for c in columns]
            rows.append([f"{net or 'tinyconv train'}, {name}", *shown, goal])
            print(" | ".join(rows[-1]), flush=True)
    write(
        "The first step",
        f"Seconds until the first step is done, kernels compiled (cold, "
        f"{len(cold)} times) or cached (warm, {len(warm)} times): median (range).\n\n"
        + table(["", "from the start", "after the imports", "goal"], rows),
    )


if __name__ == "__main__":
    main()
