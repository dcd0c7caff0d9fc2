"""What `rtl/bit_error_injector` does to words on their way: independent flips, at any rate, at any place of a stream.

Bit i of word number n flips if h(key, n, i) < threshold, h 32 bits and the threshold 33, so that the rate is
threshold / 2^32 exactly, from no bit (0) to every bit (2^32). Nothing is drawn one after the other: h is a pure
function, and a stream may start at any position. Three steps:

1. Four words of 32 bits, (key, position) with a constant in the place of zeros, pass ROUNDS rounds of Chaskey's
   permutation: additions, rotations, XOR. Source: N. Mouha et al., SAC 2014.
2. They are the coefficients of a polynomial of degree 3 over GF(2^32), and u_i is its value at the point i. So any four
   bits of a word are independent if the four words are random. Source: M. Wegman, J. L. Carter, JCSS 22, 1981. Squares
   are linear over GF(2); so a value differs from one with a bit less in i by an XOR of shared words: two XORs a bit.
3. h adds the lower half of u_i to the upper one. That keeps bits of a word as independent as they were, and hides
   from sets of more than four that u_i is linear in the coefficients.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any, NamedTuple

import numpy as np

from archsim.memory.dram.fields import Array
from archsim.rtl import Signals

ROUNDS = 6
DW = 64
"""Bits of a word."""
ALWAYS = 1 << 32
"""The threshold at which every bit flips."""
NONZERO = 0x9E3779B9
POLYNOMIAL = 0x8D
"""x^32 + x^7 + x^3 + x^2 + 1 without its first term; irreducible over GF(2)."""
MASK = (1 << 32) - 1
CHUNK = 1 << 13
"""Words hashed at once: what is in flight stays in the cache."""
COUNTERS = ("cnt_words", "cnt_approx", "cnt_flips")


def threshold_of(ber: float) -> int:
    """Return the threshold nearest to a bit error rate from 0 to 1."""
    return round(ber * ALWAYS)


def _rotated(word: Any, by: int) -> Any:
    return (word << by | word >> (32 - by)) & MASK


def coefficients(key: int, position: Any) -> tuple[Any, Any, Any, Any]:
    """Return four words of 32 bits, of an int or of positions uint64 (n,), for a key of 64 bits."""
    a, b = key & MASK, key >> 32
    c, d = position & MASK, position >> 32 ^ NONZERO
    for _ in range(ROUNDS):
        a, c = a + b & MASK, c + d & MASK
        b, d = _rotated(b, 5) ^ a, _rotated(d, 8) ^ c
        a, c = (_rotated(a, 16) + d) & MASK, c + b & MASK
        b, d, c = _rotated(b, 7) ^ c, _rotated(d, 13) ^ a, _rotated(c, 16)
    return a, b, c, d


def _times_x(word: Any) -> Any:
    """Return a word times x in GF(2^32)."""
    return (word << 1 & MASK) ^ (word >> 31) * POLYNOMIAL


def _multiples(word: Any, count: int) -> list[Any]:
    """Return a word times x^0, x^1, ..."""
    found = [word]
    while len(found) < count:
        found.append(_times_x(found[-1]))
    return found


def values(words: Sequence[Any], count: int = DW) -> list[Any]:
    """Return a + b*i + c*i^2 + d*i^3 in GF(2^32) for i = 0 .. count - 1, the bits of i as a polynomial.

    For i = j + 2^k with j < 2^k the value is that of j, XOR b*x^k + c*x^2k + d*x^3k, XOR d*(x^k*j^2 + x^2k*j).
    """
    a, b, c, d = words
    bits = (count - 1).bit_length()
    times_b, times_c, times_d = _multiples(b, bits), _multiples(c, 2 * bits), _multiples(d, 3 * bits)
    found = [a]
    for k in range(bits):
        steps = [times_b[k] ^ times_c[2 * k] ^ times_d[3 * k]]
        for m in range(k):
            cross = times_d[k + 2 * m] ^ times_d[2 * k + m]
            steps += [step ^ cross for step in steps]
        found += [value ^ step for value, step in zip(found, steps)]
    return found[:count]


def hashes(key: int, position: Any, count: int = DW) -> list[Any]:
    """Return h of every bit of a word: ints, or arrays uint64 (n,) for n positions."""
    return [(value + (value << 16)) & MASK for value in values(coefficients(key, position), count)]


def flip_masks(key: int, threshold: int, positions: Array) -> Array:
    """Return which bits flip, uint64 (n,), of the words at these positions, uint64 (n,)."""
    positions, masks = np.asarray(positions, np.uint64), np.zeros(len(positions), np.uint64)
    for first in range(0, len(positions), CHUNK):
        part = slice(first, first + CHUNK)
        for i, value in enumerate(hashes(key, positions[part])):
            masks[part] |= (value < threshold).astype(np.uint64) << np.uint64(i)
    return masks


def injected(words: Array, approx: Array, key: int, threshold: int, first: int = 0) -> Array:
    """Return a stream of words uint64 (n,) as its reader sees it; where approx (n,) is 0, as it is.

    Every word has its place in the stream, from position `first` on, whether it is approximate or not.
    """
    positions = np.arange(first, first + len(words), dtype=np.uint64)
    return words ^ np.where(approx, flip_masks(key, threshold, positions), np.uint64(0))


class Passing(NamedTuple):
    """A word on its way through the pipeline."""

    data: int
    approx: int
    position: int


class BitErrorInjector:
    """The registers of `rtl/bit_error_injector`; one `step` is one clock cycle, a word takes ROUNDS + 1 of them."""

    def __init__(self, parameters: Mapping[str, int]) -> None:
        self.bits = parameters["DW"]
        self.reset()

    def reset(self) -> None:
        """Empty the pipeline; no bit flips until a threshold is set."""
        self.stages: list[Passing | None] = [None] * ROUNDS
        self.key = self.threshold = self.position = 0
        self.out_valid = self.out_data = 0
        self.counters = dict.fromkeys(COUNTERS, 0)

    def step(self, inputs: Signals) -> Signals:
        """Return the ports within this cycle, then pass the clock edge."""
        stall = self.out_valid and not inputs["out_ready"]
        ready, empty = not stall and not inputs["cfg_valid"], not any(self.stages)
        outputs = {
            "cfg_ready": int(empty),
            "in_ready": int(ready),
            "out_valid": self.out_valid,
            "out_data": self.out_data,
            "position": self.position,
            **self.counters,
        }
        if not stall:
            *self.stages, last = [self._taken(inputs) if ready else None, *self.stages]
            self.out_valid = int(last is not None)
            if last is not None:
                self._leave(last)
        if inputs["cfg_valid"] and empty:
            self.key, self.threshold, self.position = (
                inputs[f"cfg_{name}"] for name in ("key", "threshold", "position")
            )
        if inputs["rst"]:
            self.reset()
        return outputs

    def _taken(self, inputs: Signals) -> Passing | None:
        """Return the word that comes in, if there is one."""
        if not inputs["in_valid"]:
            return None
        self.position += 1
        return Passing(inputs["in_data"], inputs["in_approx"], self.position - 1)

    def _leave(self, word: Passing) -> None:
        """Put a word into the output register."""
        flips = 0
        if word.approx:
            found = hashes(self.key, word.position, self.bits)
            flips = sum((value < self.threshold) << i for i, value in enumerate(found))
        self.out_data = word.data ^ flips
        for name, more in zip(COUNTERS, (1, word.approx, flips.bit_count())):
            self.counters[name] += more
