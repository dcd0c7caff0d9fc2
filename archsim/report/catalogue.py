"""What archsim knows and what this machine has: accelerators, memories, prices, networks, studies, data."""

from __future__ import annotations

import re
from pathlib import Path
from typing import Any

from rich.console import Group, RenderableType
from rich.table import Table

from archsim import assets
from archsim.accelerators.base import known_accelerators
from archsim.energy import available_tables
from archsim.memory.base import known_memories


def catalogue() -> dict[str, list[dict[str, Any]]]:
    """Return all names a study file may use, by kind of thing."""
    root = assets.shipped_root()
    return {
        "accelerators": [
            {
                "kind": kind,
                "about": machine.about,
                "presets": list(machine.presets),
                "formats": [number_format.name for number_format in machine.formats],
                "knobs": [knob.name for knob in machine.knobs],
            }
            for kind, machine in known_accelerators().items()
        ],
        "memories": [
            {
                "kind": kind,
                "about": memory.about,
                "presets": list(memory.presets),
                "knobs": [k.name for k in memory.knobs],
            }
            for kind, memory in known_memories().items()
        ],
        "price_tables": [{"name": name, "about": about} for name, about in available_tables()],
        "networks": [
            {"name": path.name, "weights": path.suffix == ".onnx"}
            for folder in ("trained", "networks")
            for path in sorted((root / "workloads" / folder).glob("*.*"))
            if path.suffix in (".onnx", ".yaml", ".csv")
        ],
        "studies": _studies(root / "configs"),
    }


def _studies(folder: Path) -> list[dict[str, Any]]:
    """Return study and tune files with the command that takes each; a study whose levels a search finds names it."""
    texts = {path.name: path.read_text(encoding="utf-8") for path in sorted(folder.glob("*.yaml"))}
    tasks = {name: text for name, text in texts.items() if re.search(r"^tune:", text, re.M)}
    searched = {study: name for name, text in tasks.items() for study in re.findall(r"^  study: (\S+)", text, re.M)}
    takers = {study: f"archsim tune, through {task}" for study, task in searched.items()}
    takers |= dict.fromkeys(tasks, "archsim tune")
    return [{"name": name, "taken by": takers.get(name, "archsim run")} for name in texts]


def catalogue_tables(known: dict[str, list[dict[str, Any]]]) -> RenderableType:
    """Return the catalogue as one table per kind of thing."""
    return Group(*(_table(title.replace("_", " "), rows) for title, rows in known.items()))


def _table(title: str, rows: list[dict[str, Any]]) -> Table:
    table = Table(title=title, title_justify="left", title_style="bold", box=None, pad_edge=False, header_style="cyan")
    for column in rows[0] if rows else ():
        table.add_column(column)
    for row in rows:
        table.add_row(*(_cell(value) for value in row.values()))
    return table


def _cell(value: Any) -> str:
    if value is None:
        return "-"
    if isinstance(value, bool):
        return "yes" if value else "no"
    return ", ".join(map(str, value)) or "-" if isinstance(value, list | tuple) else str(value)


def data_rows() -> list[dict[str, Any]]:
    """Return every data set and network found, with where it was found."""
    from archsim.workload.datasets import discover

    return [row._asdict() for row in discover()]


def data_table(rows: list[dict[str, Any]]) -> RenderableType:
    """Return the data sets and networks found as a table."""
    return _table("data sets and networks", rows)
