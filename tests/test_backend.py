import sys
from types import SimpleNamespace

import array_api_strict as xs
import numpy as np
import pytest

import tinyconv as tc
from tinyconv import backend
from tinyconv.errors import DeviceError, DtypeError

NO_GPU = pytest.mark.skipif(backend.gpu_is_available(), reason="tells what happens without a GPU")


def test_namespace_of_numpy_and_of_any_other_library() -> None:
    numpy_space = backend.namespace("op", x=np.zeros(2), b=None)
    assert numpy_space.asarray([1.0]).tolist() == [1.0]
    # A subclass takes the general path and gets the same answer.
    assert backend.namespace("op", x=np.zeros(2).view(np.memmap)) is numpy_space
    assert backend.namespace("op", x=xs.zeros(2), y=xs.ones(1)) is xs


def test_mixed_libraries_are_refused_with_their_names() -> None:
    with pytest.raises(
        DeviceError, match=r"^conv2d: arrays of one library expected, got x of "
    ) as e:
        backend.namespace("conv2d", x=np.zeros(2), w=xs.zeros(2))
    assert "x of numpy" in str(e.value)
    assert "w of array_api_strict" in str(e.value)


@pytest.mark.parametrize("value", [[1.0], 1.0, "x"])
def test_what_is_no_array_is_refused(value: object) -> None:
    kind = type(value).__name__
    with pytest.raises(DeviceError, match=f"relu: x is a {kind}, expected an array"):
        backend.namespace("relu", x=value)


def test_require_floating() -> None:
    for xp in (np, xs):
        half = xp.asarray([1.0], dtype=xp.float32)
        backend.require_floating("op", xp, x=half, w=half, b=None)
        with pytest.raises(DtypeError, match=r"op: x has dtype .*int64, expected a floating-point"):
            backend.require_floating("op", xp, x=xp.asarray([1]))
        with pytest.raises(DtypeError, match=r"op: x has dtype .*bool, expected a floating-point"):
            backend.require_floating("op", xp, x=xp.asarray([True]))
        with pytest.raises(
            DtypeError, match=r"op: w has dtype .*float64, expected .*float32 like x"
        ):
            backend.require_floating("op", xp, x=half, w=xp.asarray([1.0], dtype=xp.float64))
    backend.require_floating("op", np, x=np.zeros(1, complex))  # for the complex step


def test_real_part() -> None:
    x = np.array([1.0, 2.0])
    assert backend.real_part(backend.namespace("op", x=x), x) is x
    z = np.array([1 + 2j])
    assert backend.real_part(backend.namespace("op", x=z), z).tolist() == [1.0]


def test_arrays_travel() -> None:
    values = np.array([1.0, 2.0], np.float32)
    assert backend.like(np.zeros(1), values) is values
    assert backend.from_numpy(values, "cpu") is values
    assert backend.to_numpy(values) is values
    moved = backend.like(xs.zeros(1), values)
    assert moved.dtype == xs.float32
    assert backend.device_of(moved) == "cpu"
    assert backend.to_numpy(moved).tolist() == [1.0, 2.0]


def test_unknown_device() -> None:
    with pytest.raises(DeviceError, match="device is 'tpu', expected 'cpu' or 'gpu'"):
        backend.check_device("tpu")
    with pytest.raises(DeviceError, match="device is 'tpu'"):
        tc.Sequential([tc.Linear(2, 3)], device="tpu")


INSTALL = r'needs CuPy and an NVIDIA GPU: pip install "tinyconv\[cuda12\]"'


@NO_GPU
def test_gpu_without_cupy_names_what_to_install() -> None:
    with pytest.raises(DeviceError, match=INSTALL):
        tc.Sequential([tc.Linear(2, 3)], device="gpu")
    with pytest.raises(DeviceError, match=r"tinyconv\[cuda13\]"):
        backend.check_device("gpu")


@pytest.mark.parametrize("failure", ["no driver", "no device"])
def test_cupy_without_a_gpu_counts_as_none(failure: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """CuPy may be installed where no GPU is; a stand-in plays it here."""

    class CUDARuntimeError(RuntimeError):
        pass

    def count() -> int:
        if failure == "no driver":
            raise CUDARuntimeError("cudaErrorNoDevice")
        return 0

    runtime = SimpleNamespace(getDeviceCount=count, CUDARuntimeError=CUDARuntimeError)
    cupy = SimpleNamespace(cuda=SimpleNamespace(runtime=runtime))
    monkeypatch.setitem(sys.modules, "cupy", cupy)
    assert not backend.gpu_is_available()
    with pytest.raises(DeviceError, match=INSTALL):
        backend.check_device("gpu")


@pytest.mark.gpu
def test_arrays_travel_to_the_gpu_and_back() -> None:
    values = np.array([1.0, 2.0], np.float32)
    there = backend.from_numpy(values, backend.check_device("gpu"))
    assert backend.device_of(there) == "gpu"
    assert backend.to_numpy(there).tolist() == [1.0, 2.0]
    assert backend.device_of(backend.like(there, values)) == "gpu"
    with pytest.raises(DeviceError, match="arrays of one library expected"):
        backend.namespace("op", x=values, w=there)
