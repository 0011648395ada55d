"""What comes behind the layer that a step is named for: a batch norm, an activation."""

from typing import Any

import numpy as np

from tinyconv.engines.cpu.arena import Image
from tinyconv.engines.cpu.program import Program
from tinyconv.engines.cpu.step import Step, planes_of, runs_of
from tinyconv.engines.cpu.tiling import compiled
from tinyconv.engines.units import BATCH_NORMS
from tinyconv.kernels.cpu import activation, fold
from tinyconv.kernels.cpu.activation import IDENTITY
from tinyconv.kernels.cpu.kernel import address_of
from tinyconv.kernels.cpu.simd import LANES

Array = np.ndarray[Any, Any]


def add_fold(step: Any, program: Program) -> tuple[Array, Array | None]:
    """Return the weight and the bias of a step's layer, with a batch norm behind it taken in."""
    weight, bias = step.layer.params["weight"], step.layer.params.get("bias")
    if step.unit.find(BATCH_NORMS) is None:
        return weight, bias
    w = step.context.arena.take(weight.size)
    b = _add_norm(step, program, weight=address_of(weight), w=address_of(w))
    return w[: weight.size].reshape(weight.shape), b


def add_factors(step: Any, program: Program) -> tuple[Array | None, Array | None]:
    """Return what results are multiplied by for a batch norm, None without one, and the bias."""
    if step.unit.find(BATCH_NORMS) is None:
        return None, step.layer.params.get("bias")
    factors = step.context.arena.take(len(step.layer.params["weight"]))
    return factors, _add_norm(step, program, factors=address_of(factors))


def _add_norm(step: Any, program: Program, **values: int) -> Array:
    """Add the call that takes a batch norm in, and return the bias that it makes.

    It runs before a prediction for which a parameter or a statistic is not what it was.
    """
    params, norm = step.layer.params, step.unit.find(BATCH_NORMS)
    weight, bias = params["weight"], params.get("bias")
    O = len(weight)
    b: Array = step.context.arena.take(O)
    gamma, beta = norm.params.get("weight"), norm.params.get("bias")
    program.call(
        f"{step.name}: fold",
        compiled(fold.fold),
        fold.ARGS,
        items=O,
        bias=0 if bias is None else address_of(bias),
        gamma=0 if gamma is None else address_of(gamma),
        beta=0 if beta is None else address_of(beta),
        mean=address_of(norm.state["running_mean"]),
        var=address_of(norm.state["running_var"]),
        b=address_of(b),
        size=weight.size // O,
        eps=norm.eps,
        **values,
    )
    program.meet()
    return b[:O]


def add_activation(step: Step, program: Program) -> None:
    """Add the call that makes y from z, and the slopes if z is not y."""
    y = step.y
    program.call(
        f"{step.name}: activation",
        compiled(activation.forward, LANES, step.activation.code, int(step.z is not y)),
        activation.ROWS,
        **planes_of(step.z, "x"),
        **planes_of(y, "y"),
        **runs_of(y),
        parameter=step.activation.parameter,
    )


def add_activation_backward(step: Step, program: Program, dz: Image) -> None:
    """Add the call that makes dz, which may lie in a border, from dy."""
    assert step.dy is not None
    y = step.y
    constants = (IDENTITY, 1) if step.z is not y else (step.activation.code, 0)
    program.call(
        f"{step.name}: activation backward",
        compiled(activation.backward, LANES, *constants),
        activation.ROWS,
        **planes_of(step.z, "v"),
        **planes_of(step.dy, "dy"),
        **planes_of(dz, "dx"),
        **runs_of(y),
        parameter=step.activation.parameter,
    )
