"""Run-length compression of feature maps on their way to and from DRAM.

A 64-bit word holds three pairs of a 5-bit run of zeros and the 16-bit level behind it, and in bit 63 a flag that marks
the last word. Pair k sits in bits 21k .. 21k+20, the run below the level. 31 zeros followed by one more are the pair
(31, level 0); zeros at the end are a pair with level 0 as well; unused slots of the last word are zero.
Source: Chen et al., JSSC 52(1), 2017 (pair and word format); bit positions and the ends of runs are archsim's choice.
"""

from __future__ import annotations

import math

import numpy as np
import numpy.typing as npt

from archsim.accelerators.eyeriss.kernel import RUN_WORDS, Array, count_rlc_pairs

PAIRS_PER_WORD = 3
WORD_BYTES = 8
LEVEL_BITS = 16
_RUN_BITS = 5
_PAIR_BITS = _RUN_BITS + LEVEL_BITS
_SLOTS = np.arange(PAIRS_PER_WORD, dtype=np.uint64) * np.uint64(_PAIR_BITS)
_LAST = np.uint64(1 << 63)

Words = npt.NDArray[np.uint64]


def encode(words: Array) -> Words:
    """Compress 16-bit codes (any shape, read in C order) into a uint64 array of RLC words; nothing gives nothing."""
    flat = np.ascontiguousarray(words, np.int16).reshape(-1)
    if not flat.size:
        return np.zeros(0, np.uint64)
    ends = _pair_ends(flat)
    runs = np.diff(ends, prepend=-1) - 1
    levels = flat[ends].view(np.uint16).astype(np.uint64)
    pairs = np.zeros(-(-ends.size // PAIRS_PER_WORD) * PAIRS_PER_WORD, np.uint64)
    pairs[: ends.size] = runs.astype(np.uint64) | levels << np.uint64(_RUN_BITS)
    out: Words = np.bitwise_or.reduce(pairs.reshape(-1, PAIRS_PER_WORD) << _SLOTS, axis=1)
    out[-1] |= _LAST
    return out


def decode(array: Words, n: int) -> npt.NDArray[np.int16]:
    """Return the `n` 16-bit codes an RLC stream stands for, int16 (n,).

    Raises: ValueError if the last flag is not on the last word, or the stream does not hold `n` codes.
    """
    flags = np.flatnonzero(array & _LAST)
    if flags.tolist() != ([array.size - 1] if n else []):
        raise ValueError(f"the last flag must be on word {array.size - 1} alone, got words {flags.tolist()}")
    pairs = array[:, None] >> _SLOTS & np.uint64((1 << _PAIR_BITS) - 1)
    runs = (pairs & np.uint64(RUN_WORDS - 1)).astype(np.int64).reshape(-1)
    levels = (pairs >> np.uint64(_RUN_BITS)).astype(np.uint16).view(np.int16).reshape(-1)
    ends = np.cumsum(runs + 1) - 1
    if n and ends[-1] < n - 1:
        raise ValueError(f"the stream must hold {n} codes, got {ends[-1] + 1}")
    out = np.zeros(n, np.int16)
    out[ends[ends < n]] = levels[ends < n]
    return out


def word_count(words: Array) -> int:
    """Return `len(encode(words))` without encoding."""
    flat = np.ascontiguousarray(words).reshape(1, 1, 1, -1)
    pairs, nonzeros = np.zeros((2, 1, 1), np.int64)
    count_rlc_pairs(flat, (0, 0, 0, 0), np.array([[0, 1, 0, 1, 0, 1]]), pairs, nonzeros)
    return int(pairs_to_words(pairs)[0, 0])


def pairs_to_words(pairs: Array) -> Array:
    """Return the 64-bit words that hold so many pairs, element by element."""
    return -(-pairs // PAIRS_PER_WORD)


def pairs_per_code(zero_fraction: float) -> float:
    """Return the expected pairs per code for independent zeros.

    A pair covers 1 + z + ... + z^31 codes on average, so the rate is (1-z)/(1-z^32): nearly 1-z, and 1/32 for z = 1.
    """
    return 1.0 / math.fsum(zero_fraction**zeros for zeros in range(RUN_WORDS))


def entropy_bits_per_code(zero_fraction: Array) -> Array:
    """Return H(z) + 16*(1-z), the least a code costs if zeros are independent and levels uniform."""
    z = np.clip(zero_fraction, 1e-300, 1.0)
    ones = np.clip(1.0 - zero_fraction, 1e-300, 1.0)
    bits: Array = -z * np.log2(z) - ones * np.log2(ones) + LEVEL_BITS * (1.0 - zero_fraction)
    return bits


def _pair_ends(flat: npt.NDArray[np.int16]) -> npt.NDArray[np.int64]:
    """Return the ascending index of every code that ends a pair: non-zeros, each 32nd zero of a run, the last code."""
    nonzero = np.flatnonzero(flat)
    edges = np.concatenate(([-1], nonzero, [flat.size]))
    full = (np.diff(edges) - 1) // RUN_WORDS
    within = np.arange(full.sum()) - np.repeat(np.cumsum(full) - full, full)
    zeros = np.repeat(edges[:-1], full) + RUN_WORDS * (within + 1)
    return np.union1d(np.concatenate((nonzero, zeros)), [flat.size - 1])
