"""Convolution against full connection on MNIST-1D, as in the lectures.

Two networks learn to read the same 40-sample curves with the same rule: 100,000 steps of plain
stochastic gradient descent, rate 0.01, batches of 100. One has 2,050 parameters in three
convolutional layers, the other 59,065 in fully connected ones. Both come to know the training set;
the convolutional one makes less than half the mistakes on curves it has not seen. The third is the
network that the lectures begin with: two hidden layers of 100 units, rate 0.1, 6,000 steps.

    python examples/mnist1d.py            # writes mnist1d.md and mnist1d.png beside itself
    python examples/mnist1d.py --epochs 25 --out /tmp     # a hundredth of it

Source of the experiment: Prince, "Understanding deep learning" (2023), sections 8.1 and 10.2.5.
"""

import argparse
import time
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import tinyconv as tc
from tinyconv import plots

HERE = Path(__file__).parent


def two_hidden_layers() -> tc.Sequential:
    """Two hidden layers of 100 rectified linear units."""
    return tc.Sequential(
        [
            tc.Flatten(),
            tc.Linear(40, 100),
            tc.ReLU(),
            tc.Linear(100, 100),
            tc.ReLU(),
            tc.Linear(100, 10),
        ],
        input_shape=(1, 40),
    )


@dataclass
class Experiment:
    """A network and how long, and how fast, it learns."""

    name: str
    net: tc.Sequential
    lr: float
    epochs: int


class Report(tc.Callback):
    """Print a line now and then: 2,500 would be too many."""

    def __init__(self, name: str, every: int) -> None:
        self.name = name
        self.every = every

    def on_epoch_end(self, training: Any) -> None:
        """Print errors on the training set (while it was being trained on) and on the test set."""
        row = training.history.rows[-1]
        if row["epoch"] % self.every == 0:
            print(
                f"{self.name}  epoch {row['epoch']}  training error {1 - row['accuracy']:.2%}"
                f"  test error {1 - row['val_accuracy']:.2%}",
                flush=True,
            )


def main() -> None:
    """Train the three networks; write the table and the picture."""
    parser = argparse.ArgumentParser(description="Convolution against full connection")
    parser.add_argument("--epochs", type=int, default=2500, help="of the two large runs")
    parser.add_argument("--out", type=Path, default=HERE, help="folder of the table and picture")
    options = parser.parse_args()

    data = tc.data.load("mnist1d")
    batch = 100
    steps = len(data.train.y) // batch  # an epoch
    experiments = [
        Experiment("convolutional", tc.models.mnist1d_cnn(), 0.01, options.epochs),
        Experiment("fully connected", tc.models.mnist1d_mlp(), 0.01, options.epochs),
        Experiment("two hidden layers", two_hidden_layers(), 0.1, min(150, options.epochs)),
    ]
    table = [
        "| network | parameters | rate | steps | training error | test error | minutes |",
        "|---|---:|---:|---:|---:|---:|---:|",
    ]
    curves = {}
    for experiment in experiments:
        started = time.perf_counter()
        history = experiment.net.fit(
            *data.train,
            epochs=experiment.epochs,
            batch_size=batch,
            optimizer=tc.SGD(lr=experiment.lr),
            validation_data=data.test,
            verbose=False,
            callbacks=[Report(experiment.name, max(1, experiment.epochs // 10))],
        )
        minutes = (time.perf_counter() - started) / 60
        train, test = (1 - experiment.net.evaluate(*s)["accuracy"] for s in (data.train, data.test))
        table.append(
            f"| {experiment.name} | {experiment.net.parameters.flat.size:,} | {experiment.lr} | "
            f"{experiment.epochs * steps:,} | {train:.1%} | {test:.1%} | {minutes:.1f} |"
        )
        if experiment.epochs == options.epochs:
            every = max(1, experiment.epochs // 100)
            curves[experiment.name] = tc.History(history.rows[every - 1 :: every])

    text = "\n".join(table)
    print(text)
    (options.out / "mnist1d.md").write_text(
        "# Convolution against full connection on MNIST-1D\n\n"
        "Made by `python examples/mnist1d.py`: plain stochastic gradient descent, batches of "
        f"{batch}, 4,000 curves to train on and 1,000 to test. The training error is that of the "
        "trained network on the whole training set.\n\n"
        f"{text}\n\n"
        "![Loss and accuracy of the first two runs](mnist1d.png)\n"
    )
    plots.learning_curves(curves).savefig(options.out / "mnist1d.png", dpi=80)


if __name__ == "__main__":
    main()
