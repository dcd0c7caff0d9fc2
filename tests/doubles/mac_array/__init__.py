"""An array of lanes, one filter each, that run in step; small weights may be dropped filter by filter."""

from __future__ import annotations

from collections.abc import Generator, Mapping, Sequence
from dataclasses import dataclass
from itertools import pairwise
from typing import Any, ClassVar

from pydantic import Field

from archsim.accelerators.base import (
    Accelerator,
    AcceleratorConfig,
    Activity,
    BatchActivity,
    Candidate,
    Clockwork,
    Draws,
    Placement,
    Plan,
    Profiled,
    Stored,
    Timing,
)
from archsim.approx import Knob, LayerSetting
from archsim.workload.formats import Fixed
from archsim.workload.layers import Conv, Layer, Linear
from archsim.workload.params import Array, LayerParams
from tests.doubles.mac_array.rtl import MAC_LANE


class MacArrayConfig(AcceleratorConfig):
    """Lanes, the cycles it takes to fill them, and the buffer that may keep feature maps on chip."""

    lanes: int = Field(gt=0)
    fill_cycles: int = Field(ge=0)
    buffer_bytes: int = Field(ge=0)


@dataclass(frozen=True)
class MacArrayPlan(Plan):
    """One tile is a block of at most `lanes` filters over all windows of the batch."""

    lanes: int
    blocks: int
    filters: int
    windows: int
    word_bytes: int
    ifmap_words: int
    weights_per_filter: int
    ofmap_words: int
    ifmap_on_chip: bool
    ofmap_on_chip: bool

    def describe(self) -> dict[str, int | str]:
        return {"batch": self.batch, "lanes": self.lanes, "blocks": self.blocks}

    def filters_of(self, block: int) -> int:
        return min(self.lanes, self.filters - block * self.lanes)


class MacArray(Accelerator):
    kind = "mac_array"
    about = "lanes in step, one filter each"
    Config = MacArrayConfig
    presets: ClassVar[Mapping[str, Mapping[str, Any]]] = {
        "small": {"clock_MHz": 200.0, "prices": "nnd-chip", "lanes": 4, "fill_cycles": 3, "buffer_bytes": 0},
        "buffered": {"clock_MHz": 500.0, "prices": "nnd-chip", "lanes": 16, "fill_cycles": 8, "buffer_bytes": 4096},
    }
    formats = (Fixed(16), Fixed(8))
    accepts = (Conv, Linear)
    knobs = (
        Knob(
            "drop",
            None,
            "filter",
            "products with small weights are left out: |weight code| < threshold",
            {"quantile": (0.2, 0.4, 0.6, 0.8)},
        ),
    )
    actions = frozenset(
        {"pe.mac", "weight_buffer.read", "global_buffer.read", "global_buffer.write", "array.active_cycle"}
    )
    rtl = (MAC_LANE,)
    config: MacArrayConfig

    @property
    def peak_macs_per_cycle(self) -> int:
        return self.config.lanes

    def place(self, layers: Sequence[Layer]) -> dict[str, Placement]:
        """Keep a feature map between two consecutive layers on chip if it fits the buffer."""
        kept = [
            _ofmap_words(one) * 2 <= self.config.buffer_bytes and one.output in two.inputs
            for one, two in pairwise(layers)
        ]
        return {
            layer.name: Placement(
                frozenset({"ifmap"} if before else ()) | frozenset({"ofmap"} if after else ()),
            )
            for layer, before, after in zip(layers, [False, *kept], [*kept, False])
        }

    def prepare(self, layer: Layer, params: LayerParams, setting: LayerSetting) -> Stored:
        """`extra` is the mask bool (M, K) of the products that are done."""
        if params.weights is None:
            return Stored(params)
        from tests.doubles.mac_array.function import products_done, thresholds

        return Stored(params, products_done(params.weights, thresholds(setting, len(params.weights))))

    def map(self, layer: Layer, stored: Stored, placement: Placement) -> MacArrayPlan:
        assert isinstance(layer, Conv | Linear)
        windows = layer.N * layer.P * layer.Q if isinstance(layer, Conv) else layer.N
        words = layer.C * layer.H * layer.W if isinstance(layer, Conv) else layer.C
        return MacArrayPlan(
            batch=layer.N,
            lanes=self.config.lanes,
            blocks=-(-layer.M // self.config.lanes),
            filters=layer.M,
            windows=windows,
            word_bytes=stored.params.format.bits // 8,
            ifmap_words=layer.N * words,
            weights_per_filter=layer.weight_count // layer.M,
            ofmap_words=_ofmap_words(layer),
            ifmap_on_chip="ifmap" in placement.chip,
            ofmap_on_chip="ofmap" in placement.chip,
        )

    def execute(
        self, layer: Layer, plan: Plan, x: Array, stored: Stored, setting: LayerSetting, draws: Draws
    ) -> Activity:
        from tests.doubles.mac_array.function import execute

        assert isinstance(plan, MacArrayPlan)
        return execute(layer, plan, x, stored)

    def expect(self, layer: Layer, plan: Plan, zero_fractions: tuple[float, float]) -> Activity:
        """Zeros change nothing here: every product is done."""
        assert isinstance(plan, MacArrayPlan)
        busy = plan.weights_per_filter * plan.windows
        return Activity(None, (batch_activity(plan, [busy] * plan.filters),))

    def time(self, layer: Layer, plan: Plan, activity: BatchActivity, work: Clockwork) -> Generator[Any, Any, Timing]:
        assert isinstance(plan, MacArrayPlan)
        if not plan.ifmap_on_chip:
            yield work.memory.access("read", "ifmap", 0, plan.ifmap_words * plan.word_bytes)
        for block, (busy,) in enumerate(activity.tiles):
            n_bytes = plan.filters_of(block) * plan.weights_per_filter * plan.word_bytes
            yield work.memory.access("read", "weights", block * n_bytes, n_bytes)
            if work.trace is not None:
                work.trace.add(self.kind, "lanes", layer.name, int(work.env.now), busy)
            yield work.env.timeout(self.config.fill_cycles + busy)
        if not plan.ofmap_on_chip:
            yield work.memory.access("write", "ofmap", 0, plan.ofmap_words * plan.word_bytes)
        busy_cycles = sum(busy for (busy,) in activity.tiles)
        work.counts.add("array.active_cycle", busy_cycles)
        work.counts.add("global_buffer.read", plan.blocks * plan.ifmap_words)
        work.counts.add("global_buffer.write", plan.ifmap_words + plan.ofmap_words)
        bound = "compute" if 2 * busy_cycles >= work.env.now else "memory"
        return Timing(bound, {"busy_cycles": busy_cycles, "mapping": plan.describe()})

    def closed_form_cycles(self, layer: Layer, plan: Plan, activity: BatchActivity) -> int:
        return sum(self.config.fill_cycles + busy for (busy,) in activity.tiles)

    def candidates(
        self, layer: Layer, plan: Plan, x: Array, stored: Stored, grid: Mapping[str, Sequence[float]]
    ) -> Sequence[Candidate]:
        """Thresholds at quantiles of each filter's own weights."""
        from tests.doubles.mac_array.function import candidates

        return candidates(stored, grid)

    def profile(
        self, layer: Layer, plan: Plan, x: Array, stored: Stored, candidates: Sequence[Candidate]
    ) -> Sequence[Profiled]:
        """Errors are in accumulator units."""
        from tests.doubles.mac_array.function import profile

        return profile(layer, x, stored, candidates)


def batch_activity(plan: MacArrayPlan, busy_by_filter: Sequence[int]) -> BatchActivity:
    """Lanes run in step: a block takes as long as its busiest filter."""
    macs_done = sum(busy_by_filter)
    blocks = [busy_by_filter[first : first + plan.lanes] for first in range(0, plan.filters, plan.lanes)]
    return BatchActivity(
        macs_done=macs_done,
        counts=(("pe.mac", macs_done), ("weight_buffer.read", macs_done)),
        tiles=tuple((max(block),) for block in blocks),
    )


def _ofmap_words(layer: Layer) -> int:
    assert isinstance(layer, Conv | Linear)
    return layer.N * layer.M * (layer.P * layer.Q if isinstance(layer, Conv) else 1)
