"""One scalar unit that runs an operation per cycle over the pixels of a map; rows may be skipped and repeated."""

from __future__ import annotations

from collections.abc import Generator, Mapping
from dataclasses import dataclass, replace
from typing import Any, ClassVar

from archsim.accelerators.base import (
    Accelerator,
    AcceleratorConfig,
    Activity,
    BatchActivity,
    Clockwork,
    Draws,
    Placement,
    Plan,
    Stored,
    Timing,
)
from archsim.approx import Knob, LayerSetting
from archsim.workload.formats import Float32
from archsim.workload.layers import Layer, OpStream
from archsim.workload.params import Array


@dataclass(frozen=True)
class StreamPlan(Plan):
    rows: int
    row_operations: int
    ifmap_bytes: int
    ofmap_bytes: int


class StreamUnit(Accelerator):
    kind = "stream_unit"
    about = "one scalar operation per cycle"
    Config = AcceleratorConfig
    presets: ClassVar[Mapping[str, Mapping[str, Any]]] = {"slow": {"clock_MHz": 100.0, "prices": "nnd-chip"}}
    formats = (Float32(),)
    accepts = (OpStream,)
    knobs = (Knob("skip_rows", 3, "layer", "level n computes one row in n+1 and repeats it"),)
    actions = frozenset({"alu.operation", "alu.active_cycle"})

    @property
    def peak_macs_per_cycle(self) -> int:
        return 1

    def map(self, layer: Layer, stored: Stored, placement: Placement) -> StreamPlan:
        assert isinstance(layer, OpStream)
        word_bytes = stored.params.format.bits // 8
        return StreamPlan(
            batch=layer.N,
            rows=layer.P,
            row_operations=layer.N * layer.Q * len(layer.steps),
            ifmap_bytes=layer.N * layer.H * layer.W * word_bytes,
            ofmap_bytes=layer.N * layer.P * layer.Q * word_bytes,
        )

    def execute(
        self, layer: Layer, plan: Plan, x: Array, stored: Stored, setting: LayerSetting, draws: Draws
    ) -> Activity:
        from archsim.workload.reference import op_stream_reference

        assert isinstance(layer, OpStream) and isinstance(plan, StreamPlan)
        level = setting.level("skip_rows")
        assert isinstance(level, int)
        step = level + 1
        y = op_stream_reference(replace(layer, N=len(x)), x)
        y = y[:, :, ::step].repeat(step, axis=2)[:, :, : plan.rows]
        done = -(-plan.rows // step) * plan.row_operations
        batch = BatchActivity(done, (("alu.operation", done),), ((done,),))
        return Activity(y, (batch,) * (len(x) // plan.batch))

    def time(self, layer: Layer, plan: Plan, activity: BatchActivity, work: Clockwork) -> Generator[Any, Any, Timing]:
        assert isinstance(plan, StreamPlan)
        ((busy,),) = activity.tiles
        yield work.memory.access("read", "ifmap", 0, plan.ifmap_bytes)
        yield work.env.timeout(busy)
        yield work.memory.access("write", "ofmap", 0, plan.ofmap_bytes)
        work.counts.add("alu.active_cycle", busy)
        return Timing("compute", {"busy_cycles": busy})

    def closed_form_cycles(self, layer: Layer, plan: Plan, activity: BatchActivity) -> int:
        return sum(busy for (busy,) in activity.tiles)
