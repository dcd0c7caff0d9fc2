"""Terminal tables of co-simulation: what agreed, which blocks there are, what they are made of."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from rich.console import Group, RenderableType
from rich.text import Text

from archsim.report.table import plain_table, si

Row = Mapping[str, Any]


def verdict_table(rows: Sequence[Row]) -> RenderableType:
    """Return one line per layer or run, counters added up, and the first difference with its waves."""
    names = list(dict.fromkeys(name for row in rows for name in row["totals"]))
    table = plain_table("RTL beside model", ("what",), ("cases", "cycles", "results", *names, "agrees"))
    for row in rows:
        figures = (row["cycles"], row["results"], *(row["totals"].get(name, 0) for name in names))
        agrees = "no" if row["difference"] else "yes"
        table.add_row(row["what"], str(row["cases"]), *(si(value, 4) for value in figures), agrees)
    lines = [f"           {_parameters(rows[0])}"] if rows else []
    for row in rows:
        if row["difference"]:
            lines.append(f"difference {row['difference']['text']}")
        if row["waves"]:
            lines.append(f"waves      {row['waves']}")
    return Group(table, Text("\n".join(lines)))


def blocks_table(rows: Sequence[Row]) -> RenderableType:
    """Return the blocks that can be run."""
    table = plain_table("RTL blocks", ("block", "machine", "parameters"), (), widest=60)
    for row in rows:
        table.add_row(row["block"], row["machine"], _parameters(row))
    return table


def inventory_table(rows: Sequence[Row]) -> RenderableType:
    """Return what the blocks are made of."""
    figures = [name for name in rows[0] if name not in ("block", "parameters")]
    table = plain_table("operators and registers, loops unrolled", ("block",), figures, widest=30)
    for row in rows:
        table.add_row(row["block"], *(str(row[name]) for name in figures))
    return Group(table, Text("\n".join(f"           {row['block']}: {_parameters(row)}" for row in rows)))


def _parameters(row: Row) -> str:
    given = row["parameters"]
    return given if isinstance(given, str) else ", ".join(f"{name} {value}" for name, value in given.items())
