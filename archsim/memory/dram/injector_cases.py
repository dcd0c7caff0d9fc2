"""What `rtl/bit_error_injector` is made to do: streams at all rates, from any position, with gaps and held results.

The words that must come out are those of the function on whole arrays.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

import numpy as np

from archsim.memory.dram.config import DramConfig
from archsim.memory.dram.fields import Array
from archsim.memory.dram.injector import ALWAYS, ROUNDS, injected, threshold_of
from archsim.rtl import RtlModel, Signals

WORDS = 120
"""Words of a stream of a random case, on average."""
BERS = (0.0, 1.0, 0.5, 0.1, 1.0772e-2, 1.645e-3, 1e-5)
"""Rates that random cases have by turns, two of them those of the thesis's Table 4.6."""
INPUTS = (
    "rst", "cfg_valid", "cfg_key", "cfg_threshold", "cfg_position", "in_valid", "in_data", "in_approx", "out_ready"
)  # fmt: skip
IDLE: Signals = {**dict.fromkeys(INPUTS, 0), "out_ready": 1}
Pattern = tuple[int, ...]


@dataclass(frozen=True)
class Stream:
    """A setting and the words that pass under it; `approx` says which may be changed."""

    key: int
    threshold: int
    first: int
    words: tuple[int, ...]
    approx: tuple[int, ...]


@dataclass(frozen=True)
class InjectorCase:
    """Streams one after the other; `offered` and `taken`, repeated, say when words are offered and results taken."""

    about: str
    streams: tuple[Stream, ...]
    outcomes: tuple[Signals, ...]
    totals: Signals
    offered: Pattern = (1,)
    taken: Pattern = (1,)

    def play(self, model: RtlModel) -> Iterator[tuple[Signals, Signals]]:
        """Reset; offer each setting and its words until they are taken; wait for the last word."""
        resets = {**IDLE, "rst": 1}
        yield resets, model.step(resets)
        cycle = 0
        for inputs, taken in self._offers():
            while True:
                offers = self.offered[cycle % len(self.offered)]
                given = {**(inputs if offers else IDLE), "out_ready": self.taken[cycle % len(self.taken)]}
                outputs = model.step(given)
                yield given, outputs
                cycle += 1
                if offers and outputs[taken]:
                    break
        for _ in range(ROUNDS + 2):
            yield IDLE, model.step(IDLE)

    def _offers(self) -> Iterator[tuple[Signals, str]]:
        """Yield settings and words as ports, with the port that says that they are taken."""
        for one in self.streams:
            setting = {"cfg_key": one.key, "cfg_threshold": one.threshold, "cfg_position": one.first}
            yield {**IDLE, **setting, "cfg_valid": 1}, "cfg_ready"
            for word, approx in zip(one.words, one.approx):
                yield {**IDLE, "in_valid": 1, "in_data": word, "in_approx": approx}, "in_ready"


def injector_cases(config: DramConfig, seed: int, words: int = WORDS) -> Iterator[InjectorCase]:
    """Yield random cases of two streams of about so many words without end."""
    rng = np.random.default_rng(seed)
    number = 0
    while True:
        bers = [BERS[(2 * number + i) % len(BERS)] for i in range(2)]
        streams = [_stream(rng, ber, max(1, int(words * rng.uniform(0.5, 1.5)))) for ber in bers]
        patterns = (_pattern(rng), _pattern(rng)) if number % 4 == 3 else ((1,), (1,))
        yield injector_case(f"BER {bers[0]:g}, then {bers[1]:g}", streams, patterns)
        number += 1


def _stream(rng: np.random.Generator, ber: float, n: int) -> Stream:
    """Return a stream with words of all kinds, from 0, from anywhere, or across a border of 32 bits."""
    key, word = (int(one) for one in rng.integers(0, 1 << 64, 2, np.uint64))
    first = int(rng.choice([0, int(rng.integers(0, 1 << 62)), (1 << 32) - n // 2]))
    words = rng.integers(0, 1 << 64, n, np.uint64) if rng.random() < 0.7 else np.full(n, word, np.uint64)
    approx = (rng.random(n) < rng.choice([0.5, 1.0])).astype(np.int64)
    return Stream(key, threshold_of(ber), first, tuple(words.tolist()), tuple(approx.tolist()))


def _pattern(rng: np.random.Generator) -> Pattern:
    """Return a pattern of 0 and 1 with at least one 1."""
    return (*rng.integers(0, 2, 13).tolist(), 1)


def injector_case(about: str, streams: list[Stream], patterns: tuple[Pattern, Pattern] = ((1,), (1,))) -> InjectorCase:
    """Return the case of some streams of words of 64 bits."""
    seen = np.concatenate([_seen(one) for one in streams])
    approx = sum(sum(one.approx) for one in streams)
    clean = np.concatenate([np.array(one.words, np.uint64) for one in streams])
    flips = sum(word.bit_count() for word in (seen ^ clean).tolist())
    return InjectorCase(
        about=about,
        streams=tuple(streams),
        outcomes=tuple({"out_data": word} for word in seen.tolist()),
        totals={"cnt_words": len(seen), "cnt_approx": approx, "cnt_flips": flips},
        offered=patterns[0],
        taken=patterns[1],
    )


def _seen(one: Stream) -> Array:
    """Return what a reader sees of a stream, uint64 (n,)."""
    assert one.threshold <= ALWAYS
    return injected(np.array(one.words, np.uint64), np.array(one.approx), one.key, one.threshold, one.first)
