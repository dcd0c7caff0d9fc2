"""What a reader of an approximate DRAM sees: which cells are weak, and which bits of a tensor flip.

Weak cells are a property of the device: a pure function of its seed and of where the tensor lies. Flips are a property
of one draw: a pure function of its key (seed, region, layer, index) and of a bit's place in the tensor. Nothing
depends on the order of requests, on blocks, threads or processes.
"""

from __future__ import annotations

import hashlib
from math import log1p
from typing import TYPE_CHECKING, Annotated, Any, Literal, Self, TypeAlias

import numpy as np
import numpy.typing as npt
from pydantic import BaseModel, ConfigDict, Field, model_validator

from archsim.errors import StudyError
from archsim.memory.dram.profiles import share_of_values
from archsim.units import BITS_PER_BYTE

if TYPE_CHECKING:
    from archsim.memory.dram.config import DramConfig

Array: TypeAlias = npt.NDArray[Any]
DrawKey: TypeAlias = tuple[int, str, str, int]
"""Seed, region, layer, index of the image (maps) or of the batch (weights)."""
Share = Annotated[float, Field(gt=0, le=1, allow_inf_nan=False)]


class ErrorModel(BaseModel):
    """Where errors lie, given how many there are: a level's BER is the mean over all cells, whatever the model.

    - `uniform` (EDEN 0): weak cells anywhere; with `weak_share` 1 every bit flips by itself.
    - `bitline` (EDEN 1): cells of weak columns of a bank. `wordline` (EDEN 2): cells of weak rows.
    - `data_dependent` (EDEN 3): as `uniform`; stored ones and zeros flip at different rates.
    - `retention`: as `uniform`; what differs is the profile, whose levels are intervals between refreshes. A cell's
      age is the longest it can get, that interval, for every read.
    - `value_uniform` (thesis, 4.2): an n-bit value becomes any n-bit value with probability 1 - (1 - BER)^n (4.11). On
      average half the bits of such a value flip.
    """

    model_config = ConfigDict(frozen=True, extra="forbid")

    kind: Literal["uniform", "bitline", "wordline", "data_dependent", "retention", "value_uniform"] = "uniform"
    weak_share: Share = Field(default=1.0, description="share of cells, bitlines or wordlines that ever flip")
    one_share: Annotated[float, Field(ge=0, le=1, allow_inf_nan=False)] = Field(
        default=0.5, description="data_dependent: share of flips that hit stored ones, where half the bits are ones"
    )
    device_seed: Annotated[int, Field(ge=0, strict=True)] = Field(
        default=0, description="another one, other weak cells"
    )
    plausible_max: Annotated[float, Field(gt=0, allow_inf_nan=False)] | None = Field(
        default=None, description="floats read beyond it, and what is no number, become 0 (EDEN's practice)"
    )

    @model_validator(mode="after")
    def _consistent(self) -> Self:
        """Refuse fields the kind has no use for."""
        if self.kind != "data_dependent" and self.one_share != 0.5:
            raise ValueError(f"one_share is for data_dependent, not {self.kind}; got {self.one_share}")
        if self.kind == "value_uniform" and self.weak_share != 1:
            raise ValueError(f"value_uniform knows no weak cells: weak_share must be 1, got {self.weak_share}")
        return self

    def flip_rates(self, ber: float) -> tuple[float, float]:
        """Return the probability that a read flips a weak cell that stores 0, and one that stores 1.

        Raises: StudyError if the BER is no probability, or cannot be reached with so few weak cells.
        """
        if not 0 <= ber <= 1:
            raise StudyError(f"must be from 0 to 1, got {ber!r}", field="ber")
        if self.kind == "value_uniform":
            return ber, ber
        rates = 2 * (1 - self.one_share) * ber / self.weak_share, 2 * self.one_share * ber / self.weak_share
        if max(rates) > 1:
            most = self.weak_share / (2 * max(self.one_share, 1 - self.one_share))
            raise StudyError(
                f"must be at most {most:g} with weak_share {self.weak_share:g} and one_share {self.one_share:g} "
                f"(weak cells flip with a probability of at most 1), got {ber:g}",
                field="ber",
            )
        return rates


def hash64(*parts: int | str) -> int:
    """Return 64 bits that depend on the parts only, not on process, platform or version."""
    return int.from_bytes(hashlib.blake2b(repr(parts).encode(), digest_size=8).digest(), "little")


def perturb(
    words: Array,
    ber: float,
    model: ErrorModel,
    key: DrawKey,
    address_bytes: int,
    geometry: DramConfig,
    *,
    bits: int | None = None,
    first: int = 0,
) -> Array:
    """Return what a reader of `words` sees: a new C-contiguous array, or `words` itself if `ber` is 0.

    words: integers or floats of 1 to 8 bytes, any shape, stored one after the other in C order, lowest bit first, from
    `address_bytes` on (of the tensor's first word; the address wraps at the capacity). bits: width of a stored word,
    by default the whole carrier. Of a narrower integer the low bits are stored, and a sign is extended anew; an
    unsigned code above 2^bits - 1 is stored as that (int8 affine has 257 levels). Of a narrower float the high bits
    are stored (bfloat16 in float32). first: place of `words[0]` in the tensor, for a part of one.

    Cost: a copy, plus about 20 ns per candidate, of which there are flips / weak_share.
    Raises: StudyError if the BER is out of reach of the model; ValueError for a carrier that cannot hold the bits.
    """
    rate_0, rate_1 = model.flip_rates(ber)
    if ber == 0 or not words.size:
        return words
    from archsim.memory.dram.kernel_errors import BITLINE, CELL, WORDLINE, flip_bits, replace_words

    seen = np.array(words, order="C", copy=True)
    masks, most = _stored(seen.dtype, bits)
    carrier = seen.reshape(-1).view(f"u{seen.dtype.itemsize}")
    seed, region, layer, index = key
    draw = np.uint64(hash64(int(seed), str(region), str(layer), int(index)))
    if model.kind == "value_uniform":
        replace_words(carrier, masks, first, draw, _scale(share_of_values(ber, len(masks))))
    else:
        rate, scope = max(rate_0, rate_1), {"bitline": BITLINE, "wordline": WORDLINE}.get(model.kind, CELL)
        device, address_bit = np.uint64(hash64("weak", model.device_seed)), int(address_bytes) * BITS_PER_BYTE
        flip_bits(
            carrier, masks, most, first, draw, _scale(rate), rate_0 / rate, rate_1 / rate, device, model.weak_share,
            scope, address_bit, geometry.row_bytes * BITS_PER_BYTE, geometry.all_banks, geometry.rows,
        )  # fmt: skip
    if model.plausible_max is not None and seen.dtype.kind == "f":
        with np.errstate(invalid="ignore"):
            seen[~(np.abs(seen) <= model.plausible_max)] = 0
    return seen


def _scale(rate: float) -> float:
    """Return the factor from log(u) to the gap between candidates at this rate."""
    return 0.0 if rate >= 1 else 1 / log1p(-rate)


def _stored(dtype: np.dtype[Any], bits: int | None) -> tuple[Array, np.uint64]:
    """Return what a flip of each stored bit changes in the carrier, uint64 (bits,), and the largest unsigned code."""
    width = dtype.itemsize * BITS_PER_BYTE
    bits = width if bits is None else bits
    if dtype.kind not in "iuf" or width > 64 or not 1 <= bits <= width:
        raise ValueError(f"a word of {bits} bits cannot be kept in {dtype}")
    low = width - bits if dtype.kind == "f" else 0
    masks = np.uint64(1) << np.arange(low, low + bits, dtype=np.uint64)
    every = np.uint64(2**width - 1)
    if dtype.kind == "i":  # all bits above the sign are copies of it
        masks[-1] = every & ~np.uint64(2 ** (bits - 1) - 1)
    return masks, np.uint64(2**bits - 1) if dtype.kind == "u" else every
