"""Line charts as SVG, in pairs: what a page shows beside its tables."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass

WIDE, HIGH, LEFT, BOTTOM, TOP, RIGHT = 430, 250, 48, 40, 26, 10
COLOURS = ("#1f77b4", "#d62728", "#2ca02c", "#9467bd")


@dataclass(frozen=True)
class Series:
    """A named line through points."""

    name: str
    points: Sequence[tuple[float, float]]


@dataclass(frozen=True)
class Panel:
    """A chart from 0 to 100 %; `falling_x`: the largest value stands left."""

    title: str
    x: str
    y: str
    series: tuple[Series, ...]
    log_x: bool = False
    falling_x: bool = False


def picture(panels: Sequence[Panel]) -> str:
    """Return charts, two side by side, as SVG text."""
    rows = -(-len(panels) // 2)
    parts = [
        f'<svg xmlns="http://www.w3.org/2000/svg" width="{2 * WIDE}" height="{rows * HIGH}" '
        f'viewBox="0 0 {2 * WIDE} {rows * HIGH}" font-family="sans-serif" font-size="11">',
        f'<rect width="{2 * WIDE}" height="{rows * HIGH}" fill="white"/>',
    ]
    for i, panel in enumerate(panels):
        parts += [f'<g transform="translate({i % 2 * WIDE},{i // 2 * HIGH})">', *_chart(panel), "</g>"]
    return "\n".join([*parts, "</svg>"]) + "\n"


def _chart(panel: Panel) -> list[str]:
    """Return one chart: axes, marks, lines, legend."""
    xs = sorted({x for series in panel.series for x, _ in series.points})
    low, high = (math.log10(xs[0]), math.log10(xs[-1])) if panel.log_x else (xs[0], xs[-1])

    def across(x: float) -> float:
        share = ((math.log10(x) if panel.log_x else x) - low) / (high - low)
        return LEFT + (WIDE - LEFT - RIGHT) * (1 - share if panel.falling_x else share)

    def up(y: float) -> float:
        return HIGH - BOTTOM - (HIGH - BOTTOM - TOP) * y / 100

    parts = [f'<text x="{LEFT}" y="16" font-weight="bold">{panel.title}</text>']
    for y in range(0, 101, 20):
        parts.append(f'<line x1="{LEFT}" x2="{WIDE - RIGHT}" y1="{up(y):.1f}" y2="{up(y):.1f}" stroke="#ddd"/>')
        parts.append(f'<text x="{LEFT - 5}" y="{up(y) + 4:.1f}" text-anchor="end">{y}</text>')
    marks = [10.0**k for k in range(math.ceil(low), math.floor(high) + 1)] if panel.log_x else xs[::2]
    for x in marks:
        label = f"{x:.0e}".replace("e-0", "e-") if panel.log_x else f"{x:g}"
        parts.append(f'<text x="{across(x):.1f}" y="{HIGH - BOTTOM + 14}" text-anchor="middle">{label}</text>')
    parts.append(f'<text x="{(WIDE + LEFT) / 2}" y="{HIGH - 10}" text-anchor="middle">{panel.x}</text>')
    parts.append(f'<text x="{WIDE - RIGHT}" y="16" text-anchor="end">{panel.y}</text>')
    for i, series in enumerate(panel.series):
        points = " ".join(f"{across(x):.1f},{up(y):.1f}" for x, y in series.points)
        colour = COLOURS[i]
        parts.append(f'<polyline points="{points}" fill="none" stroke="{colour}" stroke-width="2"/>')
        at = HIGH - BOTTOM - 12 - 14 * (len(panel.series) - 1 - i)
        parts.append(f'<line x1="{LEFT + 8}" x2="{LEFT + 26}" y1="{at}" y2="{at}" stroke="{colour}" stroke-width="2"/>')
        parts.append(f'<text x="{LEFT + 31}" y="{at + 4}">{series.name}</text>')
    return parts
