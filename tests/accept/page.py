"""Pages of figures: tables between two marks that do not show, written from runs and compared with runs."""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

Rows = list[list[str]]
Table = tuple[tuple[str, ...], Callable[[], Rows]]
"""Head, and what makes the rows."""


@dataclass(frozen=True)
class Page:
    """A page of docs/ and its tables by name."""

    path: Path
    tables: Mapping[str, Table]

    def table(self, name: str) -> str:
        """Return a table as it stands in the page."""
        head, make = self.tables[name]
        return "\n".join("| " + " | ".join(row) + " |" for row in (head, ["---"] * len(head), *make()))

    def shown(self, name: str) -> str:
        """Return what the page shows."""
        found = _place(name).search(self.path.read_text(encoding="utf-8"))
        assert found is not None, f"{self.path.name} has no table {name}"
        return found.group().rstrip("\n")

    def write(self, names: Sequence[str] = ()) -> None:
        """Put tables into the page: those named, or all."""
        text = self.path.read_text(encoding="utf-8")
        for name in names or self.tables:
            made = self.table(name) + "\n"
            text = _place(name).sub(lambda _, made=made: made, text, count=1)  # type: ignore[misc]
        self.path.write_text(text, encoding="utf-8")

    def differing(self, names: Sequence[str]) -> tuple[str, bool]:
        """Run what tables show; return which differ, and whether none does."""
        wrong = [name for name in names if self.shown(name) != self.table(name)]
        return f"{', '.join(names)}: " + (f"{', '.join(wrong)} differ" if wrong else "equal"), not wrong


def _place(name: str) -> re.Pattern[str]:
    return re.compile(rf"(?<=<!-- table {name} -->\n).*?(?=<!-- end -->)", re.DOTALL)
