"""Terminal tables of co-simulation: what agreed, which blocks there are, what they are made of."""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping, Sequence
from typing import Any

from rich.console import Group, RenderableType
from rich.text import Text

from archsim.report.table import plain_table, si, wrapped

Row = Mapping[str, Any]


def verdict_table(rows: Sequence[Row]) -> RenderableType:
    """Return one line per layer or run, the counters of all together, and the first difference with its waves."""
    table = plain_table("RTL beside model", ("what",), ("cases", "cycles", "results", "agrees"))
    totals: Counter[str] = Counter()
    for row in rows:
        figures = (si(row["cycles"], 4), si(row["results"], 4), "no" if row["difference"] else "yes")
        table.add_row(row["what"], str(row["cases"]), *figures)
        totals.update(row["totals"])
    counters = [f"{name.removeprefix('cnt_')} {si(value, 4)}" for name, value in totals.items()]
    lines = wrapped("block", _parameters(rows[0]).split(", ")) if rows else []
    lines += wrapped("counters", counters) if counters else []
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
    """Return the parameters of a block on one line."""
    given = row["parameters"]
    return given if isinstance(given, str) else ", ".join(f"{name} {value}" for name, value in given.items())
