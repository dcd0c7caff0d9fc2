"""The page of PROMISE: every table stands where runs put it, a small network says what it said, the example works."""

from __future__ import annotations

import re

import pytest

from archsim.assets import data_folder, find
from archsim.config import study_from_text
from archsim.run import simulate
from tests.accept import promise_page, promise_runs
from tests.accept.promise_page import PROMISE


def cells(table: str, columns: int = 1) -> dict[tuple[str, ...], list[str]]:
    """Return the rows of a table by their first columns."""
    rows = [line.strip("| ").split(" | ") for line in PROMISE.shown(table).splitlines()]
    return {tuple(row[:columns]): row for row in rows}


@pytest.mark.parametrize("name", PROMISE.tables)
def test_page_shows_every_table(name: str) -> None:
    head, *rows = PROMISE.shown(name).splitlines()
    assert head == "| " + " | ".join(PROMISE.tables[name][0]) + " |"
    assert len(rows) > 1 and all(row.count("|") == head.count("|") for row in rows)


@pytest.mark.skipif(data_folder() is None, reason="no external data: set ARCHSIM_DATA")
@pytest.mark.parametrize("place", ["input", "output"])
def test_lenet_of_the_page(place: str) -> None:
    platform = promise_runs.Platform("lenet", analog=f"noise_at: {place}")
    top1 = platform.top1({layer.name: 1 for layer in promise_runs.layers_of("lenet")})
    assert cells("whole", 2)["LeNet-5", place][4] == f"{top1:.1f}"


@pytest.mark.skipif(data_folder() is None, reason="no external data: set ARCHSIM_DATA")
def test_costs_of_lenet_on_the_page() -> None:
    shown = cells("parts", 2)
    for title, analog in promise_page.READINGS.items():
        totals, _ = promise_runs.costs("lenet", None, promise_page.all_at("lenet", 1), analog)
        row = shown["LeNet-5", title]
        assert row[2:4] == [f"{totals.latency_us:.1f}", f"{totals.energy_pJ / 1e6:.2f}"]
        assert sum(map(float, row[4:8])) == pytest.approx(100, abs=0.3)


def test_example_of_the_page_runs() -> None:
    (text,) = re.findall(r'```text title="analog.yaml"\n(.*?)```', PROMISE.path.read_text(), re.DOTALL)
    result = simulate(study_from_text(text))
    assert {"analog", "digital", "vector_unit"} == set(result.totals.by_accelerator)
    assert result.accuracy is not None and result.accuracy.top1 > 0.9


def test_studies_of_the_page_are_shipped() -> None:
    named = re.findall(r"archsim run (\S+)", PROMISE.path.read_text())
    assert len(named) >= 3 and all(find(name).is_file() for name in named)
