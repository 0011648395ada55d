"""What an extra of the package is missing says so, with the command that installs it."""

import importlib
import pickle
import sys
from types import ModuleType

import pytest

import tinyconv as tc
from tinyconv.interop import require


def hide(monkeypatch: pytest.MonkeyPatch, *modules: str) -> None:
    """Make modules look as if they were not installed."""
    for module in modules:
        monkeypatch.setitem(sys.modules, module, None)


def test_onnx(monkeypatch: pytest.MonkeyPatch, tmp_path: object) -> None:
    hide(monkeypatch, "onnx")
    net = tc.Sequential([tc.Linear(2, 2)], input_shape=(2,))
    with pytest.raises(ImportError, match=r'pip install "tinyconv\[onnx\]"'):
        tc.interop.onnx.export(net, f"{tmp_path}/net.onnx")
    with pytest.raises(ImportError, match=r'pip install "tinyconv\[onnx\]"'):
        tc.interop.onnx.import_(f"{tmp_path}/net.onnx")


def test_torch_and_jax(monkeypatch: pytest.MonkeyPatch) -> None:
    hide(monkeypatch, "torch", "jax")
    with pytest.raises(ImportError, match=r'pip install "tinyconv\[torch\]"'):
        tc.interop.torch.to_module(tc.Sequential([tc.Linear(2, 2)]))
    with pytest.raises(ImportError, match=r'pip install "tinyconv\[jax\]"'):
        tc.interop.jax.function(tc.ops.relu, tc.ops.relu_backward)


def test_tensorboard(monkeypatch: pytest.MonkeyPatch) -> None:
    hide(monkeypatch, "tensorboardX")
    with pytest.raises(ImportError, match=r'pip install "tinyconv\[tensorboard\]"'):
        tc.interop.tensorboard.TensorBoard("runs")


def test_sklearn(monkeypatch: pytest.MonkeyPatch) -> None:
    hide(monkeypatch, "sklearn", "tinyconv.interop.sklearn")
    monkeypatch.delitem(sys.modules, "tinyconv.interop.sklearn")
    with pytest.raises(ImportError, match=r'pip install "tinyconv\[sklearn\]"'):
        importlib.import_module("tinyconv.interop.sklearn")


def test_what_an_installed_module_lacks_is_its_own_error(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "tinyconv.no_such", None)
    with pytest.raises(ImportError, match="is not installed"):
        require("tinyconv.no_such", "extra")


def test_parts_are_reached_from_the_package() -> None:
    assert tc.analysis.__name__ == "tinyconv.analysis"
    with pytest.raises(AttributeError, match="no attribute 'surprise'"):
        _ = tc.surprise
    with pytest.raises(AttributeError, match="no attribute 'surprise'"):
        _ = tc.interop.surprise


@pytest.mark.parametrize("part", [tc.data, tc.initializers, tc.layers, tc.losses, tc.models])
def test_a_function_of_a_notebook_takes_parts_to_its_workers(part: ModuleType) -> None:
    """joblib, and so scikit-learn, sends functions of a script or a notebook by cloudpickle."""
    cloudpickle = pytest.importorskip("cloudpickle")
    assert pickle.loads(cloudpickle.dumps(lambda: part))() is part
    with pytest.raises(AttributeError, match=f"^{part.__name__} has no attribute 'relu7'"):
        _ = part.relu7
