"""The small nets vote by what they said of the test digits; and what the vote gets wrong."""

import sys

import numpy as np
from runs import PARSER, accuracy, machine, write
from small_net import NAME, SEEDS

import tinyconv as tc
from tinyconv.plots import mistakes


def main() -> None:
    """Add up what all of them found probable, and write what came out."""
    options = PARSER.parse_args()
    results = options.results or options.out / "results"
    paths = {seed: results / f"{NAME}-{seed}.npz" for seed in range(SEEDS)}
    said = {seed: np.load(path)["test"] for seed, path in paths.items() if path.exists()}
    if not said:
        sys.exit(f"{results}: no probabilities, expected those of small_net.py")
    test = tc.data.load(options.data).test
    total = np.sum(list(said.values()), axis=0, dtype=np.float32)
    result = {
        "experiment": "vote",
        "seed": ", ".join(map(str, said)),
        "members": len(said),
        "test": accuracy(total, test.y),
        "machine": machine(),
        "version": tc.__version__,
    }
    (results / "vote.jsonl").unlink(missing_ok=True)  # that of fewer members
    write(results / "vote.jsonl", result)
    mistakes(test.x, test.y, total.argmax(axis=1)).savefig(results / "vote.png", dpi=100)
    print(f"vote of {len(said)} nets: {result['test']:.2%} of the test digits")


if __name__ == "__main__":
    main()
