"""ONNX files: a network written for every other runtime, and one read from any of them.

:mod:`tinyconv.interop.onnx.backend` runs any graph of operators that our operations compute.
"""

from tinyconv.interop.onnx.export import export, exports
from tinyconv.interop.onnx.read import import_

__all__ = ["export", "exports", "import_"]
