"""Which engine serves a network: the only place that asks for its dtype and its device."""

import os
import warnings
from collections.abc import Callable
from functools import cache

from tinyconv.engines.base import Engine, Net
from tinyconv.engines.eager import EagerEngine
from tinyconv.engines.gradient_sum import DeviceSum, GradientSum
from tinyconv.engines.ranks import Ranks
from tinyconv.errors import ArgumentError, StateError
from tinyconv.messages import hint


def engine_for(net: Net, name: str = "auto") -> Engine:
    """Return an engine for a network.

    Args:
        name: ``"plan"`` for compiled kernels, ``"eager"`` for the layers one by one, ``"auto"``
            for the plan wherever there is one: for float32.

    Raises:
        ArgumentError: the name is none of these.
        StateError: ``"plan"`` was asked for where there is none.
    """
    if name not in ("auto", "plan", "eager"):
        near = hint(name, ("auto", "plan", "eager"))
        raise ArgumentError(f"fit: engine is {name!r}, expected 'auto', 'plan' or 'eager'{near}")
    has_kernels, is_cpu = net.dtype == "float32", net.device == "cpu"
    if has_kernels and is_cpu and os.environ.get("NUMBA_DISABLE_JIT", "0") not in ("", "0"):
        if name != "eager":
            _say_not_compiled()
        name = "eager"
    if name == "plan" and not has_kernels:
        raise StateError(
            f"fit: engine is 'plan', which serves float32, and the network is {net.dtype}; "
            "expected 'auto' or 'eager'"
        )
    if name == "eager" or not has_kernels:
        return EagerEngine(net)
    if not is_cpu:
        from tinyconv.engines.gpu.engine import GpuEngine
        from tinyconv.kernels.gpu.cuda import launcher  # imports CuPy

        return GpuEngine(net, launcher())
    from tinyconv.engines.plan_engine import PlanEngine  # imports Numba

    return PlanEngine(net)


def sum_for(net: Net, ranks: Ranks, stops: Callable[[], str | None]) -> GradientSum | DeviceSum:
    """Return what adds up the gradients of a network over ranks: on GPUs NCCL.

    Args:
        ranks: that share the batches.
        stops: returns the reason to stop, if this rank has one.
    """
    if net.device == "cpu":
        return GradientSum(ranks, net.parameters.flat, stops)
    from tinyconv.kernels.gpu.cuda import launcher  # imports CuPy

    add = launcher().adder(ranks.size, ranks.rank, ranks.from_first)
    return DeviceSum(ranks, net.parameters.flat_grad, stops, add)


@cache
def _say_not_compiled() -> None:
    warnings.warn(
        "NUMBA_DISABLE_JIT is set, so nothing is compiled and the layers run one by one",
        RuntimeWarning,
        stacklevel=4,
    )
