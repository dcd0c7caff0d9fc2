"""Configuration of the slice accelerator on an FPGA; presets carry their source and name what is assumed or fitted."""

from __future__ import annotations

from collections.abc import Mapping
from fnmatch import fnmatchcase
from math import prod
from typing import Annotated, Any, Literal

from pydantic import Field, model_validator

from archsim.accelerators.base import AcceleratorConfig
from archsim.units import BITS_PER_BYTE

Count = Annotated[int, Field(gt=0, le=2**31 - 1, strict=True)]
WORD_BITS = 16
WORD_BYTES = WORD_BITS // BITS_PER_BYTE
OWN_TABLE = "xpe-zynq7020"


class BsgConfig(AcceleratorConfig):
    """Array, partitions, slices and generator; all words are 16 bit."""

    design: Literal["bsg", "baseline"] = Field(
        default="bsg", description="weights are generated from code vectors, or every slice is loaded (`Original`)"
    )
    array_rows: Count = Field(description="filters worked on at once")
    array_columns: Count = Field(description="output positions worked on at once")
    partition_words: Count = Field(description="words of a feature map that one pass through a group of layers holds")
    slice_shape: tuple[Count, Count, Count, Count] = Field(description="filters, channels, rows, columns of a slice")
    n_c: int = Field(gt=0, le=8192, multiple_of=WORD_BITS, strict=True, description="bits of a code vector")
    generator: Literal["rotate", "feedback"] = Field(
        default="rotate", description="what enters the base register: its last bit, or the XOR of four of its bits"
    )
    generated: tuple[str, ...] = Field(
        default=("*",), description="convolutions with slices, as patterns; the network's first is never one of them"
    )
    codes: str | None = Field(default=None, description="file of code vectors (.npz) of a trained network")
    overlap: bool = Field(default=True, description="the next slice is generated while one is computed with")
    resources: Literal["printed", "yosys"] = Field(
        default="printed", description="slopes of LUT and FF per bit of n_c: the thesis's tables, or our synthesis"
    )
    source: str = Field(default="given in the study", description="where the values come from")
    assumed: tuple[str, ...] = Field(default=(), description="fields without a source")
    calibrated: str = Field(default="", description="which fields were fitted, and on what")

    @model_validator(mode="after")
    def _has_a_polynomial(self) -> BsgConfig:
        """Refuse lengths for which no feedback is known."""
        from archsim.accelerators.bsg.generator import TAPS

        if self.generator == "feedback" and self.n_c not in TAPS:
            raise ValueError(f"of n_c {', '.join(map(str, TAPS))} where generator is 'feedback'")
        return self

    @property
    def macs(self) -> int:
        """MAC units of the array."""
        return self.array_rows * self.array_columns

    @property
    def slice_weights(self) -> int:
        """Weights of a slice."""
        return prod(self.slice_shape)

    @property
    def code_words(self) -> int:
        """Words of a code vector, and of the base vector."""
        return self.n_c // WORD_BITS

    @property
    def generator_latency_cycles(self) -> int:
        """XOR register, registered levels of the adder tree, subtraction."""
        return 2 + (self.n_c - 1).bit_length()

    @property
    def generation_cycles(self) -> int:
        """Cycles from the first word of a code vector to the last weight of its slice."""
        return self.code_words + self.generator_latency_cycles + self.slice_weights

    def names(self, layer: str) -> bool:
        """Return whether `generated` names a layer."""
        return any(fnmatchcase(layer, pattern) for pattern in self.generated)


_ZYNQ: Mapping[str, Any] = {
    "clock_MHz": 112.88,
    "prices": OWN_TABLE,
    "array_rows": 16,
    "array_columns": 8,
    "partition_words": 2048,
    "slice_shape": (16, 16, 3, 3),
    "n_c": 256,
    "source": (
        "V. Akhlaghi, Algorithm-Hardware Optimization of Deep Neural Networks for Edge Applications, UC San Diego "
        "2020, chapter 5: 128 MAC units on an xc7z020, bfloat16, slices of 16 x 16 x 3 x 3"
    ),
    "assumed": ("array_rows x array_columns (128 in all)", "overlap", "generator latency", "halo of partitions (none)"),
    "calibrated": (
        "clock_MHz: 28.8 ms of Table 5.6, column Original, over the model's 3,250,944 cycles; partition_words: the "
        "power of two that gives the slope of the DRAM savings of Table 5.6"
    ),
}
PRESETS: Mapping[str, Mapping[str, Any]] = {
    "zynq7020": _ZYNQ,
    "zynq7020-baseline": {**_ZYNQ, "design": "baseline"},
    "zynq7020-mobilenet": {
        **_ZYNQ,
        "partition_words": 147456,
        "slice_shape": (16, 16, 1, 1),
        "n_c": 64,
        "generated": ("*_expand",),
        "source": f"{_ZYNQ['source']}; section 5.7.7: slices of 16 x 16 x 1 x 1 in the first convolution of each block",
        "calibrated": (
            "clock_MHz as in zynq7020; partition_words: the largest map, 144 x 32 x 32, fills 128 of the 131 BRAMs of "
            "Table 5.8"
        ),
    },
}
"""Preset name -> fields of `BsgConfig`."""
