"""Hashes, filters and units of `bloom`: the specification's vectors, slow twins, false positives by exact count."""

from __future__ import annotations

import math
from dataclasses import replace

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from archsim.accelerators.bloom.filters import Patterns, answer_table, designed, first_sound, programmed, seeds
from archsim.accelerators.bloom.floats import apply_unit, flushed, representative, top_bits
from archsim.accelerators.bloom.h3 import (
    Shape,
    addresses,
    byte_tables,
    coefficients,
    full_rank,
    key_hashes,
    packed_columns,
    rank,
    xorshift32,
)
from archsim.accelerators.bloom.kernel import FALSE_HIT
from archsim.errors import MappingError
from tests.bloom.cases import random_bank, twin_addresses, twin_answer, twin_key

FIRST_SEED = 0x2545F491


def one_pattern(tops: list[int]) -> Patterns:
    return Patterns(np.array([tops], np.uint32), np.array([1]), np.array([1.0], np.float32))


def test_vector_of_the_specification() -> None:
    """A1: tops, key, addresses, and false positives over all other keys."""
    tops = [int(top_bits(np.float32([value]), 9)[0]) for value in (-0.42421296, 0.07062509)]
    assert tops == [0x17D, 0x07B] and twin_key(tops, 9) == 0x2FA7B
    shape = Shape(1, 2, 6, 2, 9)
    C = coefficients(shape, FIRST_SEED)
    found = addresses(shape, key_hashes(byte_tables(shape, C), np.array([tops], np.uint32)))
    assert found.tolist() == [[[48, 55]]]
    table = answer_table(programmed(shape, C, one_pattern(tops), single=False))
    assert (table >= FALSE_HIT).sum() / (2**18 - 1) == pytest.approx(9.7275e-4, rel=1e-4)


def test_top_bits_of_the_thesis() -> None:
    """0.45 and 0.451 agree in 16 top bits, not in 17."""
    values = np.float32([0.45, 0.451])
    assert len(set(top_bits(values, 16).tolist())) == 1 and len(set(top_bits(values, 17).tolist())) == 2


def test_xorshift32_is_marsaglias() -> None:
    states = xorshift32(1)
    assert [next(states) for _ in range(3)] == [270369, 67634689, 2647435461]


def test_coefficients_come_in_order_and_without_zeros() -> None:
    shape = Shape(3, 2, 4, 2, 8)
    states = (state >> 28 for state in xorshift32(99))
    drawn = [value for value, _ in zip((s for s in states if s), range(3 * 2 * 16))]
    assert coefficients(shape, 99).reshape(-1).tolist() == drawn and min(drawn) > 0


@settings(max_examples=60, deadline=None)
@given(st.integers(0, 2**32))
def test_hashes_equal_the_printed_xor(seed: int) -> None:
    rng = np.random.default_rng(seed)
    bank = random_bank(rng)
    shape = bank.shape
    tops = rng.integers(0, 2**shape.apx, (5, shape.operands), dtype=np.uint64).astype(np.uint32)
    found = addresses(shape, key_hashes(bank.tables, tops))
    for row, one in zip(found, tops.tolist()):
        assert row.tolist() == [twin_addresses(C, twin_key(one, shape.apx)) for C in bank.C]


@settings(max_examples=60, deadline=None)
@given(st.integers(0, 2**32))
def test_answers_equal_the_twin(seed: int) -> None:
    """Short vectors, so that hits, false hits and several hits at once occur."""
    rng = np.random.default_rng(seed)
    bank = random_bank(rng, m=32, k=1 + seed % 2)
    tops = rng.integers(0, 2**bank.shape.apx, (40, bank.shape.operands), dtype=np.uint64).astype(np.uint32)
    tops = np.concatenate([tops, bank.patterns.tops])
    found = bank.ask(tops)
    assert found.tolist() == [twin_answer(bank, one) for one in tops.tolist()]
    owner = np.repeat(np.arange(bank.filters), np.diff(bank.first))
    stored = {(tuple(t), int(f)) for t, f in zip(bank.patterns.tops.tolist(), owner)}
    false = [f >= 0 and (tuple(t), f) not in stored for t, f in zip(tops.tolist(), found.tolist())]
    assert bank.false(tops, found).tolist() == false


def test_cases_have_hits_misses_and_false_hits() -> None:
    rng = np.random.default_rng(1)
    hits = false = misses = 0
    for _ in range(40):
        bank = random_bank(rng, m=32)
        tops = rng.integers(0, 2**bank.shape.apx, (500, bank.shape.operands), dtype=np.uint64).astype(np.uint32)
        found = bank.ask(tops)
        hits, misses = hits + (found >= 0).sum(), misses + (found < 0).sum()
        false += bank.false(tops, found).sum()
    assert min(hits, misses, false) > 1000


@pytest.mark.parametrize("single", [False, True])
def test_no_false_negative(single: bool) -> None:
    """A2: every stored pattern hits; the acceptance run takes 10^4 configurations."""
    rng = np.random.default_rng(2)
    for _ in range(500):
        bank = random_bank(rng, single=single)
        assert (bank.ask(bank.patterns.tops) >= 0).all()


def test_lowest_filter_wins() -> None:
    """A3: the key of filter 1 is given all its bits in filter 0 too."""
    rng = np.random.default_rng(3)
    bank = random_bank(rng, m=64, k=2, patterns=12, shared=False)
    assert bank.filters > 2
    (first, *_), last = bank.patterns.tops[bank.first[1] :], bank.filters - 1
    key = first[None]
    assert bank.ask(key).tolist() == [1]
    at = addresses(bank.shape, key_hashes(bank.tables, key))[0]
    vectors = bank.vectors.copy()
    vectors[0, at[0]] = vectors[last, at[last]] = 1
    assert replace(bank, vectors=vectors).ask(key).tolist() == [0]


@pytest.mark.parametrize(("m", "k", "within"), [(64, 2, 0.06), (32, 3, 0.16)])
def test_false_positives_over_all_keys_are_exact(m: int, k: int, within: float) -> None:
    """A4: a full-rank H3 with A distinct addresses hits exactly A^k * 2^(18 - k*log2(m)) keys; eq. 2.1 is near."""
    shape, rng, rates, sound = Shape(1, k, int(math.log2(m)), 2, 9), np.random.default_rng(4), [], 0
    drawn = seeds(FIRST_SEED)
    while sound < 30:
        C = coefficients(shape, drawn.pop(0))
        if not full_rank(shape, C):
            continue
        sound += 1
        tops = rng.integers(0, 512, 2).tolist()
        bank = programmed(shape, C, one_pattern(tops), single=False)
        A = len(set(twin_addresses(C[0], twin_key(tops, 9))))
        hits = int((answer_table(bank) >= 0).sum())
        assert hits == A**k * 2 ** (18 - k * shape.log2_m)
        if k == A:
            rates.append((hits - 1) / (2**18 - 1))
    formula = (1 - (1 - 1 / m) ** k) ** k
    assert len(rates) > 15 and np.mean(rates) == pytest.approx(formula, rel=within)


def test_rank_deficient_coefficients_are_refused() -> None:
    """A13: hash 1 equals hash 0 of the first bank; the screen takes the next seed."""
    shape = Shape(2, 2, 6, 2, 9)
    good = next(C for C in (coefficients(shape, s) for s in seeds(5)) if full_rank(shape, C))
    twice = good.copy()
    twice[0, 1] = twice[0, 0]
    assert not full_rank(shape, twice)
    assert rank(packed_columns(shape, twice)[0]) <= 6 and rank(packed_columns(shape, good)[0]) == 12


def test_seeds_over_the_limit_are_refused() -> None:
    shape, chosen = Shape(1, 2, 6, 2, 9), one_pattern([0x17D, 0x07B])
    wanted = [s for s in seeds(FIRST_SEED) if full_rank(shape, coefficients(shape, s))]
    told = dict(zip(wanted, (0.3, 0.2, 0.04, 0.01)))
    bank, rate = designed(shape, chosen, FIRST_SEED, 0.05, lambda one: told[one.seed], single=False, what="x")
    assert (bank.seed, rate) == (wanted[2], 0.04) and bank.attempts == seeds(FIRST_SEED).index(wanted[2]) + 1
    with pytest.raises(MappingError, match=r"2 seeds.*fp_max_unit 0.05 \(best 0.2\)"):
        first_sound(wanted[:2], shape, chosen, 0.05, lambda one: told.get(one.seed, 0.9), single=False, what="x")


def test_tables_answer_as_the_filters_do() -> None:
    rng = np.random.default_rng(6)
    for _ in range(20):
        bank = random_bank(rng, apx=8, operands=2, m=32)
        keys = np.arange(1 << 16)
        tops = np.stack([keys >> 8, keys & 255], axis=1).astype(np.uint32)
        found, table = bank.ask(tops), answer_table(bank)
        false = bank.false(tops, found)
        np.testing.assert_array_equal(table, np.where(false, found | FALSE_HIT, found))


def test_tables_hold_more_than_16384_filters() -> None:
    """A pattern a filter, few false hits: every key is answered as the filters answer it."""
    rng, n = np.random.default_rng(7), 17_000
    shape = Shape(1, 2, 9, 2, 8)
    C = next(C for C in (coefficients(shape, s) for s in seeds(5)) if full_rank(shape, C))
    keys = rng.permutation(1 << 16)[:n]
    tops = np.stack([keys >> 8, keys & 255], axis=1).astype(np.uint32)
    patterns = Patterns(tops, np.arange(n, 0, -1), np.arange(n, dtype=np.float32))
    bank = programmed(shape, C, patterns, single=False)
    every = np.stack(np.divmod(np.arange(1 << 16), 256), axis=1).astype(np.uint32)
    table, found = answer_table(bank), bank.ask(every)
    own = np.full(1 << 16, -1)
    own[keys] = np.arange(n)
    assert (table[keys] >= 0).all() and ((found == own) & (found > 0x4000)).sum() > 300
    np.testing.assert_array_equal(table, np.where((found >= 0) & (found != own), found | FALSE_HIT, found))


# Units


def test_units_flush_subnormals_and_know_one_nan() -> None:
    tiny, least = np.float32(1e-40), np.float32(2.0**-126)
    assert flushed(np.float32([tiny, -tiny, least])).view(np.uint32).tolist() == [0, 0x80000000, 0x00800000]
    nan = np.array([0xFFC12345], np.uint32).view(np.float32)
    assert flushed(nan).view(np.uint32).tolist() == [0x7FC00000]
    values = [np.float32([2.0**-100, -1.0]), np.float32([2.0**-30, np.inf])]
    assert apply_unit("mul", values).tolist() == [0.0, -np.inf]
    assert apply_unit("sqrt", [np.float32([-1.0])]).view(np.uint32).tolist() == [0x7FC00000]


def test_mac_rounds_twice() -> None:
    a, c = np.float32([1 + 2**-12]), np.float32([-1 - 2**-11])
    once = float(a[0]) * float(a[0]) + float(c[0])
    assert apply_unit("mac", [a, a, c])[0] == 0 != once


def test_representatives() -> None:
    """First dropped bit one for `mid`; zero and infinity stay what they are."""
    tops = top_bits(np.float32([1.7, -0.3, 0.0, np.inf]), 9)
    assert representative(tops, 9, middle=False).tolist() == [1.0, -0.25, 0.0, np.inf]
    assert representative(tops, 9, middle=True).tolist() == [1.5, -0.375, 0.0, np.inf]
    exact = np.float32([1.7, -0.3])
    assert representative(top_bits(exact, 32), 32, middle=True).tolist() == exact.tolist()
