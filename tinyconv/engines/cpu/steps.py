"""Which step computes which unit."""

from tinyconv.engines.cpu.channel_step import LayerNormStep, LocalResponseNormStep
from tinyconv.engines.cpu.conv_max_step import ConvMaxStep
from tinyconv.engines.cpu.conv_mean_step import ConvMeanStep
from tinyconv.engines.cpu.conv_step import ConvStep
from tinyconv.engines.cpu.depthwise_step import DepthwiseStep
from tinyconv.engines.cpu.element_steps import (
    ActivationStep,
    AddStep,
    ConcatStep,
    DropoutStep,
    FlattenStep,
)
from tinyconv.engines.cpu.linear_step import LinearStep
from tinyconv.engines.cpu.norm_step import NormStep
from tinyconv.engines.cpu.plain_step import PlainStep
from tinyconv.engines.cpu.pool_step import MaxPoolStep, NormPoolStep, SubsampleStep
from tinyconv.engines.cpu.resample_step import ResampleStep
from tinyconv.engines.cpu.step import Step
from tinyconv.engines.cpu.transposed_step import TransposedStep

#: The kind of a unit (:mod:`tinyconv.engines.units` has them all) -> the steps that compute
#: units of that kind.
STEPS: dict[str, tuple[type[Step], ...]] = {
    "add": (AddStep,),
    "concat": (ConcatStep,),
    "conv": (DepthwiseStep, ConvMaxStep, ConvMeanStep, ConvStep),
    "linear": (LinearStep,),
    "norm": (NormStep, LayerNormStep),
    "plain": (PlainStep,),
    "single": (
        *(ActivationStep, DropoutStep, FlattenStep, LocalResponseNormStep),
        *(MaxPoolStep, ResampleStep, NormPoolStep, SubsampleStep),
    ),
    "transposed": (TransposedStep,),
}
