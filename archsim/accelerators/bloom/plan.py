"""The plan of a layer: how many operations its units share, and the words it moves."""

from __future__ import annotations

from dataclasses import dataclass

from archsim.accelerators.base import Placement, Plan, Stored
from archsim.accelerators.bloom.config import BloomConfig
from archsim.accelerators.bloom.events import kinds_of
from archsim.accelerators.bloom.stream import stream_of
from archsim.units import BITS_PER_BYTE
from archsim.workload.layers import Conv, Layer, Linear, OpStream

Kinds = tuple[tuple[str, int], ...]


@dataclass(frozen=True)
class BloomPlan(Plan):
    """Operations of a batch by kind of unit; chains: sums or pixels whose operations wait for each other.

    Operations are dealt evenly to the units of a kind; a chain's next operation may be of another kind.
    """

    units: int
    operations: Kinds
    chains: int
    chains_in_turn: int
    accumulations: int
    ifmap_bytes: int
    weight_bytes: int
    ofmap_bytes: int

    def describe(self) -> dict[str, int | str]:
        """Return the figures shown as `mapping`."""
        return {"batch": self.batch, "units": self.units, "chains_in_turn": self.chains_in_turn}

    @property
    def total_operations(self) -> int:
        """Operations of all kinds."""
        return sum(count for _, count in self.operations)


def map_layer(config: BloomConfig, layer: Layer, stored: Stored, placement: Placement) -> BloomPlan:
    """Deal a batch's chains to the units."""
    word_bytes = stored.params.format.bits // BITS_PER_BYTE
    if isinstance(layer, OpStream):
        pixels = layer.N * layer.P * layer.Q
        operations: Kinds = tuple((kind, steps * pixels) for kind, steps in kinds_of(layer).items())
        chains, words, outputs, weights, sums = pixels, layer.H * layer.W, layer.P * layer.Q, 0, 0
    else:
        assert isinstance(layer, Conv | Linear)
        sums = layer.N * stream_of(layer).operations
        operations = (("mul", sums),)
        outputs = layer.M * (layer.P * layer.Q if isinstance(layer, Conv) else 1)
        words = layer.C * (layer.H * layer.W if isinstance(layer, Conv) else 1)
        chains, weights = layer.N * outputs, layer.weight_count
    return BloomPlan(
        batch=layer.N,
        units=config.units,
        operations=operations,
        chains=chains,
        chains_in_turn=min(config.chains, -(-chains // config.units)),
        accumulations=sums,
        ifmap_bytes=0 if "ifmap" in placement.chip else layer.N * words * word_bytes,
        weight_bytes=0 if "weights" in placement.chip else weights * word_bytes,
        ofmap_bytes=0 if "ofmap" in placement.chip else layer.N * outputs * word_bytes,
    )
