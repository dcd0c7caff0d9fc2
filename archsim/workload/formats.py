"""Number formats: how a real value becomes a code and back. One scale per tensor.

Fixed point: value = code * 2^-f, f = n-1-ceil(log2(max|v|)), symmetric, two's complement, saturating; bfloat16 rounds
to nearest even on storing; int8 affine: value = code * step + low, rounded down; fp32: as imported.
"""

from __future__ import annotations

import math
from abc import ABC, abstractmethod
from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt

Array = npt.NDArray[Any]
ENCODE_BLOCK = 1 << 15
"""Values encoded at once: what they become on the way stays in the cache."""


@dataclass(frozen=True)
class Scale:
    """How codes of one tensor map to values: fixed point uses `fraction_bits`, affine uses `step` and `low`."""

    fraction_bits: int = 0
    step: float = 1.0
    low: float = 0.0


class NumberFormat(ABC):
    """A number format; instances are frozen and compare by value."""

    name: str
    bits: int
    integer: bool

    @abstractmethod
    def scale_of(self, low: float, high: float) -> Scale:
        """Return the scale of a tensor whose calibrated values lie in [low, high]."""

    @abstractmethod
    def encode(self, values: Array, scale: Scale) -> Array:
        """Return the codes of real values, rounded and saturated."""

    @abstractmethod
    def decode(self, codes: Array, scale: Scale) -> Array:
        """Return the real values of codes (float64 for integer formats, float32 otherwise)."""


@dataclass(frozen=True)
class Fixed(NumberFormat):
    """Fixed point with `bits` bits and a power-of-two scale per tensor (house rule 2); codes are int16 or int32."""

    bits: int = 16
    integer = True

    @property
    def name(self) -> str:  # type: ignore[override]
        """`fixed16` and the like."""
        return f"fixed{self.bits}"

    @property
    def code_max(self) -> int:
        """Largest code; the smallest is `-code_max - 1`."""
        return int((1 << (self.bits - 1)) - 1)

    @property
    def dtype(self) -> type[np.signedinteger[Any]]:
        """Storage type of the codes."""
        return np.int16 if self.bits <= 16 else np.int32

    def scale_of(self, low: float, high: float) -> Scale:
        """f = n-1-ceil(log2(max|v|)); an all-zero tensor gets f = n-1."""
        peak = max(abs(low), abs(high))
        if peak == 0:
            return Scale(fraction_bits=self.bits - 1)
        mantissa, exponent = math.frexp(peak)
        return Scale(fraction_bits=self.bits - 1 - (exponent - 1 if mantissa == 0.5 else exponent))

    def encode(self, values: Array, scale: Scale) -> Array:
        """Round half up, saturate to n bits; in blocks, which spares large temporary arrays."""
        given = np.asarray(values)
        flat, codes = given.reshape(-1), np.empty(given.size, self.dtype)
        for first in range(0, given.size, ENCODE_BLOCK):
            part = slice(first, first + ENCODE_BLOCK)
            scaled = np.ldexp(flat[part].astype(np.float64), scale.fraction_bits)
            scaled += 0.5
            np.floor(scaled, out=scaled)
            codes[part] = np.clip(scaled, -self.code_max - 1, self.code_max, out=scaled)
        return codes.reshape(given.shape)

    def decode(self, codes: Array, scale: Scale) -> Array:
        """value = code * 2^-f in float64."""
        return np.ldexp(np.asarray(codes, np.float64), -scale.fraction_bits)


class Floating(NumberFormat):
    """A format whose codes are the values, float32, and need no scale."""

    integer = False

    def scale_of(self, low: float, high: float) -> Scale:
        """No scale."""
        return Scale()

    def decode(self, codes: Array, scale: Scale) -> Array:
        """The codes are the values."""
        return codes


@dataclass(frozen=True)
class Float32(Floating):
    """fp32 as imported."""

    bits: int = 32
    name: str = "fp32"

    def encode(self, values: Array, scale: Scale) -> Array:
        """Values as float32."""
        return np.asarray(values, np.float32)


@dataclass(frozen=True)
class Bfloat16(Floating):
    """bfloat16: float32 arrays whose low 16 bits are zero, rounded to nearest even on storing."""

    bits: int = 16
    name: str = "bfloat16"

    def encode(self, values: Array, scale: Scale) -> Array:
        """Round to nearest even at bit 16; NaN stays NaN."""
        floats = np.ascontiguousarray(values, np.float32)
        bits = floats.view(np.uint32)
        rounded = (bits + np.uint32(0x7FFF) + ((bits >> np.uint32(16)) & np.uint32(1))) & np.uint32(0xFFFF0000)
        return np.where(np.isnan(floats), floats, rounded.view(np.float32))


@dataclass(frozen=True)
class AffineInt8(NumberFormat):
    """int8 affine: value = code * step + low, step = (high - low) / 256, rounded down and clipped to [low, high].

    The clip makes 257 levels (the top one is `high`), so codes are 0..256 and held in uint16; a word counts as 8 bits.
    Source: the quantiser of PROMISE's published error model (HPVM), kept as it is.
    """

    bits: int = 8
    name: str = "int8"
    integer = True
    code_max = 256
    snap = 2.0**-20
    """A value this close below a code (in steps) is that code; without it, decode and encode would drift apart."""

    def scale_of(self, low: float, high: float) -> Scale:
        """step = (high - low) / 256; an empty range gets step 1."""
        return Scale(step=(high - low) / self.code_max if high > low else 1.0, low=low)

    def encode(self, values: Array, scale: Scale) -> Array:
        """Round down, clip to 0..256."""
        return self.clipped(self.unclipped(values, scale))

    def unclipped(self, values: Array, scale: Scale) -> Array:
        """Return the codes before the clip, float64."""
        steps: Array = np.asarray(np.subtract(values, scale.low, dtype=np.float64))
        steps /= scale.step
        steps += self.snap
        np.floor(steps, out=steps)
        return steps

    def clipped(self, steps: Array) -> Array:
        """Return the codes of what `unclipped` gave."""
        return np.clip(steps, 0, self.code_max).astype(np.uint16)

    def decode(self, codes: Array, scale: Scale) -> Array:
        """value = code * step + low in float64."""
        return np.asarray(codes, np.float64) * scale.step + scale.low
