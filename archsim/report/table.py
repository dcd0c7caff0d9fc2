"""Terminal tables that fit 100 columns: the result of a run, runs side by side, what archsim knows."""

from __future__ import annotations

import textwrap
from collections.abc import Iterable, Mapping, Sequence
from typing import Any

from rich.console import Group, RenderableType
from rich.table import Table
from rich.text import Text

from archsim.units import energy_pJ_to_power_mW

WIDTH = 100
COMPONENTS = 7
"""Columns of the energy table that fit the width; smaller components are added up as others."""
_SI = ((1e12, "T"), (1e9, "G"), (1e6, "M"), (1e3, "k"), (1.0, ""))
_ENERGY = ((1e12, "J"), (1e9, "mJ"), (1e6, "uJ"), (1e3, "nJ"), (1.0, "pJ"))
_TIME = ((1e6, "s"), (1e3, "ms"), (1.0, "us"))


def _quantity(value: float, steps: Sequence[tuple[float, str]], digits: int) -> str:
    """Return a value in the largest unit that leaves at least 1 after rounding to `digits` significant figures."""
    least = 1 - 0.5 * 10.0**-digits
    factor, unit = next((step for step in steps if abs(value) >= least * step[0]), steps[-1])
    return f"{value / factor:.{digits}g} {unit}".rstrip()


def si(value: float, digits: int = 3) -> str:
    """Return a number with an SI prefix: 1.23 M."""
    return _quantity(value, _SI, digits)


def energy_text(energy_pJ: float) -> str:
    """Return an energy in the unit that fits: pJ, nJ, uJ, mJ, J."""
    return _quantity(energy_pJ, _ENERGY, 3)


def time_text(latency_us: float) -> str:
    """Return a latency in the unit that fits: us, ms, s."""
    return _quantity(latency_us, _TIME, 4)


def run_report(result: Mapping[str, Any]) -> RenderableType:
    """Return the whole answer of one run: layers, totals, energy by component, accuracy, identity, notes."""
    parts: list[RenderableType] = [_layer_table(result), _component_table(result["layers"])]
    used = {layer["accelerator"] for layer in result["layers"]}
    machines = {name: one for name, one in result["provenance"]["machines"].items() if name in used}
    timed = [layer for layer in result["layers"] if layer["accelerator"] != "vector_unit"]
    for name, one in machines.items():
        parts += _figures_table(name, one["columns"], [layer for layer in timed if layer["accelerator"] == name])
    parts += _figures_table("memory", result["provenance"]["memory"]["columns"], timed)
    if result["compare_to"] is not None:
        parts.append(_comparison_table(result))
    return Group(*parts, _facts(result))


def _layer_table(result: Mapping[str, Any]) -> Table:
    """Return one row per layer on a machine, one for the vector unit, and the total: sums and per image."""
    totals, images = result["totals"], result["totals"]["images_timed"]
    title = f"{result['study']['name']}: sums over {images} timed image{'s' if images > 1 else ''}, and per image"
    figures = ("MACs", "done", "cycles", "latency", "/image", "bound", "energy", "/image")
    table = plain_table(title, ("layer", "on"), figures)
    on_vector_unit = [layer for layer in result["layers"] if layer["accelerator"] == "vector_unit"]
    for layer in result["layers"]:
        if layer["accelerator"] != "vector_unit":
            table.add_row(layer["name"], layer["accelerator"], *_figures(layer, layer["bound"], images))
    if on_vector_unit:
        names = f"{len(on_vector_unit)} other layers"
        told = _figures(_summed(on_vector_unit, _clocks(totals)), "", images)
        table.add_row(names, "vector_unit", *told, style="dim")
    table.add_section()
    convolutions = [layer for layer in result["layers"] if layer["type"] == "Conv"]
    if any(layer["type"] == "Linear" for layer in result["layers"]) and convolutions:
        table.add_row("conv layers", "", *_figures(_summed(convolutions, _clocks(totals)), "", images))
    whole = {**totals, "energy_pJ": {"total": totals["energy_pJ"]}}
    table.add_row("total", "", *_figures(whole, "", images), style="bold")
    return table


def _clocks(totals: Mapping[str, Any]) -> dict[str, float]:
    """Return the clock of every machine that took part, MHz."""
    return {name: one["clock_MHz"] for name, one in totals["by_accelerator"].items()}


def _summed(layers: Sequence[Mapping[str, Any]], clocks_MHz: Mapping[str, float]) -> dict[str, Any]:
    """Return the figures of several layers added up; cycles of different clocks have no sum."""
    keys = ("macs_dense", "macs_done", "cycles", "latency_us")
    summed: dict[str, Any] = {key: sum(layer[key] for layer in layers) for key in keys}
    if len({clocks_MHz[layer["accelerator"]] for layer in layers if layer["cycles"]}) > 1:
        summed["cycles"] = None
    return {**summed, "energy_pJ": {"total": sum(sum(layer["energy_pJ"].values()) for layer in layers)}}


def _figures(row: Mapping[str, Any], bound: str, images: int) -> tuple[str, ...]:
    """Return the cells of one row after its names."""
    energy_pJ, latency_us = sum(row["energy_pJ"].values()), row["latency_us"]
    cycles = "mixed" if row["cycles"] is None else si(row["cycles"], 4)
    times = (cycles, time_text(latency_us), time_text(latency_us / images)) if latency_us else ("-", "-", "-")
    macs = si(row["macs_dense"]) if row["macs_dense"] else "-"
    done = _percent(row["macs_done"], row["macs_dense"])
    return (macs, done, *times, bound or "-", energy_text(energy_pJ), energy_text(energy_pJ / images))


def _percent(part: float, whole: float) -> str:
    return f"{100 * part / whole:.3g} %" if whole else "-"


def plain_table(title: str, left: Sequence[str], right: Sequence[str], widest: int = 20) -> Table:
    """Return an empty table with text columns left, at most `widest` each, and figures right."""
    table = Table(
        title=title,
        title_justify="left",
        title_style="bold",
        box=None,
        pad_edge=False,
        padding=(0, 1, 0, 0),
        header_style="cyan",
    )
    for name in left:
        table.add_column(name, no_wrap=True, max_width=widest, overflow="ellipsis")
    for name in right:
        table.add_column(name, justify="right", no_wrap=True)
    return table


def _energy_by_component(layers: Sequence[Mapping[str, Any]]) -> dict[str, float]:
    """Return the energy of some layers by component, pJ."""
    by_component: dict[str, float] = {}
    for layer in layers:
        for action, energy_pJ in layer["energy_pJ"].items():
            component = action.split(".", 1)[0]
            by_component[component] = by_component.get(component, 0.0) + energy_pJ
    return by_component


def _component_table(layers: Sequence[Mapping[str, Any]]) -> Table:
    """Return energy by layer and component, components largest first, with their share of the whole."""
    whole = _energy_by_component(layers)
    ranked = sorted(whole, key=lambda component: -whole[component])
    shown, rest = ranked[:COMPONENTS], ranked[COMPONENTS:]
    table = plain_table("energy by component", ("layer",), (*shown, *(["others"] if rest else [])))

    def row(name: str, energy_pJ: Mapping[str, float], style: str = "") -> None:
        parts = [energy_pJ.get(component, 0.0) for component in shown]
        parts += [sum(energy_pJ.get(component, 0.0) for component in rest)] if rest else []
        table.add_row(name, *(energy_text(part) if part else "-" for part in parts), style=style)

    for layer in layers:
        if layer["accelerator"] != "vector_unit":
            row(layer["name"], _energy_by_component([layer]))
    table.add_section()
    row("total", whole, "bold")
    total = sum(whole.values())
    shares = [whole[component] for component in shown] + ([sum(whole[component] for component in rest)] if rest else [])
    table.add_row("share", *(f"{100 * part / total:.1f} %" if total else "-" for part in shares), style="bold")
    return table


def _figures_table(
    owner: str, columns: Sequence[Mapping[str, str]], layers: Sequence[Mapping[str, Any]]
) -> list[RenderableType]:
    """Return the figures of its own that a machine or memory tells, layer by layer and together; none: no table."""
    if not columns:
        return []
    table = plain_table(f"figures of {owner}", ("layer",), tuple(column["title"] for column in columns))
    rows = [{**layer, **layer["metrics"]} for layer in layers]
    for row in rows:
        table.add_row(row["name"], *(_share([row], column) for column in columns))
    table.add_section()
    told = [row for row in rows if all(column["numerator"] in row for column in columns)]
    table.add_row("together", *(_share(told, column) for column in columns), style="bold")
    return [table]


def _share(rows: Sequence[Mapping[str, Any]], column: Mapping[str, str]) -> str:
    """Return the sum of one figure over the sum of another; '-' if a row has not both."""
    above, below = column["numerator"], column["denominator"]
    if not rows or not all(above in row and below in row for row in rows):
        return "-"
    whole = sum(row[below] for row in rows)
    return f"{sum(row[above] for row in rows) / whole:.3f}" if whole else "-"


def _comparison_table(result: Mapping[str, Any]) -> Table:
    """Return the second assignment beside the first, with baseline / study ratios."""
    here, there = result["totals"], result["compare_to"]["totals"]
    table = plain_table("compared to the second assignment", ("",), ("study", "compared to", "ratio"), widest=40)
    table.columns[0].no_wrap = False  # on a narrow terminal names give way, not figures
    for key, value in result["compare_to"]["ratios"].items():
        ratio = "-" if value is None else f"{value:.3f}x"
        table.add_row(key, _compared(here, key), _compared(there, key), ratio)
    for quality, other in ((result["quality"], result["compare_to"]["quality"]),):
        if quality and other:
            table.add_row(quality["metric"], f"{quality['value']:.4f}", f"{other['value']:.4f}", "")
    return table


def _compared(totals: Mapping[str, Any], key: str) -> str:
    """Return the figure of one run that a ratio is made of; energies also per MAC that was done."""
    if key == "cycles":
        return _count(totals["cycles"])
    if key == "latency":
        return time_text(totals["latency_us"])
    energy_pJ = totals["energy_readings_pJ"].get(key.removeprefix("energy, "), totals["energy_pJ"])
    per_mac = f" ({energy_pJ / totals['macs_done']:.3g} pJ/MAC)" if totals["macs_done"] else ""
    return energy_text(energy_pJ) + per_mac


def _count(value: int | None) -> str:
    return "-" if value is None else si(value, 4)


def _facts(result: Mapping[str, Any]) -> Text:
    """Return accuracy, power, workload identity and the notes that go with the figures."""
    totals, provenance = result["totals"], result["provenance"]
    lines = []
    if result["accuracy"]:
        a = result["accuracy"]
        lines.append(
            f"accuracy   top-1 {100 * a['top1']:.2f} % (fp32 {100 * a['top1_fp32']:.2f} %), "
            f"top-5 {100 * a['top5']:.2f} % (fp32 {100 * a['top5_fp32']:.2f} %) on {a['images']} images"
        )
    if result["quality"] and result["quality"]["metric"] == "psnr_dB":
        q = result["quality"]
        lines.append(
            f"quality    {q['value']:.2f} dB to the exact pictures, {q['lowest_dB']:.2f} to {q['highest_dB']:.2f} "
            f"(equal: {q['reference']:g}), {q['images']} images"
        )
    lines += _range_lines(result["layers"])
    power = energy_pJ_to_power_mW(totals["energy_pJ"], totals["latency_us"])
    per_mac = f"{totals['energy_pJ'] / totals['macs_done']:.3g} pJ/MAC, " if totals["macs_done"] else ""
    lines.append(f"energy     {per_mac}mean power {power:.4g} mW, memory included")
    lines.append("latency    memory included; layers run one after another, no overlap between layers")
    workload = provenance["workload"]
    lines.append(
        f"workload   {workload['network']}: {si(workload['macs_dense_per_image'], 4)} MACs/image, "
        f"{si(workload['weights'], 4)} weights, input {'x'.join(map(str, workload['input_shape']))}, "
        f"batch {workload['batch']}"
    )
    lines.append(f"           workload hash {workload['hash']}; {workload['padding']}")
    for name, machine in provenance["machines"].items():
        area = f", {machine['area_mm2']:.4g} mm2" if machine["area_mm2"] else ""
        lines.append(f"{name:<10} {machine['about']}{area}")
        lines += wrapped("", [f"{column['title']}: {column['about']}" for column in machine["columns"]])
    memory = provenance["memory"]
    lines.append(f"memory     {memory['about']}")
    lines += wrapped("", [f"{column['title']}: {column['about']}" for column in memory["columns"]])
    for name, table in provenance["prices"].items():
        lines += wrapped(f"pJ, {name}", _price_texts(table["prices"].values()))
    lines.append("           prices without a mark have a source, * is assumed, + calibrated; all in result.json")
    lines += [f"note       {note}" for note in provenance["notes"]]
    return Text("\n".join(lines))


def _range_lines(layers: Iterable[Mapping[str, Any]]) -> list[str]:
    """Return what left the range of its format or accumulator, layer by layer; nothing if all stayed within."""
    lines = []
    for head, metric in (("saturated", "saturated_words"), ("overflows", "overflow_events")):
        told = [f"{layer['name']} {n}" for layer in layers if (n := layer["metrics"].get(metric))]
        lines += wrapped(head, told) if told else []
    return lines


def _price_texts(prices: Iterable[Mapping[str, Any]]) -> list[str]:
    """Return `class energy` of every distinct price; * is assumed, + calibrated."""
    marked = {
        (price["price_class"].split(" = ")[-1], price["energy_pJ"]): "*" * price["assumed"]
        + "+" * bool(price["calibrated"])
        for price in prices
    }
    return [f"{name} {energy_pJ:.4g}{mark}" for (name, energy_pJ), mark in sorted(marked.items())]


def wrapped(head: str, parts: Sequence[str]) -> list[str]:
    """Return lines of at most the table's width: a head and comma-separated parts, continued under the head."""
    return textwrap.wrap(", ".join(parts), WIDTH, initial_indent=f"{head} ".ljust(11), subsequent_indent=" " * 11)


def compare_rows(results: Mapping[str, Mapping[str, Any]]) -> list[dict[str, Any]]:
    """Return one row per run, per image; ratios are first run / this run, None for another network."""
    rows = []
    for name, result in results.items():
        totals, images = result["totals"], result["totals"]["images_timed"]
        rows.append(
            {
                "run": name,
                "network": result["provenance"]["workload"]["network"],
                "macs_per_image": totals["macs_dense"] / images,
                "latency_us_per_image": totals["latency_us"] / images,
                "energy_pJ_per_image": totals["energy_pJ"] / images,
                "top1": result["accuracy"]["top1"] if result["accuracy"] else None,
            }
        )
    for row in rows:
        for key in ("latency_us", "energy_pJ"):
            first, own = rows[0][f"{key}_per_image"], row[f"{key}_per_image"]
            comparable = own and row["network"] == rows[0]["network"]
            row[f"{key.split('_')[0]}_ratio"] = first / own if comparable else None
    return rows


def compare_report(results: Mapping[str, Mapping[str, Any]]) -> Table:
    """Return runs side by side; ratios are first run / each run."""
    table = plain_table(
        "runs", ("run", "network"), ("MACs/img", "latency/img", "energy/img", "top-1", "latency x", "energy x")
    )
    for row in compare_rows(results):
        table.add_row(
            row["run"], row["network"], si(row["macs_per_image"]), time_text(row["latency_us_per_image"]),
            energy_text(row["energy_pJ_per_image"]), "-" if row["top1"] is None else f"{100 * row['top1']:.2f} %",
            *("-" if row[key] is None else f"{row[key]:.3f}" for key in ("latency_ratio", "energy_ratio")),
        )  # fmt: skip
    return table
