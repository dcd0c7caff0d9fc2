"""The injector's function: a polynomial over GF(2^32), independent bits, rates and positions as they are asked for."""

from __future__ import annotations

import math
from itertools import combinations

import numpy as np
import pytest

from archsim.memory.dram.fields import Array
from archsim.memory.dram.injector import (
    ALWAYS,
    DW,
    NONZERO,
    POLYNOMIAL,
    coefficients,
    flip_masks,
    hashes,
    injected,
    threshold_of,
    values,
)

WORDS = 1_000_000
KEYS = (0, 0x0123_4567_89AB_CDEF)
RATES = ((0, 0.1), (0, 1.645e-3), (0, 1e-5), (1, 1.0772e-2))
FIELD = 1 << 32 | POLYNOMIAL


def reduced(a: int, modulus: int = FIELD) -> int:
    """Return the remainder of a polynomial over GF(2)."""
    while a.bit_length() >= modulus.bit_length():
        a ^= modulus << (a.bit_length() - modulus.bit_length())
    return a


def product(a: int, b: int) -> int:
    whole = 0
    for k in range(b.bit_length()):
        whole ^= (a << k) * (b >> k & 1)
    return reduced(whole)


def test_the_polynomial_of_the_field_is_irreducible() -> None:
    """Rabin: x^(2^32) = x, and x^(2^16) - x has no factor in common with it."""
    powers = [2]
    for _ in range(32):
        powers.append(product(powers[-1], powers[-1]))
    a, b = FIELD, powers[16] ^ 2
    while b:
        a, b = b, reduced(a, b)
    assert powers[32] == 2 and a == 1


def test_values_are_those_of_a_cubic_polynomial() -> None:
    draws = np.random.default_rng(3).integers(0, ALWAYS, (20, 4)).tolist()
    for a, b, c, d in draws:
        squares = [product(i, i) for i in range(DW)]
        cubes = [product(i, square) for i, square in enumerate(squares)]
        wanted = [a ^ product(b, i) ^ product(c, squares[i]) ^ product(d, cubes[i]) for i in range(DW)]
        assert values((a, b, c, d)) == wanted


@pytest.mark.parametrize("chosen", [*list(combinations(range(5), 4)), (0, 21, 42, 63), (7, 8, 56, 61)])
def test_any_four_bits_are_independent(chosen: tuple[int, ...]) -> None:
    """The map from four words to four values is linear over GF(2) and loses nothing: its rank is 128."""
    pivots = dict[int, int]()
    for k in range(128):
        words = [(1 << k) >> (32 * word) & 0xFFFFFFFF for word in range(4)]
        found = values(words)
        row = sum(found[i] << (32 * place) for place, i in enumerate(chosen))
        while row and row.bit_length() in pivots:
            row ^= pivots[row.bit_length()]
        assert row
        pivots[row.bit_length()] = row
    assert len(pivots) == 128


def test_rounds_are_those_of_chaskey() -> None:
    """As published: v0 += v1, v1 <<<= 5, v1 ^= v0, v0 <<<= 16, and so on, six times."""
    key, position = 0x0011_2233_4455_6677, 0x8899_AABB_CCDD_EEFF
    v = [key & 0xFFFFFFFF, key >> 32, position & 0xFFFFFFFF, position >> 32 ^ NONZERO]
    for _ in range(6):
        for to, other, turn, last in ((0, 1, 5, 16), (2, 3, 8, 0), (0, 3, 13, 0), (2, 1, 7, 16)):
            v[to] = (v[to] + v[other]) % ALWAYS
            v[other] = (v[other] << turn | v[other] >> (32 - turn)) % ALWAYS ^ v[to]
            v[to] = (v[to] << last | v[to] >> (32 - last)) % ALWAYS
    assert coefficients(key, position) == tuple(v)


def test_arrays_and_ints_agree() -> None:
    positions = np.array([0, 1, ALWAYS - 1, ALWAYS, (1 << 64) - 1], np.uint64)
    whole = np.stack(hashes(KEYS[1], positions), axis=1)
    assert whole.tolist() == [hashes(KEYS[1], position) for position in positions.tolist()]


# Statistics


def flips_of(key: int, ber: float) -> Array:
    """Return the bits that flip, uint8 (WORDS, 64), at consecutive positions."""
    masks = flip_masks(key, threshold_of(ber), np.arange(WORDS, dtype=np.uint64))
    return np.unpackbits(masks.view(np.uint8), bitorder="little").reshape(WORDS, DW)


def off(count: float, n: float, p: float) -> float:
    """Return by how many standard deviations a count of n draws is off."""
    return float(abs(count - n * p) / math.sqrt(n * p * (1 - p)))


@pytest.mark.parametrize(("key", "ber"), [(KEYS[i], ber) for i, ber in RATES])
def test_rates_of_bits_and_of_words(key: int, ber: float) -> None:
    """Rate of bits, of words with a flip (1 - (1-p)^64), of neighbours that both flip: within 4 sigma on 1e6 words."""
    p, flips = threshold_of(ber) / ALWAYS, flips_of(key, ber)
    assert off(flips.sum(), WORDS * DW, p) < 4
    assert off(np.any(flips, axis=1).sum(), WORDS, 1 - (1 - p) ** DW) < 4
    for pairs in (flips[1:] & flips[:-1], flips[:, 1:] & flips[:, :-1]):
        assert off(pairs.sum(), pairs.size, p * p) < 4.5
    assert max(off(count, WORDS, p) for count in flips.sum(axis=0)) < 5


@pytest.mark.parametrize("ber", [0.5, 0.1])
def test_flips_of_a_word_are_binomial(ber: float) -> None:
    """Chi-square over the number of flips: linear dependences between many bits would show here."""
    p, counts = threshold_of(ber) / ALWAYS, np.bincount(flips_of(KEYS[1], ber).sum(axis=1), minlength=DW + 1)
    wanted = WORDS * np.array([math.comb(DW, k) * p**k * (1 - p) ** (DW - k) for k in range(DW + 1)])
    often = wanted > 20
    square = float((((counts - wanted) ** 2)[often] / wanted[often]).sum())
    assert abs(square - often.sum()) < 5 * math.sqrt(2 * often.sum())


def test_every_bit_of_key_and_position_matters() -> None:
    n = 4096
    positions = np.arange(n, dtype=np.uint64) * np.uint64(977)
    base = np.stack(hashes(KEYS[1], positions))[::9]
    for bit in range(64):
        for changed in (hashes(KEYS[1] ^ 1 << bit, positions), hashes(KEYS[1], positions ^ np.uint64(1 << bit))):
            differ = base ^ np.stack(changed)[::9]
            ones = [off(int(((differ >> np.uint64(k)) & np.uint64(1)).sum()), differ.size, 0.5) for k in range(32)]
            assert max(ones) < 6


# Streams


def test_bounds_and_lanes() -> None:
    words = np.random.default_rng(1).integers(0, 1 << 64, 500, np.uint64)
    some = np.arange(500) % 2
    np.testing.assert_array_equal(injected(words, some, KEYS[1], 0), words)
    np.testing.assert_array_equal(injected(words, np.ones(500), KEYS[1], ALWAYS), ~words)
    np.testing.assert_array_equal(injected(words, some, KEYS[1], ALWAYS), np.where(some, ~words, words))


def test_a_stream_may_start_anywhere() -> None:
    words, threshold = np.zeros(300, np.uint64), threshold_of(0.1)
    whole = injected(words, np.ones(300), 7, threshold, 40)
    parts = [injected(words[at : at + 50], np.ones(50), 7, threshold, 40 + at) for at in range(0, 300, 50)]
    np.testing.assert_array_equal(np.concatenate(parts), whole)
    assert np.any(whole != injected(words, np.ones(300), 8, threshold, 40))
