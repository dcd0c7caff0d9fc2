"""Traces the reference simulators were run on, made anew from their recipes, and what was measured on them."""

from __future__ import annotations

import json
import zlib
from functools import cache
from pathlib import Path
from typing import Any

import numpy as np

from archsim.memory.dram.config import DramConfig
from archsim.memory.dram.fields import Array
from archsim.memory.dram.presets import PRESETS

REFERENCE: dict[str, Any] = json.loads((Path(__file__).with_name("reference.json")).read_text())
CONFIGS = {"A": "DDR3-1600-2Gb-x16", "C": "DDR4-2400-8Gb-x8"}
SEEDS = {"random": 12345, "randrw": 777}
WRITES_BELOW = 5
"""Of the top four bits of a draw: 5 of 16 requests write."""


def config(name: str, **changes: Any) -> DramConfig:
    """Return configuration A or C with fields changed."""
    return DramConfig(**{**PRESETS[CONFIGS[name]], **changes})


def splitmix64(seed: int, n: int) -> Array:
    """Return n draws, uint64 (n,). Source: G. Steele et al., OOPSLA 2014."""
    with np.errstate(over="ignore"):
        z = np.uint64(seed) + np.arange(1, n + 1, dtype=np.uint64) * np.uint64(0x9E3779B97F4A7C15)
        z = (z ^ (z >> np.uint64(30))) * np.uint64(0xBF58476D1CE4E5B9)
        z = (z ^ (z >> np.uint64(27))) * np.uint64(0x94D049BB133111EB)
    mixed: Array = z ^ (z >> np.uint64(31))
    return mixed


@cache
def trace(name: str, kind: str, n: int) -> tuple[Array, Array]:
    """Return lines and write flags, int64 (n,), checked against the fingerprint of the trace that was measured."""
    capacity = config(name).capacity_bytes // 64
    if kind == "stream":
        lines, writes = np.arange(n) % capacity, np.zeros(n, np.int64)
    else:
        draws = splitmix64(SEEDS[kind], n)
        lines = (draws & np.uint64(capacity - 1)).astype(np.int64)
        writes = ((draws >> np.uint64(60)) < WRITES_BELOW) & (kind == "randrw")
    encoded = (lines * 64 + writes).astype("<i8")
    assert zlib.crc32(encoded.tobytes()) == REFERENCE["fingerprints"][f"{name}/{kind}/{n}"]
    return lines, writes.astype(np.int64)
