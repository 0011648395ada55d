"""The step of a local response normalisation."""

from typing import Any

from tinyconv.engines.cpu.arena import Image
from tinyconv.engines.cpu.flatten_step import add_flatten, add_unflatten
from tinyconv.engines.cpu.program import Program
from tinyconv.engines.cpu.step import Step, planes_of
from tinyconv.engines.cpu.tiling import compiled, lanes_for
from tinyconv.kernels.cpu import local_response_norm
from tinyconv.kernels.cpu.kernel import address_of
from tinyconv.layers import LocalResponseNorm

__all__ = ["LocalResponseNormStep"]
