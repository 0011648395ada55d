"""One epoch of AlexNet and of the residual net on images that are made up here.

ImageNet is not at hand, so the images are coloured stripes whose direction is their class, under
noise. That is easily learned, and shows that the large nets train: what one epoch costs in time and
memory, and that the loss falls.

    python examples/synthetic_epoch.py                 # both nets
    python examples/synthetic_epoch.py resnet20
"""

import argparse
import resource
import time

import numpy as np

import tinyconv as tc
from tinyconv.optimizers import Optimizer

CLASSES = 10


def stripes(n: int, size: int, seed: int = 0) -> tuple[np.ndarray, np.ndarray]:
    """Return images (n, 3, size, size) and their classes (n,), which turn the stripes by 18°."""
    rng = np.random.default_rng(seed)
    y = rng.integers(0, CLASSES, n)
    angle = (y * np.pi / CLASSES)[:, None, None]
    down, across = np.mgrid[:size, :size] * (2 * np.pi * 4 / size)  # four stripes an image
    phase = rng.uniform(0, 2 * np.pi, (n, 1, 1))
    wave = np.sin(np.cos(angle) * down + np.sin(angle) * across + phase)
    colour = rng.uniform(0.5, 1.0, (n, 3, 1, 1))
    x = wave[:, None] * colour + rng.normal(0, 0.3, (n, 3, size, size))
    return x.astype(np.float32), y


def alexnet() -> tuple[tc.Sequential, tuple[np.ndarray, np.ndarray], int, Optimizer]:
    """AlexNet with 10 classes, 160 images of 227 x 227 pixels, batches of 8."""
    net = tc.models.alexnet(classes=CLASSES)
    return net, stripes(160, 227), 8, tc.Adam(lr=1e-4)


def resnet20() -> tuple[tc.Sequential, tuple[np.ndarray, np.ndarray], int, Optimizer]:
    """The residual net, 2,000 images of 32 x 32 pixels, batches of 50."""
    net = tc.models.resnet20(classes=CLASSES)
    return net, stripes(2000, 32), 50, tc.SGD(lr=0.05, momentum=0.9, weight_decay=1e-4)


def main() -> None:
    """Train the nets that are asked for, one epoch each."""
    made = {"alexnet": alexnet, "resnet20": resnet20}
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawTextHelpFormatter
    )
    parser.add_argument("nets", nargs="*", default=[*made], choices=[[], *made], metavar="net")
    for name in parser.parse_args().nets:
        net, (x, y), batch_size, optimizer = made[name]()
        started = time.perf_counter()
        history = net.fit(x, y, batch_size=batch_size, optimizer=optimizer, verbose=False)
        seconds = time.perf_counter() - started
        figures = net.evaluate(x, y, batch_size=batch_size)
        memory = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024
        print(
            f"{name}: {net.parameters.flat.size:,} parameters, {len(x)} images of "
            f"{x.shape[2]} x {x.shape[3]}, {seconds:.1f} s\n"
            f"  loss during the epoch {history['loss'][0]:.3f}, after it {figures['loss']:.3f} "
            f"(chance: {np.log(CLASSES):.3f}), accuracy after it {figures['accuracy']:.1%}\n"
            f"  peak memory of the process so far {memory:,.0f} MiB",
            flush=True,
        )


if __name__ == "__main__":
    main()
