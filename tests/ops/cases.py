"""One or more cases of every op: what ``test_every_op.py`` runs over."""

import numpy as np

from tinyconv.geometry import sliding_window

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

POOLING += [
    Case("max_pool2d", (distinct(2, 2, 6, 7),), {"kernel_size": 2, "dilation": (2, 3)}),
    Case(
        "max_pool2d",
        (distinct(2, 1, 6, 4),),
        {"kernel_size": 3, "stride": 2, "padding": ((1, 0), (0, 1)), "ceil_mode": True},
    ),
    Case(
        "avg_pool2d",
        (normal(2, 1, 6, 4),),
        {"kernel_size": 3, "stride": 2, "padding": ((1, 0), (0, 1)), "ceil_mode": True},
    ),
    Case(
        "avg_pool2d",
        (normal(2, 1, 5, 4),),
        {
            "kernel_size": (3, 2),
            "stride": 2,
            "padding": 1,
            "ceil_mode": True,
            "count_include_pad": False,
        },
    ),
    Case("l2_pool2d", (normal(2, 2, 3, 5),), {"kernel_size": 2, "ceil_mode": True}),
    Case("lp_pool2d", (normal(2, 2, 4, 6),), {"norm_type": 1, "kernel_size": 2}),
    Case(
        "lp_pool2d",
        (normal(2, 2, 5, 4),),
        {"norm_type": 3.5, "kernel_size": (3, 2), "stride": 2, "padding": (1, 0)},
    ),
    Case("max_pool1d", (distinct(2, 2, 7),), {"kernel_size": 3, "stride": 2, "padding": 1}),
    Case("max_pool3d", (distinct(2, 1, 4, 2, 3),), {"kernel_size": (2, 1, 2)}),
    Case("avg_pool1d", (normal(2, 2, 7),), {"kernel_size": 3, "stride": 2, "padding": 1}),
    Case("avg_pool1d", (normal(2, 2, 7),), {"kernel_size": 2, "padding": 2, "dilation": 3}),
    Case("lp_pool1d", (normal(2, 2, 7),), {"norm_type": 3, "kernel_size": 2, "dilation": 3}),
    Case("lp_pool3d", (normal(2, 1, 4, 2, 3),), {"norm_type": 2, "kernel_size": (2, 1, 2)}),
    Case("avg_pool3d", (normal(2, 1, 4, 2, 3),), {"kernel_size": (2, 1, 2)}),
    Case("global_max_pool", (distinct(2, 3, 3, 4),)),
    Case("global_max_pool", (distinct(2, 3, 5),)),
    Case("global_avg_pool", (normal(2, 3, 3, 4),)),
    Case("global_avg_pool", (normal(2, 2, 2, 1, 3),)),
    Case("subsample2d", (normal(2, 3, 4, 6), normal(3), normal(3)), {"kernel_size": 2}, grads=3),
    Case(
        "subsample2d",
        (normal(2, 2, 5, 5), normal(2), normal(2)),
        {"kernel_size": (3, 2), "stride": (1, 2)},
        grads=3,
    ),
]

UPSAMPLING = [
    Case("resize", (normal(2, 2, 5),), {"size": 3, "mode": "nearest", "rounding": "ceil"}),
    Case("resize", (normal(2, 2, 4, 3),), {"size": (6, 2), "mode": "cubic", "antialias": True}),
    Case(
        "resize",
        (normal(2, 1, 4, 3),),
        {"size": 3, "region": ((0.3, 1.2), (0, 0.5)), "value": 7.0},
        spreads=False,
    ),
    Case("upsample_nearest2d", (normal(2, 2, 2, 3),), {"scale_factor": (2, 3)}),
    Case("upsample_nearest2d", (normal(2, 2, 4, 3),), {"size": (3, 5)}),
    Case("upsample_bilinear2d", (normal(2, 2, 2, 3),), {"scale_factor": 2}),
    Case("upsample_bilinear2d", (normal(2, 2, 4, 3),), {"size": (3, 7), "align_corners": True}),
    Case("upsample_bilinear2d", (normal(2, 1, 3, 3),), {"size": 1, "align_corners": True}),
    Case(
        "max_unpool2d",
        # Windows of 2x2 at stride 1 over 3x4: the second sample's all share the element 5.
        (
            normal(2, 1, 2, 3),
            np.array([[[[0, 1, 7], [8, 10, 6]]], [[[5, 5, 6], [5, 5, 6]]]]),
        ),
        {"geometry": sliding_window("max_pool2d", (3, 4), kernel=(2, 2))},
        spreads=False,
    ),
]

ACTIVATION = [
    Case("leaky_relu", (normal(3, 2, 4),), {"negative_slope": 0.3}),
    Case("elu", (normal(3, 2, 4),), {"alpha": 1.5}),
    Case("gelu", (normal(3, 2, 4),), {"approximate": "tanh"}),
    Case("softplus", (normal(3, 2, 4),), {"beta": 2.5}),
]
ACTIVATION += [
    Case(op, (normal(3, 2, 4),))
    for op in [
        "elu",
        "gelu",
        "leaky_relu",
        "relu",
        "scaled_tanh",
        "sigmoid",
        "silu",
        "softplus",
        "tanh",
    ]
]

NORMALISATION = [
    Case("batch_norm", (normal(4, 3), normal(3), normal(3)), grads=3, per_sample=False),
    Case("batch_norm", (normal(2, 3, 2, 3),), {"eps": 0.1}, per_sample=False),
    Case(
        "batch_norm",
        (normal(2, 3, 2, 3), normal(3), normal(3), normal(3), normal(3) ** 2),
        grads=3,
    ),
    Case("layer_norm", (normal(2, 3, 4),), {"normalized_shape": 4}),
    Case(
        "layer_norm",
        (normal(2, 3, 4), normal(3, 4), normal(3, 4)),
        {"normalized_shape": (3, 4)},
        grads=3,
        names=("w", "b"),
    ),
    Case(
        "group_norm",
        (normal(2, 4, 2, 3), normal(4), normal(4)),
        {"num_groups": 2},
        grads=3,
        names=("w", "b"),
    ),
    Case("group_norm", (normal(2, 3, 4),), {"num_groups": 3}),
    Case("local_response_norm", (normal(2, 6, 3),), {"size": 5, "alpha": 0.3, "k": 2.0}),
    Case("local_response_norm", (normal(2, 3, 2, 2),), {"size": 8, "alpha": 2.0, "beta": 1.5}),
]

DROPOUT = [Case("dropout", (normal(3, 4), _rng.random((3, 4)) > 0.4), {"p": 0.4})]

LOSS = [
    Case("softmax", (normal(3, 5),)),
    Case("softmax", (normal(2, 4, 3),)),
    Case("log_softmax", (normal(2, 4, 3),)),
    Case("cross_entropy", (normal(4, 5), np.array([0, 4, 2, 2])), per_sample=False),
    Case(
        "cross_entropy",
        (normal(5, 3), np.array([0, 9, 2, 2, 1]), np.array([0.5, 2.0, 1.5])),
        {"ignore_index": 9, "label_smoothing": 0.2},
        per_sample=False,
    ),
    Case(
        "cross_entropy",
        (normal(2, 3, 2, 2), np.array([[[0, 9], [2, 1]], [[1, 1], [0, 9]]]), _rng.random(3)),
        {"ignore_index": 9},
        per_sample=False,
    ),
    Case(
        "cross_entropy",
        (normal(4, 3), _rng.dirichlet(np.ones(3), 4), _rng.random(3), _rng.random(4)),
        {"label_smoothing": 0.3},
        per_sample=False,
    ),
    Case(
        "binary_cross_entropy",
        (_rng.uniform(0.05, 0.95, (4, 3)), _rng.random((4, 3))),
        per_sample=False,
    ),
    *[
        Case(op, (normal(4, 3), _rng.random((4, 3))), per_sample=False)
        for op in ("binary_cross_entropy_with_logits", "mse_loss", "l1_loss")
    ],
    *[
        Case(op, (normal(3, 2, 3), _rng.random((3, 2, 3)), _rng.random(3)), per_sample=False)
        for op in ("binary_cross_entropy_with_logits", "mse_loss", "l1_loss", "huber_loss")
    ],
    Case("huber_loss", (normal(4, 3), _rng.random((4, 3))), {"delta": 0.7}, per_sample=False),
    *[
        Case("multi_margin_loss", inputs, {"margin": 0.55}, per_sample=False)
        for inputs in [
            (distinct(4, 5), np.array([0, 4, 2, 2])),
            (distinct(2, 3, 2), np.array([[0, 2], [1, 1]]), np.array([0.5, 2.0])),
        ]
    ],
]

CASES = [*CONVOLUTION, *SHAPE, *POOLING, *UPSAMPLING, *ACTIVATION, *NORMALISATION, *DROPOUT, *LOSS]
