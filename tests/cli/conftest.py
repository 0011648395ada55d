"""What the tests of the command line share."""

from collections.abc import Iterator

import pytest

from tinyconv.cli import train

PICTURED = train._pictured


@pytest.fixture(scope="module", autouse=True)
def few_pictures() -> Iterator[None]:
    """Leave out the picture of a run, which takes longer than the run; one test asks for it."""
    with pytest.MonkeyPatch.context() as patched:
        patched.setattr(train, "_pictured", lambda *arguments: False)
        yield


@pytest.fixture
def pictures_of_runs(monkeypatch: pytest.MonkeyPatch) -> None:
    """Draw them all the same."""
    monkeypatch.setattr(train, "_pictured", PICTURED)
