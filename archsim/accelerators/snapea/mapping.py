"""From a layer to its plan, and what stays on chip between layers."""

from __future__ import annotations

from collections.abc import Sequence

from archsim.accelerators.base import Placement
from archsim.accelerators.feature_maps import SharedMap, keep_on_chip
from archsim.accelerators.snapea.config import SnapeaConfig
from archsim.accelerators.snapea.order import SnapeaStored
from archsim.accelerators.snapea.plan import SnapeaPlan, as_conv, choose_portions, cut_portions
from archsim.workload.layers import Layer

THRESHOLD_WORDS = 2
"""Words of (th, n) per kernel that speculates; the thesis' buffers have no room for them."""


def map_layer(config: SnapeaConfig, layer: Layer, stored: SnapeaStored, placement: Placement) -> SnapeaPlan:
    """Return the plan of `layer`. Raises: MappingError naming the violated limit with both numbers."""
    conv, streams = as_conv(layer), stored.extra
    assert streams is not None
    rows, columns = choose_portions(config, conv)
    portions = len(cut_portions(conv, config.lanes, rows, columns).groups)
    return SnapeaPlan(
        batch=conv.N,
        pe_rows=config.pe_rows,
        lanes=config.lanes,
        portion_rows=rows,
        portion_columns=columns,
        portions=portions,
        turns=-(-portions // config.pe_rows),
        kernel_weights=tuple(streams.lengths.tolist()),
        threshold_words=tuple((THRESHOLD_WORDS * (streams.n > 0)).tolist()),
        ifmap_on_chip="ifmap" in placement.chip,
        ofmap_on_chip="ofmap" in placement.chip,
    )


def place_layers(config: SnapeaConfig, layers: Sequence[Layer]) -> dict[str, Placement]:
    """Keep feature maps between layers on chip where they fit a half of the I/O RAMs, as written and as read.

    Other maps that are alive at the same time (shortcuts) are not considered.
    """

    def stays(one: SharedMap) -> bool:
        written = sum(conv.N * conv.M * conv.P * conv.Q for conv in map(as_conv, one.writers))
        read = [conv.N * conv.C * conv.H * conv.W for conv in map(as_conv, one.readers)]
        return max(written, *read) <= config.map_words

    return keep_on_chip(layers, stays)
