"""The update rule of a plan: which kernel, with which constants."""

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import numpy as np

from tinyconv.backend import Array
from tinyconv.engines.gpu.program import BATCH, Program
from tinyconv.optimizers import SGD, Adagrad, Adam, AdamW, Optimizer, RMSProp
from tinyconv.parameters import Parameters

__all__ = ["COUNTERS", "UpdateRule"]

#: What the device counts; see :class:`tinyconv.engines.gpu.backend.GpuTraining`.
COUNTERS = ("place", "tick", "step", "bad", "taken")
#: Of the kernel that looks at all gradients, at most.
BLOCKS = 128


@dataclass(frozen=True)
class _Kernel:
    """The kernel of an optimizer and what it takes.

    Attributes:
        name: in update.cu.
        memory: what the optimizer remembers, in the order of the parameters; null if it does not.
        constants: of the optimizer, the last parameters.
        sizes: of the optimizer, macros.
    """

    name: str
    memory: tuple[str, ...] = ()
    constants: Callable[[Any], tuple[float, ...]] = lambda rule: ()
    sizes: Callable[[Any], dict[str, int]] = lambda rule: {}


def _constants_of_adam(rule: Adam) -> tuple[float, ...]:
    beta1, beta2 = rule.betas
    return beta1, 1 - beta1, beta2, 1 - beta2, rule.eps


KERNELS: dict[type[Optimizer], _Kernel] = {
    SGD: _Kernel(
        "update_sgd",
        ("velocity",),
        lambda rule: (rule.momentum,),
        lambda rule: {"MOMENTUM": rule.momentum > 0, "NESTEROV": rule.nesterov},
    ),
    Adagrad: _Kernel("update_adagrad", ("sum",), lambda rule: (rule.eps,)),
    RMSProp: _Kernel(
        "update_rmsprop",
        ("square", "mean", "velocity"),
        lambda rule: (rule.alpha, 1 - rule.alpha, rule.eps, rule.momentum),
        lambda rule: {"MOMENTUM": rule.momentum > 0, "CENTERED": rule.centered},
    ),
    Adam: _Kernel("update_adam", ("mean", "square"), _constants_of_adam),
    AdamW: _Kernel("update_adam", ("mean", "square"), _constants_of_adam),
}


class UpdateRule:
    """An optimizer as a kernel over all parameters, or by its own method.

    Args:
        optimizer: the rule.
        parameters: flat and float32; changed in place.
        state: what the rule remembers; changed in place.
    """

    def __init__(
        self, optimizer: Optimizer, parameters: Parameters, state: dict[str, Array]
    ) -> None:
        self.optimizer, self.parameters, self.state = optimizer, parameters, state
        self._found = KERNELS.get(type(optimizer))
        size = int(parameters.flat.shape[0])
        self.blocks = max(1, min(BLOCKS, -(-size // 256)))
        decays = 0 if optimizer.weight_decay == 0 else 2 if isinstance(optimizer, AdamW) else 1
        self.sizes = {"SIZE": size, "BLOCKS": self.blocks, "DECAYS": decays}
        if self._found is not None:
            self.sizes |= self._found.sizes(optimizer)
        self.lr, self.step = 0.0, 0

    def add_judgement(
        self,
        program: Program,
        sums_of_samples: tuple[Array, ...],
        numbers: Array,
        lr: Array,
        sums: Array,
        counters: dict[str, Array],
    ) -> None:
        """Add what decides whether the step is taken, and counts it."""
        rule, flat_grad = self.optimizer, self.parameters.flat_grad
        squares = program.launcher.empty((self.blocks,), np.float64)
        program.call(
            "gradient",
            "update",
            self.sizes,
            "gradient_squares",
            lambda n: (self.blocks, 1, 1),
            *(flat_grad, squares),
        )
        has_kernel = self._found is not None
        betas = rule.betas if isinstance(rule, Adam) else (0.0, 0.0)
        program.call(
            "judge",
            "update",
            self.sizes,
            "step_judge",
            lambda n: (1, 1, 1),
            *(*sums_of_samples, squares, lr, numbers, sums),
            *(self.state.get("steps") if has_kernel else None, *map(np.float64, betas)),
            *(np.float64(rule.clip_norm or 0.0), *map(counters.__getitem__, COUNTERS), BATCH),
        )

    def add_update(
        self,
        program: Program,
        numbers: Array,
        lr: Array,
        taken: Array,
        was_taken: Callable[[], bool],
    ) -> None:
        """Add what changes the parameters.

        Args:
            program: of the plan.
            numbers: what the judgement made of the rate.
            lr: the rate.
            taken: whether the step goes on, on the device.
            was_taken: the same for the host.
        """
        rule, found, p = self.optimizer, self._found, self.parameters
        if found is None:
            program.python("optimizer", lambda n: self._update() if was_taken() else None)
            return
        if self.sizes["SIZE"] == 0:
            return
        rates = (numbers, lr) if found.name == "update_adam" else (numbers,)
        constants = map(np.float32, (rule.weight_decay, *found.constants(rule)))
        count = -(-self.sizes["SIZE"] // 256)
        program.call(
            "optimizer",
            "update",
            self.sizes,
            found.name,
            lambda n: (count, 1, 1),
            *(p.flat, p.flat_grad, p.decay, *(self.state.get(name) for name in found.memory)),
            *(*rates, taken, *constants),
        )

    def _update(self) -> None:
        p = self.parameters
        self.optimizer.update(p.flat, p.flat_grad, self.state, p.decay, self.lr, self.step)
