"""Configuration of PROMISE; the preset carries its source and names what is assumed."""

from __future__ import annotations

from collections.abc import Mapping
from itertools import accumulate
from typing import Annotated, Any, Literal

from pydantic import BaseModel, ConfigDict, Field, model_validator

from archsim.accelerators.base import AcceleratorConfig

Count = Annotated[int, Field(gt=0, le=2**31 - 1, strict=True)]
Cycles = Annotated[int, Field(ge=0, le=255, strict=True)]
VECTOR_LENGTH = 128
"""Weights of one dot product in one bank; the prices and the noise hold for it."""
BANK_COLUMNS = 128
"""Dot products one bank can hold; VECTOR_LENGTH * BANK_COLUMNS bytes = 16 KB."""
ADDED_OUTPUTS_PER_CYCLE = 128
"""Partial sums of a split sum that are added digitally in one cycle (assumed)."""
NS_PER_US = 1000


class Stages(BaseModel):
    """Cycles a column occupies each of the four stages of a Task: analog read, distance, conversion, digital finish."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    c1: Cycles
    c2: Cycles
    c3: Cycles
    c4: Cycles

    @property
    def cycles(self) -> tuple[int, int, int, int]:
        """The four in order."""
        return self.c1, self.c2, self.c3, self.c4


class PromiseConfig(AcceleratorConfig):
    """Banks, the two known figures of the pipeline, and how the model is to be read."""

    banks: Count = Field(description="16 KB each: 128 columns of 128 weights of one byte")
    interval_cycles: Annotated[int, Field(gt=0, le=255, strict=True)] = Field(
        description="from one column of a bank to the next: the slowest stage"
    )
    reduction_cycles: Cycles = Field(description="from the end of the last column's interval to the end of the tile")
    stages: Stages | None = Field(
        default=None, description="split of a Task; the published table could not be read, so none is assumed"
    )
    residency: Literal["cold", "resident"] = Field(
        default="cold", description="weights are loaded for every batch, or stay in the banks where they fit"
    )
    overlap: bool = Field(
        default=False, description="load the next rows while a group of rows is computed; the golden model is serial"
    )
    patch: Count = Field(default=1, description="im2col reuse: divides the bytes loaded of an ifmap held in the banks")
    noise_at: Literal["input", "output"] = Field(
        default="input", description="where the analog error is drawn: on every input value, or on every dot product"
    )
    source: str = Field(default="given in the study", description="where the values come from")
    assumed: tuple[str, ...] = Field(default=(), description="fields without a source")

    @model_validator(mode="after")
    def _clock_in_whole_ns(self) -> PromiseConfig:
        """Refuse a clock whose cycle is no whole number of ns (leakage is counted in ns), and stages out of step."""
        if NS_PER_US % self.clock_MHz:
            raise ValueError(
                f"a clock_MHz whose cycle is a whole number of ns (1000, 500, 250, ...), got {self.clock_MHz:g}"
            )
        if self.stages is not None and max(self.stages.cycles) != self.interval_cycles:
            raise ValueError(
                f"stages whose slowest takes interval_cycles = {self.interval_cycles}, got {self.stages.cycles}"
            )
        return self

    @property
    def cycle_ns(self) -> int:
        """Nanoseconds of one cycle."""
        return int(NS_PER_US // self.clock_MHz)

    @property
    def column_cycles(self) -> int:
        """Cycles from the start of a column to its result."""
        return self.interval_cycles + self.reduction_cycles

    def tile_cycles(self, columns: int) -> int:
        """Cycles of a tile of `columns` columns per bank: an interval each, then the reduction."""
        return columns * self.interval_cycles + self.reduction_cycles

    @property
    def stage_cycles(self) -> tuple[int, int, int, int]:
        """The stages; where none are given, all of a column's interval is one."""
        return (self.interval_cycles, 0, 0, 0) if self.stages is None else self.stages.cycles

    @property
    def stage_starts(self) -> tuple[int, int, int, int]:
        """Cycle of a column in which it enters each stage.

        A stage begins when the one before it ends, or earlier where the column would otherwise not be through by
        `column_cycles`: that the tile takes `tile_cycles` is known, how the stages are chained is not (assumed).
        """
        spans = self.stage_cycles
        latest = list(accumulate((self.column_cycles - one for one in reversed(spans)), min))[::-1]
        starts = [0]
        for span, limit in zip(spans, latest[1:]):
            starts.append(min(starts[-1] + span, limit))
        return starts[0], starts[1], starts[2], starts[3]


PRESETS: Mapping[str, Mapping[str, Any]] = {
    "hpvm": {
        "clock_MHz": 1000.0,
        "prices": "promise-hpvm",
        "banks": 256,
        "interval_cycles": 14,
        "reduction_cycles": 10,
        "source": (
            "promise_timing_model.{h,cpp} and error.cu of the HPVM release (vzyrianov/hpvm-autograd @521cc3b); "
            "256 banks of 16 KB at 1 GHz: ApproxTuner (PPoPP 2021), Table 2"
        ),
        "assumed": ("residency", "overlap", "noise_at", "sums longer than the banks are split and added digitally"),
    },
}
"""Preset name -> fields of `PromiseConfig`."""
