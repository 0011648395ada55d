"""The small nets that are finished vote, at most ten; and what they get wrong, as a picture."""

import sys

import numpy as np
from runs import PARSER, machine, write
from small_net import NAME, SEEDS, look

import tinyconv as tc
from tinyconv.plots import mistakes


def main() -> None:
    """Ask all of them, and write what came out."""
    options = PARSER.parse_args()
    paths = {seed: options.out / f"{NAME}-{seed}" / "model.safetensors" for seed in range(SEEDS)}
    nets = {seed: tc.load(path) for seed, path in paths.items() if path.exists()}
    if not nets:
        sys.exit(f"{options.out}: no nets, expected those of small_net.py")
    test = tc.data.load(options.data).test
    x = np.asarray(test.x)
    predicted = sum(look(net, x) for net in nets.values()).argmax(axis=1)
    results = options.results or options.out / "results"
    result = {
        "experiment": "vote",
        "seed": ", ".join(map(str, nets)),
        "members": len(nets),
        "test": float((predicted == test.y).mean()),
        "machine": machine(),
        "version": tc.__version__,
    }
    (results / "vote.jsonl").unlink(missing_ok=True)  # that of fewer members
    write(results / "vote.jsonl", result)
    mistakes(test.x, test.y, predicted).savefig(results / "vote.png", dpi=100)
    print(f"vote of {len(nets)} nets: {result['test']:.2%} of the test digits")


if __name__ == "__main__":
    main()
