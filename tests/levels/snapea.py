"""Level tables of `snapea` for the contract tests: thresholds at quantiles of every filter's own partial sums."""

from __future__ import annotations

import numpy as np

from archsim.accelerators.snapea.order import speculation_set
from archsim.approx import LevelTable
from archsim.workload.layers import Layer
from archsim.workload.params import LayerParams
from tests.contract.driver import parameters
from tests.doubles.mac_array.function import window_matrix

CONFIG = {"mode": "predictive"}
QUANTILES = (0.75, 0.9, 1.0)


def table(knob: str, layer: Layer, params: LayerParams) -> LevelTable:
    assert knob == "speculation" and params.weights is not None
    x, _ = parameters(layer, params.format, params.x_non_negative)
    weights = params.weights.reshape(len(params.weights), -1)
    K = weights.shape[1]
    n = max(1, K // 4)
    rows = []
    for m, windows in enumerate(window_matrix(layer, x, len(weights))):
        chosen = speculation_set(weights[m], np.arange(K), n)
        bias = 0 if params.bias is None else int(params.bias[m])
        sums = bias + windows[:, chosen].astype(np.int64) @ weights[m, chosen].astype(np.int64)
        for level, share in enumerate(QUANTILES, 1):
            rows.append({"filter": m, "level": level, "th": int(np.quantile(sums, share)) + 1, "n": n})
    return tuple(rows)
