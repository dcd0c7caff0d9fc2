"""Level tables of `mac_array` for the contract tests: thresholds at quantiles of each filter's weights."""

from __future__ import annotations

import numpy as np

from archsim.approx import LevelTable
from archsim.workload.layers import Layer
from archsim.workload.params import LayerParams

LEVELS = 3


def table(knob: str, layer: Layer, params: LayerParams) -> LevelTable:
    assert knob == "drop" and params.weights is not None
    size = np.abs(params.weights.reshape(len(params.weights), -1).astype(np.int64))
    return tuple(
        {"filter": m, "level": level, "threshold": int(np.quantile(size[m], level / (LEVELS + 1)))}
        for m in range(len(size))
        for level in range(1, LEVELS + 1)
    )
