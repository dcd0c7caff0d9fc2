"""PROMISE at full size: golden cases, laws, noise, RTL, two machines in one study, the sweep, the page of figures."""

from __future__ import annotations

import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import pytest

from archsim.accelerators.promise.closed_form import cost
from archsim.accelerators.promise.swing import SWINGS
from archsim.assets import data_folder
from benchmarks import bench_promise
from tests.accept import promise_runs
from tests.accept.promise_page import PROMISE
from tests.accept.test_snapea import run_tests
from tests.promise.promise_cases import GOLDEN, config, plan_of, prices, shapes

pytestmark = [pytest.mark.acceptance, pytest.mark.timeout(7200)]

Accept = Callable[[str, bool], None]
TIMING, FUNCTION, STUDY = (f"tests/promise/test_promise_{name}.py" for name in ("timing", "function", "study"))
RTL = "tests/cosim/test_rtl_promise_ctl.py"


def needs_data() -> None:
    if data_folder() is None:
        pytest.skip("no external data: set ARCHSIM_DATA")


@pytest.mark.line("PR1", "golden G1, G2, G4: time, energy, all parts (T1); compute share (T13)", bound="1e-6; < 1 %")
def test_golden(accept: Accept) -> None:
    worst, share = 0.0, 0.0
    by_name = {swing.name: swing for swing in SWINGS}
    for case in GOLDEN["cases"]:
        found = cost(config(), prices(), plan_of(case["m"], case["k"], case["n"]), by_name[case["swing"]])
        parts = ("energy", "compute", "dram", "sram", "leakage")
        times = {"latency": "time_us", "compute": "compute_us", "memory": "memory_us"}
        pairs = [(getattr(found, f"{one}_pJ") / 1e6, case[f"{one}_uJ"]) for one in parts]
        pairs += [(getattr(found, f"{one}_ns") / 1e3, case[name]) for one, name in times.items()]
        worst = max(worst, *(abs(got / wanted - 1) for got, wanted in pairs))
        share = max(share, found.compute_pJ / found.energy_pJ)
    accept(f"largest difference {worst:.1e}, compute {100 * share:.2f} % at most", worst <= 1e-6 and share < 0.01)


@pytest.mark.line(
    "PR2",
    "simulation = closed form in whole cycles, 200 products, all swings (T2, T3, T4, T5, T11, T12)",
    bound="equal",
)
def test_laws(accept: Accept) -> None:
    accept(*run_tests(TIMING))


@pytest.mark.line("PR3", "64, 128, 256, 512 banks, 3000 random products with bpc <= 64 (T6)", bound="no counterexample")
def test_banks(accept: Accept) -> None:
    worse = []
    for shape in shapes(3000, seed=1, longest=64 * 128):
        plans = [plan_of(*shape, banks=banks) for banks in (64, 128, 256, 512)]
        times = [cost(config(), prices(), plan, SWINGS[0]).latency_ns for plan in plans]
        if times != sorted(times, reverse=True):
            worse.append(shape)
    accept(f"{len(worse)} of 3000: {worse[:3]}", not worse)


@pytest.mark.line(
    "PR4", "statistics and draws of the noise, split sums, products (T7, T10, T14)", bound="as in the table"
)
def test_function(accept: Accept) -> None:
    accept(*run_tests(FUNCTION))


@pytest.mark.line(
    "PR5", "studies: a lower swing never costs more (T9), residency, two machines, report", bound="all hold"
)
def test_studies(accept: Accept) -> None:
    accept(*run_tests(STUDY))


@pytest.mark.line(
    "PR6", "RTL = registers = law = stage model = kernels (T8); ten mutants", bound="no difference; all caught"
)
def test_rtl(accept: Accept) -> None:
    needs_data()
    accept(*run_tests(RTL))


@pytest.mark.line("PR7", "contract tests of promise", bound="all pass")
def test_contract(accept: Accept) -> None:
    done = subprocess.run(
        [sys.executable, "-m", "pytest", "-q", "tests/contract", "-k", "promise"], capture_output=True, text=True,
        cwd=Path(__file__).resolve().parents[2],
    )  # fmt: skip
    accept(done.stdout.strip().splitlines()[-1], done.returncode == 0)


@pytest.mark.line("PR8", "ResNet-20, every layer alone at seven swings, 200 images", bound="<= 300 s wall on two cores")
def test_sweep(accept: Accept) -> None:
    needs_data()
    found = bench_promise.sweep()
    rate = found.macs / found.cpu_s / 1e9
    accept(f"{found.wall_s:.0f} s wall, {found.cpu_s:.0f} CPU s, {rate:.1f} GMAC per CPU s", found.wall_s <= 300)


@pytest.mark.line(
    "PR9",
    "share of the convolutions of LeNet-5 and ResNet-20 on PROMISE at 3 points (a part of ApproxTuner 7.4)",
    bound="LeNet-5 > 50 %, ResNet-20 strictly less",
)
def test_trend(accept: Accept) -> None:
    needs_data()
    lenet, resnet = (share_of_convolutions(name) for name in promise_runs.SEARCHED_NETS)
    accept(f"LeNet-5 {100 * lenet:.0f} %, ResNet-20 {100 * resnet:.0f} %", lenet > 0.5 and resnet < lenet)


def share_of_convolutions(name: str) -> float:
    """Return which part of a network's convolutions PROMISE takes."""
    levels, convolutions = promise_runs.mapped(name)["levels"], promise_runs.convolutions(name)
    return sum(layer in levels for layer in convolutions) / len(convolutions)


@pytest.mark.line("PR10", "docs/promise.md, every table from runs", bound="equal, character by character")
def test_page(accept: Accept) -> None:
    needs_data()
    accept(*PROMISE.differing(tuple(PROMISE.tables)))
