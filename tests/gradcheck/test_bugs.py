"""Every planted mistake is found, gets its verdict and, where its pattern is telling, its hint."""

import numpy as np
import pytest

from tinyconv.gradcheck import check

from . import bugs


@pytest.mark.parametrize("bug", bugs.BUGS, ids=lambda bug: bug.name)
@pytest.mark.parametrize("seed", [0, 1])
def test_a_planted_bug_is_found_and_explained(bug, seed):
    report = check(bug.forward, bug.make_backward(), bug.inputs, names=bug.names, seed=seed)
    assert report.verdict == bug.verdict
    assert report.failed
    assert bug.hint in report.hint
    assert report.message


@pytest.mark.parametrize("bug", bugs.BUGS, ids=lambda bug: bug.name)
def test_the_projection_alone_finds_it_too(bug):
    report = check(bug.forward, bug.make_backward(), bug.inputs, names=bug.names, samples=0)
    assert report.verdict == bug.verdict


@pytest.mark.parametrize("bug", bugs.BUGS, ids=lambda bug: bug.name)
def test_central_differences_find_it_too(bug):
    report = check(bug.forward, bug.make_backward(), bug.inputs, names=bug.names, method="central")
    assert report.verdict == bug.verdict
    assert bug.hint in report.hint


def test_the_bank_is_large_and_mostly_explained():
    assert len(bugs.BUGS) >= 60
    assert sum(bool(bug.hint) for bug in bugs.BUGS) >= 50
    assert len({bug.name for bug in bugs.BUGS}) == len(bugs.BUGS)


@pytest.mark.parametrize("case", bugs.CASES)
def test_the_operations_themselves_are_right(case):
    report = check(case.forward, case.backward, case.inputs, samples="all")
    kinks = np.any([np.any(a == 0) for a in case.inputs if a.dtype.kind == "f"])
    assert report.verdict == ("kink" if kinks else "ok"), str(report)
