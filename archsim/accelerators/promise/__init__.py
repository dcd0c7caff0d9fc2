"""PROMISE: dot products inside the SRAM banks that hold the weights, analog and with an error. See README.md."""

from __future__ import annotations

from collections.abc import Generator, Mapping, Sequence
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
from archsim.accelerators.promise.config import PRESETS, VECTOR_LENGTH, PromiseConfig
from archsim.accelerators.promise.rtl import PROMISE_CTL
from archsim.accelerators.promise.swing import SWING, SWINGS, swing_of
from archsim.approx import LayerSetting
from archsim.workload.formats import AffineInt8
from archsim.workload.layers import Conv, Layer, Linear
from archsim.workload.params import Array

if TYPE_CHECKING:
    from archsim.accelerators.promise.schedule import PromisePlan


class Promise(Accelerator):
    """Banks that multiply what they hold with rows that stream by; its one knob is the read voltage."""

    kind = "promise"
    about = "analog dot products in SRAM banks, seven read voltages (ISCA 2018)"
    Config = PromiseConfig
    presets = PRESETS
    formats = (AffineInt8(),)
    accepts = (Conv, Linear)
    knobs = (SWING,)
    actions = frozenset({*(swing.action for swing in SWINGS), "sram.write_byte", "leakage.bank_ns"})
    rtl = (PROMISE_CTL,)
    config: PromiseConfig

    @property
    def peak_macs_per_cycle(self) -> int:
        """All columns of all banks in `interval_cycles` each, rounded up."""
        return -(-self.config.banks * VECTOR_LENGTH // self.config.interval_cycles)

    def notes(self, metrics: Mapping[str, Mapping[str, Any]]) -> Sequence[str]:
        """Say at which swings the layers ran, and what became of their weights."""
        return [
            f"swing: {_grouped(metrics, 'swing')}",
            f"weights {self.config.residency}: {_grouped(metrics, 'residency')}",
            *(["transfers overlap with computation (assumed)"] if self.config.overlap else []),
        ]

    def place(self, layers: Sequence[Layer]) -> dict[str, Placement]:
        """Let weights stay in the banks where `residency` says so and they fit."""
        return self.place_all([layers])

    def place_all(self, runs: Sequence[Sequence[Layer]]) -> dict[str, Placement]:
        """The same; all layers of the machine share its banks."""
        from archsim.accelerators.promise.mapping import place_layers

        return place_layers(self.config, [layer for run in runs for layer in run])

    def map(self, layer: Layer, stored: Stored, placement: Placement) -> Plan:
        """Orient the product and cut it into fillings of the banks. Raises: MappingError."""
        from archsim.accelerators.promise.mapping import map_layer

        return map_layer(self.config, layer, placement)

    def execute(
        self, layer: Layer, plan: Plan, x: Array, stored: Stored, setting: LayerSetting, draws: Draws
    ) -> Activity:
        """Compute the ofmap of x, codes (k*N, C, H, W) or (k*N, C), with the error of the swing."""
        from archsim.accelerators.promise.function import execute_layer

        plan = cast("PromisePlan", plan)
        return execute_layer(self.config, layer, plan, x, stored.params, swing_of(setting), draws)

    def time(self, layer: Layer, plan: Plan, activity: BatchActivity, work: Clockwork) -> Generator[Any, Any, Timing]:
        """Simulate one batch; it does not depend on the data."""
        from archsim.accelerators.promise.timing import time_layer

        return time_layer(self.config, cast("PromisePlan", plan), work)

    def closed_form_cycles(self, layer: Layer, plan: Plan, activity: BatchActivity) -> int:
        """Return the cycles of all tiles."""
        from archsim.accelerators.promise.closed_form import compute_cycles

        return compute_cycles(self.config, cast("PromisePlan", plan))


def _grouped(metrics: Mapping[str, Mapping[str, Any]], name: str) -> str:
    """Return the values of a metric, each with its layers, or alone if it is that of all."""
    layers: dict[str, list[str]] = {}
    for layer, told in metrics.items():
        layers.setdefault(str(told[name]), []).append(layer)
    if len(layers) == 1:
        return f"{next(iter(layers))} (all layers)"
    return "; ".join(f"{value} ({', '.join(names)})" for value, names in layers.items())
