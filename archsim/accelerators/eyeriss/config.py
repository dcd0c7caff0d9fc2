"""Configuration of the row-stationary array; presets carry their source and name what is assumed."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Annotated, Any, Literal

from pydantic import BaseModel, ConfigDict, Field, model_validator

from archsim.accelerators.base import AcceleratorConfig

Count = Annotated[int, Field(gt=0, le=2**31 - 1, strict=True)]
Shift = Annotated[int, Field(ge=0, le=31, strict=True)]
Area = Annotated[float, Field(gt=0, allow_inf_nan=False)]
Objective = Literal["edp", "energy", "latency", "dram"]
WORD_BITS = 16
WORD_BYTES = 2


class ExplicitPlan(BaseModel):
    """A mapping given by hand; it bypasses the search and is checked against the same rules."""

    model_config = ConfigDict(frozen=True, extra="forbid", strict=True)

    strip_rows: Count = Field(description="e: output rows of a strip, columns of a PE set")
    resident_filters: Count = Field(description="m: ofmap channels whose psums stay in the buffer")
    pass_ifmaps: Count = Field(description="n: ifmaps of a pass")
    interleaved_filters: Count = Field(description="p: filters interleaved in a PE")
    interleaved_channels: Count = Field(description="q: channels interleaved in a PE")
    channel_sets: Count = Field(description="r: PE sets on different channels")
    filter_sets: Count = Field(description="t: PE sets on different filters")


class EyerissConfig(AcceleratorConfig):
    """Array, spads, buffer, buses and limits of one row-stationary machine; all words are 16 bit."""

    pe_rows: Count
    pe_columns: Count
    spad_filter_words: Count
    spad_ifmap_words: Count
    spad_psum_words: Count
    global_buffer_banks: Count = Field(description="banks for ifmap and psum; each holds one type only")
    global_buffer_bank_bytes: Annotated[Count, Field(ge=WORD_BYTES)]
    filter_buffer_bytes: Count = Field(description="preload memory for the next pass's filters")
    filter_bus_bits: Count
    ifmap_bus_bits: Count
    psum_bus_bits: Count = Field(description="each way; the ways share one bus with shared_psum_bus")
    technology_nm: Count
    voltage_mV: Count | None = Field(description="null where the source does not state it")
    shared_psum_bus: bool = False
    fill: Literal["serial", "parallel"] = Field(
        default="serial", description="filter load and first ifmap window of a pass one after the other or at once"
    )
    psum_mode: Literal["wide", "chip16"] = "wide"
    product_shift: Shift | dict[str, Shift] = Field(
        default=0, description="chip16: right shift of a product before it is added; one number or layer -> number"
    )
    overflow: Literal["error", "wrap", "saturate"] = Field(
        default="error", description="of the wide accumulator; the psums of chip16 saturate and are counted"
    )
    max_filters_per_call: Count = 1024
    max_channels_per_call: Count = 1024
    native_filter_height: Count = 12
    native_filter_width: Count = 32
    native_vertical_strides: tuple[Count, ...] = Field(default=(1, 2, 4), min_length=1)
    native_horizontal_stride: Count = 12
    keep_on_chip: Literal["auto", "never"] = "never"
    setup_us: float = Field(default=0.0, ge=0, allow_inf_nan=False, description="per call of a layer")
    objective: Objective = "edp"
    plans: dict[str, str | ExplicitPlan] = Field(
        default_factory=dict, description="layer -> name of a shipped plan, or the plan's fields"
    )
    clock_and_leakage_mW: float = Field(
        default=0.0, ge=0, allow_inf_nan=False, description="on top of the price table, charged while the machine runs"
    )
    clock_and_leakage_fit: str = Field(default="", description="what clock_and_leakage_mW was fitted on")
    pe_area_mm2: Area | None = Field(default=None, description="all PEs")
    global_buffer_area_mm2: Area | None = None
    source: str = Field(default="given in the study", description="where the values come from")
    assumed: tuple[str, ...] = Field(default=(), description="fields without a source")

    @model_validator(mode="after")
    def _chip16_saturates(self) -> EyerissConfig:
        """Refuse a way of overflowing that the chip does not have."""
        if self.psum_mode == "chip16" and self.overflow == "wrap":
            raise ValueError("without overflow 'wrap' where psum_mode is 'chip16': its psums saturate")
        return self

    @property
    def pes(self) -> int:
        """Processing elements of the array."""
        return self.pe_rows * self.pe_columns

    @property
    def area_mm2(self) -> float | None:
        """PEs and global buffer, None if the source states no area."""
        if self.pe_area_mm2 is None or self.global_buffer_area_mm2 is None:
            return None
        return self.pe_area_mm2 + self.global_buffer_area_mm2

    def product_shift_of(self, layer: str) -> int:
        """Return the truncation point of `layer`; 0 for a layer the map does not name."""
        return self.product_shift if isinstance(self.product_shift, int) else self.product_shift.get(layer, 0)


_CHIP: Mapping[str, Any] = {
    "clock_MHz": 200.0,
    "prices": "nnd-chip",
    "pe_rows": 12,
    "pe_columns": 14,
    "spad_filter_words": 224,
    "spad_ifmap_words": 12,
    "spad_psum_words": 24,
    "global_buffer_banks": 25,
    "global_buffer_bank_bytes": 4096,
    "filter_buffer_bytes": 8192,
    "filter_bus_bits": 64,
    "ifmap_bus_bits": 16,
    "psum_bus_bits": 64,
    "technology_nm": 65,
    "voltage_mV": 1000,
}
_JSSC = "Y.-H. Chen et al., JSSC 52(1), 2017, running text and Tables III-V"

PRESETS: Mapping[str, Mapping[str, Any]] = {
    "chip-jssc17": {
        **_CHIP,
        "clock_and_leakage_mW": 88.0,
        "clock_and_leakage_fit": (
            "fitted: with table nnd-chip, the mean power of AlexNet's five convolutions while processing becomes the "
            "278 mW of JSSC 2017, Table V"
        ),
        "source": f"{_JSSC}; 1.0 V, 200 MHz core as measured",
        "assumed": ("fill", "filter_buffer_bytes as a limit of one pass", "native_horizontal_stride"),
    },
    "thesis-256pe": {
        **_CHIP,
        "clock_MHz": 500.0,
        "prices": "thesis-t33",
        "pe_rows": 16,
        "pe_columns": 16,
        "spad_filter_words": 256,
        "global_buffer_banks": 318,
        "technology_nm": 45,
        "voltage_mV": None,
        "native_filter_height": 16,
        "keep_on_chip": "auto",
        "pe_area_mm2": 4.94,
        "global_buffer_area_mm2": 12.9,
        "source": (
            "V. Akhlaghi, Algorithm-Hardware Optimization of Deep Neural Networks for Edge Applications, UC San Diego "
            "2020, section 3.7.1, Tables 3.2 and 3.3: 256 PEs, 500 MHz, 1.25 MB buffer, spads of 512, 24 and 48 bytes"
        ),
        "assumed": (
            "pe_rows and pe_columns (16 x 16)", "filter_bus_bits", "ifmap_bus_bits", "psum_bus_bits",
            "filter_buffer_bytes (8 KB of the 1.25 MB)", "global_buffer_bank_bytes", "fill",
            "max_filters_per_call", "max_channels_per_call", "native limits",
        ),
    },
    "npu-1ghz": {
        **_CHIP,
        "clock_MHz": 1000.0,
        "voltage_mV": None,
        "source": "W. Chen et al., Towards Best-effort Approximation, section IV.A: the clock; all else as chip-jssc17",
        "assumed": ("everything but clock_MHz: array, spads, buffer and buses of chip-jssc17, prices nnd-chip",),
    },
}  # fmt: skip
"""Preset name -> fields of `EyerissConfig`."""
