"""DRAM at full size: the reference simulators, properties, speed, accuracy and energy on approximate memory."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

import pytest

from benchmarks import bench_dram
from tests.accept.dram_page import DRAM, PICTURE, draw
from tests.accept.test_snapea import needs_data, run_tests
from tests.dram import test_dram_reference as reference
from tests.dram.traces import REFERENCE

pytestmark = [pytest.mark.acceptance, pytest.mark.timeout(3600)]
Accept = Callable[[str, bool], None]
Check = Callable[[dict[str, Any]], None]
BESIDE = [row for row in REFERENCE["results"] if "dramsim3" in row]


def failing(checks: Sequence[Check], rows: Sequence[dict[str, Any]]) -> list[str]:
    """Return the names of rows that fail a check of the test suite."""
    wrong = []
    for row in rows:
        try:
            for check in checks:
                check(row)
        except AssertionError as error:
            wrong.append(f"{reference.label(row)}: {str(error).splitlines()[0]}")
    return wrong


def told(rows: Sequence[object], what: str, wrong: list[str]) -> tuple[str, bool]:
    return f"{len(rows)} {what}" + (f"; FAIL {'; '.join(wrong)}" if wrong else ""), not wrong


# 1: the validation table ---------------------------------------------------------------------------------------------
@pytest.mark.line("D1", "cycles, rows, commands, refreshes beside Ramulator 2.1, 1 M requests included", bound="equal")
def test_ramulator(accept: Accept) -> None:
    rows = REFERENCE["results"]
    wrong = failing([reference.test_cycles_and_rows_equal_ramulator], rows)
    accept(*told(rows, "results, mean latencies within 1e-5", wrong))


@pytest.mark.line("D2", "command lists: CRC-32 of cycle, command, bank, row; CRCs of the traces first", bound="equal")
def test_command_lists(accept: Accept) -> None:
    rows = REFERENCE["short_runs"]
    wrong = failing([reference.test_every_command_stands_where_it_should], rows)
    accept(*told(rows, f"lists, {sum(row['commands'] for row in rows)} commands", wrong))


@pytest.mark.line("D3", "one cycle more of every timing parameter", bound="the changes of Ramulator 2.1")
def test_sensitivities(accept: Accept) -> None:
    accept(*run_tests("tests/dram/test_dram_reference.py", "-k", "one_cycle_more"))


@pytest.mark.line("D4-D7", "beside DRAMsim3: cycles, paced latency, prices on its counters, energy", bound="of dram.md")
def test_dramsim3(accept: Accept) -> None:
    checks = [reference.test_dramsim3_with_its_own_queues_is_near, reference.test_prices_on_dramsim3_s_own_counters]
    wrong = failing(checks, BESIDE)
    paced = [row for row in BESIDE if row["arrival_gap_cycles"]]
    wrong += failing([reference.test_mean_latency_of_paced_requests_is_near_dramsim3], paced)
    off = [100 * (reference.counters(row).cycles / row["dramsim3"]["cycles"] - 1) for row in BESIDE]
    accept(*told(BESIDE, "results, cycles off by % " + ", ".join(f"{one:+.2f}" for one in off), wrong))


@pytest.mark.line("D8-D9", "beside DRAMPower 4.1: energy, supply law", bound="A 0.5 %, C 3 %; 1e-4")
def test_drampower(accept: Accept) -> None:
    wrong = failing([reference.test_drampower_charges_the_same], reference.POWER)
    reference.test_energy_over_the_supply()
    off = [
        100
        * (reference.energy_uJ(row["config"], reference.counters(row)) / row["drampower41_uJ_all_devices"]["total"] - 1)
        for row in reference.POWER
    ]
    accept(*told(reference.POWER, "results, energy off by % " + ", ".join(f"{one:+.2f}" for one in off), wrong))


# 2: properties -------------------------------------------------------------------------------------------------------
@pytest.mark.line(
    "D-rules",
    "random traffic: every command that of a controller that ticks, every spacing kept, slices",
    bound="equal",
)
def test_rules(accept: Accept) -> None:
    accept(*run_tests("tests/dram/test_dram_kernel.py"))


@pytest.mark.line("D-runs", "run compression: equal to single lines, command for command", bound="equal")
def test_runs(accept: Accept) -> None:
    accept(*run_tests("tests/dram/test_dram_runs.py"))


@pytest.mark.line("D-port", "accesses of several processes on simpy's clock are one trace", bound="equal, to the cycle")
def test_port(accept: Accept) -> None:
    accept(*run_tests("tests/dram/test_dram_port.py"))


@pytest.mark.line(
    "D-timings", "timings of a row: equal to fields set by hand; their table in docs/dram.md", bound="equal"
)
def test_timings(accept: Accept) -> None:
    needs_data()
    tests, ok = run_tests("tests/dram/test_dram_timings.py")
    said, equal = DRAM.differing(("timings",))
    accept(f"{tests}; {said}", ok and equal)


# 3: speed ------------------------------------------------------------------------------------------------------------
@pytest.mark.line("D-speed", "requests per CPU second, JIT excluded, of traces", bound="10 x the reference simulators")
def test_speed(accept: Accept) -> None:
    figures, ok = [], True
    for name, kind, gap, n, bar in bench_dram.TRACES:
        speed = bench_dram.trace_speed(name, kind, gap, n)
        figures.append(f"{name} {kind} ({gap}) {speed:.2f} M ({bar:g})")
        ok &= speed >= bar
    accept("; ".join(figures), ok)


@pytest.mark.line("D-stretch", "the same of streams given as runs", bound=">= 100 M (stretch)")
def test_stretch(accept: Accept) -> None:
    speeds = {
        f"{name} {direction}, runs of {lines}": bench_dram.run_speed(name, write, lines)
        for name in "AC"
        for direction, write, lines in bench_dram.RUNS
    }
    told_speeds = "; ".join(f"{what} {speed:.0f} M" for what, speed in speeds.items())
    accept(told_speeds, speeds["A reads, runs of 4194304"] >= bench_dram.BAR_OF_RUNS)


# 5, 6: accuracy, energy, the thesis ----------------------------------------------------------------------------------
@pytest.mark.line("D-accuracy", "docs/dram.md: accuracy over BER and supply, energy, picture", bound="equal to runs")
def test_page_accuracy(accept: Accept) -> None:
    needs_data()
    said, equal = DRAM.differing(("profiles", "ber", "supply"))
    drawn = PICTURE.read_text(encoding="utf-8") == draw()
    accept(f"{said}; picture {'equal' if drawn else 'differs'}", equal and drawn)


@pytest.mark.line("D12", "docs/dram.md: ResNet-56 beside the thesis; machines on two DRAMs", bound="equal to runs")
def test_page_thesis(accept: Accept) -> None:
    needs_data()
    accept(*DRAM.differing(("thesis", "machines")))


@pytest.mark.line("D-memory", "peak memory of 10 M requests, one by one", bound="<= 400 MB")
def test_memory(accept: Accept) -> None:
    MB = bench_dram.peak_MB(10_000_000)
    accept(f"{MB:.0f} MB", MB <= 400)
