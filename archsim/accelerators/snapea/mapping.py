"""From a layer to its plan, and what stays on chip between layers."""

from __future__ import annotations

from collections.abc import Sequence
from itertools import pairwise

import numpy as np

from archsim.accelerators.base import Placement
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
        threshold_words=THRESHOLD_WORDS * int(np.count_nonzero(streams.n)),
        ifmap_on_chip="ifmap" in placement.chip,
        ofmap_on_chip="ofmap" in placement.chip,
    )


def place_layers(config: SnapeaConfig, layers: Sequence[Layer]) -> dict[str, Placement]:
    """Keep the feature maps between consecutive layers on chip where both fit a half of the I/O RAMs.

    Only maps of neighbours in `layers` are considered; what pooling in between shrinks, and maps of branches that are
    alive at the same time, are not.
    """
    convs = [as_conv(layer) for layer in layers]
    stays = [
        before.N * max(before.M * before.P * before.Q, after.C * after.H * after.W) <= config.map_words
        for before, after in pairwise(convs)
    ]
    placed = {}
    for layer, reads, leaves in zip(layers, [False, *stays], [*stays, False]):
        chip = {name for name, stay in (("ifmap", reads), ("ofmap", leaves)) if stay}
        placed[layer.name] = Placement(frozenset(chip))
    return placed
