"""From rows of levels to settings."""

from __future__ import annotations

from archsim.accelerators.base import Candidate
from archsim.approx import LayerSetting, Setting
from archsim.memory.base import Memory


def layer_setting(knob: str, rows: Candidate) -> LayerSetting:
    """Return the setting of a layer: level 1 is a filter's row, level 0 exact."""
    levels = tuple(int(row is not None) for row in rows)
    table = tuple({"filter": m, "level": 1, **row} for m, row in enumerate(rows) if row is not None)
    return LayerSetting({knob: levels}, {knob: table})


def memory_levels(setting: Setting, memory: Memory) -> Setting:
    """Return what a study sets of its memory's knobs: it stays in force whatever a tuner tries."""
    names = {knob.name for knob in memory.knobs}
    kept = {
        layer: {name: level for name, level in one.levels.items() if name in names} for layer, one in setting.items()
    }
    return {layer: LayerSetting(levels) for layer, levels in kept.items() if levels}


def beside(kept: Setting, tried: Setting) -> Setting:
    """Return what is tried beside what is kept."""
    if not kept:
        return tried
    both = {name: (kept.get(name, LayerSetting()), tried.get(name, LayerSetting())) for name in [*kept, *tried]}
    return {
        name: LayerSetting({**one.levels, **other.levels}, {**one.tables, **other.tables})
        for name, (one, other) in both.items()
    }
