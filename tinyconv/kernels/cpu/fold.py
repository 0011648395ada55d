"""A batch norm in prediction, taken into the weights of the layer before it.

Twin of :func:`tinyconv.ops.norm.batch_norm` with given statistics: with the factor
f = gamma / sqrt(var + eps), the norm of w x + b is (f w) x + f (b - mean) + beta.
"""

from typing import Any

import numpy as np

from tinyconv.kernels.cpu.kernel import kernel, record, record_at
from tinyconv.kernels.cpu.simd import pointer

#: ``weight`` and ``w`` (O, size), ``bias`` and ``b`` (O,); an address of 0 stands for no bias, for
#: factors of 1 (``gamma``) and for shifts of 0 (``beta``).
ARGS = record(
    *("weight", "bias", "gamma", "beta", "mean", "var", "w", "b", "size"), floats=("eps",)
)

ZERO, ONE = np.float32(0), np.float32(1)


def fold() -> Any:
    """Make the kernel that writes the weights and biases of outputs ``first`` to ``last``."""

    @kernel
    def norm_fold(args, thread, first, last):  # type: ignore[no-untyped-def]
        a = record_at(args, ARGS)
        weight, bias, w, b = pointer(a.weight), pointer(a.bias), pointer(a.w), pointer(a.b)
        gamma, beta, mean, var = pointer(a.gamma), pointer(a.beta), pointer(a.mean), pointer(a.var)
        for o in range(first, last):
            factor = (gamma[o] if a.gamma else ONE) / np.sqrt(var[o] + a.eps)
            for k in range(o * a.size, (o + 1) * a.size):
                w[k] = factor * weight[k]
            before = bias[o] if a.bias else ZERO
            b[o] = factor * (before - mean[o]) + (beta[o] if a.beta else ZERO)

    return norm_fold
