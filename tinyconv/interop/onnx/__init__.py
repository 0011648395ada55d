"""ONNX files: a network written for every other runtime, and one read from any of them."""

from tinyconv.interop.onnx.export import export, exports
from tinyconv.interop.onnx.read import import_

__all__ = ["export", "exports", "import_"]
