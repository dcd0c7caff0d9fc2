"""Offline: from clean weights and the levels of `speculation` to what DRAM holds."""

from __future__ import annotations

from collections.abc import Mapping

import numpy as np

from archsim.accelerators.snapea.config import ACCUMULATOR_MAX, SnapeaConfig
from archsim.accelerators.snapea.order import SnapeaStored, Speculation, Streams, order_layer
from archsim.accelerators.snapea.plan import as_conv
from archsim.approx import LayerSetting
from archsim.errors import MappingError, StudyError
from archsim.workload.layers import Layer
from archsim.workload.params import Array, LayerParams

KNOB = "speculation"
COLUMNS = ("filter", "level", "th", "n")
LIMITS = {"th": (-ACCUMULATOR_MAX, ACCUMULATOR_MAX - 1), "n": (1, 1 << 24)}
"""Of a row: a threshold is compared with the accumulator, `<=` as `<` of the next integer."""


def prepare_layer(config: SnapeaConfig, layer: Layer, params: LayerParams, setting: LayerSetting) -> SnapeaStored:
    """Return reordered weights and indices of `layer`; only the predictive mode speculates.

    Raises: StudyError for a level that has no usable row; MappingError if an n exceeds the weights of its kernel, or
    `region_order` needs calibration images and there are none.
    """
    filters = as_conv(layer).M
    speculation = chosen_levels(layer.name, setting, filters) if config.mode == "predictive" else {}
    return SnapeaStored(params, order_streams(config, layer, params, speculation))


def order_streams(
    config: SnapeaConfig, layer: Layer, params: LayerParams, speculation: Mapping[int, Speculation]
) -> Streams:
    """Return the kernels of `layer` in execution order; `speculation` by filter. Raises: as `prepare_layer`."""
    assert params.weights is not None
    weights = params.weights.reshape(len(params.weights), -1)
    importance = mean_inputs(layer, params) if config.region_order == "activation" else None
    return order_layer(layer.name, weights, config.region_order, config.drop_zero_weights, speculation, importance)


def mean_inputs(layer: Layer, params: LayerParams) -> Array:
    """Return the mean activation every weight of a kernel meets, float64 (M, K), from the calibration images.

    Raises: MappingError without calibration images.
    """
    if params.x_mean is None:
        raise MappingError(f"layer {layer.name!r}: region_order 'activation' needs calibration images, there are none")
    conv = as_conv(layer)
    group = np.arange(conv.M) // (conv.M // conv.groups)
    channels = params.x_mean.reshape(conv.groups, -1)[group]
    return np.repeat(channels, conv.R * conv.S, axis=1)


def chosen_levels(name: str, setting: LayerSetting, filters: int) -> dict[int, Speculation]:
    """Return (th, n) of every filter that is not at level 0.

    Raises: StudyError naming layer, filter and level without a row, or the row with a value that cannot be used.
    """
    chosen = setting.level(KNOB)
    levels = chosen if isinstance(chosen, tuple) else (chosen,) * filters
    rows = {(row.get("filter"), row.get("level")): row for row in setting.tables.get(KNOB, ())}
    found = {}
    for m, level in enumerate(levels):
        if not level:
            continue
        row = rows.get((m, level))
        if row is None:
            raise StudyError(f"levels.{KNOB}.{name}: no row for filter {m}, level {level}")
        found[m] = Speculation(*(_whole(name, m, level, key, row.get(key)) for key in ("th", "n")))
    return found


def _whole(name: str, m: int, level: int, key: str, value: object) -> int:
    """Return a cell as an integer inside its limits."""
    low, high = LIMITS[key]
    if not isinstance(value, int | float) or not low <= value <= high or value != int(value):
        want = f"a whole number, {low} to {high} (columns: {', '.join(COLUMNS)})"
        raise StudyError(f"levels.{KNOB}.{name}: filter {m}, level {level}: {key} must be {want}, got {value!r}")
    return int(value)
