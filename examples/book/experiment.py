"""Runs an experiment: data, training with checkpoints, test accuracy, one line of results.

The test accuracy is that of the epoch with the best validation accuracy, the last one of equals,
as in the chapter. A run that was stopped, by Ctrl-C or a crash, continues when it is started
again with the same arguments.
"""

import argparse
import json
import platform
import sys
from collections.abc import Callable
from pathlib import Path

import tinyconv as tc


def parser(out: str) -> argparse.ArgumentParser:
    """Return what takes the arguments that all runs have, with the folder that they write to."""
    made = argparse.ArgumentParser()
    made.add_argument("--epochs", type=int, help="another number of epochs")
    made.add_argument("--data", default="mnist", help="data set (default: mnist)")
    made.add_argument("--out", type=Path, default=Path(out), help=f"default: {out}")
    made.add_argument("--results", type=Path, help="folder for the results (default: OUT/results)")
    return made


#: What a run is told on the command line.
PARSER = parser("runs/book")
PARSER.add_argument("--seed", type=int, default=0)
PARSER.add_argument("--quick", action="store_true", help="a tenth of the epochs")
PARSER.add_argument("--only", help="of several variants, only the one of this name")


class TestTheBest(tc.Callback):
    """Note the test accuracy of every epoch whose validation accuracy is the best so far."""

    def __init__(self, net: tc.Sequential, test: tc.data.Split) -> None:
        self.net, self.test = net, test

    def on_epoch_end(self, training) -> None:
        """Evaluate, and add the figure to the epoch's row."""
        rows = training.history.rows
        if rows[-1]["val_accuracy"] >= max(row["val_accuracy"] for row in rows):
            rows[-1]["test_accuracy"] = self.net.evaluate(*self.test)["accuracy"]


def run(
    name: str,
    *,
    build: Callable[..., tc.Sequential],
    optimizer: tc.SGD,
    epochs: int,
    batch_size: int = 10,
    loss=None,
    expanded: bool = False,
    augment: Callable[..., object] | None = None,
    schedule: Callable[[int], Callable[..., float]] | None = None,
    seed: int | None = None,
) -> tc.Sequential | None:
    """Train a network, print and write what came out, and return it as its best epoch left it.

    Args:
        name: of the experiment; its files are called so.
        build: makes the network from a seed.
        optimizer: the update rule.
        epochs: how often to see every image.
        batch_size: images in a step.
        loss: what to minimise; the softmax log-likelihood if None.
        expanded: whether to train on each image and its four shifts by one pixel.
        augment: maps images and a key to distorted images, new ones in every epoch.
        schedule: makes the learning rate's schedule from the number of epochs.
        seed: instead of the one of the command line.

    Returns:
        The network; None if the command line asks for another variant only.
    """
    options = PARSER.parse_args()
    if options.only not in (None, name):
        return None
    seed = options.seed if seed is None else seed
    epochs = options.epochs or (max(1, epochs // 10) if options.quick else epochs)
    data = tc.data.load(options.data)
    x, y = tc.data.augment.expand(*data.train) if expanded else data.train
    hung: list[tc.Callback] = []
    net = build(seed=seed)
    if schedule is not None:
        hung.append(tc.Schedule(schedule(epochs)))
    interrupt = tc.StopOnInterrupt()
    hung += [TestTheBest(net, data.test), tc.KeepBest(), interrupt]
    folder = options.out / f"{name}-{seed}"
    print(f"{name}, seed {seed}: {len(y):,} images, {epochs} epochs, to {folder}/", flush=True)
    history = net.fit(
        x,
        y,
        epochs=epochs,
        batch_size=batch_size,
        optimizer=optimizer,
        loss=loss,
        validation_data=data.validation,
        augment=augment,
        callbacks=hung,
        checkpoint=folder,
        resume=True,
    )
    if len(history):
        result = summary(name, seed, epochs, history)
        keep(options.results or options.out / "results", result, history)
        print(
            f"{name}, seed {seed}: test accuracy {result['test']:.2%} at epoch "
            f"{result['best_epoch']} of {result['epochs']}, {result['seconds']:,.0f} s"
        )
    if interrupt.interrupted:
        print("stopped; start it again to continue")
        sys.exit(130)
    net.save(folder / "model.safetensors")
    return net


def summary(name: str, seed: int, planned: int, history: tc.History) -> dict[str, object]:
    """Return the line of results of a run."""
    best = [row for row in history if "test_accuracy" in row][-1]
    return {
        "experiment": name,
        "seed": seed,
        "epochs": len(history),
        "planned": planned,
        "best_epoch": best["epoch"],
        "validation": best["val_accuracy"],
        "test": best["test_accuracy"],
        "seconds": round(sum(row["seconds"] for row in history), 1),
        "machine": machine(),
        "version": tc.__version__,
    }


def machine() -> str:
    """Describe the processor."""
    try:
        lines = Path("/proc/cpuinfo").read_text().splitlines()
    except OSError:
        return platform.processor() or platform.machine()
    models = [line.partition(":")[2].strip() for line in lines if line.startswith("model name")]
    return f"{models[0]}, {len(models)} cores" if models else platform.machine()


def keep(results: Path, result: dict[str, object], history: tc.History) -> None:
    """Write the line of a run's results, and its history beside it."""
    name, seed = result["experiment"], result["seed"]
    write(results / f"{name}.jsonl", result)
    history.save(results / f"{name}-{seed}.csv")


def write(path: Path, result: dict[str, object]) -> None:
    """Put a result into a file of one line a seed, in place of an older one of that seed."""
    path.parent.mkdir(parents=True, exist_ok=True)
    lines = path.read_text().splitlines() if path.exists() else []
    by_seed = {json.loads(line)["seed"]: line for line in lines}
    by_seed[result["seed"]] = json.dumps(result)
    path.write_text("".join(f"{by_seed[seed]}\n" for seed in sorted(by_seed, key=str)))
