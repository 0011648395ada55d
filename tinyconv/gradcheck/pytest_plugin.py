"""A pytest fixture. Enabled by ``pytest_plugins = ["tinyconv.gradcheck.pytest_plugin"]``."""

from collections.abc import Callable

import pytest

from tinyconv.gradcheck.check import assert_gradients as assert_
from tinyconv.gradcheck.report import Report


@pytest.fixture
def assert_gradients() -> Callable[..., Report]:
    """:func:`tinyconv.gradcheck.assert_gradients`, for tests that take it as an argument."""
    return assert_
