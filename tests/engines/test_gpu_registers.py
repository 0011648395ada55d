"""The kernels of the GPU compile for its generations, and none spills registers."""

import inspect

import pytest
from gpu_registers import ARCHITECTURES, compiled, compilers

from tinyconv.kernels.gpu.source import OPTIONS, Instance, module_source

COMPILERS = compilers()


@pytest.mark.slow  # 5 seconds each
@pytest.mark.skipif(not COMPILERS, reason='needs nvcc, or NVRTC: pip install "tinyconv[cuda13]"')
@pytest.mark.parametrize(
    "architecture",
    ARCHITECTURES,
)
def test_kernels_compile_without_spills(architecture: str) -> None:
    kernels = compiled(architecture, COMPILERS[0])
    assert [kernel for kernel in kernels if kernel.spilled] == []
    # Two blocks of 256 threads fit a multiprocessor of 65,536 registers and 48 KiB.
    assert max(kernel.registers for kernel in kernels) <= 128
    assert max(kernel.shared for kernel in kernels) <= 24 << 10


@pytest.mark.skipif("nvrtc" not in COMPILERS, reason='needs CuPy: pip install "tinyconv[cuda13]"')
def test_cupy_compiles_them_with_its_own_options(monkeypatch: pytest.MonkeyPatch) -> None:
    """As its module does for the GPU at hand, without one."""
    from cupy.cuda import compiler

    architecture = lambda arch: (f"-arch=sm_{arch}", "cubin")  # noqa: E731
    monkeypatch.setattr(compiler, "_get_arch_for_options_for_nvrtc", architecture)
    text = module_source([Instance.of("batch", {"COUNT": 784, "GATHER": 2})])
    cubin, _ = compiler.compile_using_nvrtc(text, OPTIONS, arch="90")
    assert b"gather_0" in cubin


@pytest.mark.skipif("nvrtc" not in COMPILERS, reason='needs CuPy: pip install "tinyconv[cuda13]"')
def test_cupy_has_what_the_launcher_calls() -> None:
    """Names and keywords, found in the signatures that its documentation begins with."""
    import cupy

    wanted = {
        cupy.ndarray.get: ("stream=None", "blocking=True"),
        cupy.ndarray.set: ("arr", "stream=None"),
        cupy.cuda.Stream.begin_capture: ("mode=None",),
        cupy.cuda.Stream.end_capture: ("self",),
        cupy.cuda.Stream.synchronize: ("self",),
        cupy.cuda.Graph.launch: ("stream=None",),
        cupy.cuda.Graph.upload: ("stream=None",),
        cupy.RawModule: ("code=None", "options=()"),
        cupy.RawModule.get_function: ("name",),
        cupy.cuda.runtime.memGetInfo: (),
        cupy.get_default_memory_pool().free_bytes: (),
    }
    for function, arguments in wanted.items():
        said = (function.__doc__ or "").partition("\n")[0]
        assert all(argument in said for argument in arguments), said
    assert {"order", "blocking"} <= set(inspect.signature(cupy.array).parameters)
