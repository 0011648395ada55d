"""Networks, batches and ways to train them, drawn by number from everything that is exported."""

from collections.abc import Callable
from dataclasses import dataclass
from math import prod
from typing import Any

import numpy as np

import tinyconv as tc
from tinyconv import layers as L
from tinyconv.errors import ShapeError
from tinyconv.layers import Chain, Layer

Array = np.ndarray[Any, Any]
Shape = tuple[int, ...]

#: Of the adaptive rules: a smaller one makes whole steps of the rounding of a gradient that is 0,
#: as that of a bias in front of a batch normalisation.
EPS = 1e-3
#: Sizes are drawn from few numbers, because each kernel is compiled for constants that follow
#: from them.
CHANNELS, SIZES, MOST = (1, 2, 3, 8, 20), (1, 2, 3, 3), 1500


class Halved(Layer):
    """A layer of a user's, without kernels."""

    def config(self) -> dict[str, Any]:
        return {}

    def output_shape(self, shape: Shape) -> Shape:
        return shape

    def compute(self, x: Any, training: bool, step: int) -> tuple[Any, Any]:
        return x / 2, None

    def compute_backward(self, dy: Any, saved: Any) -> tuple[Any, dict[str, Any]]:
        return dy / 2, {}


class Doubled(Chain):
    """A chain of a user's, with a forward pass of its own."""

    def compute(self, x: Array, training: bool, step: int) -> tuple[Array, Any]:
        y, saved = super().compute(x, training, step)
        return 2 * y, saved

    def compute_backward(self, dy: Array, saved: Any) -> tuple[Array, dict[str, Array]]:
        return super().compute_backward(2 * dy, saved)


class Draw:
    """Draws layers for one number."""

    def __init__(self, number: int) -> None:
        self.rng = np.random.default_rng(number)

    def of(self, values: Any) -> Any:
        return values[self.rng.integers(len(values))]

    def chance(self, p: float = 0.5) -> bool:
        return bool(self.rng.random() < p)

    def sizes(self, axes: int, values: Any = SIZES) -> tuple[int, ...]:
        return tuple(self.of(values) for _ in range(axes))

    def channels(self, groups: int = 1) -> int:
        return int(groups * self.of(CHANNELS[: 5 if groups == 1 else 3]))

    def activation(self) -> Layer:
        kind = self.of([
            L.ReLU, L.ReLU, L.Tanh, L.Sigmoid, L.ScaledTanh, L.GELU, L.SiLU, L.LeakyReLU, L.ELU,
            L.Softplus,
        ])  # fmt: skip
        if kind is L.GELU:
            return L.GELU(self.of(["none", "tanh"]))
        if kind in (L.LeakyReLU, L.ELU, L.Softplus) and self.chance():
            return kind(self.of([0.1, 0.5, 2.0]))
        return kind()

    def convolution(self, shape: Shape) -> Layer:
        axes, C = len(shape) - 1, shape[0]
        groups = self.of([g for g in (1, 1, 1, 2, C) if C % g == 0])
        kind = (L.Conv1d, L.Conv2d, L.Conv3d)[axes - 1]
        options: dict[str, Any] = {"groups": groups, "bias": self.chance(0.8)}
        options["padding"] = self.of([0, 1, "same", self.sizes(axes, (0, 1, 2))])
        if options["padding"] != "same":
            options["stride"] = self.of([1, self.sizes(axes, (1, 2))])
        if self.chance(0.2):
            options["dilation"] = self.sizes(axes, (1, 2))
        if self.chance(0.2):
            options["padding_mode"] = self.of(["reflect", "replicate", "circular"])
        return kind(C, self.channels(groups), self.sizes(axes), **options)

    def transposed(self, shape: Shape) -> Layer:
        axes, C = len(shape) - 1, shape[0]
        groups = self.of([g for g in (1, 1, 2, C) if C % g == 0])
        kind = (L.ConvTranspose1d, L.ConvTranspose2d, L.ConvTranspose3d)[axes - 1]
        stride = self.of([1, 2])
        return kind(
            C,
            self.channels(groups),
            self.sizes(axes),
            stride,
            self.of([0, 0, 1]),
            self.of([0, stride - 1]),
            groups=groups,
            bias=self.chance(0.8),
        )

    def pool(self, shape: Shape) -> Layer:
        axes = len(shape) - 1
        size = self.of([self.of([2, 3]), self.sizes(axes)])
        options: dict[str, Any] = {}
        if self.chance(0.4):
            options["stride"] = self.sizes(axes, (1, 2, 3))
        if self.chance(0.3):
            options["padding"] = self.of([1, 0])
        if self.chance(0.2):
            options["ceil_mode"] = True
        kinds = ["max", "max", "avg", "lp"] + (["l2", "subsample"] if axes == 2 else [])
        what = self.of(kinds)
        if what != "subsample" and self.chance(0.2):
            options["dilation"] = 2
        if what == "max":
            return (L.MaxPool1d, L.MaxPool2d, L.MaxPool3d)[axes - 1](size, **options)
        if what == "avg":
            if self.chance(0.3):
                options["count_include_pad"] = False
            return (L.AvgPool1d, L.AvgPool2d, L.AvgPool3d)[axes - 1](size, **options)
        if what == "subsample":
            return L.Subsample2d(shape[0], size, options.get("stride"))
        if what == "l2":
            return L.L2Pool2d(size, **options)
        return (L.LPPool1d, L.LPPool2d, L.LPPool3d)[axes - 1](3.0, size, **options)

    def norm(self, shape: Shape) -> Layer:
        C, axes = shape[0], len(shape) - 1
        if self.chance(0.6):
            kind = (L.BatchNorm1d, L.BatchNorm1d, L.BatchNorm2d, L.BatchNorm3d)[axes]
            return kind(
                C,
                momentum=self.of([0.1, 0.1, None]),
                affine=self.chance(0.8),
                track_running_stats=self.chance(0.8),
            )
        if self.chance():
            return L.LayerNorm(shape[self.of([0, -1]) :], elementwise_affine=self.chance(0.8))
        return L.GroupNorm(self.of([g for g in (1, 2, C) if C % g == 0]), C)

    def reshaping(self, shape: Shape) -> Layer:
        axes = len(shape) - 1
        what = self.of(["pad", "crop", "upsample", "reshape", "flatten"])
        if what == "pad":
            mode = self.of(["zeros", "zeros", "reflect", "replicate", "circular"])
            sides = self.of([1, tuple((self.of([0, 1]), self.of([0, 2])) for _ in range(axes))])
            return L.Pad(sides, mode, self.of([0.0, 1.5]) if mode == "zeros" else 0.0)
        if what == "crop":
            return L.Crop(self.of([0, tuple((self.of([0, 1]), 0) for _ in range(axes))]))
        if what == "upsample" and axes == 2:
            if self.chance():
                return L.Upsample(scale_factor=2, mode="nearest")
            return L.Upsample(size=self.sizes(2, (3, 5)), mode="bilinear",
                              align_corners=self.chance())  # fmt: skip
        if what == "reshape":
            return L.Reshape(self.of([(shape[0], -1), (-1, *shape[1:][::-1]), (1, 1, -1)]))
        return L.Flatten()

    def branches(self, shape: Shape, depth: int) -> Layer:
        """A container, whose parts keep or join shapes."""
        body = self.same(shape, depth)
        kind = self.of(["residual", "shortcut", "add", "concat", "chain", "own"])
        if kind == "residual":
            return L.Residual(body)
        if kind == "shortcut":
            return L.Residual(body, self.same(shape, depth))
        if kind == "chain":
            return Chain(body)
        if kind == "own":
            return Doubled(body)
        parts = [body, *(self.same(shape, depth) for _ in range(self.of([0, 1, 2])))]
        return L.Parallel(parts, join=kind)

    def same(self, shape: Shape, depth: int) -> list[Layer]:
        """Layers that keep a shape."""
        made: list[Layer] = []
        for _ in range(self.of([1, 1, 2, 3])):
            C, axes = shape[0], len(shape) - 1
            what = self.of(["product", "product", "activation", "norm", "dropout", "plain", "deep"])
            if what == "product" and axes:
                conv = (L.Conv1d, L.Conv2d, L.Conv3d)[axes - 1]
                made.append(conv(C, C, 3, padding=1, groups=self.of([1, 1, C])))
            elif what == "product":
                made.append(L.Linear(C, C))
            elif what == "norm":
                made.append(self.norm(shape))
            elif what == "dropout":
                made.append(L.Dropout(self.of([0.0, 0.3]), scale_at_test=self.chance()))
            elif what == "deep" and depth > 0:
                made.append(self.branches(shape, depth - 1))
                if made[-1].output_shape(shape) != shape:
                    made.pop()
            else:
                made.append(self.of([self.activation(), L.Identity(), Halved()]))
        return made or [L.Identity()]

    def layer(self, shape: Shape) -> Layer:
        """Some layer that may or may not take such an input."""
        axes = len(shape) - 1
        if axes == 0:
            what = self.of(["linear", "linear", "activation", "norm", "dropout", "branches"])
        else:
            what = self.of([
                "conv", "conv", "conv", "activation", "activation", "pool", "pool", "norm",
                "transposed", "dropout", "reshaping", "branches", "global", "lrn", "plain",
            ])  # fmt: skip
        return {
            "linear": lambda: L.Linear(shape[0], self.channels(), bias=self.chance(0.8)),
            "conv": lambda: self.convolution(shape),
            "transposed": lambda: self.transposed(shape),
            "activation": self.activation,
            "pool": lambda: self.pool(shape),
            "norm": lambda: self.norm(shape),
            "dropout": lambda: L.Dropout(self.of([0.2, 0.5]), scale_at_test=self.chance()),
            "reshaping": lambda: self.reshaping(shape),
            "branches": lambda: self.branches(shape, 1),
            "global": lambda: self.of([L.GlobalAvgPool, L.GlobalMaxPool])(),
            "lrn": lambda: L.LocalResponseNorm(self.of([2, 3, 5]), alpha=self.of([1e-4, 0.5])),
            "plain": lambda: self.of([Halved, L.Identity])(),
        }[what]()

    def layers(self, shape: Shape, classes: int, is_dense: bool) -> list[Layer]:
        """A network for samples of a shape; a dense one has outputs at every position."""
        made: list[Layer] = []
        for _ in range(self.of([1, 2, 3, 4, 5, 6])):
            try:
                found = self.layer(shape)
                after = found.output_shape(shape)
                Chain([found]).specs(shape)
            except (ShapeError, ValueError):
                continue
            if 1 <= prod(after) <= MOST and len(after) <= 4:
                made.append(found)
                shape = after
        if len(shape) > 1:
            if is_dense:
                conv = (L.Conv1d, L.Conv2d, L.Conv3d)[len(shape) - 2]
                return [*made, conv(shape[0], classes, 1)]
            made.append(L.Flatten())
        return [*made, L.Linear(prod(shape), classes)]


@dataclass
class Case:
    """One network with what it is trained on and how."""

    layers: Callable[[], list[Layer]]
    x: Array
    y: Array
    batch_size: int
    threads: int
    loss: Callable[[], Any]
    optimizer: Callable[[], Any]
    is_bad: bool
    frozen: Array
    often: Array | None
    metrics: list[str]

    def net(self, dtype: str = "float32") -> tc.Sequential:
        net = tc.Sequential(self.layers(), seed=5, dtype=dtype, input_shape=self.x.shape[1:])
        for place, leaf in enumerate(net.walk()):
            leaf.trainable = not self.frozen[place % len(self.frozen)]
        with_parameters = [leaf for leaf in net.walk() if leaf.params]
        if not any(leaf.trainable for leaf in with_parameters):  # that would be refused
            with_parameters[-1].trainable = True
        return net


def case(number: int) -> Case:
    """The case of a number."""
    draw = Draw(number)
    axes = draw.of([0, 1, 2, 2, 2, 3])
    shape = {
        0: (7,),
        1: (draw.of([1, 2]), draw.of([9, 12])),
        2: (draw.of([1, 2, 3]), *draw.sizes(2, (5, 6, 9))),
        3: (draw.of([1, 2]), *draw.sizes(3, (3, 4))),
    }[axes]
    classes, count = draw.of([2, 4]), draw.of([1, 3, 7, 9])
    batch_size = draw.of([1, 2, 4, 4, 9])
    x = draw.rng.normal(size=(count, *shape)).astype(np.float32)
    kind = draw.of(["plain", "plain", "float64", "fortran", "strided", "bytes"])
    if kind == "float64":
        x = x.astype(np.float64)
    elif kind == "fortran":
        x = np.asfortranarray(x)
    elif kind == "strided":
        x = np.repeat(x, 2, axis=0)[::2]
    is_bad = draw.chance(0.15)
    if is_bad:
        for _ in range(draw.of([1, 1, 3])):
            place = tuple(draw.rng.integers(0, n) for n in x.shape)
            x[place] = draw.of([np.nan, np.inf, -np.inf, 1e25, -1e30])
    if kind == "bytes" and not is_bad:
        x = tc.data.ByteImages.from_floats(np.clip(x, 0, 1))
    labels: Array = draw.rng.integers(0, classes, count)
    dtype = draw.of([np.int64, np.int32, np.uint8])
    labels[0] = classes - 1  # so that not all labels are the one that is ignored
    loss, options = draw.of([
        (tc.CrossEntropyLoss, {}),
        (tc.CrossEntropyLoss, {}),
        (tc.CrossEntropyLoss, {"ignore_index": 0}),
        (tc.CrossEntropyLoss, {"label_smoothing": 0.1, "weight": [0.5] * classes}),
        (tc.losses.MultiMarginLoss, {}),
        (tc.losses.Quadratic, {}),
        (tc.losses.SigmoidCrossEntropy, {}),
        (tc.losses.MSELoss, {}),
        (tc.losses.L1Loss, {}),
        (tc.losses.HuberLoss, {"delta": 0.5}),
        (tc.losses.BCEWithLogitsLoss, {}),
    ])  # fmt: skip
    of_numbers = not loss.one_class
    y: Array = labels.astype(dtype)
    if of_numbers:
        y = draw.rng.random((count, classes)).astype(np.float32)
    rule, settings = draw.of([
        (tc.SGD, {"lr": 0.05}),
        (tc.SGD, {"lr": 0.02, "momentum": 0.9, "nesterov": True, "weight_decay": 1e-3}),
        (tc.SGD, {"lr": 0.05, "clip_norm": 0.5}),
        (tc.Adam, {"lr": 0.002, "eps": EPS}),
        (tc.AdamW, {"lr": 0.002, "eps": EPS, "clip_norm": 1.0}),
        (tc.Adagrad, {"lr": 0.01, "eps": EPS}),
        (tc.RMSProp, {"lr": 0.002, "eps": EPS, "momentum": 0.5, "centered": True}),
    ])  # fmt: skip
    # Generators of their own, so that they change no other draw.
    freezing, further = (np.random.default_rng([number, k]) for k in (1, 2))
    is_dense, is_soft, has_weights = further.random(3) < (0.3, 0.2, 0.3)
    drawn_at = draw.rng.bit_generator.state
    threads = draw.of([1, 2])

    def layers() -> list[Layer]:
        again = Draw(0)
        again.rng.bit_generator.state = drawn_at
        return again.layers(shape, classes, is_dense)

    positions = Chain(layers()).output_shape(shape)[1:]
    if positions:
        y = further.integers(0, classes, (count, *positions)).astype(dtype)
        y[0] = classes - 1
        if of_numbers:
            y = further.random((count, classes, *positions)).astype(np.float32)
    if is_soft and loss.one_class and loss is not tc.losses.MultiMarginLoss:
        y = np.moveaxis(further.dirichlet(np.ones(classes), (count, *positions)), -1, 1)
    often = further.choice([0.0, 0.5, 1.0, 3.0], count) if has_weights else None
    if often is not None:
        often[0] = 1.0
    return Case(
        layers,
        x,
        y,
        batch_size,
        threads,
        lambda: loss(**options),
        lambda: rule(**settings),
        is_bad,
        freezing.random(11) < freezing.choice([0, 0, 0.3, 0.8]),
        often,
        ["mae"] if not loss(**options).metrics and further.random() < 0.5 else [],
    )
