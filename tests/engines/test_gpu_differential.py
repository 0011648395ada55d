"""Any network, drawn by number, on the emulated GPU and by its layers: as for the CPU's kernels."""

from typing import Any

import pytest
from emulator import Emulator, needs_compiler
from test_differential import check

import tinyconv as tc
from tinyconv.engines.eager import EagerEngine
from tinyconv.engines.gpu.engine import GpuEngine

pytestmark = needs_compiler


@pytest.fixture(autouse=True)
def _emulated(monkeypatch: pytest.MonkeyPatch) -> None:
    """Where the plan is asked for, the emulated GPU's is taken."""

    def engine_for(net: Any, name: str = "auto") -> Any:
        is_plan = name != "eager" and net.dtype == "float32"
        return GpuEngine(net, Emulator()) if is_plan else EagerEngine(net)

    monkeypatch.setattr(tc.network, "engine_for", engine_for)


#: Squares of a gradient or in a norm of a window that overflow; a batch that is refused before one
#: that a batch norm cannot take.
FOUND = (35, 109, 347, 592)


@pytest.mark.parametrize("number", [*range(20), *FOUND])
def test_the_emulated_gpu_does_the_same(number: int) -> None:
    check(number)


@pytest.mark.slow
@pytest.mark.parametrize("hundred", range(6))
def test_the_emulated_gpu_does_the_same_with_six_hundred_nets(hundred: int) -> None:
    for number in range(100 * hundred, 100 + 100 * hundred):
        check(number)
