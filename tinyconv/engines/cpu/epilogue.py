"""What comes behind the layer that a step is named for: a batch norm, an activation."""

from typing import Any

from tinyconv.backend import Values
from tinyconv.engines.cpu.arena import Image
from tinyconv.engines.cpu.program import Program
from tinyconv.engines.cpu.step import Step, runs_of
from tinyconv.engines.cpu.tiling import compiled
from tinyconv.engines.units import BATCH_NORMS
from tinyconv.kernels.activations import IDENTITY
from tinyconv.kernels.cpu import elements, fold
from tinyconv.kernels.cpu.simd import LANES


def add_fold(step: Any, program: Program) -> tuple[Values, Values | None]:
    """Return the weight and the bias of a step's layer, with a batch norm behind it taken in."""
    weight, bias = step.layer.params["weight"], step.layer.params.get("bias")
    if step.unit.find(BATCH_NORMS) is None:
        return weight, bias
    w = step.context.arena.take(weight.size)
    b = _add_norm(step, program, weight=weight, w=w)
    return w[: weight.size].reshape(weight.shape), b


def add_factors(step: Any, program: Program) -> tuple[Values | None, Values | None]:
    """Return what results are multiplied by for a batch norm, None without one, and the bias."""
    if step.unit.find(BATCH_NORMS) is None:
        return None, step.layer.params.get("bias")
    factors = step.context.arena.take(len(step.layer.params["weight"]))
    return factors, _add_norm(step, program, factors=factors)


def _add_norm(step: Any, program: Program, **values: Any) -> Values:
    """Add the call that takes a batch norm in, and return the bias that it makes.

    It runs before a prediction for which a parameter or a statistic is not what it was.
    """
    params, norm = step.layer.params, step.unit.find(BATCH_NORMS)
    weight = params["weight"]
    O = len(weight)
    b: Values = step.context.arena.take(O)
    program.call(
        f"{step.name}: fold",
        compiled(fold.fold),
        items=O,
        bias=params.get("bias"),
        gamma=norm.params.get("weight"),
        beta=norm.params.get("bias"),
        mean=norm.state["running_mean"],
        var=norm.state["running_var"],
        b=b,
        size=weight.size // O,
        eps=norm.eps,
        **values,
    )
    program.meet()
    return b[:O]


def add_elements(
    program: Program,
    name: str,
    constants: tuple[int, ...],
    parameter: float,
    x: Image,
    y: Image,
    other: Image | None = None,
    slope: Image | None = None,
) -> None:
    """Add the call of :func:`.elements.elements` with these constants."""
    kernel = compiled(elements.elements, LANES, *constants)
    images: dict[str, Any] = {"x": x, "other": other, "slope": slope, "y": y}
    program.call(name, kernel, **images, **runs_of(y), parameter=parameter)


def add_activation(step: Step, program: Program, name: str) -> None:
    """Add the call that makes y from z and, if the step keeps them, leaves the slopes in z."""
    chosen = step.activation
    constants = elements.ACTIVATION, chosen.code, int(step.keeps_slopes)
    add_elements(program, name, constants, chosen.parameter, step.z, step.y, slope=step.z)


def add_activation_backward(step: Step, program: Program, name: str, dz: Image) -> None:
    """Add the call that makes dz, which may lie in a border, from dy."""
    chosen, v = step.activation, step.z if step.activation.needs_z else step.y
    constants = (IDENTITY, 1) if step.keeps_slopes else (chosen.code, 0)
    add_elements(
        program, name, (elements.GRADIENT, *constants), chosen.parameter, step.dy, dz, other=v
    )
