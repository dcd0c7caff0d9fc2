"""BSG: an FPGA accelerator that generates its weights from code vectors of bits, slice by slice. See README.md."""

from __future__ import annotations

from collections.abc import Generator, Mapping, Sequence
from functools import cached_property
from pathlib import Path
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
from archsim.accelerators.bsg.config import OWN_TABLE, PRESETS, WORD_BYTES, BsgConfig
from archsim.accelerators.bsg.mac_rtl import BSG_MAC_ARRAY
from archsim.accelerators.bsg.rtl import BSG_GEN
from archsim.approx import LayerSetting
from archsim.energy import PriceTable
from archsim.workload.formats import Bfloat16, NumberFormat
from archsim.workload.layers import Conv, Layer, Linear
from archsim.workload.params import Array, LayerParams

if TYPE_CHECKING:
    from archsim.accelerators.bsg.codes import Codes
    from archsim.accelerators.bsg.plan import BsgPlacement, BsgPlan


class Bsg(Accelerator):
    """An array of MAC units fed slice by slice; slices are loaded, or generated from code vectors."""

    kind = "bsg"
    about = "FPGA array whose weights are generated from binary code vectors, slice by slice (Akhlaghi 2020)"
    Config = BsgConfig
    presets = PRESETS
    formats = (Bfloat16(),)
    accepts = (Conv, Linear)
    actions = frozenset(
        {
            "fpga.active_cycle", "mac_array.mac", "generator.weight", "parameter_buffer.write",
            "slice_buffer.write", "slice_buffer.read",
        }
    )  # fmt: skip
    rtl = (BSG_GEN, BSG_MAC_ARRAY)
    config: BsgConfig

    @cached_property
    def codes(self) -> Codes | None:
        """The code vectors the configuration names. Raises: AssetError, WorkloadError."""
        if self.config.codes is None:
            return None
        from archsim import assets
        from archsim.accelerators.bsg.codes import load_codes

        return load_codes(assets.find(self.config.codes, self.folder))

    @cached_property
    def prices(self) -> PriceTable:
        """The power of the FPGA with this design's resources, per active cycle."""
        from archsim.accelerators.bsg.resources import POWER_FIT, POWER_SOURCE, power_mW, resources_of

        power, clock_MHz = power_mW(resources_of(self.config)), self.config.clock_MHz
        return self.load_prices().with_power("fpga.active_cycle", power, clock_MHz, POWER_SOURCE, POWER_FIT)

    def load_prices(self, aliases: Mapping[str, str] | None = None) -> PriceTable:
        """Return the prices; the table of the presets lies in this package, for it prices no other machine."""
        from archsim.energy import load_prices, scaled

        config, here = self.config, Path(__file__)
        own = here.with_name(f"{config.prices}.yaml")
        name = str(own) if config.prices == OWN_TABLE else config.prices
        energy = here.with_name("energy.yaml")
        table = load_prices(energy, name, self.actions, config.clock_MHz, self.folder, aliases)
        node_nm = config.scale_prices_to_nm
        return table if node_nm is None else scaled(table, node_nm)

    def notes(self, metrics: Mapping[str, Mapping[str, Any]]) -> Sequence[str]:
        """Tell resources and power, what was fitted, and how often a slice repeats itself."""
        from archsim.accelerators.bsg.resources import describe, power_mW, resources_of

        config, used = self.config, resources_of(self.config)
        notes = [f"{describe(used)} of an xc7z020 ({config.resources}); {power_mW(used) / 1000:.3f} W"]
        if config.calibrated:
            notes.append(f"calibrated: {config.calibrated}")
        generated = [told for told in metrics.values() if told["mapping"]["weights"] == "generated"]
        if config.design == "bsg" and not generated:
            notes.append("no layer's weights are generated (no code vectors): every slice is loaded")
        if generated and config.generator == "rotate" and config.n_c < config.slice_weights:
            notes.append(f"the {config.slice_weights} weights of a slice repeat after {config.n_c}")
        return notes

    @property
    def peak_macs_per_cycle(self) -> int:
        """One per MAC unit."""
        return self.config.macs

    def place(self, layers: Sequence[Layer]) -> dict[str, Placement]:
        """Keep maps inside a group of layers on chip; groups end before the map shrinks."""
        from archsim.accelerators.bsg.plan import place_layers

        able = [layer.name for layer in layers if isinstance(layer, Conv) and self.config.names(layer.name)]
        if self.codes is not None:
            able = [name for name in able if name in self.codes.layers]
        return place_layers(self.config, layers, self.config.design == "bsg" and bool(able))

    def weight_bytes(self, layer: Layer, number_format: NumberFormat) -> int:
        """Weights or code vectors, whichever is more, scale and bias, and the base vector."""
        from archsim.accelerators.bsg.generator import slice_count
        from archsim.accelerators.bsg.plan import as_conv

        conv = as_conv(layer)
        shape = (conv.M, conv.C // conv.groups, conv.R, conv.S)
        codes = slice_count(shape, self.config.slice_shape) * self.config.code_words
        return WORD_BYTES * (max(layer.weight_count, codes) + 2 * conv.M + self.config.code_words)

    def prepare(self, layer: Layer, params: LayerParams, setting: LayerSetting) -> Stored:
        """Make the weights of a generated layer from its code vectors. Raises: MappingError where they differ."""
        from archsim.accelerators.bsg.function import BsgStored, prepare_generated

        if self._generated(layer, params) and self.codes is not None:
            return prepare_generated(self.config, cast(Conv, layer), params, self.codes)
        return BsgStored(params)

    def _able(self, layer: Layer, params: LayerParams) -> bool:
        """Return whether the weights of a layer may be generated: not those of the first, not those of a Linear."""
        return isinstance(layer, Conv) and not params.reads_network_input and self.config.names(layer.name)

    def _generated(self, layer: Layer, params: LayerParams) -> bool:
        """Return whether they are: the file of code vectors names the layer, or there are only shapes."""
        if self.config.design != "bsg" or not self._able(layer, params):
            return False
        return params.weights is None if self.codes is None else layer.name in self.codes.layers

    def map(self, layer: Layer, stored: Stored, placement: Placement) -> Plan:
        """Cut the weights into slices."""
        from archsim.accelerators.bsg.plan import plan_layer

        params = stored.params
        return plan_layer(
            self.config,
            layer,
            cast("BsgPlacement", placement),
            generated=self._generated(layer, params),
            able=self._able(layer, params),
            affine_words=_affine_words(layer, params),
        )

    def execute(
        self, layer: Layer, plan: Plan, x: Array, stored: Stored, setting: LayerSetting, draws: Draws
    ) -> Activity:
        """Compute the ofmap of x, bfloat16 (k*N, C, H, W) or (k*N, C)."""
        from archsim.accelerators.bsg.function import compute

        y = compute(layer, x, stored)
        return Activity(y, (self._batch(layer, cast("BsgPlan", plan)),) * (len(x) // plan.batch))

    def expect(self, layer: Layer, plan: Plan, zero_fractions: tuple[float, float]) -> Activity:
        """Return the counts of one batch; zeros change nothing."""
        return Activity(None, (self._batch(layer, cast("BsgPlan", plan)),))

    def _batch(self, layer: Layer, plan: BsgPlan) -> BatchActivity:
        from archsim.accelerators.bsg.activity import batch_activity

        return batch_activity(self.config, layer, plan)

    def time(self, layer: Layer, plan: Plan, activity: BatchActivity, work: Clockwork) -> Generator[Any, Any, Timing]:
        """Simulate one batch slice by slice."""
        from archsim.accelerators.bsg.timing import time_layer

        return time_layer(self.config, layer, cast("BsgPlan", plan), work)

    def closed_form_cycles(self, layer: Layer, plan: Plan, activity: BatchActivity) -> int:
        """Return the sum over partitions and slices."""
        from archsim.accelerators.bsg.timing import layer_cycles

        return layer_cycles(self.config, cast("BsgPlan", plan))


def _affine_words(layer: Layer, params: LayerParams) -> int:
    """Return the words of scale and bias; a shape-only convolution is taken to have both, a Linear a bias."""
    assert isinstance(layer, Conv | Linear)
    source = params.source
    if source is None:
        return (2 if isinstance(layer, Conv) else 1) * layer.M
    return ((source.channel_scale is not None) + (source.bias is not None)) * layer.M
