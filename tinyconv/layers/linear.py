"""The fully connected layer."""

from dataclasses import KW_ONLY, dataclass

from tinyconv.arguments import Count, checked
from tinyconv.initializers import InitializerName
from tinyconv.layers.base import Shape
from tinyconv.layers.operation import OneOperation, check_input, weight_and_bias
from tinyconv.ops.linear import linear, linear_backward
from tinyconv.parameters import ParameterSpec

__all__ = ["Linear"]


@checked
@dataclass(eq=False, repr=False)
class Linear(OneOperation):
    """Map (N, in_features) to (N, out_features) by ``y = x w^T + b``.

    Args:
        in_features: I, or None to take it from the first input.
        out_features: O.
        bias: whether to add a bias.
        weight_init: a name of :mod:`tinyconv.initializers`.
        bias_init: likewise.

    Parameters: ``weight`` (O, I), ``bias`` (O,).

    >>> import numpy as np
    >>> Linear(640, 100).forward(np.zeros((10, 640))).shape
    (10, 100)
    """

    operation = (linear, linear_backward)
    _options = ()
    _takes_weights = True

    in_features: Count | None
    out_features: Count
    bias: bool = True
    _: KW_ONLY
    weight_init: InitializerName = "he"
    bias_init: InitializerName = "zeros"

    def output_shape(self, shape: Shape) -> Shape:  # noqa: D102
        check_input("Linear", shape, self.in_features, "I")
        return (self.out_features,)

    def specs(self, shape: Shape | None) -> dict[str, ParameterSpec] | None:  # noqa: D102
        I, O = self._size("in_features", shape), self.out_features
        return None if I is None else weight_and_bias(self, (O, I), O, I, O)

    def multiply_adds(self, shape: Shape) -> int:  # noqa: D102
        return self.output_shape(shape)[0] * shape[0]
