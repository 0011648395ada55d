"""Whether numbers are the same as the last time, bit by bit.

Weights that a prediction packs for its kernels are, mostly, those of the prediction before: to
compare them takes a small part of the time that it takes to pack them.
"""

from typing import Any

from tinyconv.kernels.cpu.kernel import kernel, record
from tinyconv.kernels.cpu.simd import ints_pointer, words_pointer

#: Numbers of 4 bytes that are compared at a time.
BLOCK = 2048
#: ``sources`` and ``counts``: addresses and lengths of pieces of at most BLOCK numbers;
#: ``copies``: room for them, BLOCK numbers each; ``flags``: 8 words for each thread, the first of
#: which becomes 1 if a piece of its share is not what it was, else 0.
ARGS = record("sources", "counts", "copies", "flags")


def changes() -> Any:
    """Make the kernel that compares pieces ``first`` to ``last`` and remembers what it found."""

    @kernel(ARGS)
    def find_changes(a, thread, first, last):  # type: ignore[no-untyped-def]
        sources, counts = words_pointer(a.sources), words_pointer(a.counts)
        changed = 0
        for piece in range(first, last):
            source, copy = ints_pointer(sources[piece]), ints_pointer(a.copies + 4 * BLOCK * piece)
            count, different = counts[piece], 0
            for k in range(count):
                different |= source[k] ^ copy[k]
            if different != 0:
                changed = 1
                for k in range(count):
                    copy[k] = source[k]
        words_pointer(a.flags)[8 * thread] = changed

    return find_changes
