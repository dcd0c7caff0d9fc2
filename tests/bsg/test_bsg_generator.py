"""Weights from bits: the printed vectors, equation 5.5, what a rotation cannot change, slices of any shape."""

from __future__ import annotations

from math import prod

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from archsim.accelerators.bsg.generator import (
    TAPS,
    Generator,
    assembled,
    bits_of,
    layer_weights,
    period,
    registers,
    slice_count,
    slice_weights,
    taps_of,
    words_of,
    xorshift_words,
)
from archsim.errors import MappingError

SIZES = (64, 128, 256, 512, 1024, 2048)
ODD_SIZES = (16, 48, 80, 240)


def vectors(n_c: int, slices: int = 3, seed: int = 1) -> tuple[np.ndarray, np.ndarray]:
    words = np.random.default_rng(seed + n_c).integers(0, 1 << 16, (slices + 1, n_c // 16)).astype(np.uint16)
    return words[0], words[1:]


def signs(words: np.ndarray) -> np.ndarray:
    return bits_of(words).astype(np.int64) * 2 - 1


def by_definition(base: np.ndarray, codes: np.ndarray, count: int, generator: Generator) -> np.ndarray:
    """Equation 5.5: +-1 products, register by register, in plain NumPy."""
    register, rows = signs(base), []
    for _ in range(count):
        rows.append(register)
        entering = register[-1]
        if generator == "feedback":
            entering = register[-1] * np.prod([register[len(register) - 1 - tap] for tap in taps_of(len(register))])
            entering = -entering  # XOR of four bits: the product of four signs, once more for 0 = -1
        register = np.concatenate([[entering], register[:-1]])
    return np.stack(rows) @ signs(codes).T


def test_vectors_of_16_bits() -> None:
    base, code = np.array([0xACE1], np.uint16), np.array([[0x1234]], np.uint16)
    expected = [-6, -6, 2, -2, -2, 6, -2, 2, -2, -2, 2, -2, 2, 2, 2, 6]
    assert slice_weights(base, code, 16, "rotate")[0].tolist() == expected
    assert by_definition(base, code, 16, "rotate")[:, 0].tolist() == expected


def test_vectors_of_256_bits() -> None:
    base, code = xorshift_words(0x2545F491, 16), xorshift_words(0x9E3779B9, 16)
    assert [hex(word) for word in base[:4]] == ["0xe124", "0x8b9a", "0x64e1", "0x17"]
    assert [hex(word) for word in code[:4]] == ["0x510c", "0xe02e", "0x7bb9", "0x183"]
    weights = slice_weights(base, code[None], 2304, "rotate")[0]
    assert weights[:8].tolist() == [28, 28, -8, 4, 4, 0, -4, 12]
    assert (weights.sum(), weights.min(), weights.max()) == (288, -48, 44) and not (weights % 4).any()


def test_sign_is_that_of_equation_5_5_not_of_5_6() -> None:
    base, codes = vectors(256)
    ones = (bits_of(codes)[:, None, :] ^ registers(base, 256, "rotate")).sum(axis=2).astype(np.int64)
    printed = ones - (256 - ones)
    np.testing.assert_array_equal(slice_weights(base, codes, 256, "rotate"), -printed)
    assert printed.any()


@pytest.mark.parametrize("generator", ["rotate", "feedback"])
@pytest.mark.parametrize("n_c", SIZES)
def test_kernel_equals_numpy(n_c: int, generator: Generator) -> None:
    base, codes = vectors(n_c)
    count = 2 * n_c + 19
    weights = slice_weights(base, codes, count, generator)
    np.testing.assert_array_equal(weights.T, by_definition(base, codes, count, generator))
    assert (np.sign(weights) < 0).mean() > 0.3 < (np.sign(weights) > 0).mean()
    products = (2 * registers(base, count, generator).astype(np.int64) - 1) @ signs(codes).T
    np.testing.assert_array_equal(weights.T, products)


@pytest.mark.parametrize("n_c", ODD_SIZES)
def test_lengths_that_are_no_power_of_two(n_c: int) -> None:
    base, codes = vectors(n_c)
    np.testing.assert_array_equal(
        slice_weights(base, codes, 100, "rotate").T, by_definition(base, codes, 100, "rotate")
    )


@settings(max_examples=1000, deadline=None)
@given(words=st.integers(1, 40), seed=st.integers(0, 2**32 - 1))
def test_what_a_rotation_cannot_change(words: int, seed: int) -> None:
    n_c = 16 * words
    base, codes = vectors(n_c, 2, seed)
    weights = slice_weights(base, codes, 3 * n_c, "rotate")
    np.testing.assert_array_equal(weights[:, :n_c], weights[:, n_c : 2 * n_c])
    assert ((weights - n_c) % 2 == 0).all()
    assert (weights % 4 == weights[:, :1] % 4).all()
    np.testing.assert_array_equal(weights[:, :n_c].sum(axis=1), signs(base).sum() * signs(codes).sum(axis=1))


@pytest.mark.parametrize("n_c", sorted(TAPS))
def test_feedback_does_not_come_back_within_a_slice(n_c: int) -> None:
    base, codes = vectors(n_c, 1)
    count = max(2304, 2 * n_c)
    assert len(np.unique(registers(base, count, "feedback"), axis=0)) == count
    assert len(np.unique(registers(base, count, "rotate"), axis=0)) == n_c
    assert period(n_c, count, "feedback") == count and period(n_c, count, "rotate") == n_c
    weights = slice_weights(base, codes, count, "feedback")[0].astype(float)
    copies = np.corrcoef(weights[:-n_c], weights[n_c:])[0, 1]
    assert abs(copies) < 0.5  # 1 by definition for `rotate`
    assert len(set((weights % 4).tolist())) == 2  # parity of a rotated register never changes, that of this one does


@pytest.mark.parametrize("n_c", sorted(TAPS))
def test_polynomials_of_the_feedback_are_irreducible(n_c: int) -> None:
    """Rabin's test for a degree that is a power of two: x^(2^n) = x, and x^(2^(n/2)) - x has no common factor."""
    modulus = sum(1 << place for place in (n_c, 0, *TAPS[n_c]))
    power, half = 2, 0
    for step in range(1, n_c + 1):
        power = remainder(squared(power), modulus)
        half = power if step == n_c // 2 else half
    assert power == 2
    assert common_factor(modulus, half ^ 2) == 1


def squared(polynomial: int) -> int:
    return int("0".join(format(polynomial, "b")), 2)


def remainder(polynomial: int, modulus: int) -> int:
    while (excess := polynomial.bit_length() - modulus.bit_length()) >= 0:
        polynomial ^= modulus << excess
    return polynomial


def common_factor(one: int, other: int) -> int:
    while other:
        one, other = other, remainder(one, other)
    return one


def test_a_length_without_polynomial_names_those_that_have_one() -> None:
    base, codes = vectors(48)
    with pytest.raises(MappingError, match=r"n_c of 16, 32, .* got 48"):
        slice_weights(base, codes, 10, "feedback")


@settings(max_examples=200, deadline=None)
@given(
    shape=st.tuples(*[st.integers(1, 9)] * 2, *[st.integers(1, 5)] * 2),
    part=st.tuples(*[st.integers(1, 5)] * 2, *[st.integers(1, 3)] * 2),
)
def test_slices_of_any_shape(shape: tuple[int, int, int, int], part: tuple[int, int, int, int]) -> None:
    """Every weight stands where the loops of the definition put it; what lies beyond the edge is left out."""
    slices = np.arange(slice_count(shape, part) * prod(part)).reshape(-1, prod(part))
    made = assembled(slices, shape, part)
    grid = [-(-size // step) for size, step in zip(shape, part)]
    for at in np.ndindex(*shape):
        block = [place // step for place, step in zip(at, part)]
        inside = [place % step for place, step in zip(at, part)]
        index = np.ravel_multi_index(block, grid) * prod(part) + np.ravel_multi_index(inside, part)
        assert made[at] == index
    assert made.shape == shape


def test_layer_of_ragged_slices() -> None:
    base, codes = vectors(64, 2 * 2 * 1 * 2)
    weights = layer_weights(base, codes, (20, 17, 3, 5), (16, 16, 3, 3), "rotate")
    slices = slice_weights(base, codes, 2304, "rotate").reshape(8, 16, 16, 3, 3)
    np.testing.assert_array_equal(weights[:16, :16, :, :3], slices[0])
    np.testing.assert_array_equal(weights[16:, 16:, :, 3:], slices[7][:4, :1, :, :2])


def test_words_and_bits() -> None:
    words = vectors(256)[1]
    assert bits_of(np.array([1, 0x8000], np.uint16)).tolist() == [1] + [0] * 30 + [1]
    np.testing.assert_array_equal(words_of(bits_of(words)), words)
