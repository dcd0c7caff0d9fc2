"""Flips counted one by one, and the rules of which bits flip in plain Python: what the kernels must do."""

from __future__ import annotations

import math
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np

from archsim.memory.dram.errors import Array, DrawKey, ErrorModel, hash64, perturb
from archsim.memory.dram.kernel_errors import BLOCK
from tests.dram.traces import config

A = config("A")
ROW_BITS = A.row_bytes * 8
MODELS: Mapping[str, ErrorModel] = {
    "uniform": ErrorModel(),
    "uniform, weak cells": ErrorModel(weak_share=0.1),
    "bitline": ErrorModel(kind="bitline", weak_share=0.05),
    "wordline": ErrorModel(kind="wordline", weak_share=0.2),
    "data_dependent": ErrorModel(kind="data_dependent", weak_share=0.1, one_share=0.8),
    "retention": ErrorModel(kind="retention", weak_share=0.02),
    "value_uniform": ErrorModel(kind="value_uniform"),
}
KEY: DrawKey = (7, "weights", "conv1", 0)
MASK = 2**64 - 1


def flipped(before: Array, after: Array) -> Array:
    """Which bits differ, bool (bits,), in the order of the memory."""
    assert before.dtype == after.dtype and before.shape == after.shape and after is not before
    differ = np.ascontiguousarray(before).view(np.uint8) ^ after.view(np.uint8)
    return np.unpackbits(differ.reshape(-1), bitorder="little").view(bool)


def stored(words: Array) -> Array:
    """The bits as stored, bool (bits,)."""
    return np.unpackbits(words.view(np.uint8).reshape(-1), bitorder="little").view(bool)


def tensor(bits: int, seed: int = 0) -> Array:
    """Random int16 that fill whole rows of every bank, at least this many bits of them."""
    rows = -(-bits // (ROW_BITS * A.banks)) * A.banks
    return np.random.default_rng(seed).integers(-(2**15), 2**15, rows * ROW_BITS // 16).astype(np.int16)


# Statistics ----------------------------------------------------------------------------------------------------------
@dataclass(frozen=True)
class Figure:
    """A count beside what is expected of it."""

    name: str
    got: float
    expected: float
    sigma: float

    @property
    def sigmas(self) -> float:
        return abs(self.got - self.expected) / self.sigma if self.sigma else (0.0 if self.got == self.expected else 99)


def share(name: str, hits: Array, p: float, cells_of_a_unit: int = 1) -> Figure:
    """The share of true ones; they come in units that are true or false as a whole."""
    return Figure(name, float(hits.mean()), p, math.sqrt(p * (1 - p) / (hits.size / cells_of_a_unit)))


def measured(name: str, bits: int, ber: float, address: int = 0) -> Iterator[Figure]:
    """D11 for one model: BER, weak share, rates of stored zeros and ones; whole columns and rows are weak, or none."""
    model, words = MODELS[name], tensor(bits)
    once, again = (flipped(words, perturb(words, ber, model, (*KEY[:3], i), address, A)) for i in (0, 1))
    if model.kind == "value_uniform":
        p_err = 1 - (1 - ber) ** 16
        seen = once.reshape(-1, 16)
        yield share("values", seen.any(axis=1), p_err * (1 - 2.0**-16))
        yield share("bits of values that differ", seen[seen.any(axis=1)], 0.5 / (1 - 2.0**-16))
        return
    P, n = model.weak_share, once.size
    n_unit = {"bitline": n // (A.banks * ROW_BITS), "wordline": ROW_BITS}.get(model.kind, 1)
    every = model.model_copy(update={"kind": "uniform" if model.kind == "data_dependent" else model.kind})
    every = every.model_copy(update={"one_share": 0.5})
    weak = flipped(words, perturb(words, P, every, KEY, address, A))  # at this BER every weak cell flips
    F = ber / P
    spread = math.sqrt(P * F * (1 - F) / n + F**2 * P * (1 - P) * n_unit / n)
    yield Figure("BER", float(once.mean()), ber, spread)
    yield share("weak", weak, P, n_unit)
    zero, one = model.flip_rates(ber)
    ones = stored(words)
    yield share("stored ones", once[weak & ones], one)
    yield share("stored zeros", once[weak & ~ones], zero)
    yield Figure("flips of strong cells", float((once & ~weak).sum() + (again & ~weak).sum()), 0, 0)
    if P == 1 or model.kind in ("uniform", "retention"):
        yield share("flips of both reads", (once & again)[weak], F * F)
    banks = weak.reshape(-1, A.banks, ROW_BITS)
    if model.kind == "bitline":
        yield Figure("columns weak in part", float((banks != banks[0]).sum()), 0, 0)
    if model.kind == "wordline":
        yield Figure("rows weak in part", float((banks != banks[..., :1]).sum()), 0, 0)


def deviation(counts: Array) -> float:
    """How many sigmas chi-square of counts, expected to be equal, lies off its mean."""
    mean, freedom = counts.mean(), len(counts) - 1
    return float((((counts - mean) ** 2 / mean).sum() - freedom) / math.sqrt(2 * freedom))


# The rules in plain Python -------------------------------------------------------------------------------------------
def mix(x: int) -> int:
    z = (x + 0x9E3779B97F4A7C15) & MASK
    z = ((z ^ z >> 30) * 0xBF58476D1CE4E5B9) & MASK
    z = ((z ^ z >> 27) * 0x94D049BB133111EB) & MASK
    return z ^ z >> 31


def uniform(x: int) -> float:
    return ((mix(x & MASK) >> 12) + 0.5) / 2**52


def candidates(key: int, rate: float, stop: int) -> Iterator[tuple[int, int]]:
    """Places below `stop` drawn at this rate, and the counter each was drawn with."""
    for block in range(-(-stop // BLOCK)):
        counter, place = mix(key ^ mix(block)), block * BLOCK
        while True:
            place += 0 if rate >= 1 else math.floor(math.log(uniform(counter)) / math.log1p(-rate))
            if place >= min((block + 1) * BLOCK, stop):
                break
            yield place, counter
            counter, place = (counter + 1) & MASK, place + 1


def weak(model: ErrorModel, address_bit: int) -> bool:
    """Whether the cell at a bit address is weak."""
    line, bit = address_bit // 512 % (A.capacity_bytes // 64), address_bit % 512
    column, row = line % A.row_lines, line // A.row_lines
    bank = row % A.banks
    in_row = column * 512 + bit
    unit = {"bitline": bank * ROW_BITS + in_row, "wordline": row}.get(model.kind, row * ROW_BITS + in_row)
    return model.weak_share == 1 or uniform(hash64("weak", model.device_seed) + unit) < model.weak_share


def slowly(codes: list[int], bits: int, ber: float, model: ErrorModel, key: DrawKey, address: int) -> list[int]:
    """What a reader sees of codes of `bits` bits, all as unsigned numbers."""
    draw, seen = hash64(*key), list(codes)
    if model.kind == "value_uniform":
        for i, counter in candidates(draw, 1 - (1 - ber) ** bits, len(codes)):
            seen[i] = mix(counter ^ 0xD1B54A32D192ED03) & (2**bits - 1)
        return seen
    rates = model.flip_rates(ber)
    for place, counter in candidates(draw, max(rates), len(codes) * bits):
        i, bit = divmod(place, bits)
        keep = rates[codes[i] >> bit & 1] / max(rates)
        if weak(model, address * 8 + place) and (keep >= 1 or uniform(counter ^ 0xD1B54A32D192ED03) < keep):
            seen[i] ^= 1 << bit
    return seen


def codes_of(words: Array, bits: int) -> list[int]:
    """The stored bits of words as unsigned numbers."""
    width = words.dtype.itemsize * 8
    raw: list[Any] = words.reshape(-1).view(f"u{words.dtype.itemsize}").tolist()
    return [code >> (width - bits) if words.dtype.kind == "f" else code & (2**bits - 1) for code in raw]
