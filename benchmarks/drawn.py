"""Drawn nets against PyTorch: ``python benchmarks/drawn.py [--nets 30] [--first 0] [--threads 1]``.

It looks for nets that train or predict slower here than there; ``step.py`` measures with care.
The batch, the optimizer and the loss are drawn as well. Both libraries run in one process, in
turns, and the shortest times count. The slowest come last.
"""

import argparse
import time
import warnings
from collections.abc import Callable
from copy import deepcopy as copy
from typing import Any

import numpy as np
from sides import torch_variants

import tinyconv as tc
from tinyconv.errors import ArgumentError
from tinyconv.layers import Layer

BATCHES, STEPS = (2, 5, 16, 16, 40, 128), 6

#: Of a sample, by the number of its axes behind the channels.
SHAPES: tuple[tuple[tuple[int, ...], ...], ...] = (
    ((784,), (100,), (2000,)),
    ((1, 40), (2, 1000), (16, 200)),
    ((1, 28, 28), (3, 32, 32), (3, 24, 40)),
    ((1, 12, 12, 12), (2, 8, 16, 16)),
)
#: Convolution, its transpose, norm, and poolings over so many axes.
LAYERS: tuple[tuple[Callable[..., Layer], ...], ...] = (
    (),
    (tc.Conv1d, tc.ConvTranspose1d, tc.BatchNorm1d, tc.MaxPool1d, tc.AvgPool1d, tc.LPPool1d),
    (tc.Conv2d, tc.ConvTranspose2d, tc.BatchNorm2d, tc.MaxPool2d, tc.AvgPool2d, tc.LPPool2d),
    (tc.Conv3d, tc.ConvTranspose3d, tc.BatchNorm3d, tc.MaxPool3d, tc.AvgPool3d, tc.LPPool3d),
)
ACTIVATIONS: tuple[Layer, ...] = (
    tc.ReLU(), tc.Tanh(), tc.GELU(), tc.SiLU(), tc.ELU(), tc.Sigmoid(), tc.Softplus(),
    tc.LeakyReLU(0.1), tc.ScaledTanh(), tc.GELU("tanh"),
)  # fmt: skip
#: Ours, the name of PyTorch's, and what both take.
OPTIMIZERS: tuple[tuple[type[tc.Optimizer], str, dict[str, Any]], ...] = (
    (tc.SGD, "SGD", {}),
    (tc.SGD, "SGD", {"momentum": 0.9, "weight_decay": 1e-4}),
    (tc.Adam, "Adam", {}),
    (tc.AdamW, "AdamW", {}),
    (tc.Adagrad, "Adagrad", {}),
)


def drawn(seed: int) -> tc.Sequential:
    """Return a net over no axis, one, two or three: two to five products with what goes around.

    What comes, and with which parameters, is drawn from nearly all that the library exports.
    """
    rng = np.random.default_rng(seed)

    def one_of(*options: Any) -> Any:
        return options[rng.integers(len(options))]

    def perhaps(chance: float, *options: Layer) -> list[Layer]:
        return [one_of(*options)] if rng.random() < chance else []

    def activation() -> Layer:
        chosen: Layer = copy(one_of(*ACTIVATIONS, tc.ReLU(), tc.ReLU()))
        return chosen

    rank = one_of(0, 1, 2, 2, 2, 2, 3)
    shape = one_of(*SHAPES[rank])
    channels, layers = shape[0], list[Layer]()
    if rank == 0:
        for _ in range(rng.integers(1, 5)):
            width = int(one_of(10, 50, 100, 200, 300, 500, 1000))
            layers.append(tc.Linear(None, width))
            layers += perhaps(0.4, tc.BatchNorm1d(width), tc.LayerNorm(width))
            layers.append(activation())
            layers += perhaps(
                0.2, tc.Dropout(0.5), tc.Residual([tc.Linear(None, width), tc.Tanh()])
            )
        return tc.Sequential([*layers, tc.Linear(None, 10)], seed=0, input_shape=shape)

    conv, transposed, norm, *pools = LAYERS[rank]
    for _ in range(rng.integers(2, 6) if rank < 3 else 2):
        width, kernel = int(one_of(6, 8, 16, 24, 32, 48, 64)), int(one_of(1, 2, 3, 3, 4, 5, 7))
        if rank == 3:
            width, kernel = min(width, 16), min(kernel, 3)
        stride, dilation = int(one_of(1, 1, 1, 2)), int(one_of(1, 1, 1, 2))
        padding = one_of(0, kernel // 2)
        kind, odd = rng.random(), kernel | 1
        if kind < 0.12 and channels > 4:
            layers.append(conv(channels, channels, kernel, stride, padding, groups=channels))
            width = channels
        elif kind < 0.24 and channels % 2 == width % 2 == 0:
            layers.append(conv(channels, width, kernel, stride, padding, dilation, groups=2))
        elif kind < 0.32:
            layers.append(transposed(channels, width, kernel, stride))
        elif kind < 0.42:
            body = [conv(channels, channels, odd, padding=odd // 2), activation()]
            layers.append(tc.Residual([*body, conv(channels, channels, 3, padding=1)]))
            width = channels
        elif kind < 0.48:
            half = width // 2
            branches = [conv(channels, half, odd, padding=odd // 2), conv(channels, half, 1)]
            layers.append(tc.Parallel(branches))
        elif kind < 0.54:
            mode = one_of("reflect", "replicate", "circular")
            layers.append(conv(channels, width, 3, padding=1, padding_mode=mode))
        else:
            layers.append(conv(channels, width, kernel, stride, padding, dilation))
        channels = width
        norms = [norm(channels), tc.GroupNorm(2, channels)]
        layers += perhaps(0.3, *norms, *([tc.LocalResponseNorm(5)] if rank == 2 else []))
        layers.append(activation())
        pool, window = one_of(*pools), one_of((2,), (2,), (3, 2), (3, 1), (5, 3))
        if "LPPool" in pool.__name__:
            window = (one_of(1, 2, 2, 3), *window)
        layers += perhaps(0.4, pool(*window, ceil_mode=bool(one_of(0, 0, 1))))
        sized = [tc.Upsample(scale_factor=2), tc.Pad(1), tc.Crop(1)]
        sized += [tc.Upsample(scale_factor=2, mode="bilinear")] * (rank == 2)
        layers += perhaps(0.15, tc.Dropout(0.3), *sized)
    layers += perhaps(0.6, tc.GlobalAvgPool(), tc.GlobalMaxPool())
    return tc.Sequential([*layers, tc.Flatten(), tc.Linear(None, 10)], seed=0, input_shape=shape)


def fastest(call: Callable[[], Any]) -> float:
    """Return the shortest time of a call, in seconds."""
    times = []
    for _ in range(STEPS):
        start = time.perf_counter()
        call()
        times.append(time.perf_counter() - start)
    return min(times)


def ratios_of(seed: int) -> tuple[float, float, str] | None:
    """Return PyTorch's time over ours of a step and of a prediction, and what was drawn.

    None if none was drawn.
    """
    import torch

    try:
        net = drawn(seed)
    except ArgumentError:  # the images have become too small
        return None
    assert net.input_shape is not None
    rng = np.random.default_rng(seed)
    batch = int(rng.choice(BATCHES))
    optimizer, name, options = OPTIMIZERS[rng.integers(len(OPTIMIZERS))]
    loss, twin = (("mse", "mse_loss"), ("cross_entropy", "cross_entropy"))[rng.random() < 0.8]
    x = rng.random((batch, *net.input_shape), np.float32)
    y = rng.integers(0, 10, batch) if loss != "mse" else rng.random((batch, 10), np.float32)
    text = " ".join(
        [f"batch {batch}, {loss}, {optimizer(lr=1e-3, **options)}:", *map(repr, net.layers)]
    )

    def torch_calls(variant: str) -> list[Callable[[], Any]]:
        module, prepare = torch_variants(net, variant)
        rule = getattr(torch.optim, name)(module.parameters(), lr=1e-3, fused=True, **options)
        inputs, targets = prepare(torch.from_numpy(x)), torch.from_numpy(y)

        def step() -> None:
            module.train()
            rule.zero_grad(set_to_none=True)
            getattr(torch.nn.functional, twin)(module(inputs), targets).backward()
            rule.step()

        def predict() -> Any:
            module.eval()
            with torch.no_grad():
                return module(inputs).numpy()

        return [step, predict]

    theirs = zip(*(map(fastest, torch_calls(v)) for v in ("eager", "channels-last")), strict=True)
    clock: list[float] = []

    class Clock(tc.Callback):
        def on_batch_end(self, training: Any) -> None:
            clock.append(time.perf_counter())

    many = (np.repeat(values, STEPS + 2, 0) for values in (x, y))
    how: dict[str, Any] = {"batch_size": batch, "verbose": False, "callbacks": [Clock()]}
    net.fit(*many, optimizer=optimizer(lr=1e-3, **options), loss=loss, **how)
    net.logits(x, batch)
    ours = float(np.diff(clock).min()), fastest(lambda: net.logits(x, batch))
    step, prediction = (min(their) / our for their, our in zip(theirs, ours, strict=True))
    return step, prediction, text


def main() -> None:
    import torch

    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--nets", type=int, default=30)
    parser.add_argument("--first", type=int, default=0, help="the first seed")
    parser.add_argument("--threads", type=int, default=1)
    arguments = parser.parse_args()
    torch.set_num_threads(arguments.threads)
    tc.set_num_threads(arguments.threads)
    warnings.simplefilter("ignore")
    found = []
    for seed in range(arguments.first, arguments.first + arguments.nets):
        result = ratios_of(seed)
        if result is not None:
            found.append((*result, seed))
            print(f"{seed}: step {result[0]:.2f}, prediction {result[1]:.2f}", flush=True)
    for column, what in enumerate(("step", "prediction")):
        slowest = sorted(found, key=lambda row: row[column])[:3]
        for row in slowest:
            print(f"{what} {row[column]:.2f} with seed {row[3]}: {row[2]}")


if __name__ == "__main__":
    main()
