"""The equations: every operation as a forward and a backward function, adjacent in one file.

``op(x, ...)`` returns ``y, saved``; ``op_backward(dy, saved)`` returns the gradients in the order
of the forward's inputs. ``x`` and ``dy`` are never changed.
"""

from tinyconv.ops.activation import (
    elu,
    elu_backward,
    leaky_relu,
    leaky_relu_backward,
    relu,
    relu_backward,
    scaled_tanh,
    scaled_tanh_backward,
    sigmoid,
    sigmoid_backward,
    tanh,
    tanh_backward,
)
from tinyconv.ops.activation_smooth import (
    gelu,
    gelu_backward,
    silu,
    silu_backward,
    softplus,
    softplus_backward,
)
from tinyconv.ops.conv import (
    col2im,
    conv1d,
    conv1d_backward,
    conv2d,
    conv2d_backward,
    conv3d,
    conv3d_backward,
    im2col,
)
from tinyconv.ops.conv_direct import (
    conv2d_direct,
    conv2d_direct_backward,
)
from tinyconv.ops.conv_transpose import (
    conv_transpose1d,
    conv_transpose1d_backward,
    conv_transpose2d,
    conv_transpose2d_backward,
    conv_transpose3d,
    conv_transpose3d_backward,
)
from tinyconv.ops.dropout import (
    dropout,
    dropout_backward,
)
from tinyconv.ops.linear import (
    linear,
    linear_backward,
)
from tinyconv.ops.pool import (
    avg_pool2d,
    avg_pool2d_backward,
    max_pool2d,
    max_pool2d_backward,
)
from tinyconv.ops.pool_axes import (
    avg_pool1d,
    avg_pool1d_backward,
    avg_pool3d,
    avg_pool3d_backward,
    max_pool1d,
    max_pool1d_backward,
    max_pool3d,
    max_pool3d_backward,
)
from tinyconv.ops.pool_global import (
    global_avg_pool,
    global_avg_pool_backward,
    global_max_pool,
    global_max_pool_backward,
)
from tinyconv.ops.pool_lp import (
    l2_pool2d,
    l2_pool2d_backward,
    lp_pool2d,
    lp_pool2d_backward,
)
from tinyconv.ops.shape import (
    crop,
    crop_backward,
    flatten,
    flatten_backward,
    pad,
    pad_backward,
    reshape,
    reshape_backward,
)
from tinyconv.ops.softmax import (
    softmax,
    softmax_backward,
    softmax_log_likelihood,
    softmax_log_likelihood_backward,
)
from tinyconv.ops.subsample import (
    subsample2d,
    subsample2d_backward,
)
from tinyconv.ops.upsample import (
    max_unpool2d,
    max_unpool2d_backward,
    upsample_bilinear2d,
    upsample_bilinear2d_backward,
    upsample_nearest2d,
    upsample_nearest2d_backward,
)

__all__ = [
    "avg_pool1d",
    "avg_pool1d_backward",
    "avg_pool2d",
    "avg_pool2d_backward",
    "avg_pool3d",
    "avg_pool3d_backward",
    "col2im",
    "conv1d",
    "conv1d_backward",
    "conv2d",
    "conv2d_backward",
    "conv2d_direct",
    "conv2d_direct_backward",
    "conv3d",
    "conv3d_backward",
    "conv_transpose1d",
    "conv_transpose1d_backward",
    "conv_transpose2d",
    "conv_transpose2d_backward",
    "conv_transpose3d",
    "conv_transpose3d_backward",
    "crop",
    "crop_backward",
    "dropout",
    "dropout_backward",
    "elu",
    "elu_backward",
    "flatten",
    "flatten_backward",
    "gelu",
    "gelu_backward",
    "global_avg_pool",
    "global_avg_pool_backward",
    "global_max_pool",
    "global_max_pool_backward",
    "im2col",
    "l2_pool2d",
    "l2_pool2d_backward",
    "leaky_relu",
    "leaky_relu_backward",
    "linear",
    "linear_backward",
    "lp_pool2d",
    "lp_pool2d_backward",
    "max_pool1d",
    "max_pool1d_backward",
    "max_pool2d",
    "max_pool2d_backward",
    "max_pool3d",
    "max_pool3d_backward",
    "max_unpool2d",
    "max_unpool2d_backward",
    "pad",
    "pad_backward",
    "relu",
    "relu_backward",
    "reshape",
    "reshape_backward",
    "scaled_tanh",
    "scaled_tanh_backward",
    "sigmoid",
    "sigmoid_backward",
    "silu",
    "silu_backward",
    "softmax",
    "softmax_backward",
    "softmax_log_likelihood",
    "softmax_log_likelihood_backward",
    "softplus",
    "softplus_backward",
    "subsample2d",
    "subsample2d_backward",
    "tanh",
    "tanh_backward",
    "upsample_bilinear2d",
    "upsample_bilinear2d_backward",
    "upsample_nearest2d",
    "upsample_nearest2d_backward",
]
