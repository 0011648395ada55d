"""Which step computes which kind of unit."""

from tinyconv.engines.cpu.activation_step import ActivationStep
from tinyconv.engines.cpu.conv_step import ConvStep
from tinyconv.engines.cpu.dropout_step import DropoutStep
from tinyconv.engines.cpu.flatten_step import FlattenStep
from tinyconv.engines.cpu.join_step import AddStep, ConcatStep
from tinyconv.engines.cpu.linear_step import LinearStep
from tinyconv.engines.cpu.plain_step import PlainStep
from tinyconv.engines.cpu.pool_step import PoolStep
from tinyconv.engines.cpu.step import Step

__all__ = ["STEPS"]

#: The kind of a unit (:mod:`tinyconv.engines.units` has them all) -> its step; a kind without
#: one runs by the layer's own methods.
STEPS: dict[str, type[Step]] = {
    "activation": ActivationStep,
    "add": AddStep,
    "concat": ConcatStep,
    "conv": ConvStep,
    "dropout": DropoutStep,
    "flatten": FlattenStep,
    "linear": LinearStep,
    "plain": PlainStep,
    "pool": PoolStep,
}
