"""The optimizers' kernels against the optimizers, three steps of a flat vector."""

from typing import Any

import numpy as np
import pytest

import tinyconv as tc
from tinyconv.engines.cpu.program import Program
from tinyconv.engines.cpu.tiling import compiled
from tinyconv.engines.cpu.update_rule import UpdateRule
from tinyconv.kernels.cpu import update
from tinyconv.kernels.cpu.simd import LANES
from tinyconv.optimizers import Optimizer


class Twice(tc.SGD):
    """A rule without a kernel."""


class Others:
    """Processes that share the batch, whose gradients add up to twice this one's."""

    def __init__(self, like: np.ndarray[Any, Any]) -> None:
        self.gradient = np.full_like(like, np.nan)

    def __call__(self, dw: np.ndarray[Any, Any], refused: bool = False) -> bool:
        self.gradient[:] = 3 * dw
        return True


@pytest.mark.parametrize(
    "rule",
    [
        tc.SGD(lr=0.1),
        tc.SGD(lr=0.1, momentum=0.9, nesterov=True, weight_decay=0.1),
        tc.SGD(lr=0.1, momentum=0.9, clip_norm=0.5),
        tc.SGD(lr=0.1, clip_norm=1e6, weight_decay=0.1),
        tc.Adam(lr=0.1, weight_decay=0.1),
        tc.AdamW(lr=0.1, weight_decay=0.1, clip_norm=2.0),
        tc.Adagrad(lr=0.1, weight_decay=0.1),
        tc.RMSProp(lr=0.1, momentum=0.9, centered=True, weight_decay=0.1),
        tc.RMSProp(lr=0.1),
        Twice(lr=0.1, clip_norm=0.5),
    ],
    ids=str,
)
@pytest.mark.parametrize(("threads", "factor"), [(1, 1), (3, 1), (2, 3)])
def test_kernel_equals_optimizer(rule: Optimizer, threads: int, factor: int) -> None:
    nets = [
        tc.Sequential([tc.Linear(37, 41), tc.Linear(41, 5)], seed=1, input_shape=(37,))
        for _ in range(2)
    ]
    (p, q), states = (net.parameters for net in nets), [rule.init(n.parameters.flat) for n in nets]
    sharing = None if factor == 1 else Others(p.flat)
    kernel_rule, program = UpdateRule(rule, p, states[0], sharing), Program(threads)
    p.flat_grad[...] = np.nan
    gradient = np.zeros_like(p.flat)
    sizes = {"items": p.flat.size, "grain": LANES}
    program.call("update", compiled(update.flat), dw=gradient, **sizes, **kernel_rule.call)
    kernel_rule.add_rest(program, lambda: True, lambda: None)
    program.freeze(6)
    rng = np.random.default_rng(2)
    for step in range(3):
        gradient[:] = rng.normal(size=gradient.size)
        kernel_rule.start(0.1 / (step + 1), step)
        program.run(1)
        kernel_rule.finish()
        rule.update(q.flat, factor * gradient, states[1], q.decay, 0.1 / (step + 1), step)
        np.testing.assert_allclose(p.flat, q.flat, rtol=2e-5, atol=1e-6)
        for name, value in states[1].items():
            np.testing.assert_allclose(states[0][name], value, rtol=2e-5, atol=1e-6, err_msg=name)
