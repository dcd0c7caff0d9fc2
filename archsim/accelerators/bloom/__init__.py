"""Bloom filters in front of fp32 units: frequent operand patterns are answered from a register. See README.md."""

from __future__ import annotations

from collections.abc import Generator, Mapping, Sequence
from functools import cached_property
from typing import TYPE_CHECKING, Any, ClassVar, cast

from archsim.accelerators.base import (
    Accelerator,
    Activity,
    BatchActivity,
    Clockwork,
    Column,
    Draws,
    Placement,
    Plan,
    Sample,
    Stored,
    Timing,
)
from archsim.accelerators.bloom.config import MATCH_LEVELS, PRESETS, BloomConfig
from archsim.accelerators.bloom.rtl import BLOOM_FILTER, BLOOM_FU, BLOOM_MAC, BLOOM_SQRT
from archsim.approx import Knob, LayerSetting, Setting
from archsim.energy import PriceTable
from archsim.errors import StudyError
from archsim.workload.formats import Float32
from archsim.workload.layers import Conv, Layer, Linear, OpStream
from archsim.workload.params import Array, LayerParams

if TYPE_CHECKING:
    from archsim.accelerators.bloom.plan import BloomPlan

UNITS = ("add", "mul", "mac", "sqrt")


class Bloom(Accelerator):
    """Units with filters; knobs: how patterns are matched, and faults that stand for filters not yet designed."""

    kind = "bloom"
    about = "fp32 units whose frequent operand patterns Bloom filters answer (DATE 2016 and 2018)"
    Config = BloomConfig
    presets: ClassVar[Mapping[str, Mapping[str, Any]]] = PRESETS
    formats = (Float32(),)
    accepts = (Conv, Linear, OpStream)
    knobs = (
        Knob(
            "bloom_match",
            MATCH_LEVELS + 1,
            "layer",
            "bits of the operands that are compared and patterns stored, a row of match_levels; 0: filters off",
            always_saves=False,
        ),
        Knob(
            "unit_faults",
            None,
            "layer",
            "wrong outputs; levels: level, add, mul, mac, sqrt (rates), random (0: extremes, 1: other outputs)",
        ),
    )
    actions = frozenset(
        {"hash.bit", "output_register.read", "accumulator.add"}
        | {f"{unit}.{what}" for unit in UNITS
           for what in ("operation", "gated_operation", "vector_read", "vector_write")}
    )  # fmt: skip
    columns = (
        Column("hits", "hit_events", "query_events", "share of operations answered by a filter"),
        Column("false", "false_hit_events", "query_events", "share of operations answered wrongly"),
        Column(
            "unit pJ", "unit_energy_pJ", "unit_exact_energy_pJ", "energy of units and filters over that of units alone"
        ),
    )
    rtl = (BLOOM_FILTER, BLOOM_FU, BLOOM_MAC, BLOOM_SQRT)
    config: BloomConfig

    @classmethod
    def check_setting(cls, config: BloomConfig, setting: Setting) -> None:
        """Refuse layers with both knobs. Raises: StudyError."""
        both = [name for name, one in setting.items() if one.level("bloom_match") and one.level("unit_faults")]
        if both:
            raise StudyError(f"bloom_match and unit_faults exclude each other, got both for {', '.join(both)}")

    @cached_property
    def prices(self) -> PriceTable:
        """Prices of all actions; vectors by size and technology."""
        from archsim.accelerators.bloom.pricing import read_prices

        return read_prices(self.config, self.load_prices)

    def notes(self, metrics: Mapping[str, Mapping[str, Any]]) -> Sequence[str]:
        """Say what is left out of the energies, which units take default filters, which wait for themselves."""
        from archsim.accelerators.bloom.floats import OPERANDS

        notes = ["operands come from an ideal buffer: its energy is not in the figures"]
        unnamed = [kind for kind in OPERANDS if self.config.filters and kind not in self.config.filters]
        if unnamed:
            kinds, size = ", ".join(unnamed), f"m {self.config.m}, k {self.config.k}"
            notes.append(f"units that `filters` does not name ({kinds}), where a layer has them, take {size}")
        stalled = [layer for layer, told in metrics.items() if told.get("stall_cycles")]
        if stalled:
            notes.append(f"units wait for their own results (fewer chains than stages): {', '.join(stalled)}")
        return notes

    @property
    def peak_macs_per_cycle(self) -> int:
        """One operation per unit."""
        return self.config.units

    def calibrate(self, samples: Sequence[Sample]) -> Any:
        """Keep the calibration images at every layer: the profile set."""
        from archsim.accelerators.bloom.prepare import Knowledge

        return Knowledge(self.config, samples)

    def prepare(self, layer: Layer, params: LayerParams, setting: LayerSetting) -> Stored:
        """Choose patterns, design and program the filters. Raises: StudyError, MappingError."""
        from archsim.accelerators.bloom.prepare import prepare_layer

        return prepare_layer(self.config, layer, params, setting)

    def map(self, layer: Layer, stored: Stored, placement: Placement) -> Plan:
        """Deal the operations to the units."""
        from archsim.accelerators.bloom.plan import map_layer

        return map_layer(self.config, layer, stored, placement)

    def execute(
        self, layer: Layer, plan: Plan, x: Array, stored: Stored, setting: LayerSetting, draws: Draws
    ) -> Activity:
        """Compute the ofmap of x, float32 (k*N, ...), and how its operations were answered."""
        from archsim.accelerators.bloom.activity import execute_layer

        return execute_layer(self.config, layer, cast("BloomPlan", plan), x, stored, draws)

    def time(self, layer: Layer, plan: Plan, activity: BatchActivity, work: Clockwork) -> Generator[Any, Any, Timing]:
        """Simulate one batch: reload, then units and memory side by side."""
        from archsim.accelerators.bloom.timing import time_layer

        return time_layer(self.prices, cast("BloomPlan", plan), activity, work)

    def closed_form_cycles(self, layer: Layer, plan: Plan, activity: BatchActivity) -> int:
        """Reload, issue and latency."""
        from archsim.accelerators.bloom.timing import unit_cycles

        ((reload, _, latency),) = activity.tiles
        return reload + unit_cycles(cast("BloomPlan", plan), latency)
