"""Action counts: the currency between timing and energy. One key is `<component>.<action>`, one value an int."""

from __future__ import annotations

from collections.abc import Mapping
from typing import NamedTuple, TypeAlias

Action: TypeAlias = str


class Counts(dict[Action, int]):
    """How often each action happened; missing actions read as 0."""

    def __missing__(self, action: Action) -> int:
        return 0

    def add(self, action: Action, n: int) -> None:
        """Count `n` more of `action`; zero leaves no entry behind."""
        if n:
            self[action] = self[action] + int(n)

    def merge(self, other: Mapping[Action, int], times: int = 1) -> None:
        """Add `times` copies of `other`."""
        for action, n in other.items():
            self.add(action, n * times)


class Column(NamedTuple):
    """A figure of layers for the report: the sum of one metric, or field of a result, over another's."""

    title: str
    numerator: str
    denominator: str
    about: str
