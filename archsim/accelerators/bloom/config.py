"""Configuration of the units and their filters; presets carry their source and name what is assumed."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Annotated, Any, Literal

from pydantic import BaseModel, ConfigDict, Field, model_validator

from archsim.accelerators.base import AcceleratorConfig
from archsim.accelerators.bloom.floats import FLOAT_BITS

Count = Annotated[int, Field(gt=0, le=2**16, strict=True)]
Bits = Annotated[int, Field(ge=2, le=FLOAT_BITS, strict=True)]
Energy = Annotated[float, Field(ge=0, allow_inf_nan=False)]
UnitKind = Literal["add", "mul", "mac", "sqrt"]
MATCH_LEVELS = 5
FU_STAGES = 6
QUERY_CYCLES = 2
VECTOR_BITS = (32, 64, 128, 256, 512, 1024, 2048)


class _Filters(BaseModel):
    """Base of what describes filters."""

    model_config = ConfigDict(frozen=True, extra="forbid")


class UnitFilters(_Filters):
    """The filters of one kind of unit where they are not those of the machine."""

    m: Literal[32, 64, 128, 256, 512, 1024, 2048] = Field(description="bits of a vector")
    k: Annotated[int, Field(ge=1, le=5, strict=True)] = Field(description="hash functions")
    patterns: Count = Field(description="input patterns stored, whatever the level (#In)")
    outputs: Count | None = Field(
        default=None, description="distinct outputs they belong to (#Out), in streams of operations; none: any"
    )


class BloomConfig(AcceleratorConfig):
    """Functional units, each with a set of Bloom filters in front of it."""

    units: Count = Field(description="functional units of each kind that work at once")
    chains: Count = Field(description="dependent chains a unit works on in turn; with less than its latency it stalls")
    order: Literal["serial", "parallel"] = Field(
        default="serial", description="the filters are asked before the unit starts, or beside it"
    )
    m: Literal[32, 64, 128, 256, 512, 1024, 2048] = Field(default=64, description="bits of a vector")
    k: Annotated[int, Field(ge=1, le=5, strict=True)] = Field(default=2, description="hash functions")
    hash: Literal["per_bf", "shared"] = Field(
        default="per_bf", description="every filter hashes for itself, or one set"
    )
    vector: Literal["per_output", "single"] = Field(
        default="per_output", description="a vector per distinct output, or one for all patterns of a unit"
    )
    register_read: Literal["selected", "all"] = Field(
        default="selected", description="output registers that move on a hit (Table 2.4 is fitted with all)"
    )
    vector_technology: Literal["resistive", "cmos"] = "resistive"
    vector_energy_pJ: Energy | None = Field(
        default=None, description="price of a vector access where Table 2.2 prints none (m = 32)"
    )
    match_levels: tuple[tuple[Bits, Count], ...] = Field(
        default=((11, 10), (10, 10), (9, 10), (9, 20), (9, 30)),
        description="levels 1.. of bloom_match: bits of every operand that are compared, patterns stored",
    )
    filters: dict[UnitKind, UnitFilters] = Field(default_factory=dict, description="kinds of unit with their own")
    patterns_per_filter: Count | None = Field(
        default=None, description="most patterns of one filter; none: all that share an output (#inp_BF)"
    )
    representative: Literal["mean", "mid", "first", "trunc", "mode"] = Field(
        default="mean",
        description="what a pattern stands for: mean of its outputs, middle operands, the first output seen, "
        "truncated operands, the most frequent exact operands",
    )
    profile: Literal["layer", "global"] = Field(
        default="layer", description="patterns of every layer, reloaded before it, or of the network"
    )
    fp_max_unit: Annotated[float, Field(gt=0, le=1)] = Field(
        description="largest share of false hits among the profile's queries that miss the stored patterns"
    )
    hash_seed: Annotated[int, Field(gt=0, lt=2**32, strict=True)] = 0x2545F491
    source: str = Field(default="given in the study", description="where the values come from")
    assumed: tuple[str, ...] = Field(default=(), description="fields without a source")

    @model_validator(mode="after")
    def _whole(self) -> BloomConfig:
        """Refuse a number of levels the knob has not, and hashes of filters that share one vector."""
        if self.vector == "single" and self.hash != "shared":
            raise ValueError(f"vector 'single' needs hash 'shared', got {self.hash!r}")
        if len(self.match_levels) != MATCH_LEVELS:
            raise ValueError(f"match_levels needs {MATCH_LEVELS} rows (bits, patterns), got {len(self.match_levels)}")
        return self

    def latency_cycles(self, filtered: bool) -> int:
        """Cycles from the issue of an operation to its result."""
        return FU_STAGES + (QUERY_CYCLES if filtered and self.order == "serial" else 0)

    def filters_of(self, kind: str, patterns: int) -> UnitFilters:
        """Return the filters of a kind of unit at a level with so many patterns."""
        own = self.filters.get(kind)  # type: ignore[call-overload]
        return own or UnitFilters(m=self.m, k=self.k, patterns=patterns)


THESIS = (
    "V. Akhlaghi, Algorithm-Hardware Optimization of Deep Neural Networks for Edge Applications, UC San Diego 2020, "
    "chapter 2"
)
CNN: Mapping[str, Any] = {
    "clock_MHz": 1000 / 1.5,
    "prices": "thesis-t33",
    "units": 16,
    "chains": 8,
    "patterns_per_filter": 1,
    "fp_max_unit": 0.04,
    "source": f"{THESIS}: six stages, 1.5 ns, 45 nm; Table 2.5: 64-bit vectors, two hashes, one pattern per filter",
    "assumed": ("units", "chains", "representative", "fp_max_unit", "match_levels", "order"),
}


def _kernel(**filters: tuple[int, int, int, int]) -> Mapping[str, Any]:
    """Return the preset of an image kernel from rows (#Out, #In, m, k) of Table 2.3."""
    return {
        "clock_MHz": 1000 / 1.5,
        "prices": "thesis-t33",
        "units": 16,
        "chains": 64,
        "hash": "shared",
        "vector": "single",
        "register_read": "all",
        "match_levels": ((32, 16), (24, 16), (20, 16), (18, 16), (16, 16)),
        "filters": {
            kind: {"outputs": outputs, "patterns": patterns, "m": m, "k": k}
            for kind, (outputs, patterns, m, k) in filters.items()
        },
        "fp_max_unit": 0.1,
        "source": f"{THESIS}: six stages, 1.5 ns, 45 nm; Table 2.3",
        "assumed": ("units", "chains", "fp_max_unit", "match_levels above 1", "order"),
    }


PRESETS: Mapping[str, Mapping[str, Any]] = {
    "lenet-t25": CNN,
    "sobel-t23": _kernel(add=(2, 12, 256, 4), mul=(2, 16, 1024, 3), mac=(4, 12, 256, 4), sqrt=(16, 16, 512, 3)),
    "roberts-t23": _kernel(mul=(6, 26, 512, 4), mac=(10, 12, 256, 4), sqrt=(10, 10, 256, 4)),
    "sharpen-t23": _kernel(mul=(6, 15, 256, 2), mac=(6, 15, 256, 2)),
    "prewitt-t23": _kernel(mul=(8, 30, 512, 2), mac=(6, 15, 1024, 2), sqrt=(14, 14, 256, 2)),
    "scharr-t23": _kernel(mul=(4, 12, 256, 4), mac=(8, 18, 512, 4), sqrt=(18, 18, 512, 3)),
}
"""Preset name -> fields of `BloomConfig`."""
