"""SnaPEA: lanes that stop a window as soon as its result must, or is predicted to, be negative. See README.md."""

from __future__ import annotations

from collections.abc import Generator, Mapping, Sequence
from functools import cached_property
from typing import TYPE_CHECKING, Any, cast

from archsim.accelerators.base import (
    Accelerator,
    Activity,
    BatchActivity,
    Candidate,
    Clockwork,
    Column,
    Draws,
    Placement,
    Plan,
    Profiled,
    Stored,
    Timing,
)
from archsim.accelerators.snapea.config import IO_RAM_PRICES, PRESETS, WORD_BYTES, SnapeaConfig
from archsim.accelerators.snapea.rtl import SNAPEA_PE
from archsim.approx import Knob, LayerSetting, Setting
from archsim.energy import PriceTable
from archsim.errors import StudyError
from archsim.workload.formats import Fixed, NumberFormat
from archsim.workload.layers import Conv, Layer, Linear
from archsim.workload.params import Array, LayerParams

if TYPE_CHECKING:
    from archsim.accelerators.snapea.order import SnapeaStored
    from archsim.accelerators.snapea.plan import SnapeaPlan


class Snapea(Accelerator):
    """The array of PAU lanes; its one knob is the speculation on the sign of a result."""

    kind = "snapea"
    about = "lanes that stop early where a ReLU makes the result zero, exact or predictive (ISCA 2018)"
    Config = SnapeaConfig
    presets = PRESETS
    formats = tuple(Fixed(bits) for bits in range(16, 1, -1))
    accepts = (Conv, Linear)
    knobs = (
        Knob(
            "speculation",
            None,
            "filter",
            "a partial sum below th (accumulator units) after n weights ends a window; levels: filter, level, th, n",
            {"n": (4, 8, 16, 32, 64), "th_quantile": (0.1, 0.3, 0.5, 0.7, 0.9)},
            {"n": (1, 1 << 20), "th_quantile": (0, 1)},
        ),
    )
    actions = frozenset(
        {
            "pe.mac", "accumulator.read", "accumulator.write", "pau.check", "lane.idle",
            "weight_buffer.read", "weight_buffer.write", "index_buffer.read", "index_buffer.write",
            "input_ram.read", "input_ram.read_word", "input_ram.write", "output_ram.write",
            "noc.ifmap_delivery", "noc.weight_delivery", "array.active_cycle",
        }
    )  # fmt: skip
    rtl = (SNAPEA_PE,)
    columns = (
        Column("nu", "negative_windows", "total_windows", "share of windows whose dense result is negative"),
        Column("pi", "non_negative_macs", "streamed_macs", "share of weights before the negative part"),
        Column("bound", "bound_macs", "streamed_macs", "the least share of MACs the exact mode can do"),
        Column("done", "macs_done", "streamed_macs", "share of MACs done"),
        Column("lanes", "macs_done", "lane_cycles", "share of lane cycles that do a MAC"),
        Column("x off", "termination_off_cycles", "cycles", "speedup over the same array, termination off"),
        Column(
            "x off pJ", "termination_off_on_chip_energy_pJ", "on_chip_energy_pJ", "the same for the energy on the chip"
        ),
    )
    config: SnapeaConfig

    @classmethod
    def check_setting(cls, config: SnapeaConfig, setting: Setting) -> None:
        """Only the predictive mode takes levels of `speculation`, and it does not go without. Raises: StudyError."""
        levels = [name for name, one in setting.items() if "speculation" in one.levels]
        if config.mode == "predictive" and not levels:
            raise StudyError("mode 'predictive' needs levels of the knob 'speculation' (archsim tune finds them)")
        if config.mode != "predictive" and levels:
            raise StudyError(f"mode {config.mode!r} takes no levels of 'speculation', got some for {', '.join(levels)}")

    @cached_property
    def prices(self) -> PriceTable:
        """Prices of all actions; the I/O RAM is priced as `io_ram_price` says."""
        return self._read_prices(self.config.io_ram_price)

    @cached_property
    def price_readings(self) -> Mapping[str, PriceTable]:
        """The three readings of what an access to the I/O RAM costs."""
        return {f"io_ram_price {reading}": self._read_prices(reading) for reading in IO_RAM_PRICES}

    def _read_prices(self, reading: str) -> PriceTable:
        from archsim.accelerators.snapea.pricing import read_prices

        return read_prices(self.config, self.load_prices, reading)

    def notes(self, metrics: Mapping[str, Mapping[str, Any]]) -> Sequence[str]:
        """Say where the array is ideal, and where disturbed weights made the exact mode stop windows it should not."""
        notes = []
        if self.config.bubble_cycles == 0:
            notes.append("ideal lanes: an early stop loses no cycle (bubble_cycles 0)")
        lost = {layer: told["sign_lost_windows"] for layer, told in metrics.items() if told.get("sign_lost_windows")}
        if lost:
            layers = ", ".join(f"{layer} {count}" for layer, count in lost.items())
            notes.append(f"disturbed weights: windows above 0 that were stopped by their sign, timed images: {layers}")
        return notes

    @property
    def peak_macs_per_cycle(self) -> int:
        """One MAC per lane."""
        return self.config.pes * self.config.lanes

    @property
    def reads_channel_means(self) -> bool:
        """The region order may follow the calibration images."""
        return self.config.region_order == "activation"

    def place(self, layers: Sequence[Layer]) -> dict[str, Placement]:
        """Keep feature maps of neighbouring layers in the I/O RAMs where they fit a half."""
        from archsim.accelerators.snapea.mapping import place_layers

        return place_layers(self.config, layers)

    def weight_bytes(self, layer: Layer, number_format: NumberFormat) -> int:
        """Weights, their indices, and the thresholds of all kernels."""
        from archsim.accelerators.snapea.mapping import THRESHOLD_WORDS
        from archsim.accelerators.snapea.traffic import STREAM_WORDS

        return WORD_BYTES * (STREAM_WORDS * layer.weight_count + THRESHOLD_WORDS * getattr(layer, "M", 0))

    def prepare(self, layer: Layer, params: LayerParams, setting: LayerSetting) -> Stored:
        """Order the clean weights of every kernel and write the index buffer. Raises: MappingError, StudyError."""
        from archsim.accelerators.snapea.prepare import prepare_layer

        return prepare_layer(self.config, layer, params, setting)

    def map(self, layer: Layer, stored: Stored, placement: Placement) -> Plan:
        """Cut the windows into portions for the rows of PEs. Raises: MappingError."""
        from archsim.accelerators.snapea.mapping import map_layer

        return map_layer(self.config, layer, cast("SnapeaStored", stored), placement)

    def execute(
        self, layer: Layer, plan: Plan, x: Array, stored: Stored, setting: LayerSetting, draws: Draws
    ) -> Activity:
        """Compute the ofmap of x, codes (k*N, C, H, W) or (k*N, C), and where every window stopped."""
        from archsim.accelerators.snapea.activity import execute_layer

        return execute_layer(self.config, layer, cast("SnapeaPlan", plan), x, cast("SnapeaStored", stored))

    def candidates(
        self, layer: Layer, plan: Plan, x: Array, stored: Stored, grid: Mapping[str, Sequence[float]]
    ) -> Sequence[Candidate]:
        """Return (th, n) for every n and quantile of the partial sums of windows that end below zero."""
        from archsim.accelerators.snapea.profile import candidate_levels

        return candidate_levels(self.config, layer, x, cast("SnapeaStored", stored), grid)

    def profile(
        self, layer: Layer, plan: Plan, x: Array, stored: Stored, candidates: Sequence[Candidate]
    ) -> Sequence[Profiled]:
        """Return MACs and lost results of all candidates: one pass of partial sums for each n."""
        from archsim.accelerators.snapea.profile import profile_levels

        return profile_levels(self.config, layer, x, cast("SnapeaStored", stored), candidates)

    def time(self, layer: Layer, plan: Plan, activity: BatchActivity, work: Clockwork) -> Generator[Any, Any, Timing]:
        """Simulate one batch portion by portion, and the same with termination off."""
        from archsim.accelerators.snapea.timing import time_layer

        return time_layer(self.config, self.prices, layer, cast("SnapeaPlan", plan), activity, work)

    def closed_form_cycles(self, layer: Layer, plan: Plan, activity: BatchActivity) -> int:
        """Return the cycles of the slowest row of PEs."""
        from archsim.accelerators.snapea.schedule import compute_cycles

        return compute_cycles(self.config, cast("SnapeaPlan", plan), activity.tiles)
