"""From rows of levels to settings."""

from __future__ import annotations

from archsim.accelerators.base import Candidate
from archsim.approx import LayerSetting


def layer_setting(knob: str, rows: Candidate) -> LayerSetting:
    """Return the setting of a layer: level 1 is a filter's row, level 0 exact."""
    levels = tuple(int(row is not None) for row in rows)
    table = tuple({"filter": m, "level": 1, **row} for m, row in enumerate(rows) if row is not None)
    return LayerSetting({knob: levels}, {knob: table})
