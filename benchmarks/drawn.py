"""Drawn convolutional nets against PyTorch: ``python benchmarks/drawn.py [--nets 30] [--first 0]``.

It looks for nets that train slower here than there; ``step.py`` measures those worth it with care.
Both libraries run in one process on one thread, in turns, and the shortest times count. The
slowest come last.
"""

import argparse
import time
import warnings
from collections.abc import Callable
from typing import Any

import numpy as np
from sides import torch_variants

import tinyconv as tc
from tinyconv.errors import ArgumentError
from tinyconv.layers import Layer

BATCH, STEPS = 16, 6


def drawn(seed: int) -> tc.Sequential:
    """Return a net of two to five convolutions with what goes around them."""
    rng = np.random.default_rng(seed)

    def one_of(*options: Any) -> Any:
        return options[rng.integers(len(options))]

    shape = one_of((1, 28, 28), (3, 32, 32), (3, 24, 40))
    layers: list[Layer] = []
    channels = shape[0]
    for _ in range(rng.integers(2, 6)):
        width, kernel = int(one_of(6, 8, 16, 24, 32, 48, 64)), int(one_of(1, 2, 3, 3, 4, 5, 7))
        stride, dilation = int(one_of(1, 1, 1, 2)), int(one_of(1, 1, 1, 2))
        padding = one_of(0, kernel // 2)
        if rng.random() < 0.15 and channels > 4:
            layers.append(tc.Conv2d(channels, channels, kernel, stride, padding, groups=channels))
        elif rng.random() < 0.15 and channels % 2 == width % 2 == 0:
            layers.append(tc.Conv2d(channels, width, kernel, stride, padding, dilation, groups=2))
            channels = width
        else:
            layers.append(tc.Conv2d(channels, width, kernel, stride, padding, dilation))
            channels = width
        if rng.random() < 0.3:
            layers.append(one_of(tc.BatchNorm2d(channels), tc.GroupNorm(2, channels)))
        layers.append(one_of(tc.ReLU(), tc.ReLU(), tc.Tanh(), tc.GELU(), tc.SiLU(), tc.ELU()))
        if rng.random() < 0.4:
            pools = (tc.MaxPool2d(2), tc.MaxPool2d(3, 2), tc.AvgPool2d(2), tc.AvgPool2d(3, 2, 1))
            layers.append(one_of(*pools))
    layers += one_of([tc.GlobalAvgPool(), tc.Flatten()], [tc.Flatten()])
    return tc.Sequential([*layers, tc.Linear(None, 10)], seed=0, input_shape=shape)


def fastest(call: Callable[[], Any]) -> float:
    """Return the shortest time of a call, in seconds."""
    times = []
    for _ in range(STEPS):
        start = time.perf_counter()
        call()
        times.append(time.perf_counter() - start)
    return min(times)


def ratio_of(seed: int) -> tuple[float, str] | None:
    """Return PyTorch's time of a training step over ours, and the net; None if none was drawn."""
    import torch

    try:
        net = drawn(seed)
    except ArgumentError:  # the images have become too small
        return None
    text = " ".join(map(repr, net.layers))
    assert net.input_shape is not None
    rng = np.random.default_rng(seed)
    x = rng.random((BATCH, *net.input_shape), np.float32)
    y = rng.integers(0, 10, BATCH)

    def torch_step(variant: str) -> Callable[[], None]:
        module, prepare = torch_variants(net, variant)
        module.train()
        rule: Any = torch.optim.SGD(module.parameters(), lr=1e-3, fused=True)
        inputs, targets = prepare(torch.from_numpy(x)), torch.from_numpy(y)

        def step() -> None:
            rule.zero_grad(set_to_none=True)
            loss: Any = torch.nn.functional.cross_entropy(module(inputs), targets)
            loss.backward()
            rule.step()

        return step

    theirs = min(fastest(torch_step(variant)) for variant in ("eager", "channels-last"))
    clock: list[float] = []

    class Clock(tc.Callback):
        def on_batch_end(self, training: Any) -> None:
            clock.append(time.perf_counter())

    many = {"x": np.repeat(x, STEPS + 2, 0), "y": np.repeat(y, STEPS + 2, 0)}
    options: dict[str, Any] = {"batch_size": BATCH, "verbose": False, "callbacks": [Clock()]}
    net.fit(many["x"], many["y"], optimizer=tc.SGD(lr=1e-3), **options)
    return theirs / float(np.diff(clock).min()), text


def main() -> None:
    import torch

    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--nets", type=int, default=30)
    parser.add_argument("--first", type=int, default=0, help="the first seed")
    arguments = parser.parse_args()
    torch.set_num_threads(1)
    tc.set_num_threads(1)
    warnings.simplefilter("ignore")
    found = []
    for seed in range(arguments.first, arguments.first + arguments.nets):
        result = ratio_of(seed)
        if result is not None:
            found.append((result[0], seed, result[1]))
            print(f"{seed}: {result[0]:.2f}", flush=True)
    for ratio, seed, text in sorted(found, reverse=True)[-3:]:
        print(f"{ratio:.2f} with seed {seed}: {text}")


if __name__ == "__main__":
    main()
