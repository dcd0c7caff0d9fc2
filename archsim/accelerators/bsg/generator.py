"""Weights from a base vector and code vectors of bits; +1 is stored as 1, -1 as 0.

Element v of a vector of n_c bits is bit v % 16 (LSB 0) of word v / 16. Weight i of a slice is the inner product of the
slice's code vector with the base register after i steps, zeros - ones of their XOR: W_i = n_c - 2 * popcount.
Source: V. Akhlaghi, UC San Diego 2020, section 5.5, equation 5.5 (5.6 as printed is its negative).

A step moves every bit of the register one place up. With `rotate` (the thesis) the last bit enters again at place 0, so
weights repeat after n_c. With `feedback` (ours) the XOR of the last bit with three more enters: the register runs
through a linear recurrence that does not come back within a slice, at the cost of one XOR of four bits.
"""

from __future__ import annotations

from functools import lru_cache
from math import prod
from typing import Literal

import numpy as np

from archsim.errors import MappingError
from archsim.workload.params import Array

Generator = Literal["rotate", "feedback"]
Shape = tuple[int, int, int, int]
CODE_WORD_BITS = 16
TAPS = {
    16: (5, 3, 1),
    32: (7, 3, 2),
    64: (4, 3, 1),
    128: (7, 2, 1),
    256: (10, 5, 2),
    512: (8, 5, 2),
    1024: (19, 6, 1),
    2048: (19, 14, 13),
}
"""n_c -> a, b, c of the irreducible polynomial x^n_c + x^a + x^b + x^c + 1 (G. Seroussi, HP Labs HPL-98-135)."""


def taps_of(n_c: int) -> tuple[int, int, int]:
    """Return the three taps of the feedback. Raises: MappingError for a length without a polynomial here."""
    if n_c not in TAPS:
        raise MappingError(f"generator 'feedback' needs n_c of {', '.join(map(str, TAPS))}, got {n_c}")
    return TAPS[n_c]


def bits_of(words: Array) -> Array:
    """Return uint8 (..., n_c) of words uint16 (..., n_c / 16), element 0 first."""
    packed = np.ascontiguousarray(words, "<u2").view(np.uint8)
    return np.unpackbits(packed, axis=-1, bitorder="little")


def words_of(bits: Array) -> Array:
    """Return uint16 (..., n_c / 16) of bits (..., n_c); booleans, or 0 and 1."""
    packed = np.packbits(np.asarray(bits, bool), axis=-1, bitorder="little")
    return packed.view("<u2").astype(np.uint16)


def sequence(base: Array, steps: int, generator: Generator) -> Array:
    """Return the bits that the register runs through, uint8 (n_c + steps,); after i steps it holds [i, i + n_c) of it.

    The element at place v is then bit n_c - 1 + i - v of the sequence.
    """
    start = bits_of(base)[::-1]
    n_c = len(start)
    if generator == "rotate":
        return np.resize(start, n_c + steps)
    places = (0, *taps_of(n_c))
    made = np.concatenate([start, np.zeros(steps, np.uint8)])
    block = n_c - max(places)
    for first in range(0, steps, block):
        last = min(first + block, steps)
        made[n_c + first : n_c + last] = np.bitwise_xor.reduce([made[first + p : last + p] for p in places])
    return made


def registers(base: Array, count: int, generator: Generator) -> Array:
    """Return the base register after 0 .. count-1 steps, uint8 (count, n_c), element 0 first."""
    n_c = CODE_WORD_BITS * len(base)
    windows = np.lib.stride_tricks.sliding_window_view(sequence(base, count - 1, generator), n_c)
    return windows[:count, ::-1]


def period(n_c: int, weights: int, generator: Generator) -> int:
    """Return after how many weights of a slice they repeat; the slice's size if they do not."""
    return min(n_c, weights) if generator == "rotate" else weights


def slice_weights(base: Array, codes: Array, weights: int, generator: Generator) -> Array:
    """Return int16 (slices, weights) of codes uint16 (slices, n_c / 16), by the compiled kernel."""
    from archsim.accelerators.bsg.kernel import correlate

    codes = np.ascontiguousarray(codes, np.uint16)
    distinct = period(CODE_WORD_BITS * len(base), weights, generator)
    out = np.empty((len(codes), distinct), np.int16)
    correlate(_packed_registers(base.tobytes(), distinct, generator), _as_uint64(codes), codes.shape[1], out)
    return out if distinct == weights else out[:, np.arange(weights) % distinct]


@lru_cache(maxsize=8)
def _packed_registers(base: bytes, count: int, generator: Generator) -> Array:
    """Return the base register after each step, uint64 (count, ceil(n_c / 64))."""
    return _as_uint64(words_of(registers(np.frombuffer(base, np.uint16), count, generator)))


def _as_uint64(words: Array) -> Array:
    """Return uint16 (n, k) as uint64 (n, ceil(k / 4)), zeros behind the end."""
    padded = np.pad(words, ((0, 0), (0, -words.shape[1] % 4)))
    return np.ascontiguousarray(padded, "<u2").view("<u8").astype(np.uint64)


def slice_grid(shape: Shape, slice_shape: Shape) -> Shape:
    """Return the slices along each axis of a layer's weights (O, I, H, W)."""
    blocks = tuple(-(-size // part) for size, part in zip(shape, slice_shape))
    return blocks[0], blocks[1], blocks[2], blocks[3]


def slice_count(shape: Shape, slice_shape: Shape) -> int:
    """Return the slices of a layer's weights (O, I, H, W)."""
    return prod(slice_grid(shape, slice_shape))


def assembled(slices: Array, shape: Shape, slice_shape: Shape) -> Array:
    """Return weights (O, I, H, W) of slices (n, S), ordered filters outer, channels, rows, columns inner.

    What a slice has beyond the edge of the layer is left out.
    """
    grid = slice_grid(shape, slice_shape)
    blocks = slices.reshape(*grid, *slice_shape).transpose(0, 4, 1, 5, 2, 6, 3, 7)
    whole = blocks.reshape([n * part for n, part in zip(grid, slice_shape)])
    filters, channels, rows, columns = shape
    return np.ascontiguousarray(whole[:filters, :channels, :rows, :columns])


def layer_weights(base: Array, codes: Array, shape: Shape, slice_shape: Shape, generator: Generator) -> Array:
    """Return a layer's integer weights int16 (O, I, H, W) from its code vectors uint16 (slices, n_c / 16)."""
    return assembled(slice_weights(base, codes, prod(slice_shape), generator), shape, slice_shape)


def xorshift_words(seed: int, count: int) -> Array:
    """Return the upper 16 bits of the next `count` states of xorshift32 (13, 17, 5), uint16: vectors to be had again.

    Source: G. Marsaglia, Xorshift RNGs, Journal of Statistical Software 8(14), 2003.
    """
    state, words = seed, np.empty(count, np.uint16)
    for i in range(count):
        state ^= state << 13 & 0xFFFFFFFF
        state ^= state >> 17
        state ^= state << 5 & 0xFFFFFFFF
        words[i] = state >> 16
    return words
