"""Random filters, layers and streams for the tests of `bloom`, and slow twins written after the specification."""

from __future__ import annotations

import json
import math
from pathlib import Path
from typing import Any

import numpy as np

from archsim.accelerators.bloom.config import PRESETS, BloomConfig
from archsim.accelerators.bloom.filters import Bank, Patterns, programmed
from archsim.accelerators.bloom.floats import OPERANDS
from archsim.accelerators.bloom.h3 import Shape, coefficients

THESIS: dict[str, Any] = json.loads((Path(__file__).with_name("thesis.json")).read_text())
LENET = BloomConfig(**PRESETS["lenet-t25"])


def config(**changes: Any) -> BloomConfig:
    return BloomConfig(**{**PRESETS["lenet-t25"], **changes})


def twin_addresses(C: np.ndarray, key: int) -> list[int]:
    """XOR of the coefficients of the key's set bits, hash by hash, as printed."""
    found = []
    for hash_coefficients in C.tolist():
        address = 0
        for i, coefficient in enumerate(hash_coefficients):
            if key >> i & 1:
                address ^= coefficient
        found.append(address)
    return found


def twin_key(tops: list[int], apx: int) -> int:
    """Operand 0 most significant."""
    key = 0
    for top in tops:
        key = key << apx | top
    return key


def twin_answer(bank: Bank, tops: list[int]) -> int:
    """Ask filter after filter, one vector each; the first that has all bits set answers."""
    key = twin_key(tops, bank.shape.apx)
    for f in range(bank.filters):
        C = bank.C[f if bank.shape.banks > 1 else 0]
        if all(bank.vectors[f, at] for at in twin_addresses(C, key)):
            return f
    return -1


def random_bank(rng: np.random.Generator, *, single: bool = False, shared: bool | None = None, **fixed: int) -> Bank:
    """Filters with random patterns; some patterns share an output."""
    kind = fixed.get("operands") or int(rng.integers(1, 4))
    apx = fixed.get("apx") or int(rng.integers(8, 33))
    m, k = fixed.get("m") or int(2 ** rng.integers(5, 12)), fixed.get("k") or int(rng.integers(1, 5))
    n = fixed.get("patterns") or int(rng.integers(1, 24))
    tops = np.unique(rng.integers(0, 2**apx, (n, kind), dtype=np.uint64).astype(np.uint32), axis=0)
    outputs = rng.integers(0, max(1, 2 * n // 3), len(tops)).astype(np.float32)
    patterns = Patterns(tops, np.sort(rng.integers(1, 1000, len(tops)))[::-1].copy(), outputs)
    shared = single or (bool(rng.integers(2)) if shared is None else shared)
    shape = Shape(1 if shared else len(np.unique(outputs)), k, int(math.log2(m)), kind, apx)
    return programmed(shape, coefficients(shape, int(rng.integers(1, 2**32))), patterns, single=single)


def printed_bank(outputs: int, patterns: int, m: int, k: int, kind: str, *, shared: bool, apx: int = 32) -> Bank:
    """Filters of a printed size, patterns dealt evenly to outputs."""
    rng = np.random.default_rng(5)
    tops = rng.integers(0, 2**apx, (patterns, OPERANDS[kind]), dtype=np.uint64).astype(np.uint32)
    chosen = Patterns(tops, np.arange(patterns, 0, -1), (np.arange(patterns) % outputs).astype(np.float32))
    shape = Shape(1 if shared else outputs, k, int(math.log2(m)), OPERANDS[kind], apx)
    return programmed(shape, coefficients(shape, 7), chosen, single=shared)
