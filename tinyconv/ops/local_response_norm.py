"""Local response normalisation: each channel is damped by its neighbours.

Source: Krizhevsky, Sutskever and Hinton, "ImageNet classification with deep convolutional neural
networks" (2012), section 3.3.
"""

from types import ModuleType
from typing import NamedTuple

from tinyconv.backend import Array, floating
from tinyconv.errors import ShapeError
from tinyconv.geometry import spread
from tinyconv.ops.checks import incoming


class LocalResponseNormSaved(NamedTuple):
    """What the forward pass keeps for the backward pass."""

    x: Array  #: (N, C, *size)
    base: Array  #: of the shape of x: what is raised to the power -beta
    size: int
    alpha: float
    beta: float


def local_response_norm(
    x: Array, size: int, *, alpha: float = 1e-4, beta: float = 0.75, k: float = 1.0
) -> tuple[Array, LocalResponseNormSaved]:
    """Divide each element by a power of the sum of squares over the channels around it.

        y[n, c] = x[n, c] s[n, c]^(-beta)
        s[n, c] = k + alpha / size  sum of x[n, j]^2 over the ``size`` channels j around c

    j runs from c - size // 2 to c + (size - 1) // 2, as in PyTorch; ONNX has the two the other
    way round, which matters for even sizes only. The paper does not divide alpha by the size: its
    n = 5, alpha = 1e-4, beta = 0.75, k = 2 are size=5, alpha=5e-4, beta=0.75, k=2 here.

    Args:
        x: (N, C, *size of the plane), floating-point.
        size: number of channels that a sum extends over.
        alpha: see above.
        beta: see above.
        k: see above, greater than 0.

    Raises:
        ShapeError: x does not have channels, or size is below 1.

    >>> import numpy as np
    >>> x = np.array([[[1.0], [2.0], [3.0]]])
    >>> local_response_norm(x, 2, alpha=2.0, beta=1.0)[0].ravel()  # 1/2, 2/(1+1+4), 3/(1+4+9)
    array([0.5       , 0.33333333, 0.21428571])
    """
    xp = floating("local_response_norm", x=x)
    if x.ndim < 2:
        raise ShapeError(
            f"local_response_norm: x has shape {tuple(x.shape)}, expected (N, C, *size)"
        )
    (size,) = spread("local_response_norm", "size", size, 1, least=1)
    before, after = size // 2, (size - 1) // 2
    base = k + alpha / size * _sum_of_neighbours(xp, x * x, before, after)
    return x * base**-beta, LocalResponseNormSaved(x, base, size, alpha, beta)


def local_response_norm_backward(dy: Array, saved: LocalResponseNormSaved) -> Array:
    """Backpropagate through :func:`local_response_norm`.

    x[n, j] acts on y[n, j] directly and through the sums s of all channels c that it is near to:

        dx[n, j] = dy[n, j] s[n, j]^(-beta)
                   - 2 alpha beta / size  x[n, j] sum_c dy[n, c] x[n, c] s[n, c]^(-beta - 1)

    >>> import numpy as np
    >>> y, saved = local_response_norm(np.array([[[1.0]]]), 1, alpha=1.0, beta=1.0)
    >>> local_response_norm_backward(np.array([[[4.0]]]), saved)  # (x / (1 + x^2))' = 0 at x = 1
    array([[[0.]]])
    """
    x, base, size, alpha, beta = saved
    xp = incoming("local_response_norm_backward", dy, x=x)
    before, after = size // 2, (size - 1) // 2
    # c is near j exactly if j is near c, looked at from the other side.
    through_sums = _sum_of_neighbours(xp, dy * x * base ** (-beta - 1), after, before)
    return dy * base**-beta - (2 * alpha * beta / size) * x * through_sums


def _sum_of_neighbours(xp: ModuleType, x: Array, before: int, after: int) -> Array:
    """Return for each channel c the sum of the channels c - before to c + after that exist."""
    C = x.shape[1]
    total = xp.zeros_like(x)
    for shift in range(max(-before, 1 - C), min(after, C - 1) + 1):
        first, end = max(0, -shift), min(C, C - shift)
        total[:, first:end, ...] += x[:, first + shift : end + shift, ...]
    return total
