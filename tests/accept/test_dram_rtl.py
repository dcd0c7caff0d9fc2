"""The RTL of a DRAM channel at full size: commands and cycles of the in-order controller, flips of the injector."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from itertools import islice
from pathlib import Path

import pytest

from archsim.cosim.campaign import BATCH_CASES, Bench
from archsim.cosim.job import Verdict
from archsim.cosim.simulator import available_simulators, choose_simulator
from archsim.memory.dram.config import DramConfig
from archsim.memory.dram.in_order import CtlCase
from archsim.memory.dram.in_order_cases import ctl_cases
from archsim.memory.dram.injector_cases import injector_cases
from archsim.memory.dram.rtl import BIT_ERROR_INJECTOR, DRAM_CTL, ctl_parameters_of, injector_parameters_of
from archsim.rtl import RtlBlock, RtlCase
from tests.accept.test_snapea import run_tests
from tests.dram.test_dram_in_order import SHORT_REFRESH, check_bus, commands_of
from tests.dram.traces import config

pytestmark = [pytest.mark.acceptance, pytest.mark.timeout(7200)]

Accept = Callable[[str, bool], None]
REQUESTS = 10_000
WORDS = 1_000_000
STREAM_WORDS = 500
"""Words of a stream of the injector, on average; a case has two."""


def simulated(
    block: RtlBlock, parameters: dict[str, int], cases: Sequence[RtlCase], folder: Path, simulator: str
) -> Verdict:
    """Run cases in batches up to the first difference."""
    whole, bench = Verdict(), Bench(block, simulator, folder)
    for first in range(0, len(cases), BATCH_CASES):
        whole.add(bench.check(f"cases-{first}", parameters, cases[first : first + BATCH_CASES]).verdict)
        if whole.difference is not None:
            break
    return whole


def enough(made: DramConfig) -> list[CtlCase]:
    """Return random cases with at least REQUESTS requests."""
    found, source = list[CtlCase](), ctl_cases(made, 2026)
    while sum(len(one.requests) for one in found) < REQUESTS:
        found.append(next(source))
    return found


def _controllers() -> Iterator[tuple[str, DramConfig]]:
    """Yield both presets, as they are and often refreshed."""
    for name in ("A", "C"):
        yield name, config(name)
        yield name, config(name, tREFI_cycles=SHORT_REFRESH[name])


@pytest.mark.line(
    "D13a",
    "dram_ctl: RTL = model = kernel, both presets, as they are and often refreshed: every output in every cycle, "
    "spacings on the command bus",
    bound=">= 10000 requests each, no difference",
)
def test_rtl_controller(accept: Accept, tmp_path: Path) -> None:
    told, good = [], True
    for name, made in _controllers():
        cases = enough(made)
        verdict = simulated(DRAM_CTL, ctl_parameters_of(made), cases, tmp_path, choose_simulator())
        served, refreshed = (sum(verdict.totals[f"cnt_{one}"] for one in kinds) for kinds in (("rd", "wr"), ("ref",)))
        told.append(f"{name} {served} requests, {refreshed} refreshes, {verdict.cycles} cycles")
        good = good and verdict.difference is None and served >= REQUESTS
        for one in cases:
            check_bus(name, commands_of(one))
    accept("; ".join(told), good)


@pytest.mark.line(
    "D13b",
    "bit_error_injector: RTL = model = function on arrays at rates 0 to 1, any position, exact lane, held results",
    bound=">= 1000000 words, no difference",
)
def test_rtl_injector(accept: Accept, tmp_path: Path) -> None:
    made = config("A")
    cases = list(islice(injector_cases(made, 2026, STREAM_WORDS), WORDS // (2 * STREAM_WORDS) + 50))
    simulator = available_simulators()[-1]  # Verilator, where there is one, takes minutes instead of half an hour
    verdict = simulated(BIT_ERROR_INJECTOR, injector_parameters_of(made), cases, tmp_path, simulator)
    figure = f"{verdict.results} words, {verdict.totals['cnt_flips']} flips, {verdict.cycles} cycles of {simulator}"
    accept(figure, verdict.difference is None and verdict.results >= WORDS)


@pytest.mark.line("D13c", "mutants of both blocks, statistics of the injector, in-order rules", bound="all hold")
def test_rtl_tests(accept: Accept) -> None:
    files = ("cosim/test_rtl_dram_ctl", "cosim/test_rtl_bit_error_injector", "dram/test_dram_in_order")
    accept(*run_tests(*(f"tests/{name}.py" for name in files), "tests/dram/test_dram_injector.py"))
