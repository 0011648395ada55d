"""How long ``import tinyconv`` takes beside ``import torch``: interleaved, ratio per round.

Needs ``pip install "tinyconv[oracle]"``. Run it with ``python benchmarks/import_time.py``.
"""

import statistics
import subprocess
import sys

ROUNDS = 9
TIMER = "import time; t = time.perf_counter(); import {}; print(time.perf_counter() - t)"


def seconds(module: str) -> float:
    """Return the time of the import in a process of its own."""
    program = [sys.executable, "-c", TIMER.format(module)]
    return float(subprocess.run(program, stdout=subprocess.PIPE, text=True, check=True).stdout)


def main() -> None:
    """Measure and print the medians and the ratio."""
    for module in ("tinyconv", "torch"):
        seconds(module)  # once, so that the files are in memory
    rounds = [(seconds("tinyconv"), seconds("torch")) for _ in range(ROUNDS)]
    ours, theirs = (statistics.median(side) for side in zip(*rounds, strict=True))
    ratios = sorted(b / a for a, b in rounds)
    print(f"import tinyconv {ours:.3f} s, import torch {theirs:.3f} s (medians of {ROUNDS})")
    print(
        f"torch / tinyconv: median {statistics.median(ratios):.1f}, "
        f"range {ratios[0]:.1f} to {ratios[-1]:.1f}"
    )


if __name__ == "__main__":
    main()
