"""Layers for the tests of ONNX, and random networks of them."""

from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np

import tinyconv as tc

Layers = list[tc.layers.Layer]
Shape = tuple[int, ...]

#: name -> (shape of a sample, the layers)
CASES: dict[str, tuple[Shape, Callable[[], Layers]]] = {
    "conv": ((3, 9, 10), lambda: [tc.Conv2d(3, 4, 3, stride=2, padding=((1, 0), (0, 2)))]),
    "conv same": ((3, 9, 10), lambda: [tc.Conv2d(3, 4, 4, padding="same")]),
    "conv dilated": ((2, 9, 10), lambda: [tc.Conv2d(2, 4, (3, 2), dilation=(2, 3), bias=False)]),
    "conv reflect": (
        (3, 9, 10),
        lambda: [tc.Conv2d(3, 6, 3, padding=1, padding_mode="reflect", groups=3)],
    ),
    "conv replicate": ((3, 5, 5), lambda: [tc.Conv2d(3, 6, 3, 1, 2, padding_mode="replicate")]),
    "conv1d": ((3, 9), lambda: [tc.Conv1d(3, 6, 3, padding=1, padding_mode="circular")]),
    "conv3d": ((1, 4, 4, 5), lambda: [tc.Conv3d(1, 2, 2, padding=(0, 1, 0))]),
    "transposed": (
        (3, 5, 5),
        lambda: [tc.ConvTranspose2d(3, 4, 3, 2, padding=1, output_padding=1, dilation=2)],
    ),
    "transposed1d": ((4, 5), lambda: [tc.ConvTranspose1d(4, 4, 3, stride=2, groups=2)]),
    "transposed3d": ((2, 3, 3, 2), lambda: [tc.ConvTranspose3d(2, 1, 2, bias=False)]),
    "max": ((2, 8, 7), lambda: [tc.MaxPool2d(3, 2, 1, ceil_mode=True)]),
    "max dilated": ((2, 8, 9), lambda: [tc.MaxPool2d(2, 3, (1, 0), 2, ceil_mode=True)]),
    "max1d": ((2, 8), lambda: [tc.MaxPool1d(2)]),
    "max3d": ((2, 4, 4, 4), lambda: [tc.MaxPool3d(2)]),
    "avg": ((2, 8, 7), lambda: [tc.AvgPool2d(3, 2, 1, ceil_mode=True)]),
    "avg not counted": (
        (2, 8, 7),
        lambda: [tc.AvgPool2d((3, 2), (2, 3), 1, ceil_mode=True, count_include_pad=False)],
    ),
    "avg1d": ((2, 8), lambda: [tc.AvgPool1d(2)]),
    "avg3d": ((2, 4, 4, 4), lambda: [tc.AvgPool3d(2)]),
    "avg dilated": ((2, 8, 9), lambda: [tc.AvgPool2d(2, 2, 1, dilation=(2, 3))]),
    "lp1d": ((2, 9), lambda: [tc.LPPool1d(1, 2)]),
    "lp3d": ((2, 4, 4, 4), lambda: [tc.LPPool3d(3, 2, 1)]),
    "l2 dilated": ((2, 8, 9), lambda: [tc.L2Pool2d(2, 2, 1, dilation=2)]),
    "l2": ((2, 8, 7), lambda: [tc.L2Pool2d(3, 2, 1, ceil_mode=True)]),
    "lp": ((2, 8, 8), lambda: [tc.LPPool2d(3, 2)]),
    "subsample": ((2, 8, 8), lambda: [tc.Subsample2d(2, 2)]),
    "global": ((2, 8, 8), lambda: [tc.GlobalAvgPool(), tc.Flatten()]),
    "global max": ((2, 8, 8, 3), lambda: [tc.GlobalMaxPool(), tc.Flatten()]),
    "batch norm": ((2, 8, 8), lambda: [tc.BatchNorm2d(2, eps=1e-3)]),
    "batch norm of vectors": ((2,), lambda: [tc.BatchNorm1d(2)]),
    "batch norm, plain": ((2, 5), lambda: [tc.BatchNorm1d(2, affine=False)]),
    "batch norm 3d": ((2, 3, 3, 3), lambda: [tc.BatchNorm3d(2)]),
    "layer norm": ((3, 4), lambda: [tc.LayerNorm(4)]),
    "layer norm, plain": ((3, 4), lambda: [tc.LayerNorm((3, 4), elementwise_affine=False)]),
    "layer norm, no bias": ((2, 3, 4), lambda: [tc.LayerNorm((3, 4), bias=False)]),
    "group norm": ((4, 3, 3), lambda: [tc.GroupNorm(2, 4)]),
    "group norm of vectors": ((4,), lambda: [tc.GroupNorm(2, 4)]),
    "lrn": ((7, 3, 3), lambda: [tc.LocalResponseNorm(5, k=2)]),
    "lrn of rows": ((7, 3), lambda: [tc.LocalResponseNorm(3)]),
    "dropout": ((7, 3), lambda: [tc.Dropout(0.3), tc.Dropout(0.4, scale_at_test=True)]),
    "pad and crop": (
        (2, 5, 5),
        lambda: [tc.Pad((1, (0, 2)), value=2.0), tc.Pad(1, "reflect"), tc.Crop(((1, 0), 1))],
    ),
    "nearest": ((2, 5, 5), lambda: [tc.Upsample(scale_factor=2), tc.Upsample((17, 11))]),
    "bilinear": ((2, 5, 5), lambda: [tc.Upsample((7, 11), mode="bilinear")]),
    "bilinear, corners": (
        (2, 5, 5),
        lambda: [tc.Upsample((7, 11), mode="bilinear", align_corners=True)],
    ),
    "reshape": ((2, 5, 5), lambda: [tc.Reshape((5, -1)), tc.Flatten(), tc.Linear(None, 3)]),
    "linear": ((5,), lambda: [tc.Linear(5, 3, bias=False)]),
    "residual": (
        (3, 5, 5),
        lambda: [
            tc.Residual([tc.Conv2d(3, 3, 3, padding=1), tc.ReLU(), tc.Residual([tc.SiLU()])]),
            tc.Residual([tc.Conv2d(3, 4, 1)], [tc.Conv2d(3, 4, 1, bias=False)]),
        ],
    ),
    "parallel": (
        (3, 5, 5),
        lambda: [
            tc.Parallel([[tc.Conv2d(3, 3, 1)], [tc.Identity()], [tc.MaxPool2d(3, 1, 1)]]),
            tc.Parallel([[tc.ReLU()], [tc.Tanh()], [tc.Identity()]], "add"),
        ],
    ),
    **{
        repr(kind()): ((4, 5), lambda kind=kind: [kind()])
        for kind in (
            *(tc.ReLU, tc.ELU, tc.GELU, tc.SiLU, tc.Softplus, tc.Sigmoid, tc.Tanh),
            *(tc.ScaledTanh, tc.Identity, tc.LeakyReLU),
            lambda: tc.GELU("tanh"),
            lambda: tc.Softplus(2.5),
            lambda: tc.ELU(0.7),
        )
    },
}


def network(layers: Layers, shape: Shape, seed: int, dtype: str = "float32") -> tc.Sequential:
    """Return a network whose parameters and statistics are all of the order of 1."""
    net = tc.Sequential(layers, input_shape=shape, seed=seed, dtype=dtype)
    rng = np.random.default_rng(seed)
    tensors = net.state_dict()
    net.load_state_dict(
        {
            name: rng.uniform(0.5, 1.5, value.shape)
            * rng.choice([-1, 1] if "weight" in name else [1])
            if value.dtype.kind == "f"
            else value
            for name, value in tensors.items()
        }
    )
    return net


def random_network(seed: int) -> tc.Sequential:
    """Return a network of three to six layers of :data:`CASES` for planes, and a linear one."""
    rng = np.random.default_rng(seed)
    shape: Shape = (int(rng.integers(1, 4)), *map(int, rng.integers(9, 13, 2)))
    start, layers = shape, []
    for _ in range(rng.integers(3, 7)):
        layer = _planes(rng)
        try:
            shape_after = layer.output_shape(shape)
        except ValueError:
            continue
        layers.append(layer)
        shape = shape_after
    layers += [tc.Flatten(), tc.Linear(None, 4)]
    return network(layers, start, seed)


def _planes(rng: Any, depth: int = 0) -> tc.layers.Layer:
    def pick(*values: Any) -> Any:
        return values[rng.integers(len(values))]

    def size(low: int, high: int) -> int:
        return int(rng.integers(low, high + 1))

    mode = pick("zeros", "zeros", "reflect", "replicate", "circular")
    kinds: list[Callable[[], tc.layers.Layer]] = [
        lambda: tc.Conv2d(
            *(None, 2 * size(1, 2), (size(1, 3), size(1, 3)), size(1, 2)),
            padding=(size(0, 1), size(0, 1)),
            dilation=size(1, 2),
            bias=pick(True, False),
            padding_mode=mode,
        ),
        lambda: tc.ConvTranspose2d(None, 2, size(1, 3), size(1, 2), bias=pick(True, False)),
        lambda: tc.MaxPool2d(size(1, 3), size(1, 2), ceil_mode=pick(True, False)),
        lambda: tc.AvgPool2d(3, 2, 1, pick(True, False), pick(True, False)),
        lambda: tc.L2Pool2d(2, 1),
        lambda: tc.BatchNorm2d(None),
        lambda: tc.GroupNorm(1, None),
        lambda: tc.LocalResponseNorm(3),
        lambda: tc.Dropout(0.5, scale_at_test=pick(True, False)),
        lambda: pick(tc.ReLU, tc.ELU, tc.GELU, tc.SiLU, tc.Softplus, tc.Tanh, tc.ScaledTanh)(),
        lambda: tc.Upsample(scale_factor=2),
        lambda: tc.Pad(1),
    ]
    if depth < 2:
        kinds += [
            lambda: tc.Residual(
                [pick(tc.SiLU, tc.Tanh)(), tc.Conv2d(None, 2, 1), tc.ReLU()],
                [tc.Conv2d(None, 2, 1), tc.BatchNorm2d(None)],
            ),
            lambda: tc.Residual([tc.Dropout(0.1), tc.Residual([tc.GELU()])]),
            lambda: tc.Parallel(
                [[tc.Conv2d(None, 2, 3, padding=1), tc.SiLU()], [tc.Identity()], [tc.Tanh()]],
                "concat",
            ),
            lambda: tc.Parallel([[tc.SiLU()], [tc.Identity()], [tc.Softplus(2.0)]], "add"),
        ]
    return kinds[rng.integers(len(kinds))]()


def runtime_outputs(path: Path, x: Any) -> dict[str, Any]:
    """Return what ONNX Runtime makes of a file."""
    import onnxruntime

    session = onnxruntime.InferenceSession(str(path), providers=["CPUExecutionProvider"])
    names = [output.name for output in session.get_outputs()]
    return dict(zip(names, session.run(None, {"x": x}), strict=True))


def residual_net(torch: Any) -> Any:
    nn = torch.nn

    class Block(nn.Module):  # type: ignore[misc, name-defined]
        def __init__(self, C: int, O: int, stride: int) -> None:
            super().__init__()
            self.a, self.b = nn.Conv2d(C, O, 3, stride, 1, bias=False), nn.BatchNorm2d(O)
            self.c = nn.Conv2d(O, O, 3, 1, 1)
            same = C == O and stride == 1
            self.shortcut = nn.Identity() if same else nn.Conv2d(C, O, 1, stride)

        def forward(self, x: Any) -> Any:
            return torch.relu(self.c(torch.relu(self.b(self.a(x)))) + self.shortcut(x))

    class Net(nn.Module):  # type: ignore[misc, name-defined]
        def __init__(self) -> None:
            super().__init__()
            self.blocks = nn.Sequential(Block(3, 3, 1), Block(3, 6, 2))
            self.last = nn.Linear(6, 10)

        def forward(self, x: Any) -> Any:
            x = torch.nn.functional.adaptive_avg_pool2d(self.blocks(x), 1)
            return self.last(x.view(x.size(0), -1))

    return Net()


def modules(torch: Any) -> dict[str, tuple[Any, tuple[int, ...]]]:
    nn = torch.nn
    return {
        "lenet": (
            nn.Sequential(
                *(nn.Conv2d(1, 6, 5, padding=2), nn.GELU(), nn.MaxPool2d(2)),
                *(nn.Conv2d(6, 16, 5), nn.SiLU(), nn.AvgPool2d(2), nn.Flatten()),
                *(nn.Linear(400, 20), nn.Softplus(), nn.Dropout(0.3), nn.LayerNorm(20)),
                nn.Linear(20, 10),
            ),
            (1, 28, 28),
        ),
        "autoencoder": (
            nn.Sequential(
                *(nn.Conv2d(1, 4, 3, 2, 1), nn.LeakyReLU(0.1), nn.GroupNorm(2, 4)),
                *(nn.ConvTranspose2d(4, 2, 3, 2, 1, 1), nn.Upsample(scale_factor=2), nn.Sigmoid()),
                nn.Upsample((17, 11)),
            ),
            (1, 8, 8),
        ),
        "reflected": (
            nn.Sequential(
                nn.Upsample(scale_factor=2, mode="bilinear"),
                nn.Conv2d(1, 2, 3, padding=1, padding_mode="reflect"),
                *(nn.ELU(), nn.AdaptiveAvgPool2d(1), nn.Flatten()),
            ),
            (1, 8, 8),
        ),
        "residual": (residual_net(torch), (3, 16, 16)),
    }
