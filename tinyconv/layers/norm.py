"""Normalisation over the batch, a sample, groups of channels and neighbouring channels."""

from dataclasses import dataclass, field
from math import prod
from typing import Any, ClassVar

import numpy as np

from tinyconv.arguments import Count, Fraction, Positive, checked
from tinyconv.backend import Array, Values, namespace, real_part
from tinyconv.errors import ShapeError
from tinyconv.geometry import spread
from tinyconv.layers.base import Shape
from tinyconv.layers.operation import OneOperation, check_input, shape_of
from tinyconv.ops import norm as ops
from tinyconv.parameters import ParameterSpec

__all__ = [
    "BatchNorm1d",
    "BatchNorm2d",
    "BatchNorm3d",
    "GroupNorm",
    "LayerNorm",
    "LocalResponseNorm",
]


def _scale_and_shift(
    shape: Shape, has_weight: bool, has_bias: bool = True
) -> dict[str, ParameterSpec]:
    """Return the parameters of a normalisation, which begin as the identity and do not decay."""
    specs = {}
    if has_weight:
        specs["weight"] = ParameterSpec(shape, "ones", decay=False)
        if has_bias:
            specs["bias"] = ParameterSpec(shape, "zeros", decay=False)
    return specs


@checked
@dataclass(eq=False, repr=False)
class _BatchNorm(OneOperation):
    """Batch normalisation of inputs of some numbers of axes."""

    operation = (ops.batch_norm, ops.batch_norm_backward)
    #: Axes that a sample may have.
    _layouts: ClassVar[tuple[str, ...]]

    num_features: Count | None
    eps: Positive = 1e-5
    momentum: Fraction | None = 0.1
    affine: bool = True
    track_running_stats: bool = True
    #: where the statistics in training are of more samples than ``x`` has; see ``fit``.
    parts: ops.Parts | None = field(default=None, init=False)

    def output_shape(self, shape: Shape) -> Shape:
        check_input(type(self).__name__, shape, self.num_features, *self._layouts)
        return shape

    def specs(self, shape: Shape | None) -> dict[str, ParameterSpec] | None:
        C = self._size("num_features", shape)
        return None if C is None else _scale_and_shift((C,), self.affine)

    def state_values(self) -> dict[str, Values]:
        if not self.track_running_stats:
            return {}
        assert self.num_features is not None
        return {
            # Views of one number: no memory is taken for a size that a file merely claims.
            "running_mean": np.broadcast_to(np.float64(0), self.num_features),
            "running_var": np.broadcast_to(np.float64(1), self.num_features),
            "num_batches_tracked": np.zeros((), np.int64),
        }

    def compute(self, x: Array, training: bool, step: int) -> tuple[Array, Any]:
        w, b = self.params.get("weight"), self.params.get("bias")
        if self.track_running_stats and not (training and self.trainable):
            mean, var = self.state["running_mean"], self.state["running_var"]
            return ops.batch_norm(x, w, b, mean, var, eps=self.eps)
        self.require_a_variance(tuple(x.shape))
        y, saved = ops.batch_norm(x, w, b, eps=self.eps, parts=self.parts)
        n = self.samples(x.shape[0]) * prod(x.shape[2:])
        if training and self.track_running_stats and n > 1:
            self._track(saved.mean, saved.var * (n / (n - 1)))
        return y, saved

    def samples(self, of_x: int) -> int:
        """Return the number of samples that the statistics are of, where x has ``of_x``."""
        return of_x if self.parts is None else self.parts.samples

    def require_a_variance(self, shape: Shape) -> None:
        """Check a batch that the statistics shall be taken of.

        Raises:
            ShapeError: a channel has one element.
        """
        if self.samples(shape[0]) * prod(shape[2:]) == 1:
            raise ShapeError(
                f"{type(self).__name__}: x has shape {shape}, expected more than one element a "
                "channel where they are normalised by their own variance"
            )

    def _track(self, mean: Array, var: Array) -> None:
        """Move the running statistics towards those of a batch; the variance is unbiased."""
        xp = namespace(type(self).__name__, mean=mean)
        self.state["num_batches_tracked"][...] += 1
        share: Any = self.momentum
        if share is None:
            share = 1 / xp.astype(
                self.state["num_batches_tracked"], self.state["running_mean"].dtype
            )
        for name, value in (("running_mean", mean), ("running_var", var)):
            running = self.state[name]
            running[...] = (1 - share) * running + share * real_part(xp, value)


class BatchNorm1d(_BatchNorm):
    """Normalise each channel over the batch: (N, C) or (N, C, L), the shape is kept.

    The arguments are those of :class:`BatchNorm2d`.

    >>> import numpy as np
    >>> BatchNorm1d(1, eps=1e-30).forward(np.array([[1.0], [3.0]]), training=True)
    array([[-1.],
           [ 1.]])
    """

    _layouts = ("C", "C L")


class BatchNorm2d(_BatchNorm):
    """Normalise each channel over the batch and the plane: (N, C, H, W), the shape is kept.

    In training by the statistics of the batch, which also move the running ones; outside of it by
    the running ones, so that a sample's output does not depend on the others.

    Args:
        num_features: C, or None to take it from the first input.
        eps: keeps the divisor away from 0.
        momentum: share of a batch in the running statistics; None averages all batches equally.
        affine: whether to scale and shift the result by parameters.
        track_running_stats: whether to keep running statistics; without them those of the batch
            serve outside training too.

    Parameters: ``weight`` (C,), ``bias`` (C,), not subject to weight decay.
    State: ``running_mean`` (C,), ``running_var`` (C,), ``num_batches_tracked`` ().

    Raises:
        ShapeError: (in training) a channel has one element only.

    Source: Ioffe and Szegedy, "Batch normalization" (2015).

    >>> import numpy as np
    >>> layer = BatchNorm2d(1, eps=1e-30)
    >>> x = np.array([1.0, 3.0]).reshape(2, 1, 1, 1)
    >>> layer.forward(x, training=True).ravel()
    array([-1.,  1.])
    >>> layer.state["running_mean"], layer.state["running_var"]  # 0.9 + 0.1 * 2
    (array([0.2]), array([1.1]))
    """

    _layouts = ("C H W",)


class BatchNorm3d(_BatchNorm):
    """Normalise each channel over the batch and the volume: (N, C, D, H, W), the shape is kept.

    The arguments are those of :class:`BatchNorm2d`.

    >>> import numpy as np
    >>> BatchNorm3d(4).forward(np.zeros((2, 4, 3, 3, 3))).shape
    (2, 4, 3, 3, 3)
    """

    _layouts = ("C D H W",)


class LayerNorm(OneOperation):
    """Normalise each sample over its last axes; the shape is kept.

    Args:
        normalized_shape: the lengths of these axes, or of the one axis.
        eps: keeps the divisor away from 0.
        elementwise_affine: whether to scale and shift each element by parameters.
        bias: whether to shift; without effect unless elementwise_affine.

    Parameters: ``weight`` and ``bias`` (*normalized_shape), not subject to weight decay.

    Source: Ba, Kiros and Hinton, "Layer normalization" (2016).

    >>> import numpy as np
    >>> LayerNorm(2, eps=1e-30).forward(np.array([[1.0, 3.0], [10.0, 0.0]]))
    array([[-1.,  1.],
           [ 1., -1.]])
    """

    operation = (ops.layer_norm, ops.layer_norm_backward)
    _options = ("normalized_shape", "eps")
    _takes_weights = True

    @checked
    def __init__(
        self,
        normalized_shape: int | tuple[int, ...],
        eps: Positive = 1e-5,
        elementwise_affine: bool = True,
        bias: bool = True,
    ) -> None:
        axes = len(normalized_shape) if isinstance(normalized_shape, tuple | list) else 1
        self.normalized_shape = spread(
            "LayerNorm", "normalized_shape", normalized_shape, max(axes, 1), least=1
        )
        self.eps = eps
        self.elementwise_affine = elementwise_affine
        self.bias = bias

    def output_shape(self, shape: Shape) -> Shape:  # noqa: D102
        if shape[-len(self.normalized_shape) :] != self.normalized_shape:
            expected = ", ".join(map(str, self.normalized_shape))
            raise ShapeError(f"LayerNorm: input of shape {shape}, expected (..., {expected})")
        return shape

    def specs(self, shape: Shape | None) -> dict[str, ParameterSpec] | None:  # noqa: D102
        return _scale_and_shift(self.normalized_shape, self.elementwise_affine, self.bias)


@checked
@dataclass(eq=False, repr=False)
class GroupNorm(OneOperation):
    """Normalise each sample over groups of channels and their planes; the shape is kept.

    Args:
        num_groups: of neighbouring channels.
        num_channels: C, or None to take it from the first input; a multiple of num_groups.
        eps: keeps the divisor away from 0.
        affine: whether to scale and shift each channel by parameters.

    Parameters: ``weight`` (C,), ``bias`` (C,), not subject to weight decay.

    Source: Wu and He, "Group normalization" (2018).

    >>> import numpy as np
    >>> GroupNorm(2, 4, eps=1e-30).forward(np.array([[1.0, 3.0, -4.0, 4.0]]))
    array([[-1.,  1., -1.,  1.]])
    """

    operation = (ops.group_norm, ops.group_norm_backward)
    _options = ("num_groups", "eps")
    _takes_weights = True

    num_groups: Count
    num_channels: Count | None
    eps: Positive = 1e-5
    affine: bool = True

    def __post_init__(self) -> None:
        if (self.num_channels or 0) % self.num_groups:
            raise ShapeError(
                f"GroupNorm: num_groups is {self.num_groups}, expected a divisor of the "
                f"{self.num_channels} channels"
            )

    def output_shape(self, shape: Shape) -> Shape:  # noqa: D102
        check_input("GroupNorm", shape, self.num_channels, "C ...")
        return shape_of(lambda x: ops.group_norm(x, num_groups=self.num_groups), shape)

    def specs(self, shape: Shape | None) -> dict[str, ParameterSpec] | None:  # noqa: D102
        C = self._size("num_channels", shape)
        return None if C is None else _scale_and_shift((C,), self.affine)


@checked
@dataclass(eq=False, repr=False)
class LocalResponseNorm(OneOperation):
    """Divide each element by a power of the squares of the channels around it, as AlexNet does.

        y[n, c] = x[n, c] (k + alpha / size  sum of x[n, j]^2 over ``size`` channels j)^(-beta)

    AlexNet does not divide its alpha of 1e-4 by its size of 5, and has 5e-4 here.

    Source: Krizhevsky, Sutskever and Hinton, "ImageNet classification with deep convolutional
    neural networks" (2012).

    >>> import numpy as np
    >>> x = np.array([[[1.0], [2.0], [3.0]]])
    >>> LocalResponseNorm(2, alpha=2.0, beta=1.0).forward(x).round(3).ravel()
    array([0.5  , 0.333, 0.214])
    """

    operation = (ops.local_response_norm, ops.local_response_norm_backward)

    size: Count
    alpha: float = 1e-4
    beta: float = 0.75
    k: Positive = 1.0
