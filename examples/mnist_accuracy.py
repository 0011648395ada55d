"""Train the default net on all of MNIST for three epochs, with several seeds.

Runs ``tinyconv train --data mnist --epochs 3 --seed S`` as a user would and writes the table
``examples/mnist_accuracy.md``::

    python examples/mnist_accuracy.py            # seeds 0, 1, 2
    python examples/mnist_accuracy.py 0 1 2 3 4
"""

import platform
import re
import statistics
import subprocess
import sys
import tempfile
import time
from pathlib import Path

import tinyconv as tc

COMMAND = ["tinyconv", "train", "--data", "mnist", "--epochs", "3"]


def train(seed: int) -> tuple[float, float]:
    """Return the test accuracy in percent and the seconds of the whole command."""
    started = time.perf_counter()
    with tempfile.TemporaryDirectory() as folder:
        # The command of the environment that runs this script, not one that PATH may hold.
        program = [str(Path(sys.executable).with_name(COMMAND[0])), *COMMAND[1:]]
        arguments = ["--seed", str(seed), "--out", f"{folder}/run"]
        printed = subprocess.run(
            [*program, *arguments], stdout=subprocess.PIPE, text=True, check=True
        )
    found = re.search(r"test accuracy ([\d.]+)%", printed.stdout)
    assert found is not None
    return float(found[1]), time.perf_counter() - started


def main() -> None:
    """Train with every seed and write the table."""
    seeds = [int(argument) for argument in sys.argv[1:]] or [0, 1, 2]
    rows = [(seed, *train(seed)) for seed in seeds]
    lines = [
        "# The default net on MNIST, three epochs",
        "",
        f"`{' '.join(COMMAND)} --seed S`, tinyconv {tc.__version__}, Python "
        f"{platform.python_version()}, {platform.machine()}. Seconds are of the whole command.",
        "",
        "| seed | test accuracy | seconds |",
        "|---|---|---|",
        *(f"| {seed} | {accuracy:.2f} % | {seconds:.0f} |" for seed, accuracy, seconds in rows),
        f"| median | {statistics.median(row[1] for row in rows):.2f} % "
        f"| {statistics.median(row[2] for row in rows):.0f} |",
    ]
    text = "\n".join(lines) + "\n"
    Path(__file__).with_suffix(".md").write_text(text)
    print(text)


if __name__ == "__main__":
    main()
