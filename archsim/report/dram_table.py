"""What a DRAM channel makes of a trace, as a table and a picture of latencies."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from rich.console import Group, RenderableType
from rich.table import Table
from rich.text import Text

from archsim.report.table import energy_text, plain_table, time_text

BARS = 12
WIDEST = 50
NAMES = {
    "act": "activate + precharge",
    "active_cycle": "standby, a row open",
    "idle_cycle": "standby, all closed",
    "read_bit": "I/O, reads",
    "write_bit": "I/O, writes",
}


def played_report(told: Mapping[str, Any]) -> RenderableType:
    """Return time, row buffer, latencies and energy of a trace that was served."""
    return Group(_figures(told), _timings(told), _latencies(told), _energy(told))


def _figures(told: Mapping[str, Any]) -> Table:
    """Return what happened, one figure a line."""
    requests = told["row_hits"] + told["row_misses"] + told["row_conflicts"]

    def share(n: int) -> str:
        return f"{100 * n / requests:.2f} %" if requests else "-"

    table = plain_table(f"{told['trace']} on {told['memory']['preset']}", ("",), ("", "share"), widest=40)
    bandwidth, peak = told["bandwidth_GB_per_s"], told["peak_bandwidth_GB_per_s"]
    rows = [
        ("cycles", str(told["cycles"]), ""),
        ("latency", time_text(told["latency_us"]), ""),
        ("bandwidth", f"{bandwidth:.4g} GB/s", f"{100 * bandwidth / peak:.1f} %"),
        *((name.replace("_", " "), str(told[name]), share(told[name])) for name in _FOUND),
        *((name.replace("_", " "), str(told[name]), "") for name in _DONE if told[name]),
    ]
    for row in rows:
        table.add_row(*row)
    return table


_FOUND = ("row_hits", "row_misses", "row_conflicts")
_DONE = ("reads", "writes", "forwarded_reads", "merged_writes", "activates", "precharges", "refreshes")


def _timings(told: Mapping[str, Any]) -> Text:
    """Return the timings in force, and what the row of the profile asked for."""
    lines = [f"row: {told['row']}"] if told["row"] else []
    return Text("\n".join([*lines, f"timings: {told['timings']}"]))


def _latencies(told: Mapping[str, Any]) -> Text:
    """Return percentiles of the read latency, and a bar for every range of cycles."""
    latency, bins = told["read_latency_cycles"], told["read_latency_histogram"]
    if not bins:
        return Text("no reads")
    low, high, reads = latency["least"], latency["most"], sum(bins.values())
    step = -(-(high - low + 1) // BARS)
    counts = [0] * BARS
    for at, n in bins.items():
        counts[(int(at) - low) // step] += n
    named = "  ".join(f"{name} {value:.5g}" for name, value in latency.items())
    lines = [f"read latency, bus cycles: {named}"]
    for i, n in enumerate(counts):
        if low + i * step <= high:
            bar = "#" * round(WIDEST * n / max(counts))
            lines.append(f"{low + i * step:>8} to {low + (i + 1) * step - 1:<8} {100 * n / reads:6.2f} % {bar}")
    return Text("\n".join(lines))


def _energy(told: Mapping[str, Any]) -> Table:
    """Return energy by command and kind of standby."""
    whole = told["energy_total_pJ"]
    table = plain_table(f"energy, mean power {told['power_mW']:.4g} mW", ("",), ("energy", "share"), widest=40)
    for name, energy_pJ in told["energy_pJ"].items():
        if energy_pJ:
            table.add_row(NAMES.get(name, name), energy_text(energy_pJ), f"{100 * energy_pJ / whole:.1f} %")
    table.add_row("total", energy_text(whole), "", style="bold")
    return table
