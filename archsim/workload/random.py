"""Random streams that depend on what they are for, never on order, batch or process."""

from __future__ import annotations

import hashlib

import numpy as np


def rng_for(seed: int, accelerator: str, layer: str, use: str, image: int) -> np.random.Generator:
    """Return the generator of one use of one image: Philox, its 128-bit key the sha256 of the five values."""
    digest = hashlib.sha256(repr((seed, accelerator, layer, use, image)).encode()).digest()
    return np.random.Generator(np.random.Philox(key=int.from_bytes(digest[:16], "little")))
