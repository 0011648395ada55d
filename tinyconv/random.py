"""Random numbers that depend on their purpose and position, never on how many came before.

A dropout mask, a shuffle or an initial weight is a function of a *key*, and the key is a function
of (seed, purpose, counters). So two engines draw the same masks, an interrupted run resumes bit
for bit, and the number of threads does not matter.

The generator is SplitMix64 (Steele, Lea and Flood, "Fast splittable pseudorandom number
generators", OOPSLA 2014): number i of key k is ``mix(k + (i + 1) * GAMMA)``. It needs no state,
so a compiled kernel can draw number i on its own.
"""

import hashlib
from typing import Any

import array_api_compat.numpy as array_api_numpy
import numpy as np

#: 2**64 divided by the golden ratio, made odd: the increment of SplitMix64.
GAMMA = 0x9E3779B97F4A7C15


def key(seed: int, purpose: str, *counters: int | str) -> int:
    """Return the 64-bit key of a stream of random numbers.

    >>> key(0, "dropout", "3", 17) == key(0, "dropout", "3", 17)
    True
    >>> key(0, "dropout", "3", 17) == key(0, "dropout", "3", 18)
    False
    """
    text = repr((int(seed), purpose, *counters))
    return int.from_bytes(hashlib.blake2b(text.encode(), digest_size=8).digest(), "little")


def later(key: int, n: int) -> int:
    """Return the key of what a stream goes on with after its first ``n`` numbers.

    >>> bool(bits(later(7, 2), 1)[0] == bits(7, 3)[2])
    True
    """
    return (key + n * GAMMA) % 2**64


def bits(key: int, n: int, xp: Any = array_api_numpy, device: Any = None) -> Any:
    """Return the first ``n`` 64-bit numbers of a stream, (n,) uint64.

    Args:
        key: of the stream.
        n: how many.
        xp: the array library that draws them, on ``device``; all draw the same ones.
        device: of that library.

    The literals below are those of the paper's reference generator seeded with 0.

    >>> [hex(int(number)) for number in bits(0, 2)]
    ['0xe220a8397b1dcdaf', '0x6e789e6aa1b965f4']
    """
    z = xp.arange(1, n + 1, dtype=xp.uint64, device=device)
    z *= GAMMA
    z += key
    z ^= z >> 30
    z *= 0xBF58476D1CE4E5B9
    z ^= z >> 27
    z *= 0x94D049BB133111EB
    z ^= z >> 31
    return z


def uniform(key: int, n: int, xp: Any = array_api_numpy, device: Any = None) -> Any:
    """Return ``n`` float32 numbers, uniform in [0, 1): the upper 24 bits of each number.

    The arguments are those of :func:`bits`.

    >>> uniform(0, 3).round(3).tolist()
    [0.883..., 0.43..., 0.02...]
    """
    return xp.astype(bits(key, n, xp, device) >> 40, xp.float32) * 2.0**-24


def permutation(key: int, n: int) -> np.ndarray[Any, np.dtype[np.int64]]:
    """Return a random order of 0 … n-1.

    >>> sorted(permutation(1, 5).tolist())
    [0, 1, 2, 3, 4]
    """
    return np.argsort(bits(key, n), kind="stable")


def generator(key: int) -> np.random.Generator:
    """Return a NumPy generator of its own for this key, for distributions other than uniform.

    >>> a, b = generator(1).normal(size=3), generator(1).normal(size=3)
    >>> bool((a == b).all())
    True
    """
    return np.random.Generator(np.random.Philox(key=key))
