"""SnaPEA and the co-simulation bench at full size: exactness, RTL, laws, Algorithm 1, speed, the page of figures."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from archsim.assets import data_folder
from archsim.config import load_study
from archsim.tuner.spec import load_tune
from archsim.tuner.tuning import tune
from archsim.workload.reference import reference
from benchmarks import bench_snapea
from tests.accept.snapea_page import SNAPEA
from tests.accept.tuned import curve, seconds, tuned
from tests.unit.snapea_cases import random_layer
from tests.unit.snapea_layers import eligible_layers
from tests.unit.test_snapea_function import VOID, stopped_share

pytestmark = [pytest.mark.acceptance, pytest.mark.timeout(7200)]

ROOT = Path(__file__).resolve().parents[2]
EXACT = "platform.accelerators.npu.mode=exact"
BOUNDS = (0, 1, 2, 3)
Accept = Callable[[str, bool], None]


def needs_data() -> None:
    """External data are there, or the line is not run."""
    if data_folder() is None:
        pytest.skip("no external data: set ARCHSIM_DATA")


def run_tests(*arguments: str) -> tuple[str, bool]:
    """Run tests in their own process; return what pytest said of them, and whether all passed and none was skipped."""
    command = [sys.executable, "-m", "pytest", "-q", *arguments]
    done = subprocess.run(command, capture_output=True, text=True, cwd=ROOT, env={**os.environ, "CI": "1"})
    said = done.stdout.strip().splitlines()[-1].strip("= ")
    return said, done.returncode == 0 and "passed" in said and "skipped" not in said


# 1: exact mode -------------------------------------------------------------------------------------------------------
@pytest.mark.line(
    "S1a",
    "exact mode on 26 batches of 20 random layers: strides, pads, groups, K = 1, ragged, biases, zeros; both orders",
    bound=">= 500 layers, 0 differing values, every batch >= 30 % of windows stopped",
)
def test_random_layers(accept: Accept) -> None:
    wrong, shares, layers = 0, [], 0
    for first in range(0, 520, 20):
        cases = [random_layer(seed) for seed in range(first, first + 20)]
        shares.append(stopped_share(cases))
        layers += len(cases)
        for case in cases:
            expected = reference(case.conv, case.x, case.params).y
            for order in ("magnitude", "index"):
                wrong += int((case.run(region_order=order).y != expected).sum())
    figure = (
        f"{layers} layers, {wrong} values differ, stopped windows {100 * min(shares):.0f} % and more in every batch"
    )
    accept(figure, layers >= 500 and not wrong and min(shares) >= VOID)


@pytest.mark.line(
    "S1b",
    "exact mode on every eligible layer of LeNet-5 (200 images), ResNet-20 (50) and SqueezeNet (4), real images",
    bound="0 differing values",
)
def test_real_layers(accept: Accept) -> None:
    needs_data()
    told, wrong, void = [], 0, 0
    for name, images in (("lenet-study", 200), ("resnet20-exact", 50), ("squeezenet-exact", 4)):
        changes = [EXACT, f"workload.data.images={images}", "workload.timed_images=1"]
        found = eligible_layers(load_study(f"snapea-{name}.yaml", changes), images)
        wrong += sum(differ for _, differ, _ in found.values())
        void += sum(not stopped for _, _, stopped in found.values())
        values, stops = (sum(one[i] for one in found.values()) for i in (0, 2))
        told.append(
            f"{name.partition('-')[0]} {len(found)} layers, {values} values, {100 * stops / values:.0f} % stopped"
        )
    accept(f"{wrong} differ: " + "; ".join(told), not wrong and not void)


# 2: RTL --------------------------------------------------------------------------------------------------------------
PE = "tests/cosim/test_rtl_snapea_pe.py"


@pytest.mark.line(
    "S2a",
    "RTL = model = kernels: 512 random cases for each of 1, 2, 4, 8 lanes, every output in every cycle, all counters",
    bound=">= 500 cases each, no difference",
)
def test_rtl_random_cases(accept: Accept) -> None:
    accept(*run_tests(PE, "-k", "random_cases or worked_pe or stopped_in_its_cycle"))


@pytest.mark.line(
    "S2b",
    "RTL = model = kernels on tiles of real layers: ResNet-20 108, LeNet-5 120, SqueezeNet 24, digits 240",
    bound=">= 200 tiles of two networks, no difference",
)
def test_rtl_real_tiles(accept: Accept) -> None:
    needs_data()
    accept(*run_tests(PE, "-k", "test_tiles_of"))


@pytest.mark.line(
    "S2c", "mutants: B = 2, no min, <= in sign and threshold (kernel and RTL), five more", bound="every one caught"
)
def test_rtl_mutants(accept: Accept) -> None:
    accept(*run_tests(PE, "-k", "mutant"))


@pytest.mark.line("E14", "Eyeriss PE: RTL = model = kernels, law of cycles, chains, real tiles", bound="no difference")
def test_rtl_eyeriss(accept: Accept) -> None:
    needs_data()
    accept(*run_tests("tests/cosim/test_rtl_eyeriss_pe.py", "tests/cosim/test_rtl_eyeriss_chain.py"))


@pytest.mark.line("S2d", "parameters and widths of the RTL = Config, inventory, clean sources", bound="all hold")
def test_rtl_facts(accept: Accept) -> None:
    accept(*run_tests("tests/cosim/test_rtl_facts.py", "tests/cosim/test_rtl_bench.py"))


# 3: laws -------------------------------------------------------------------------------------------------------------
@pytest.mark.line(
    "S3", "ceiling, lane laws, monotone false negatives and MACs in th, MACs in the bound", bound="all hold"
)
def test_laws(accept: Accept) -> None:
    files = [f"tests/unit/test_{name}.py" for name in ("snapea_timing", "snapea_study", "tuner", "tuner_snapea")]
    files.append("tests/unit/test_snapea_profile.py")
    accept(*run_tests(*files, "-k", "laws or ceiling or bolder or every_bound or wider_bound or stops_more"))


# 4: Algorithm 1 ------------------------------------------------------------------------------------------------------
def told(found: dict[str, Any], spent_s: float) -> str:
    points = found["points"]
    columns = {
        "lost": [f"{point['loss_points']:.2f}" for point in points],
        "unseen": [f"{point['test_loss_points']:.2f}" for point in points],
        "MACs": [f"{100 * point['macs_done_share']:.1f} %" for point in points],
    }
    rows = "; ".join(f"{name} {', '.join(values)}" for name, values in columns.items())
    effort = found["evaluations"]
    saved = f"profiling {effort['profiling_evaluations']} evaluations, {effort['profiling_evaluations_saved']} saved"
    exact = f"exact {100 * found['exact']['macs_done_share']:.1f} %"
    return f"bounds 0, 1, 2, 3: {rows} ({exact}); {saved}; {spent_s:.0f} s"


def algorithm_1(name: str, limit_s: float) -> tuple[str, bool]:
    """Tune a shipped task; return its figures, and whether bounds, order and time hold."""
    needs_data()
    folder = tuned(name)
    found, spent_s = curve(folder), seconds(folder)
    points, macs = found["points"], [point["macs_done"] for point in found["points"]]
    within = all(point["loss_points"] <= point["max_loss_points"] + 1e-9 for point in points)
    ordered = macs == sorted(macs, reverse=True) and macs[0] <= found["exact"]["macs_done"]
    return told(found, spent_s), within and ordered and spent_s < limit_s


@pytest.mark.line(
    "S4a", "Algorithm 1, LeNet-5, 1000 + 1000 images", bound="loss <= bound; MACs do not rise; < 600 s on two cores"
)
def test_lenet(accept: Accept) -> None:
    accept(*algorithm_1("snapea-lenet", 600))


@pytest.mark.line(
    "S4b", "Algorithm 1, ResNet-20, 500 + 1000 images", bound="loss <= bound; MACs do not rise; < 2700 s on two cores"
)
def test_resnet20(accept: Accept) -> None:
    accept(*algorithm_1("snapea-resnet20", 2700))


@pytest.mark.line("S4d", "Algorithm 1, SqueezeNet, 100 + 292 images", bound="loss <= bound; MACs do not rise; < 2 h")
def test_squeezenet_tuned(accept: Accept) -> None:
    accept(*algorithm_1("snapea-squeezenet", 7200))


@pytest.mark.line(
    "S4c", "a killed search of LeNet-5 goes on: same curve, fewer evaluations", bound="equal points, no trial twice"
)
def test_kill(accept: Accept, tmp_path: Path) -> None:
    needs_data()
    small = ["tune.optimise.images=200", "tune.test.images=100", "tune.max_loss_points=[0, 1]"]
    command = [sys.executable, "-m", "archsim", "tune", "snapea-lenet.yaml", "--out", "killed/out", "--json"]
    command += [part for one in small for part in ("--set", one)]
    store = tmp_path / "killed" / "snapea-lenet.sqlite-wal"
    process = subprocess.Popen(command, cwd=tmp_path, stdout=subprocess.DEVNULL)
    while process.poll() is None and not (store.exists() and store.stat().st_size > 400_000):
        time.sleep(0.02)
    process.send_signal(signal.SIGKILL)
    process.wait()
    assert process.returncode == -signal.SIGKILL and not (tmp_path / "killed" / "out").exists()
    resumed = json.loads(subprocess.run(command, cwd=tmp_path, capture_output=True, text=True, check=True).stdout)
    whole = tune(load_tune("snapea-lenet.yaml", small), tmp_path / "whole" / "out").curve
    again, at_once = (one["evaluations"]["network_evaluations"] for one in (resumed, whole))
    equal = resumed["points"] == whole["points"]
    accept(f"points {'equal' if equal else 'differ'}, {again} evaluations after the kill, {at_once} in one go",
           equal and 0 < again < at_once)  # fmt: skip


# 5: speed ------------------------------------------------------------------------------------------------------------
@pytest.mark.line("S5a", "exact kernel, 3x3 layers, one thread", bound=">= 4 dense-equivalent GMAC per CPU second")
def test_kernel_speed(accept: Accept) -> None:
    speeds = {shape: bench_snapea.speed(shape, "exact")[0] for shape in bench_snapea.SHAPES if shape.R == 3}
    shown = ", ".join(f"{shape.N}x{shape.C}x{shape.H} {value:.1f}" for shape, value in speeds.items())
    accept(f"{shown} GMAC/s", min(speeds.values()) >= bench_snapea.TARGET_GMAC_PER_CPU_S)


@pytest.mark.line("S5b", "VGG-16 shape: kernel, timing and energy of 15.5 GMAC", bound="<= 12 s wall on two cores")
def test_vgg16(accept: Accept) -> None:
    spent = bench_snapea.spend_study(bench_snapea.STUDIES[0])
    accept(f"{spent.wall_s:.1f} s wall, {spent.cpu_s:.1f} CPU s", spent.wall_s <= 12)


@pytest.mark.line("S5c", "SqueezeNet, 100 real images, all timed and priced", bound="<= 120 s wall on two cores")
def test_squeezenet(accept: Accept) -> None:
    needs_data()
    spent = bench_snapea.spend_study(bench_snapea.STUDIES[1])
    accept(f"{spent.wall_s:.1f} s wall, {spent.cpu_s:.1f} CPU s", spent.wall_s <= 120)


# 6: the worked result ------------------------------------------------------------------------------------------------
@pytest.mark.line("S6a", "docs/snapea.md: tables of the exact mode, from runs", bound="equal, character by character")
def test_page_exact(accept: Accept) -> None:
    needs_data()
    accept(*SNAPEA.differing(("exact", "use", "orders", "lanes")))


@pytest.mark.line(
    "S6b", "docs/snapea.md: tables of the predictive mode and beside the thesis", bound="equal, character by character"
)
def test_page_predictive(accept: Accept) -> None:
    needs_data()
    accept(*SNAPEA.differing(("predictive", "losses", "paper")))


# 7: the suite --------------------------------------------------------------------------------------------------------
@pytest.mark.line("S7", "all co-simulation tests of `make test`", bound="<= 360 s")
def test_cosim_time(accept: Accept) -> None:
    started = time.perf_counter()
    said, passed = run_tests("tests/cosim", "-n", "auto", "--dist", "worksteal")  # as `make test` runs them
    accept(said, passed and time.perf_counter() - started <= 360)
