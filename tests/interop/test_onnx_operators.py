"""ONNX's own tests of the operators of networks: all right, and counted on a page."""

import pytest

from .onnx_page import PAGE, page

pytestmark = pytest.mark.oracle


def test_the_page_says_what_the_tests_give() -> None:
    onnx = pytest.importorskip("onnx")
    text = page()
    written = PAGE.read_text()
    if f"onnx {onnx.__version__}:" in written:  # another version has other tests
        assert text == written
