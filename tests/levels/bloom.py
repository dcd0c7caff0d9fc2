"""Level tables of `bloom` for the contract tests: error rates of the units."""

from __future__ import annotations

from archsim.approx import LevelTable
from archsim.workload.layers import Layer
from archsim.workload.params import LayerParams


def table(knob: str, layer: Layer, params: LayerParams) -> LevelTable:
    assert knob == "unit_faults"
    return tuple(
        {"level": level, "add": rate, "mul": rate, "mac": rate, "sqrt": rate}
        for level, rate in enumerate((0.001, 0.02, 0.2), 1)
    )
