"""The matrix that a linear layer is: convolution, its transpose, averaging, full connection."""

from math import prod
from typing import Any

import numpy as np

from tinyconv.analysis.probe import probe
from tinyconv.arguments import checked
from tinyconv.backend import Values, to_numpy
from tinyconv.errors import ShapeError
from tinyconv.geometry import sample_shape
from tinyconv.layers import Layer
from tinyconv.layers.base import Shape

#: Columns found in one forward pass.
COLUMNS = 256


@checked
def as_matrix(layer: Layer, input_shape: Shape, sparse: bool = False) -> Any:
    """Return the matrix A of a linear layer: flattened, ``layer(x) = A x + layer(0)``.

    Column j is what the layer makes of an image that is 1 in element j and 0 elsewhere, less what
    it makes of zeros (the bias). A convolution gives a matrix that is mostly zeros and in which
    every weight stands many times; a transposed convolution with the same weights gives its
    transpose, and so does the backward pass, ``dx = A^T dy``.

    Args:
        layer: a layer, or a network of several: convolution and pooling by averages of any
            stride, padding, dilation and groups, transposed convolution, padding, full connection.
        input_shape: of one sample, such as (1, 28, 28).
        sparse: return a ``scipy.sparse.csr_array``, which holds what is not zero.

    Returns:
        A (Y, X): Y elements of the output, X of the input, both in row-major order, with the dtype
        of the layer's parameters and float64 where it has none.

    Raises:
        ShapeError: the layer is not linear, or does not take such an input.
        ImportError: ``sparse`` was asked for, and SciPy is not installed.

    >>> import numpy as np
    >>> from tinyconv.layers import Conv1d, MaxPool2d
    >>> layer = Conv1d(1, 1, 3, stride=2)
    >>> _ = layer.forward(np.zeros((1, 1, 7)))
    >>> layer.params["weight"][...] = [[[1, 2, 3]]]
    >>> as_matrix(layer, (1, 7))
    array([[1., 2., 3., 0., 0., 0., 0.],
           [0., 0., 1., 2., 3., 0., 0.],
           [0., 0., 0., 0., 1., 2., 3.]])
    >>> as_matrix(MaxPool2d(2), (1, 4, 4))
    Traceback (most recent call last):
    tinyconv.errors.ShapeError: as_matrix: MaxPool2d is not linear, so no matrix is the same
    """
    if sparse:
        try:
            from scipy.sparse import csc_array, hstack
        except ImportError:
            raise ImportError("as_matrix: sparse=True needs SciPy: pip install scipy") from None
    input_shape = sample_shape("as_matrix", input_shape)
    X, Y = prod(input_shape), prod(layer.output_shape(input_shape))
    parameter = next(iter(layer.params.values()), None)
    dtype = np.dtype(np.float64) if parameter is None else to_numpy(parameter).dtype
    A = None if sparse else np.empty((Y, X), dtype)
    parts = []
    with probe(layer) as f:

        def flat(x: Values) -> Values:
            return f(x.reshape(-1, *input_shape)).reshape(len(x), Y)

        zero = flat(np.zeros((1, X), dtype))
        for start in range(0, X, COLUMNS):
            stop = min(start + COLUMNS, X)
            ones = np.zeros((stop - start, X), dtype)
            ones[np.arange(stop - start), np.arange(start, stop)] = 1
            columns = (flat(ones) - zero).T
            if A is None:
                parts.append(csc_array(columns))
            else:
                A[:, start:stop] = columns
        if A is None:
            A = hstack(parts, format="csr")
        x = np.random.default_rng(0).normal(size=(3, X)).astype(dtype)
        y = flat(x) - zero
        scale = float(np.abs(y).max(initial=0)) + float(np.abs(zero).max(initial=0)) + 1e-30
        if not np.allclose((A @ x.T).T, y, rtol=0, atol=1e3 * np.finfo(dtype).eps * scale):
            raise ShapeError(
                f"as_matrix: {type(layer).__name__} is not linear, so no matrix is the same"
            )
    return A
