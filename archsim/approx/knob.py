"""Knobs change the result and have level 0 = exact; everything else is a Config field."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, Literal, TypeAlias

from archsim.errors import StudyError, did_you_mean

Level: TypeAlias = int | tuple[int, ...]
"""One level for a layer, or one per filter."""

LevelTable: TypeAlias = tuple[Mapping[str, Any], ...]
"""Rows of a `levels:` table of one knob and layer (columns as in the file: filter, level, ...); level 0 has none."""


@dataclass(frozen=True)
class Knob:
    """One approximation a machine or memory offers.

    `levels` is the number of levels including 0 = exact; None if the study file's `levels:` table defines them. `grid`
    names the values a tuner combines to candidates for such a table, `limits` the least and greatest of each.
    `always_saves` False: whether a higher level takes less energy depends on the data; the machine's README says why.
    """

    name: str
    levels: int | None
    granularity: Literal["layer", "filter"] = "layer"
    about: str = ""
    grid: Mapping[str, tuple[float, ...]] = field(default_factory=dict, hash=False)
    limits: Mapping[str, tuple[float, float]] = field(default_factory=dict, hash=False)
    always_saves: bool = True

    def grid_with(self, changes: Mapping[str, Sequence[float]]) -> dict[str, Sequence[float]]:
        """Return the grid with other values for some names. Raises: StudyError with name, value and limits."""
        for name, values in changes.items():
            if name not in self.grid:
                raise StudyError(f"unknown value {name!r} of the grid of {self.name}{did_you_mean(name, self.grid)}")
            if not values:
                raise StudyError(f"the grid of {self.name} needs at least one {name}")
            low, high = self.limits[name]
            whole = all(isinstance(value, int) for value in self.grid[name])
            for value in values:
                if not low <= value <= high or (whole and value != int(value)):
                    kind = "whole numbers" if whole else "numbers"
                    raise StudyError(f"{name} of the grid of {self.name} are {kind} from {low} to {high}, got {value}")
        return {**self.grid, **changes}


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
