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
    Case("linear", (normal(3, 4), normal(2, 4), normal(2)), grads=3),
    Case("linear", (normal(3, 4), normal(2, 4)), grads=2),
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

CASES = [*CONVOLUTION, *POOLING, *ACTIVATION, *DROPOUT, *LOSS]
