import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from tinyconv import random

KEYS = st.integers(0, 2**64 - 1)


def test_bits_are_those_of_the_reference_generator() -> None:
    # SplitMix64 seeded with 1234567, as published with the reference implementation.
    assert random.bits(1234567, 5).tolist() == [
        6457827717110365317,
        3203168211198807973,
        9817491932198370423,
        4593380528125082431,
        16408922859458223821,
    ]


@given(KEYS, st.integers(0, 50))
def test_bits_equal_the_definition_in_plain_integers(key: int, n: int) -> None:
    def mix(z: int) -> int:
        z = (z ^ (z >> 30)) * 0xBF58476D1CE4E5B9 % 2**64
        z = (z ^ (z >> 27)) * 0x94D049BB133111EB % 2**64
        return z ^ (z >> 31)

    expected = [mix((key + (i + 1) * random.GAMMA) % 2**64) for i in range(n)]
    assert random.bits(key, n).tolist() == expected


@given(KEYS, st.integers(0, 40), st.integers(0, 40))
def test_number_i_does_not_depend_on_how_many_are_drawn(key: int, few: int, more: int) -> None:
    few, more = sorted((few, more))
    assert random.uniform(key, few).tolist() == random.uniform(key, more)[:few].tolist()


def test_uniform_is_uniform() -> None:
    u = random.uniform(random.key(0, "test"), 100_000)
    assert u.dtype == np.float32
    assert u.min() >= 0
    assert u.max() < 1
    counts = np.histogram(u, bins=20, range=(0, 1))[0]
    # Chi-square of 19 degrees of freedom: above 51 once in 10,000 keys.
    assert ((counts - 5000) ** 2 / 5000).sum() < 51
    assert abs(np.corrcoef(u[:-1], u[1:])[0, 1]) < 0.02


def test_the_largest_number_stays_below_one(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(random, "bits", lambda key, n, *_: np.full(n, 2**64 - 1, np.uint64))
    assert random.uniform(0, 3).max() < 1


def test_a_key_depends_on_everything_it_is_made_of() -> None:
    keys = [
        random.key(0, "dropout", "3", 17),
        random.key(1, "dropout", "3", 17),
        random.key(0, "shuffle", "3", 17),
        random.key(0, "dropout", "31", 7),
        random.key(0, "dropout", "3", 18),
        random.key(0, "dropout", 3, 17),
        random.key(0, "dropout", "3"),
        random.key(-1, "dropout", "3", 17),
    ]
    assert len(set(keys)) == len(keys)
    assert all(0 <= key < 2**64 for key in keys)


def test_a_key_is_the_same_in_every_version() -> None:
    # A changed key would break every checkpoint and every recorded result. The literal is what
    # ``printf "(0, 'dropout', '3', 17)" | b2sum -l 64`` prints; its first byte is the lowest.
    digest = bytes.fromhex("46265d58ac85fa06")
    assert random.key(0, "dropout", "3", 17) == int.from_bytes(digest, "little")
    assert random.key(np.int64(5), "x") == random.key(5, "x")


@given(KEYS, st.integers(0, 300))
def test_a_permutation_holds_every_index_once(key: int, n: int) -> None:
    order = random.permutation(key, n)
    assert order.dtype == np.int64
    assert sorted(order.tolist()) == list(range(n))
    assert order.tolist() == random.permutation(key, n).tolist()


def test_permutations_of_neighbouring_epochs_differ() -> None:
    orders = {tuple(random.permutation(random.key(0, "shuffle", e), 30)) for e in range(50)}
    assert len(orders) == 50
    # Every element comes first about equally often.
    firsts = [random.permutation(random.key(0, "shuffle", e), 4)[0] for e in range(2000)]
    assert np.bincount(firsts, minlength=4).min() > 420


def test_generators_of_equal_keys_draw_the_same() -> None:
    key = random.key(7, "initialize", "0.weight")
    a, b = random.generator(key).normal(size=5), random.generator(key).normal(size=5)
    assert (a == b).all()
    assert (a != random.generator(key + 1).normal(size=5)).any()
