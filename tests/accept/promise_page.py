"""The tables of docs/promise.md, from runs: `python -m tests.accept.promise_page` writes them into the page."""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from functools import partial
from typing import Any

from archsim.accelerators.promise.swing import LEVELS
from archsim.result import Totals
from tests.accept import promise_runs as runs
from tests.accept.page import Page, Rows, Table
from tests.accept.tuned import ROOT

READINGS = {
    "cold": "residency: cold",
    "resident": "residency: resident",
    "resident, overlapped": "residency: resident, overlap: true",
}
PARTS = {"DRAM": "link", "leakage": "leakage", "compute": "bank", "SRAM": "sram"}
NAMES = ("noiseless", *(swing.name for swing in LEVELS[1:]))


def part_pJ(layers: Sequence[Any], component: str) -> float:
    """Energy of one component over layers."""
    found = (energy for layer in layers for action, energy in layer.energy_pJ.items()
             if action.partition(".")[0] == component)  # fmt: skip
    return sum(found)


def all_at(name: str, level: int) -> dict[str, Any]:
    return {layer.name: runs.at(level) for layer in runs.layers_of(name)}


# tables --------------------------------------------------------------------------------------------------------------
def parts_rows() -> Rows:
    """Where time and energy go, weights loaded for every image or resident."""
    rows = []
    for name, net in runs.NETS.items():
        for title, analog in READINGS.items():
            (totals, layers), (low, _) = (runs.costs(name, None, all_at(name, level), analog) for level in (1, 7))
            shares = [100 * part_pJ(layers, component) / totals.energy_pJ for component in PARTS.values()]
            rows.append(
                [net.title, title, f"{totals.latency_us:.1f}", f"{totals.energy_pJ / 1e6:.2f}",
                 *(f"{share:.1f}" for share in shares), f"{low.energy_pJ / 1e6:.2f}",
                 f"{totals.energy_pJ / low.energy_pJ:.3f}"]
            )  # fmt: skip
    return rows


def whole_rows() -> Rows:
    """Accuracy with every layer on PROMISE, all at one swing."""
    rows = []
    for name, net in runs.NETS.items():
        for place in ("input", "output"):
            found = dict(zip(net.levels, runs.whole(name, place)))
            cells = [f"{found[level]:.1f}" if level in found else "-" for level in range(len(LEVELS))]
            rows.append([net.title, place, f"{runs.digital(name):.1f}", *cells])
    return rows


def alone_rows(name: str) -> Rows:
    """Accuracy lost with one layer on PROMISE, and what its swing is worth there."""
    base, found, net = runs.digital(name), runs.alone(name), runs.NETS[name]
    costs = {
        (title, level): {one.name: one for one in runs.costs(name, None, all_at(name, level), READINGS[title])[1]}
        for title in ("cold", "resident")
        for level in (1, 7)
    }
    rows = []
    for layer in runs.layers_of(name):
        mapping = costs["cold", 1][layer.name].metrics["mapping"]
        held = "ifmap" if str(mapping["in_banks"]).startswith("ifmap") else "weights"
        figures = []
        for title in ("cold", "resident"):
            high, low = (costs[title, level][layer.name].energy_total_pJ for level in (1, 7))
            figures += [f"{high / 1e6:.2f}", f"{100 * (1 - low / high):.1f}"]
        sizes = f"{mapping['m']} x {mapping['k']} x {mapping['n']}"
        losses = [f"{base - one:.1f}" for one in found[layer.name]]
        rows.append([layer.name, sizes, held, *losses, *figures])
    assert len(rows[0]) == 3 + len(net.levels) + 4
    return rows


def mapped_rows() -> Rows:
    """How many layers bear PROMISE within three points, and what the platform gains; networks with enough images."""
    rows = []
    for name in runs.SEARCHED_NETS:
        net, found, convolutions = runs.NETS[name], runs.mapped(name), runs.convolutions(name)
        levels = found["levels"]
        taken = [layer for layer in convolutions if layer in levels]
        setting = {layer: runs.at(level) for layer, level in levels.items()}
        alone = runs.costs(name, (), {}, READINGS["resident"])[0]
        both, layers = runs.costs(name, list(levels), setting, READINGS["resident"])
        counted = Counter(LEVELS[level].name for level in sorted(levels.values()))
        swings = ", ".join(f"{times} x {swing}" for swing, times in counted.items())
        converted = sum(layer.counts["vector_unit.convert"] for layer in layers if layer.type == "Convert")
        rows.append(
            [net.title, f"{len(taken)}/{len(convolutions)}", f"{len(levels)}/{len(runs.layers_of(name))}", swings,
             f"{found['loss']:.1f}", f"{found['unseen']:.1f}", *gains(alone, both), f"{converted / 1e3:.1f}"]
        )  # fmt: skip
    return rows


def gains(alone: Totals, both: Totals) -> list[str]:
    """Latency and energy of Eyeriss alone, of both machines, and the ratios."""
    return [
        f"{alone.latency_us:.1f}", f"{both.latency_us:.1f}", f"{alone.latency_us / both.latency_us:.2f}",
        f"{alone.energy_pJ / 1e6:.2f}", f"{both.energy_pJ / 1e6:.2f}", f"{alone.energy_pJ / both.energy_pJ:.2f}",
    ]  # fmt: skip


def alone_head(name: str) -> tuple[str, ...]:
    return ("layer", "m x k x n", "in the banks", *(NAMES[level] for level in runs.NETS[name].levels), "cold, uJ",
            "P1 saves %", "resident, uJ", "P1 saves %")  # fmt: skip


TABLES: dict[str, Table] = {
    "parts": (("network", "weights", "latency, us", "P7, uJ", *(f"{one} %" for one in PARTS), "P1, uJ", "P7 / P1"),
              parts_rows),
    "whole": (("network", "noise at", "Eyeriss", *NAMES), whole_rows),
    **{f"alone-{name}": (alone_head(name), partial(alone_rows, name)) for name in runs.NETS},
    "mapped": (("network", "convolutions", "layers", "swings", "lost", "lost, unseen", "Eyeriss, us", "both, us",
                "latency x", "Eyeriss, uJ", "both, uJ", "energy x", "converted, k words"), mapped_rows),
}  # fmt: skip


PROMISE = Page(ROOT / "docs" / "promise.md", TABLES)

if __name__ == "__main__":
    import sys

    PROMISE.write(sys.argv[1:])
