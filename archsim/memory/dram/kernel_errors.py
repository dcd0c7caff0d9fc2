"""Which bits of a tensor a read flips: counter-based hashing, cost in proportion to the candidates.

Candidates are drawn in blocks of 64 Ki places by geometric gaps, from a counter that starts anew with every block, so
that a place's fate depends on the key of the draw and on the place alone. A candidate flips if its cell is weak, which
a hash of the device and of the cell's address decides.
"""

from __future__ import annotations

from math import floor, log
from typing import Any

import numpy as np
import numpy.typing as npt

from archsim.kernels._jit import njit

Array = npt.NDArray[Any]
BLOCK = 1 << 16
"""Places drawn with one counter; another number draws other flips."""
GOLDEN = np.uint64(0x9E3779B97F4A7C15)
ASIDE = np.uint64(0xD1B54A32D192ED03)
"""Tells a second draw at a counter from the first."""
UNIT = 1.0 / (1 << 52)
FAR = 1e15
CELL, BITLINE, WORDLINE = 0, 1, 2
"""What is weak as a whole: a cell, a column of a bank, a row of a bank."""


@njit(inline="always")
def mix(x: Any) -> Any:
    """Return 64 well mixed bits. Source: the output function of SplitMix64, G. Steele et al., OOPSLA 2014."""
    z = x + GOLDEN
    z = (z ^ (z >> np.uint64(30))) * np.uint64(0xBF58476D1CE4E5B9)
    z = (z ^ (z >> np.uint64(27))) * np.uint64(0x94D049BB133111EB)
    return z ^ (z >> np.uint64(31))


@njit(inline="always")
def uniform(x: Any) -> float:
    """Return a number from 64 bits, above 0 and below 1."""
    return (float(mix(x) >> np.uint64(12)) + 0.5) * UNIT


@njit(inline="always")
def gap(x: Any, scale: float) -> int:
    """Return how many places to pass over before the next candidate; scale = 1 / log(1 - rate)."""
    return int(min(floor(log(uniform(x)) * scale), FAR))


@njit(inline="always")
def unit_of(address_bit: int, scope: int, row_bits: int, banks: int, rows: int) -> int:
    """Return the number of the cell, bitline or wordline a bit lies on; banks take turns row by row."""
    row = address_bit // row_bits % (banks * rows)
    if scope == WORDLINE:
        return row
    return (row if scope == CELL else row % banks) * row_bits + address_bit % row_bits


@njit(inline="always")
def is_weak(unit: int, device: Any, share: float) -> bool:
    """Return whether a unit of a device is weak; a larger share keeps those that are weak already."""
    return uniform(device + np.uint64(unit)) < share


@njit
def any_weak_row(
    first_bit: int, last_bit: int, row_bits: int, banks: int, rows: int, device: Any, share: float
) -> bool:
    """Return whether a row between two bit addresses is weak."""
    for row in range(first_bit // row_bits, last_bit // row_bits + 1):
        if is_weak(row % (banks * rows), device, share):
            return True
    return False


@njit
def flip_bits(
    words: Array,
    masks: Array,
    most: Any,
    first: int,
    key: Any,
    scale: float,
    keep_0: float,
    keep_1: float,
    device: Any,
    share: float,
    scope: int,
    address_bit: int,
    row_bits: int,
    banks: int,
    rows: int,
) -> None:
    """Flip bits of `words`, unsigned (n,), in place. Word i holds places (first + i) * bits and following.

    masks uint64 (bits,): what a flip of each stored bit changes in the carrier. most: words above it are stored as it.
    scale: 1 / log(1 - rate) of the candidates, of which stored zeros keep the share keep_0, ones keep_1. Place 0 lies
    at `address_bit` of a device of `banks` times `rows` rows whose `scope` is weak with probability `share`.
    """
    bits = len(masks)
    start, stop = first * bits, (first + len(words)) * bits
    for block in range(start // BLOCK, (stop + BLOCK - 1) // BLOCK):
        place, end = block * BLOCK, min((block + 1) * BLOCK, stop)
        if (
            share < 1.0
            and scope == WORDLINE
            and not any_weak_row(address_bit + place, address_bit + end - 1, row_bits, banks, rows, device, share)
        ):
            continue
        counter = mix(key ^ mix(np.uint64(block)))
        place += gap(counter, scale)
        while place < end:
            if place >= start and (
                share >= 1.0 or is_weak(unit_of(address_bit + place, scope, row_bits, banks, rows), device, share)
            ):
                i, mask = place // bits - first, masks[place % bits]
                word = min(np.uint64(words[i]), most)
                keep = keep_1 if word & mask else keep_0
                if keep >= 1.0 or uniform(counter ^ ASIDE) < keep:
                    words[i] = word ^ mask
            counter += np.uint64(1)
            place += 1 + gap(counter, scale)


@njit
def replace_words(words: Array, masks: Array, first: int, key: Any, scale: float) -> None:
    """Replace words, unsigned (n,), by others drawn evenly; places are words, arguments those of `flip_bits`."""
    bits, stop = len(masks), first + len(words)
    for block in range(first // BLOCK, (stop + BLOCK - 1) // BLOCK):
        counter, end = mix(key ^ mix(np.uint64(block))), min((block + 1) * BLOCK, stop)
        place = block * BLOCK + gap(counter, scale)
        while place < end:
            if place >= first:
                drawn, word = mix(counter ^ ASIDE), np.uint64(0)
                for bit in range(bits):
                    if drawn >> np.uint64(bit) & np.uint64(1):
                        word |= masks[bit]
                words[place - first] = word
            counter += np.uint64(1)
            place += 1 + gap(counter, scale)
