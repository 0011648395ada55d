"""The kernels of the GPU compile for its generations, and none spills registers."""

import pytest
from gpu_registers import ARCHITECTURES, compiled, compilers

COMPILERS = compilers()


@pytest.mark.skipif(not COMPILERS, reason='needs nvcc, or NVRTC: pip install "tinyconv[cuda13]"')
@pytest.mark.parametrize(
    "architecture",
    [
        pytest.param(name, marks=[] if name == "sm_90" else pytest.mark.slow)
        for name in ARCHITECTURES
    ],
)
def test_kernels_compile_without_spills(architecture: str) -> None:
    kernels = compiled(architecture, COMPILERS[0])
    assert [kernel for kernel in kernels if kernel.spilled] == []
    # Two blocks of 256 threads fit a multiprocessor of 65,536 registers and 48 KiB.
    assert max(kernel.registers for kernel in kernels) <= 128
    assert max(kernel.shared for kernel in kernels) <= 24 << 10
