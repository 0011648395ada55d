"""ONNX's own tests of its operators: right or refused, never different, and counted on a page."""

import pytest

from .onnx_page import GLUE, PAGE, page

pytestmark = pytest.mark.oracle


def test_the_page_says_what_the_tests_give() -> None:
    onnx = pytest.importorskip("onnx")
    text = page()
    refused = text.partition("## Refused\n")[2]
    assert all(f"- {op}: " not in refused for op in ("Conv", "Resize", "MaxPool", "Dropout"))
    assert {line[2:].partition(":")[0] for line in refused.strip().splitlines()} <= GLUE
    written = PAGE.read_text()
    if f"onnx {onnx.__version__}:" in written:  # another version has other tests
        assert text == written
