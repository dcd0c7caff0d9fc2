"""Eyeriss: a row-stationary array with zero gating and run-length coded feature maps. See README.md."""

from __future__ import annotations

from collections.abc import Generator, Sequence
from functools import cached_property
from typing import TYPE_CHECKING, Any, cast

from archsim.accelerators.base import (
    Accelerator,
    Activity,
    BatchActivity,
    Clockwork,
    Draws,
    Placement,
    Plan,
    Stored,
    Timing,
)
from archsim.accelerators.eyeriss.config import PRESETS, EyerissConfig
from archsim.accelerators.eyeriss.rtl import EYERISS_PE
from archsim.approx import LayerSetting
from archsim.energy import PriceTable
from archsim.workload.formats import Fixed
from archsim.workload.layers import Conv, Layer, Linear
from archsim.workload.params import Array

if TYPE_CHECKING:
    from archsim.accelerators.eyeriss.plan import EyerissPlan


class Eyeriss(Accelerator):
    """The row-stationary array. It has no knobs: zero gating and compression change no result."""

    kind = "eyeriss"
    about = "row-stationary array with zero gating and run-length coded feature maps (JSSC 2017)"
    Config = EyerissConfig
    presets = PRESETS
    formats = tuple(Fixed(bits) for bits in range(16, 1, -1))
    accepts = (Conv, Linear)
    actions = frozenset(
        {
            "pe.mac", "pe.mac_gated",
            "spad.ifmap_read", "spad.ifmap_write", "spad.filter_read", "spad.filter_write",
            "spad.psum_read", "spad.psum_write",
            "noc.psum_hop", "noc.psum_word", "noc.filter_word", "noc.filter_delivery",
            "noc.ifmap_word", "noc.ifmap_delivery",
            "global_buffer.psum_read", "global_buffer.psum_write",
            "global_buffer.ifmap_read", "global_buffer.ifmap_write",
            "global_buffer.filter_read", "global_buffer.filter_write",
            "array.active_cycle",
        }
    )  # fmt: skip
    layer_fields = ("plans", "product_shift")
    rtl = (EYERISS_PE,)
    config: EyerissConfig

    @cached_property
    def prices(self) -> PriceTable:
        """Prices of all actions; the calibrated constant is charged per active cycle."""
        table, constant_mW = super().prices, self.config.clock_and_leakage_mW
        if not constant_mW:
            return table
        source, calibrated = "clock_and_leakage_mW of the configuration", self.config.clock_and_leakage_fit
        return table.with_power("array.active_cycle", constant_mW, self.config.clock_MHz, source, calibrated)

    @property
    def peak_macs_per_cycle(self) -> int:
        """One MAC per PE."""
        return self.config.pes

    def place(self, layers: Sequence[Layer]) -> dict[str, Placement]:
        """Keep feature maps of neighbouring layers on chip where the configuration allows it and they fit."""
        from archsim.accelerators.eyeriss.mapping import place_layers

        return place_layers(self.config, layers)

    def map(self, layer: Layer, stored: Stored, placement: Placement) -> Plan:
        """Return the explicit plan of the layer, else the best one found. Raises: MappingError."""
        from archsim.accelerators.eyeriss.mapping import map_layer

        return map_layer(self.config, layer, stored, placement)

    def execute(
        self, layer: Layer, plan: Plan, x: Array, stored: Stored, setting: LayerSetting, draws: Draws
    ) -> Activity:
        """Compute the ofmap, gated MACs and compressed tiles of x: codes (k*N, C, H, W) or (k*N, C)."""
        from archsim.accelerators.eyeriss.activity import execute_layer

        return execute_layer(layer, cast("EyerissPlan", plan), x, stored, self.config)

    def expect(self, layer: Layer, plan: Plan, zero_fractions: tuple[float, float]) -> Activity:
        """Return the expected counts of one batch from the zero fractions of ifmap and ofmap."""
        from archsim.accelerators.eyeriss.activity import expect_layer

        return expect_layer(layer, cast("EyerissPlan", plan), zero_fractions)

    def time(self, layer: Layer, plan: Plan, activity: BatchActivity, work: Clockwork) -> Generator[Any, Any, Timing]:
        """Simulate one batch pass by pass."""
        from archsim.accelerators.eyeriss.timing import time_layer

        return time_layer(self.config, layer, cast("EyerissPlan", plan), activity, work)

    def closed_form_cycles(self, layer: Layer, plan: Plan, activity: BatchActivity) -> int:
        """Return the sum over passes of fill and stream."""
        from archsim.accelerators.eyeriss.closed_form import closed_form
        from archsim.accelerators.eyeriss.plan import as_conv

        return closed_form(self.config, as_conv(layer), cast("EyerissPlan", plan))
