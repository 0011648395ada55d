"""One or more cases of every op: what ``test_every_op.py`` runs over."""

import numpy as np

from .helpers import Case

_rng = np.random.default_rng(2026)


def normal(*shape: int) -> np.ndarray:
    return _rng.normal(size=shape)


def distinct(*shape: int) -> np.ndarray:
    """Values a tenth apart, so that no step of a numeric gradient changes which is largest."""
    return (_rng.permutation(int(np.prod(shape))).reshape(shape) - np.prod(shape) / 2 + 0.5) / 10


CONVOLUTION = [
    Case("conv2d", (normal(2, 2, 5, 4), normal(3, 2, 3, 2), normal(3)), grads=3),
    Case("conv2d", (normal(2, 2, 5, 4), normal(3, 2, 3, 2)), {"stride": (2, 1)}, grads=2),
    Case(
        "conv2d",
        (normal(2, 4, 5, 6), normal(6, 2, 2, 3), normal(6)),
        {"stride": 2, "padding": (1, 2), "dilation": (2, 1), "groups": 2},
        grads=3,
    ),
    Case(
        "conv2d",
        (normal(2, 2, 4, 5), normal(2, 2, 3, 2)),
        {"padding": ((1, 0), (0, 2)), "padding_mode": "circular"},
        grads=2,
    ),
    Case(
        "conv2d",
        (normal(2, 3, 4, 5), normal(6, 1, 3, 3), normal(6)),
        {"padding": "same", "padding_mode": "reflect", "stride": 2, "groups": 3},
        grads=3,
    ),
    Case(
        "conv2d",
        (normal(2, 2, 3, 3), normal(2, 2, 3, 3)),
        {"padding": 2, "padding_mode": "replicate"},
        grads=2,
    ),
    Case("conv2d", (normal(2, 4, 3, 4), normal(6, 2, 1, 1), normal(6)), {"groups": 2}, grads=3),
    Case("conv2d", (normal(2, 4, 3, 4), normal(3, 4, 1, 1)), {"stride": (1, 2)}, grads=2),
    Case(
        "conv2d_direct",
        (normal(2, 4, 4, 3), normal(4, 2, 2, 3), normal(4)),
        {"stride": (2, 1), "padding": ((0, 1), 1), "dilation": (2, 1), "groups": 2},
        grads=3,
    ),
    Case("conv1d", (normal(2, 2, 7), normal(3, 2, 3), normal(3)), {"stride": 2}, grads=3),
    Case(
        "conv1d",
        (normal(2, 2, 7), normal(2, 1, 3)),
        {"padding": "same", "dilation": 2, "groups": 2},
        grads=2,
    ),
    Case(
        "conv3d",
        (normal(2, 2, 3, 4, 3), normal(2, 2, 2, 3, 2), normal(2)),
        {"stride": (1, 2, 1), "padding": (0, 1, 1)},
        grads=3,
    ),
    Case("conv_transpose2d", (normal(2, 2, 3, 2), normal(2, 3, 2, 3), normal(3)), grads=3),
    Case(
        "conv_transpose2d",
        (normal(2, 4, 3, 2), normal(4, 1, 3, 2), normal(2)),
        {
            "stride": (2, 3),
            "padding": ((1, 0), 1),
            "output_padding": (1, 2),
            "groups": 2,
            "dilation": (1, 2),
        },
        grads=3,
        spreads=False,
    ),
    Case("conv_transpose1d", (normal(2, 2, 4), normal(2, 1, 3)), {"padding": 1}, grads=2),
    Case(
        "conv_transpose3d",
        (normal(2, 2, 2, 2, 1), normal(2, 1, 2, 1, 2), normal(1)),
        {"stride": (2, 1, 1)},
        grads=3,
    ),
    Case("linear", (normal(3, 4), normal(2, 4), normal(2)), grads=3),
    Case("linear", (normal(3, 4), normal(2, 4)), grads=2),
]

SHAPE = [
    Case("pad", (normal(2, 2, 3),), {"padding": ((1, 2),), "value": 0.5}, spreads=False),
    Case("pad", (normal(2, 1, 3, 4),), {"padding": (2, (0, 3)), "mode": "reflect"}),
    Case("pad", (normal(2, 1, 3, 1),), {"padding": ((4, 0), 2), "mode": "replicate"}),
    Case("pad", (normal(2, 1, 3, 2),), {"padding": (3, (1, 2)), "mode": "circular"}),
    Case("crop", (normal(2, 2, 3, 4),), {"cropping": (1, (0, 2))}),
    Case("flatten", (normal(2, 3, 4),)),
    Case("reshape", (normal(2, 3, 4),), {"shape": (2, -1, 3)}),
]

POOLING = [
    case
    for op, values in [("max_pool2d", distinct), ("avg_pool2d", normal), ("l2_pool2d", normal)]
    for case in [
        Case(op, (values(2, 3, 4, 6),), {"kernel_size": 2}),
        Case(op, (values(2, 2, 7, 5),), {"kernel_size": (3, 2), "stride": 2, "padding": (1, 0)}),
    ]
]

ACTIVATION = [Case(op, (normal(3, 2, 4),)) for op in ["relu", "sigmoid", "tanh"]]

DROPOUT = [Case("dropout", (normal(3, 4), _rng.random((3, 4)) > 0.4), {"p": 0.4})]

LOSS = [
    Case("softmax", (normal(3, 5),)),
    Case("softmax_log_likelihood", (normal(4, 5), np.array([0, 4, 2, 2])), per_sample=False),
]

CASES = [*CONVOLUTION, *SHAPE, *POOLING, *ACTIVATION, *DROPOUT, *LOSS]
