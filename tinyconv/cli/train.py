"""``tinyconv train``: a run in a folder that it has for itself."""

import argparse
import itertools
import json
import os
import sys
import time
from contextlib import ExitStack
from pathlib import Path
from typing import Any

import tinyconv as tc
from tinyconv import files, models
from tinyconv.arguments import Number, OneOf
from tinyconv.backend import use_gpu
from tinyconv.cli import data
from tinyconv.cli.options import COUNT, WHOLE, Verbs, taken_by
from tinyconv.engines.ranks import Ranks, ends_all
from tinyconv.interop import require
from tinyconv.training import checkpoint

#: Epochs if none are named: the sample is small, so it is seen more often.
EPOCHS = {"mnist-sample": 12}
DEFAULT_EPOCHS = 3

#: Of the rate that suits a net with classes, for numbers: the gradient of a square has no bound.
SHARE_OF_RATE = 0.25

#: What a run keeps in run.json, and what --resume therefore takes from there. The number of
#: threads is kept because the bits of a sum depend on it.
SETTINGS: dict[str, Any] = {
    "data": str,
    "size": (None, [COUNT]),
    "channels": (None, COUNT),
    "shape": (None, [COUNT]),
    "label": (None, str),
    "task": (None, OneOf("classification", "regression")),
    "net": OneOf(*models.NETS),
    "epochs": COUNT,
    "batch_size": COUNT,
    "lr": Number(above=0),
    "weight_decay": Number(least=0),
    "seed": WHOLE,
    "threads": COUNT,
    "sync_batch_norm": bool,
}

#: What the options say that are settings of the training.
OPTIONS = {
    "net": "a name that 'tinyconv nets' lists (default: nielsen-conv-conv-relu; for samples that "
    "are no pictures of at least 16 x 16, nielsen-fully-connected)",
    "epochs": "how often to see every image (default: 12 for mnist-sample, else 3)",
    "batch_size": "images in a training step (default: 10)",
    "lr": "learning rate (default: what suits the net)",
    "weight_decay": "L2 coefficient of one step, on weights and not on biases (default: 0)",
    "seed": "fixes initial weights, shuffles and dropout (default: 0)",
}

#: Pixels a side below which two convolutions of 5x5 with their pools leave too little.
LEAST_SIDE = 16


#: Where the launchers of MPICH, Open MPI and Slurm tell how many processes they have started.
SIZES = ("PMI_SIZE", "OMPI_COMM_WORLD_SIZE", "SLURM_STEP_NUM_TASKS")


def add(verbs: Verbs) -> None:
    """Add ``train`` to the command line."""
    train = verbs.add("train", _train, "train a network on digits or on data of your own")
    data.add_options(train)
    for name, about in OPTIONS.items():
        option = "--" + name.replace("_", "-")
        train.add_argument(option, type=taken_by(SETTINGS[name]), help=about)
    train.add_argument(
        "--sync-batch-norm",
        action="store_true",
        default=None,
        help="batch normalisation takes the statistics of all processes that share a batch",
    )
    train.add_argument("--device", choices=("cpu", "gpu"), default="cpu", help="default: cpu")
    train.add_argument("--out", type=Path, help="run folder (default: runs/NET-DATA-TIME)")
    train.add_argument(
        "--resume",
        type=Path,
        metavar="RUN",
        help="continue the run of this folder with its own settings; --epochs may raise the total",
    )
    train.set_defaults(parser=train)


def _train(options: argparse.Namespace) -> int:
    """Train a network.

    Writes the model, its history and a picture of both to a run folder, with a checkpoint after
    every epoch. Started as 'mpiexec -n 4 tinyconv train ...', four processes share each batch.
    """
    ranks = _started_ranks(options.device)
    if options.sync_batch_norm and ranks.comm is None:
        options.parser.error("--sync-batch-norm needs processes that share a batch; use mpiexec -n")
    return _train_together(options, ranks, comm=ranks.comm)


def _started_ranks(device: str) -> Ranks:
    """Return the processes that were started together; this one alone if there are no others.

    Those of one machine share its cores, and have a GPU each where the device is ``"gpu"``.

    Raises:
        ImportError: there are others, and mpi4py is not installed.
    """
    if all(int(os.environ.get(name) or 1) == 1 for name in SIZES):
        return Ranks(None)
    MPI = require("mpi4py.MPI", "mpi")
    comm: Any = MPI.COMM_WORLD
    beside = comm.Split_type(MPI.COMM_TYPE_SHARED)
    tc.set_num_threads(max(1, tc.get_num_threads() // beside.Get_size()))
    if device == "gpu":
        use_gpu(beside.Get_rank(), beside.Get_size())
    return Ranks(comm)


@ends_all
def _train_together(options: argparse.Namespace, ranks: Ranks, *, comm: Any) -> int:
    folder, settings, samples = _resumed(options) if options.resume else _started(options)
    folder, settings = ranks.from_first((folder, settings))
    net = models.named_net(settings["net"]).build(
        input_shape=samples.train.x.shape[1:],
        classes=len(samples.class_names) or samples.train.y.shape[1],
        seed=settings["seed"],
        device=options.device,
    )
    if options.resume and ranks.size == 1 and settings["threads"] != tc.get_num_threads():
        tc.set_num_threads(settings["threads"])  # the same sums, so the same bits
    with ExitStack() as locks:
        if ranks.is_first:
            if options.resume is None and options.out is None:
                folder = _made(folder)
            locks.enter_context(files.locked(folder))
            if options.resume is None:
                _check_empty(options, folder)
            for name in ("run.json", "model.safetensors", "history.csv"):
                files.sweep(folder / name)
            files.write(folder / "run.json", json.dumps(settings, indent=2) + "\n")
        return _run(options, folder, settings, samples, net, ranks)


def _run(
    options: argparse.Namespace,
    folder: Path,
    settings: dict[str, Any],
    samples: tc.data.DataSet,
    net: tc.Sequential,
    ranks: Ranks,
) -> int:
    """Train in a folder that is locked, and write there what came out."""
    if ranks.is_first:
        print(tc.data.report(samples))
        shared = "" if ranks.size == 1 else f" on {ranks.size} ranks"
        print(
            f"{settings['net']} on {settings['data']}: {len(samples.train.y):,} samples, "
            f"{net.parameter_count():,} parameters, to {folder}/{shared}"
        )

    interrupt = tc.StopOnInterrupt()
    started = time.perf_counter()
    figure = "accuracy" if samples.class_names else "mae"
    history = net.fit(
        samples,
        epochs=settings["epochs"],
        batch_size=settings["batch_size"],
        optimizer=tc.SGD(lr=settings["lr"], weight_decay=settings["weight_decay"]),
        loss=None if samples.class_names else "mse",
        metrics=[figure],
        callbacks=[interrupt],
        checkpoint=folder / "checkpoint",
        resume=options.resume is not None,
        comm=ranks.comm,
        sync_batch_norm=settings["sync_batch_norm"],
    )
    seconds = time.perf_counter() - started
    if not ranks.is_first:
        return 128 + interrupt.signal if interrupt.interrupted else 0
    net.save(folder / "model.safetensors")
    history.save(folder / "history.csv")
    written = ["model.safetensors", "history.csv"]
    if len(history) and _pictured(net, history, folder / "training.png"):
        written.append("training.png")
    if interrupt.interrupted:
        place = f"epoch {net.position.epoch + 1}, batch {net.position.batch}"
        print(f"\nstopped after {place}; saved. Continue with:\n  tinyconv train --resume {folder}")
        return 128 + interrupt.signal
    value = net.evaluate(samples.test, metrics=[figure])[figure]
    said = f"accuracy {value:.2%}" if samples.class_names else f"mean absolute error {value:.4g}"
    print(f"test {said} on {len(samples.test.y):,} samples, trained in {seconds:.1f} s")
    print(f"{folder}/: {', '.join(written)}")
    return 0


def _pictured(net: tc.Sequential, history: tc.History, path: Path) -> bool:
    """Draw the report of a run. A machine that cannot draw has trained all the same."""
    try:
        from tinyconv import plots

        plots.training_report(net, history).savefig(path, dpi=120)
    except (ImportError, OSError, RuntimeError) as error:
        print(f"tinyconv: no picture: {error}", file=sys.stderr)
        return False
    return True


def _made(folder: Path) -> Path:
    """Make a folder of this name that no other process made, with a number behind it if need be."""
    folder.parent.mkdir(parents=True, exist_ok=True)
    for number in itertools.count(1):
        own = folder if number == 1 else folder.with_name(f"{folder.name}-{number}")
        try:
            own.mkdir()
        except FileExistsError:
            continue
        break
    return own


def _check_empty(options: argparse.Namespace, folder: Path) -> None:
    """Refuse the folder of another run, or with files of somebody's, for a run that starts."""
    if checkpoint.exists(folder / "checkpoint"):
        options.parser.error(
            f"{folder} holds a run already; continue it with --resume {folder}, "
            "or name another folder"
        )
    if foreign := sorted(path.name for path in folder.iterdir() if path.name != ".lock"):
        options.parser.error(f"{folder} holds files already, {foreign[0]} for one; name another")


def _started(options: argparse.Namespace) -> tuple[Path, dict[str, Any], tc.data.DataSet]:
    """Return the folder, the settings and the data of a run that starts now."""
    options.data = options.data or "mnist-sample"
    samples = data.load(vars(options))
    shape = samples.train.x.shape[1:]
    convolves = len(shape) == 3 and min(shape[1:]) >= LEAST_SIDE
    net = options.net or f"nielsen-{'conv-conv-relu' if convolves else 'fully-connected'}"
    settings = {
        "data": options.data,
        **{name: getattr(options, name) for name in data.OPTIONS},
        "net": net,
        "epochs": options.epochs or EPOCHS.get(options.data, DEFAULT_EPOCHS),
        "batch_size": options.batch_size or 10,
        "lr": options.lr
        or models.named_net(net).lr * (1 if samples.class_names else SHARE_OF_RATE),
        "weight_decay": options.weight_decay or 0.0,
        "seed": options.seed or 0,
        "threads": tc.get_num_threads(),
        "sync_batch_norm": bool(options.sync_batch_norm),
    }
    name = f"{net}-{Path(options.data).stem}-{time.strftime('%Y%m%d-%H%M%S')}"
    folder = options.out or Path("runs") / name
    return folder, settings, samples


def _resumed(options: argparse.Namespace) -> tuple[Path, dict[str, Any], tc.data.DataSet]:
    """Return the folder, the settings and the data of the run to continue."""
    folder: Path = options.resume
    for name in (*SETTINGS, "out"):
        if name not in ("epochs", "threads") and getattr(options, name) is not None:
            flag = "--" + name.replace("_", "-")
            options.parser.error(f"{flag} cannot be changed on --resume")
    if not checkpoint.exists(folder / "checkpoint"):
        raise tc.FileError(f"{folder}: no checkpoint to resume from")
    path = folder / "run.json"
    try:
        settings: dict[str, Any] = {"sync_batch_norm": False} | json.loads(path.read_text())
    except (OSError, ValueError, TypeError, RecursionError):
        raise tc.FileError(f"{path}: missing or damaged") from None
    files.check_json(path, settings, SETTINGS)
    if options.epochs is not None:
        if options.epochs < settings["epochs"]:
            options.parser.error(f"--epochs can only be raised; the run has {settings['epochs']}")
        settings["epochs"] = options.epochs
    return folder, settings, data.load(settings)
