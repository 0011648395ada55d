"""The update rule of a plan: which kernel, with which constants."""

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import numpy as np

from tinyconv.backend import Array
from tinyconv.engines.gpu.loss_step import LossStep
from tinyconv.engines.gpu.program import BATCH, Program
from tinyconv.engines.gpu.step import Context
from tinyconv.optimizers import SGD, Adagrad, Adam, AdamW, Optimizer, RMSProp
from tinyconv.parameters import Parameters

#: What the device counts, and what it adds up; see
#: :class:`tinyconv.engines.gpu.backend.GpuTraining`.
COUNTERS = ("place", "tick", "step", "bad", "taken")
FIGURES = ("rate", "loss", "samples", "divisor")
#: Of a kernel over all parameters, at most: what keeps a large GPU busy.
BLOCKS = 1056


@dataclass(frozen=True)
class _Kernel:
    """The kernel of an optimizer and what it takes."""

    name: str  #: in update.cu
    #: what the optimizer remembers, in the order of the parameters; null if it does not.
    memory: tuple[str, ...] = ()
    #: of the optimizer, the last parameters.
    constants: Callable[[Any], tuple[float, ...]] = lambda rule: ()
    sizes: Callable[[Any], dict[str, int]] = lambda rule: {}  #: of the optimizer, macros


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
    Adam: _Kernel("update_adam", ("mean", "square"), lambda rule: (rule.eps,)),
    AdamW: _Kernel("update_adam", ("mean", "square"), lambda rule: (rule.eps,)),
}


@dataclass
class UpdateRule:
    """An optimizer as a kernel over all parameters, or by its own method."""

    optimizer: Optimizer
    parameters: Parameters  #: flat and float32; changed in place
    state: dict[str, Array]  #: what the rule remembers; changed in place

    def __post_init__(self) -> None:
        optimizer, size = self.optimizer, int(self.parameters.flat.shape[0])
        found = KERNELS.get(type(optimizer))
        self._has_kernel = found is not None or size == 0
        self._kernel = found if found and size else _Kernel("update_nothing")
        self.blocks = max(1, min(BLOCKS, -(-size // 256)))
        decays = 0 if optimizer.weight_decay == 0 else 2 if isinstance(optimizer, AdamW) else 1
        self.sizes = {"SIZE": size, "DECAYS": decays, **self._kernel.sizes(optimizer)}
        self.lr, self.step = 0.0, 0

    def add(
        self,
        program: Program,
        context: Context,
        has_squares: bool,
        of_loss: LossStep,
        figures: Array,
        was_taken: Callable[[], bool],
    ) -> None:
        """Add what decides whether the step is taken, counts it, and changes the parameters.

        Args:
            program: of the plan, behind all gradients.
            has_squares: whether the kernels that make gradients made sums of squares of them all.
            of_loss: the step before.
            figures: float64, on the device.
            was_taken: whether the step goes on, for the host.
        """
        rule, p, kernel, launcher = self.optimizer, self.parameters, self._kernel, context.launcher
        slots, squares = context.slots, context.squares
        if not has_squares:
            slots = min(self.blocks, 128)
            squares = context.empty(slots, dtype=np.float64)
        sizes = self.sizes | {"SLOTS": slots}
        sizes |= {"POSITIONS": of_loss.positions, "METRICS": of_loss.metrics}
        if not has_squares:
            arguments = (p.flat_grad, squares)
            grid = (slots, 1, 1)
            program.call(
                "gradient", "update", sizes, "gradient_squares", lambda n: grid, *arguments
            )
        count = self.blocks if kernel.name != "update_nothing" else 1
        betas = rule.betas if isinstance(rule, Adam) else (0.0, 0.0)
        constants = map(np.float32, kernel.constants(rule))
        program.call(
            "optimizer",
            "update",
            sizes,
            kernel.name,
            lambda n: (count, 1, 1),
            *(p.flat, p.flat_grad, p.decay, of_loss.sums, squares, figures),
            self.state.get("steps") if self._has_kernel else None,
            *(context.counters["all"], launcher.upload(np.zeros(1, np.int32))),
            *map(np.float64, (*betas, rule.clip_norm or 0.0)),
            *(np.float32(rule.weight_decay), BATCH),
            *(*(self.state.get(name) for name in kernel.memory), *constants),
        )
        if not self._has_kernel:
            program.python("optimizer", lambda n: self._update() if was_taken() else None)

    def _update(self) -> None:
        p = self.parameters
        self.optimizer.update(p.flat, p.flat_grad, self.state, p.decay, self.lr, self.step)
