"""A batch norm in prediction, taken into the layer before it.

Twin of :func:`tinyconv.ops.norm.batch_norm` with given statistics: with the factor
f = gamma / sqrt(var + eps), the norm of w x + b is f w x + f (b - mean) + beta. The factors are
multiplied into the weights, or kept for the results where there are more weights than these.
"""

from typing import Any

import numpy as np

from tinyconv.kernels.cpu.kernel import kernel, record
from tinyconv.kernels.cpu.simd import pointer

#: ``weight`` and ``w`` (O, size), ``bias``, ``b`` and ``factors`` (O,); an address of 0 stands for
#: no bias, for factors of 1 (``gamma``), for shifts of 0 (``beta``), and for what is not written.
ARGS = record(
    *("weight", "bias", "gamma", "beta", "mean", "var", "w", "b", "factors", "size"),
    floats=("eps",),
)

ZERO, ONE = np.float32(0), np.float32(1)


def fold() -> Any:
    """Make the kernel that writes the weights or factors, and biases, of some outputs."""

    @kernel(ARGS)
    def norm_fold(a, thread, first, last):  # type: ignore[no-untyped-def]
        weight, bias, w, b = pointer(a.weight), pointer(a.bias), pointer(a.w), pointer(a.b)
        gamma, beta, mean, var = pointer(a.gamma), pointer(a.beta), pointer(a.mean), pointer(a.var)
        factors = pointer(a.factors)
        for o in range(first, last):
            factor = (gamma[o] if a.gamma else ONE) / np.sqrt(var[o] + a.eps)
            if a.factors:
                factors[o] = factor
            else:
                for k in range(o * a.size, (o + 1) * a.size):
                    w[k] = factor * weight[k]
            before = bias[o] if a.bias else ZERO
            b[o] = factor * (before - mean[o]) + (beta[o] if a.beta else ZERO)

    return norm_fold
