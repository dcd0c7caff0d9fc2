"""Configuration of the SnaPEA array; presets carry their source and name what is assumed."""

from __future__ import annotations

from collections.abc import Mapping
from math import gcd
from typing import Annotated, Any, Literal

from pydantic import Field

from archsim.accelerators.base import AcceleratorConfig
from archsim.units import BITS_PER_BYTE

Count = Annotated[int, Field(gt=0, le=2**31 - 1, strict=True)]
Area = Annotated[float, Field(gt=0, allow_inf_nan=False)]
Comparison = Literal["<", "<="]
WORD_BITS = 16
WORD_BYTES = WORD_BITS // BITS_PER_BYTE
ACCUMULATOR_BITS = 48
ACCUMULATOR_MAX = (1 << (ACCUMULATOR_BITS - 1)) - 1
IO_RAM_PRICES = ("register_file", "by_size", "global_buffer")
"""Readings of what an access to the I/O RAM costs, cheapest first; the thesis does not print it."""


class SnapeaConfig(AcceleratorConfig):
    """Array, buffers and termination rules; all words are 16 bit, the accumulator has 48."""

    pe_rows: Count = Field(description="each row of PEs works on its own portion of the input")
    pe_columns: Count = Field(description="each column of PEs works on its own kernels")
    lanes: Literal[1, 2, 4, 8, 16] = Field(description="horizontally adjacent windows a PE works on at once")
    bubble_cycles: int = Field(
        ge=0, le=64, strict=True, description="cycles lost when a group of windows stops early; 0 is the ideal"
    )
    weight_buffer_bytes: Count
    index_buffer_bytes: Count
    io_ram_bytes: Annotated[Count, Field(ge=2 * WORD_BYTES)] = Field(description="of a PE; one half each way")
    chunk_weights: Count = Field(description="weights fetched at once when a kernel does not fit the weight buffer")
    technology_nm: Count
    mode: Literal["exact", "predictive", "dense"] = Field(
        default="exact",
        description="dense: the same array with termination off; predictive: with levels of speculation",
    )
    region_order: Literal["magnitude", "index", "activation"] = Field(
        default="magnitude",
        description="inside the non-negative and the negative part: by weight, as trained, or by weight times the mean "
        "activation of its channel over the calibration images",
    )
    th_compare: Comparison = Field(default="<", description="a partial sum that stops the speculation, against th")
    sign_compare: Comparison = Field(default="<", description="a partial sum that stops the negative part, against 0")
    drop_zero_weights: bool = Field(default=False, description="leave zero weights out of the stream, offline")
    weight_stream: Literal["ideal", "column_sync"] = Field(
        default="ideal", description="kernels reach the PEs without a stall, or a column shares what memory delivers"
    )
    input_banking: Literal["conflict-free", "interleaved"] = "conflict-free"
    lane_gate_input: bool = Field(default=False, description="a stopped lane does not read its input any more")
    io_capacity: Literal["unique", "replicated"] = Field(
        default="unique", description="every PE holds its own data, or the PEs of a row hold copies"
    )
    io_ram_price: Literal["register_file", "by_size", "global_buffer"] = "by_size"
    double_buffered: bool = Field(default=True, description="memory traffic overlaps with the computation of a layer")
    lane_area_mm2: Area | None = None
    pau_area_mm2: Area | None = Field(default=None, description="predictive activation unit of one lane")
    weight_buffer_area_mm2: Area | None = None
    index_buffer_area_mm2: Area | None = None
    io_ram_area_mm2: Area | None = None
    source: str = Field(default="given in the study", description="where the values come from")
    assumed: tuple[str, ...] = Field(default=(), description="fields without a source")

    @property
    def pes(self) -> int:
        """Processing elements of the array."""
        return self.pe_rows * self.pe_columns

    @property
    def buffered_weights(self) -> int:
        """Weights with their indices that fit a PE."""
        return min(self.weight_buffer_bytes, self.index_buffer_bytes) // WORD_BYTES

    @property
    def half_words(self) -> int:
        """Words of one half of a PE's I/O RAM."""
        return self.io_ram_bytes // 2 // WORD_BYTES

    @property
    def row_words(self) -> int:
        """Different input words a row of PEs can hold."""
        return self.half_words * (self.pe_columns if self.io_capacity == "unique" else 1)

    @property
    def map_words(self) -> int:
        """Words of the largest feature map that stays on chip."""
        return self.row_words * self.pe_rows

    @property
    def sign_floor(self) -> int:
        """Partial sums below this stop a window in the negative part."""
        return 0 if self.sign_compare == "<" else 1

    def step_cycles(self, horizontal_stride: int) -> int:
        """Cycles of one position: more than one where the words of adjacent windows fall into one input bank."""
        return 1 if self.input_banking == "conflict-free" else gcd(self.lanes, horizontal_stride)

    @property
    def area_mm2(self) -> float | None:
        """All PEs; None if the source states no areas."""
        lane = (self.lane_area_mm2, self.pau_area_mm2)
        shared = (self.weight_buffer_area_mm2, self.index_buffer_area_mm2, self.io_ram_area_mm2)
        parts = [*(area * self.lanes for area in lane if area), *(area for area in shared if area)]
        return self.pes * sum(parts) if len(parts) == len(lane) + len(shared) else None


PRESETS: Mapping[str, Mapping[str, Any]] = {
    "isca18": {
        "clock_MHz": 500.0,
        "prices": "thesis-t33",
        "pe_rows": 8,
        "pe_columns": 8,
        "lanes": 4,
        "bubble_cycles": 3,
        "weight_buffer_bytes": 512,
        "index_buffer_bytes": 512,
        "io_ram_bytes": 20480,
        "chunk_weights": 128,
        "technology_nm": 45,
        "lane_area_mm2": 0.003,
        "pau_area_mm2": 0.002,
        "weight_buffer_area_mm2": 0.014,
        "index_buffer_area_mm2": 0.007,
        "io_ram_area_mm2": 0.25,
        "source": (
            "V. Akhlaghi, Algorithm-Hardware Optimization of Deep Neural Networks for Edge Applications, UC San Diego "
            "2020, chapter 3 (SnaPEA, ISCA 2018): 8 x 8 PEs of 4 lanes, 500 MHz, 45 nm, Tables 3.2 and 3.3"
        ),
        "assumed": (
            "bubble_cycles (of the RTL)", "chunk_weights", "weight_stream", "input_banking", "io_capacity",
            "io_ram_price", "double_buffered",
        ),
    },
}  # fmt: skip
"""Preset name -> fields of `SnapeaConfig`."""
