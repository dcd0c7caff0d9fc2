"""Terminal table of a tuning run: what every bound bought, on the images it was found on and on unseen ones."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from rich.console import Group, RenderableType
from rich.text import Text

from archsim.report.table import energy_text, plain_table, time_text

FIGURES = ("lost", "unseen", "MACs done", "unseen", "latency", "speedup", "energy", "ratio", "layers", "filters")


def tune_report(curve: Mapping[str, Any]) -> RenderableType:
    """Return one row per bound, the exact network above them, and what it took to find them."""
    if "designs" in curve:
        return design_report(curve)
    tune, exact, effort = curve["tune"], curve["exact"], curve["evaluations"]
    title = f"{tune['name']}: {tune['method']} on {tune['study']}; losses in points, figures per image"
    table = plain_table(title, ("allowed",), FIGURES)
    table.add_row("exact", *_figures(exact, exact), "", "")
    for point in curve["points"]:
        layers = f"{point['layers_approximated']}/{point['layers']}"
        filters = f"{point['filters_approximated']}/{point['filters']}"
        table.add_row(f"{point['max_loss_points']:g}", *_figures(point, exact), layers, filters)
    facts = [
        f"images     {effort['images']} to find, {tune['test']['images']} unseen (exact: "
        f"{100 * exact['top1']:.2f} % and {100 * exact['test_top1']:.2f} % right), {tune['cost_images']} timed",
        f"effort     {effort['network_evaluations']} passes through the network now, others remembered; profiling "
        f"took {effort['profiling_evaluations']} instead of {effort['profiling_evaluations_as_printed']}",
        *(f"study      {point['study']}" for point in curve["points"]),
    ]
    return Group(table, Text("\n".join(facts)))


def design_report(curve: Mapping[str, Any]) -> RenderableType:
    """Return a column per design, a row per figure."""
    tune, designs, effort = curve["tune"], curve["designs"], curve["evaluations"]
    names = list(dict.fromkeys(name for one in designs for name in one))
    head = names[0]
    table = plain_table(f"{tune['name']}: {tune['method']} on {tune['study']}", (head,), [one[head] for one in designs])
    for name in names[1:]:
        values = (one.get(name, "-") for one in designs)
        table.add_row(name, *(f"{value:.4g}" if isinstance(value, float) else str(value) for value in values))
    facts = f"images     {effort['images']} to find rates, {tune['test']['images']} unseen; {effort['pictures']} passes"
    return Group(table, Text(facts))


def _figures(point: Mapping[str, Any], exact: Mapping[str, Any]) -> tuple[str, ...]:
    """Return the figures of one row; ratios are to the exact network on the same machine."""
    latency_us, energy_pJ = point["latency_us_per_image"], point["energy_pJ_per_image"]
    return (
        f"{point['loss_points']:.2f}",
        f"{point['test_loss_points']:.2f}",
        f"{100 * point['macs_done_share']:.1f} %",
        f"{100 * point['test_macs_done_share']:.1f} %",
        time_text(latency_us),
        f"{exact['latency_us_per_image'] / latency_us:.3f}",
        energy_text(energy_pJ),
        f"{energy_pJ / exact['energy_pJ_per_image']:.3f}",
    )
