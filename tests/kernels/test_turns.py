"""Threads that share a program's phases, of which not all come."""

import threading

import numpy as np

from tinyconv.kernels.cpu import driver
from tinyconv.kernels.cpu.kernel import address_of, kernel, njit, record
from tinyconv.kernels.cpu.simd import words_pointer
from tinyconv.kernels.cpu.turns import LINE

SHARES, PHASES, MEMBERS = 5, 40, 4
LEFT_OUT = 7

#: What the calls of a phase count: ``done``, for each share; ``before``: the same of the phase
#: before, or 0; ``early``: how often a share of that was missing.
COUNTS = record("done", "before", "early")


def test_every_share_is_done_once_and_behind_the_phase_before() -> None:
    @kernel(COUNTS)
    def count(a, thread, first, last):  # type: ignore[no-untyped-def]
        words_pointer(a.done)[thread] += 1
        if a.before:
            for share in range(SHARES):
                words_pointer(a.early)[thread] += words_pointer(a.before)[share] != 1

    @njit(driver.WORK, nogil=True)
    def join(segment, n, member, members):  # type: ignore[no-untyped-def]
        driver.work(segment, n, member, members)

    done, early = np.zeros((PHASES, SHARES), np.int64), np.zeros(SHARES, np.int64)
    args, calls = np.zeros(PHASES, COUNTS), np.zeros(PHASES, driver.CALL)
    phases = np.zeros(PHASES, driver.PHASE)
    for p in range(PHASES):
        before = address_of(done[p - 1]) if p else 0
        args[p] = address_of(done[p]), before, address_of(early)
        calls[p] = count.address, address_of(args[p : p + 1]), SHARES, 1
        phases[p] = p, p + 1, 0, 0, 0
    flags = np.zeros((2, SHARES, 8), np.int64)
    flags[1, -1, 0] = 1
    args[LEFT_OUT + 1]["before"] = 0
    phases[LEFT_OUT]["flags"], phases[LEFT_OUT + 2]["flags"] = map(address_of, flags)
    turns = np.zeros((SHARES, LINE), np.uint8)
    segment = np.zeros(1, driver.SEGMENT)
    segment[0] = address_of(calls), address_of(phases), 0, PHASES, SHARES, address_of(turns)
    program = address_of(segment), SHARES
    workers = [
        threading.Thread(target=join, args=(*program, member, MEMBERS))
        for member in range(1, MEMBERS)  # member 0 never comes
    ]
    for worker in workers:
        worker.start()
    for worker in workers:
        worker.join()
    expected = np.ones_like(done)
    expected[LEFT_OUT] = 0
    np.testing.assert_array_equal(done, expected)
    assert not early.any()
    join(*program, 0, MEMBERS)  # and if it comes when all is done, it leaves
    np.testing.assert_array_equal(done, expected)
