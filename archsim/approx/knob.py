"""Knobs change the result and have level 0 = exact; everything else is a Config field."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any, Literal, TypeAlias

Level: TypeAlias = int | tuple[int, ...]
"""One level for a layer, or one per filter."""

LevelTable: TypeAlias = tuple[Mapping[str, Any], ...]
"""Rows of a `levels:` table of one knob and layer (columns as in the file: filter, level, ...); level 0 has none."""


@dataclass(frozen=True)
class Knob:
    """One approximation a machine or memory offers.

    `levels` is the number of levels including 0 = exact; None if the study file's `levels:` table defines them. `grid`
    names the values a tuner combines to candidates for such a table.
    """

    name: str
    levels: int | None
    granularity: Literal["layer", "filter"] = "layer"
    about: str = ""
    grid: Mapping[str, tuple[float, ...]] = field(default_factory=dict, hash=False)


@dataclass(frozen=True)
class LayerSetting:
    """The levels in force for one layer, with the table rows of the knobs that have them."""

    levels: Mapping[str, Level] = field(default_factory=dict)
    tables: Mapping[str, LevelTable] = field(default_factory=dict)

    def level(self, knob: str) -> Level:
        """Return the level of `knob`, 0 = exact if the study does not set it."""
        return self.levels.get(knob, 0)

    @property
    def exact(self) -> bool:
        """True if every knob is at level 0."""
        return all(not any(lv) if isinstance(lv, tuple) else lv == 0 for lv in self.levels.values())


Setting: TypeAlias = Mapping[str, LayerSetting]
"""Layer name -> levels in force; a layer that is absent is exact."""
