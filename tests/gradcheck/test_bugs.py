"""Every planted mistake is found, gets its verdict and, where its pattern is telling, its hint."""

import pytest

from tinyconv.gradcheck import check, verdicts

from . import bugs, bugs_elsewhere, bugs_unseen


@pytest.fixture
def unexplained(monkeypatch):
    """Look for no hints: where a test is about verdicts, they would take most of its time."""
    monkeypatch.setattr(verdicts, "say_why", lambda comparison, leaf: "")


@pytest.mark.parametrize("bug", bugs.BUGS, ids=lambda bug: bug.name)
def test_a_planted_bug_is_found_and_explained(bug):
    report = check(bug.forward, bug.make_backward(), bug.inputs, names=bug.names, seed=1)
    assert report.verdict == bug.verdict
    assert report.failed
    if report.projection is not None:  # all gradients along one direction would have been enough
        analytic, numeric, bar = report.projection
        assert abs(analytic - numeric) > 1000 * bar
    assert bug.hint in report.hint
    assert bug.hint or not report.hint or bug.verdict != "wrong"  # nothing else is claimed
    assert report.message


#: Those that are found before a projection, and a share of the others.
UNPROJECTED = [bug for k, bug in enumerate(bugs.BUGS) if bug.verdict != "wrong" or k % 8 == 0]


@pytest.mark.parametrize("bug", UNPROJECTED, ids=lambda bug: bug.name)
def test_the_projection_alone_finds_it_too(bug, unexplained):
    report = check(bug.forward, bug.make_backward(), bug.inputs, names=bug.names, samples=0)
    assert report.verdict == bug.verdict


@pytest.mark.parametrize("bug", bugs.BUGS, ids=lambda bug: bug.name)
def test_central_differences_find_it_too(bug, unexplained):
    report = check(bug.forward, bug.make_backward(), bug.inputs, names=bug.names, method="central")
    assert report.verdict == bug.verdict


HINTED = [bug for bug in bugs.BUGS if bug.hint]


@pytest.mark.parametrize(
    "bug",
    [
        pytest.param(bug, id=bug.name, marks=[pytest.mark.slow] if k % 4 else [])
        for k, bug in enumerate(HINTED)
    ],
)
def test_central_differences_explain_it_too(bug):
    report = check(bug.forward, bug.make_backward(), bug.inputs, names=bug.names, method="central")
    assert bug.hint in report.hint


def test_the_bank_is_large_and_mostly_explained():
    assert bugs_elsewhere.CASES is bugs.CASES
    assert len(bugs.BUGS) == 100
    assert sum(bool(bug.hint) for bug in bugs.BUGS) >= 75
    assert len({bug.name for bug in bugs.BUGS}) == len(bugs.BUGS)


@pytest.mark.parametrize("bug", bugs_unseen.UNSEEN, ids=lambda bug: bug.name)
def test_a_mistake_that_no_hint_was_made_for_is_found_and_not_explained_wrongly(bug):
    report = check(bug.forward, bug.make_backward(), bug.inputs, names=bug.names, seed=1)
    assert report.verdict == "wrong"
    assert bug.hint in report.hint
    assert bug.hint or not report.hint


@pytest.mark.parametrize("case", bugs.CASES + bugs_unseen.CASES)
def test_the_operations_themselves_are_right(case):
    report = check(case.forward, case.backward, case.inputs, samples="all")
    kinks = case is bugs.L2_POOL_HOLE
    assert report.verdict == ("kink" if kinks else "ok"), str(report)
