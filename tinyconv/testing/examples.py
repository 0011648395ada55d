"""Inputs at which every operation and every layer is checked."""

from typing import Any, TypeAlias

import numpy as np

from tinyconv import ops
from tinyconv.backend import Array
from tinyconv.geometry import sliding_window
from tinyconv.layers import LAYERS

_Example: TypeAlias = tuple[tuple[Any, ...], dict[str, Any]]


def _labels(rng: np.random.Generator) -> Array:
    return rng.integers(0, 4, size=5)


def _probabilities(rng: np.random.Generator) -> Array:
    return rng.uniform(0.1, 0.9, size=(5, 4))


#: Operation -> its examples: arrays, given as shapes or as functions of a generator, and options.
OP_EXAMPLES: dict[str, list[_Example]] = {
    "conv1d": [(((2, 4, 9), (6, 2, 3), (6,)), {"stride": 2, "padding": 1, "groups": 2})],
    "conv2d": [
        (((2, 3, 6, 5), (4, 3, 3, 2), (4,)), {}),
        (((2, 4, 7, 6), (6, 2, 2, 3), (6,)), {"stride": (2, 1), "padding": (1, 2), "groups": 2}),
        (((2, 2, 7, 7), (3, 2, 3, 3)), {"dilation": 2, "padding": 2}),
    ],
    "conv2d_direct": [(((2, 4, 6, 5), (6, 2, 2, 3), (6,)), {"padding": 1, "groups": 2})],
    "conv3d": [(((2, 2, 4, 5, 4), (3, 2, 2, 3, 2), (3,)), {"stride": (1, 2, 1), "padding": 1})],
    "conv_transpose1d": [(((2, 4, 5), (4, 3, 3), (3,)), {"stride": 2, "padding": 1})],
    "conv_transpose2d": [
        (((2, 4, 4, 3), (4, 2, 3, 2), (4,)), {"stride": 2, "padding": (1, 0), "groups": 2})
    ],
    "conv_transpose3d": [(((1, 2, 3, 2, 3), (2, 3, 2, 2, 2), (3,)), {"stride": 2})],
    "linear": [(((4, 5), (3, 5), (3,)), {}), (((4, 5), (3, 5)), {})],
    "max_pool2d": [
        (((2, 3, 6, 6),), {"kernel_size": 2}),
        (((2, 2, 7, 5),), {"kernel_size": (3, 2), "stride": 2, "padding": (1, 0)}),
    ],
    "max_pool1d": [(((2, 3, 9),), {"kernel_size": 3, "stride": 2, "dilation": 2})],
    "max_pool3d": [(((1, 2, 4, 5, 4),), {"kernel_size": 2, "ceil_mode": True})],
    "avg_pool2d": [
        (((2, 2, 7, 5),), {"kernel_size": 3, "stride": 2, "padding": 1}),
        (((2, 2, 6, 5),), {"kernel_size": 2, "ceil_mode": True, "count_include_pad": False}),
    ],
    "avg_pool1d": [(((2, 3, 9),), {"kernel_size": 3, "stride": 2, "dilation": 2})],
    "avg_pool3d": [(((1, 2, 4, 5, 4),), {"kernel_size": 2})],
    "l2_pool2d": [(((2, 2, 7, 5),), {"kernel_size": 3, "stride": 2, "padding": 1})],
    "lp_pool1d": [(((2, 3, 9),), {"norm_type": 3, "kernel_size": 3, "stride": 2})],
    "lp_pool3d": [(((1, 2, 4, 5, 4),), {"norm_type": 2, "kernel_size": 2, "dilation": 2})],
    "lp_pool2d": [(((2, 2, 7, 5),), {"norm_type": 3, "kernel_size": 3, "stride": 2})],
    "subsample2d": [(((2, 3, 6, 5), (3,), (3,)), {"kernel_size": 2})],
    **{op: [(((2, 3, 4, 5),), {})] for op in ("global_max_pool", "global_avg_pool")},
    "upsample_nearest2d": [(((2, 2, 3, 4),), {"scale_factor": (2, 3)})],
    "upsample_bilinear2d": [
        (((2, 2, 3, 4),), {"size": (5, 7)}),
        (((2, 2, 3, 4),), {"scale_factor": 2, "align_corners": True}),
    ],
    "resize": [
        (((2, 2, 3, 4),), {"size": (5, 3), "mode": "cubic", "antialias": True}),
        (((2, 2, 4),), {"size": 3, "mode": "nearest"}),
    ],
    "max_unpool2d": [
        (
            ((2, 3, 2, 2), lambda rng: ops.max_pool2d(rng.random((2, 3, 4, 4)), 2)[1].argmax),
            {"geometry": sliding_window("example", (4, 4), (2, 2), 2)},
        )
    ],
    "batch_norm": [(((4, 3, 2, 3), (3,), (3,)), {})],
    "layer_norm": [(((4, 3, 5),), {"normalized_shape": (3, 5)})],
    "group_norm": [(((3, 4, 2, 2),), {"num_groups": 2}), (((3, 4, 5),), {"num_groups": 1})],
    "local_response_norm": [(((2, 5, 3),), {"size": 3, "alpha": 0.5})],
    "pad": [(((2, 2, 3, 4),), {"padding": (1, 2)})],
    "crop": [(((2, 2, 5, 6),), {"cropping": (1, 2)})],
    "flatten": [(((3, 2, 4),), {})],
    "reshape": [(((3, 2, 4),), {"shape": (8,)})],
    **{op: [(((4, 6),), {})] for op in ("relu", "sigmoid", "tanh", "scaled_tanh", "silu")},
    "leaky_relu": [(((4, 6),), {"negative_slope": 0.1})],
    "elu": [(((4, 6),), {"alpha": 0.5})],
    "gelu": [(((4, 6),), {}), (((4, 6),), {"approximate": "tanh"})],
    "softplus": [(((4, 6),), {"beta": 2.0})],
    "dropout": [(((4, 6), lambda rng: rng.random((4, 6)) < 0.6), {"p": 0.4})],
    **{op: [(((5, 4),), {})] for op in ("softmax", "log_softmax")},
    "cross_entropy": [
        (((5, 4), _labels), {}),
        (((5, 4), _probabilities), {"label_smoothing": 0.1}),
    ],
    "binary_cross_entropy_with_logits": [(((5, 4), _probabilities), {})],
    "binary_cross_entropy": [((_probabilities, _probabilities), {})],
    **{op: [(((5, 4), (5, 4)), {})] for op in ("mse_loss", "l1_loss")},
    "huber_loss": [(((5, 4), (5, 4)), {"delta": 0.5})],
    "multi_margin_loss": [(((5, 4), _labels), {})],
}

#: Layer -> arguments of an example, and the shape of its batch.
LAYER_EXAMPLES: dict[str, tuple[dict[str, Any], tuple[int, ...]]] = {
    **dict.fromkeys(("GELU", "Identity", "ReLU", "ScaledTanh"), ({}, (4, 6))),
    **dict.fromkeys(("SiLU", "Sigmoid", "Softplus", "Tanh"), ({}, (4, 6))),
    **dict.fromkeys(("GlobalAvgPool", "GlobalMaxPool"), ({}, (2, 3, 4, 5))),
    **{
        f"{family}{axes}d": (options, shape)
        for axes, shape in {1: (2, 2, 7), 2: (2, 2, 5, 4), 3: (2, 2, 3, 4, 3)}.items()
        for family, options in {
            "AvgPool": {"kernel_size": 3, "stride": 2},
            "BatchNorm": {"num_features": 2},
            "Conv": {"in_channels": 2, "out_channels": 4, "kernel_size": 3, "padding": 1},
            "ConvTranspose": {"in_channels": 2, "out_channels": 4, "kernel_size": 2, "stride": 2},
            "LPPool": {"norm_type": 3, "kernel_size": 2},
            "MaxPool": {"kernel_size": 3, "stride": 2},
        }.items()
    },
    "BatchNorm1d": ({"num_features": 3}, (5, 3)),
    "Crop": ({"cropping": (1, (0, 2))}, (2, 3, 5, 6)),
    "Dropout": ({"p": 0.4, "scale_at_test": True}, (4, 6)),
    "ELU": ({"alpha": 0.5}, (4, 6)),
    "Flatten": ({}, (3, 2, 4)),
    "GroupNorm": ({"num_groups": 2, "num_channels": 4}, (3, 4, 2, 2)),
    "L2Pool2d": ({"kernel_size": 2}, (2, 3, 6, 6)),
    "LayerNorm": ({"normalized_shape": (3, 5)}, (4, 3, 5)),
    "LeakyReLU": ({"negative_slope": 0.1}, (4, 6)),
    "Linear": ({"in_features": 5, "out_features": 3}, (4, 5)),
    "LocalResponseNorm": ({"size": 3, "alpha": 0.5}, (2, 5, 3)),
    "Pad": ({"padding": 2, "mode": "reflect"}, (2, 3, 4, 5)),
    "Reshape": ({"shape": (2, -1)}, (3, 4, 5)),
    "Subsample2d": ({"num_features": 3, "kernel_size": 2}, (2, 3, 6, 6)),
    "Upsample": ({"scale_factor": 2, "mode": "bilinear"}, (2, 3, 3, 4)),
}


def draw(argument: Any, rng: np.random.Generator) -> Array:
    """Return the array that an example stands for."""
    return argument(rng) if callable(argument) else rng.normal(size=argument)


def op_names() -> list[str]:
    """Return the operations that have a backward function.

    >>> "conv2d" in op_names(), "im2col" in op_names()
    (True, False)
    """
    return [name for name in ops.__all__ if f"{name}_backward" in ops.__all__]


def layer_names() -> list[str]:
    """Return the layers that are not made of other layers, whose gradients follow from theirs."""
    containers = ("Chain", "Parallel", "Residual")
    return [name for name in LAYERS.built_in if name not in containers]
