"""Errors of an approximate DRAM at full size: bit error rates of published tables, 100 million bits per model."""

from __future__ import annotations

from collections.abc import Callable

import pytest

from tests.accept.test_snapea import run_tests
from tests.dram.flips import MODELS, measured
from tests.dram.test_dram_profiles import deviations

pytestmark = [pytest.mark.acceptance, pytest.mark.timeout(1800)]

Accept = Callable[[str, bool], None]
BITS = 100_000_000
BER = 0.0016449
"""Of the thesis at 1.25 V."""


@pytest.mark.line(
    "D10", "Table 4.6 as bit error rates, by 4.17 and 4.11 for values of 4 to 32 bits", bound="1e-4 of dram.md"
)
def test_rates_of_the_thesis(accept: Accept) -> None:
    worst = max(deviations())
    accept(f"4 supplies, 29 widths: at most {worst:.1e} off", worst <= 1e-4)


@pytest.mark.line(
    "D11a",
    "1e8 bits per model: BER, weak share, stored ones and zeros; columns and rows weak as a whole; none else flips",
    bound="4 sigma; 0 exceptions",
)
def test_flips(accept: Accept) -> None:
    told, worst = [], 0.0
    for name in MODELS:
        found = list(measured(name, BITS, BER))
        worst = max(worst, *(one.sigmas for one in found))
        told.append(f"{name} " + ", ".join(f"{one.name} {one.got:.4g} ({one.sigmas:.1f})" for one in found))
    accept("figure (sigmas off): " + "; ".join(told), worst < 4)


@pytest.mark.line(
    "D11b", "flips in any order, parts, threads, another process; equal to the rules in plain Python", bound="equal"
)
def test_flips_are_reproducible(accept: Accept) -> None:
    asked = "order or images or process or rules or weak_cells"
    accept(*run_tests("tests/dram/test_dram_errors.py", "-k", asked))
