"""Five networks with dropout vote, and what they get wrong; 99.67 % in the book."""

import sys

from experiment import PARSER, machine, run, write

import tinyconv as tc
from tinyconv.plots import mistakes

MEMBERS, EPOCHS = 5, 40

nets = [
    run(
        "dropout-1000",
        build=tc.models.nielsen_dropout,
        optimizer=tc.SGD(lr=0.03),
        epochs=EPOCHS,
        expanded=True,
        seed=seed,
    )
    for seed in range(MEMBERS)
]
options = PARSER.parse_args()
members = [net for net in nets if net is not None]
if not members:
    sys.exit(0)  # the command line asks for another experiment
test = tc.data.load(options.data).test
predicted = tc.Ensemble(members).predict(test.x)
accuracy = float((predicted == test.y).mean())
print(f"vote of {len(members)} networks: test accuracy {accuracy:.2%}")
results = options.results or options.out / "results"
write(
    results / "vote.jsonl",
    {
        "experiment": "vote",
        "seed": f"0 to {MEMBERS - 1}",
        "epochs": min(net.position.epoch for net in members),
        "planned": EPOCHS,
        "test": accuracy,
        "machine": machine(),
        "version": tc.__version__,
    },
)
mistakes(test.x, test.y, predicted).savefig(results / "vote.png", dpi=100)
