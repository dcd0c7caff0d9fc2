"""The Eyeriss chip on AlexNet, batch 4: the shipped study against the published measurements."""

from __future__ import annotations

import json
import subprocess
import sys
from collections.abc import Callable
from functools import cache
from pathlib import Path

import pytest

import archsim
from archsim.result import LayerResult

pytestmark = pytest.mark.acceptance

ROOT = Path(__file__).resolve().parents[2]
CONVS = ("conv1", "conv2", "conv3", "conv4", "conv5")
Accept = Callable[[str, bool], None]


@cache
def chip() -> dict[str, dict[str, float]]:
    """The measured rows by layer, the total included."""
    path = ROOT / "tests" / "reference" / "eyeriss_alexnet.json"
    rows = json.loads(path.read_text(encoding="utf-8"))["alexnet_measured"]["rows"]
    return {row["layer"].lower(): row for row in rows}


@cache
def alexnet(conv3: str = "alexnet-conv3-alt", bandwidth: str = "0.48") -> dict[str, LayerResult]:
    """The convolutions of the shipped study by name; `bandwidth` of the link in GB/s."""
    changes = (f"platform.accelerators.npu.plans.conv3={conv3}", f"platform.memory.bandwidth_GB_per_s={bandwidth}")
    study = archsim.load_study("eyeriss-alexnet.yaml", changes)
    return {layer.name: layer for layer in archsim.simulate(study).layers if layer.name in CONVS}


def errors_pct(metric: str, column: str, conv3: str = "alexnet-conv3-alt") -> dict[str, float]:
    """Deviation of each layer and of their sum, in percent of the chip."""
    model = {name: layer.metrics[metric] for name, layer in alexnet(conv3).items()}
    model["total"] = sum(model.values())
    return {name: 100 * (value / chip()[name][column] - 1) for name, value in model.items()}


def shown(errors: dict[str, float]) -> str:
    return ", ".join(f"{name} {error:+.1f}" for name, error in errors.items()) + " %"


def within(errors: dict[str, float], layer_pct: float, total_pct: float) -> bool:
    return all(abs(error) <= (total_pct if name == "total" else layer_pct) for name, error in errors.items())


@pytest.mark.line("E2", "active PEs of the five layers", bound="154, 135, 156, 156, 156")
def test_active_pes(accept: Accept) -> None:
    pes = [alexnet()[name].metrics["active_pes"] for name in CONVS]
    accept(", ".join(map(str, pes)), pes == [chip()[name]["active_pes"] for name in CONVS])


@pytest.mark.line("E5", "processing latency, conv3 as its measured traffic", bound="layer 10 %, sum 5 % of 103.5 ms")
def test_processing_latency(accept: Accept) -> None:
    errors = errors_pct("processing_latency_ms", "processing_latency_ms")
    accept(shown(errors), within(errors, 10, 5))


@pytest.mark.line("E5-T3", "processing latency, conv3 as Table III", bound="layer 10 %, sum 5 % of 103.5 ms")
def test_processing_latency_table_iii(accept: Accept) -> None:
    errors = errors_pct("processing_latency_ms", "processing_latency_ms", "alexnet-conv3")
    accept(shown(errors), within(errors, 10, 5))


@pytest.mark.line("E6", "total latency from zero fractions", bound="layer 12 %, sum 5 % of 115.3 ms")
def test_total_latency(accept: Accept) -> None:
    errors = errors_pct("total_latency_ms", "total_latency_ms")
    accept(shown(errors), within(errors, 12, 5))


@pytest.mark.line("E7", "global buffer traffic", bound="layer 1 %; conv3 of Table III 69.2 MB within 1 %")
def test_buffer_traffic(accept: Accept) -> None:
    errors = errors_pct("glb_MB", "glb_accesses_MB")
    table_iii_MB = alexnet("alexnet-conv3")["conv3"].metrics["glb_MB"]
    figure = f"{shown(errors)}; Table III {table_iii_MB:.2f} MB"
    accept(figure, within(errors, 1, 1) and abs(table_iii_MB / 69.2 - 1) <= 0.01)


@pytest.mark.line("E8", "DRAM traffic, compressed", bound="layer 10 %, sum 5 % of 15.4 MB")
def test_dram_traffic(accept: Accept) -> None:
    errors = errors_pct("dram_MB", "dram_accesses_MB")
    accept(shown(errors), within(errors, 10, 5))


@pytest.mark.line("E8-raw", "DRAM traffic, uncompressed", bound="6.06, 5.43, 5.05, 3.92, 2.61 MB to 0.01")
def test_dram_traffic_uncompressed(accept: Accept) -> None:
    found_MB = [round(alexnet()[name].metrics["dram_uncompressed_MB"], 2) for name in CONVS]
    accept(", ".join(f"{value:.2f}" for value in found_MB) + " MB", found_MB == [6.06, 5.43, 5.05, 3.92, 2.61])


@pytest.mark.line(
    "E9",
    "power while processing (infinitely fast link), one constant for all layers; the total-latency basis beside it",
    bound="layer 20 %; conv1 highest; conv4, conv5 10 % below",
)
def test_power(accept: Accept) -> None:
    power_mW = {name: on_chip_power_mW(layer) for name, layer in alexnet(bandwidth=".inf").items()}
    whole_mW = {name: on_chip_power_mW(layer) for name, layer in alexnet().items()}
    errors = {name: 100 * (power / chip()[name]["power_mW"] - 1) for name, power in power_mW.items()}
    trend = max(power_mW, key=lambda name: power_mW[name]) == "conv1"
    below = max(power_mW["conv4"], power_mW["conv5"]) <= 0.9 * power_mW["conv1"]
    figure = ", ".join(f"{name} {power:.0f} mW ({errors[name]:+.0f} %)" for name, power in power_mW.items())
    total = ", ".join(f"{power:.0f}" for power in whole_mW.values())
    ok = trend and below and all(abs(error) <= 20 for error in errors.values())
    accept(f"{figure}; over total latency {total} mW: no trend", ok)


def on_chip_power_mW(layer: LayerResult) -> float:
    """The chip's power: everything but the memory behind the link; 1 pJ per us is 1e-3 mW."""
    energy_pJ = sum(pJ for action, pJ in layer.energy_pJ.items() if not action.startswith("link."))
    return energy_pJ / layer.latency_us * 1e-3


UNIT = {
    "E1": "mapping.py::test_table_iii_is_shipped mapping.py::test_table_iii_uses mapping.py::test_conv3_alternative",
    "E3": "mapping.py::test_edp_search mapping.py::test_search mapping.py::test_conv1_has",
    "E4": "timing.py::test_alexnet_equals timing.py::test_random_plans timing.py::test_merged",
    "E10": "timing.py::test_no_run timing.py::test_a_wider timing.py::test_where_psums timing.py::test_gating",
    "E11": "rlc.py",
    "E12": "gating.py",
    "E13": "function.py",
    "E15": "energy.py::test_mac_and_register_file",
    "E16": "mapping.py::test_explicit_plans mapping.py::test_an_illegal_plan mapping.py::test_a_layer_beyond",
    "E17": "energy.py::test_the_thesis_baseline",
}
"""Lines whose full size is small enough for the unit tests: file and beginning of the test's name."""


def run_units(line: str) -> tuple[str, bool]:
    """Run the unit tests of a line; return what pytest said of them and whether all passed."""
    wanted = [part.split("::") for part in UNIT[line].split()]
    files = sorted({f"tests/unit/test_eyeriss_{part[0]}" for part in wanted})
    names = " or ".join(part[1] for part in wanted if len(part) > 1)
    command = [sys.executable, "-m", "pytest", "-q", *files, *(["-k", names] if names else [])]
    done = subprocess.run(command, capture_output=True, text=True, cwd=ROOT, timeout=1200)
    said = done.stdout.strip().splitlines()[-1].strip("= ")
    return said, done.returncode == 0 and "passed" in said and "skipped" not in said


@pytest.mark.line("E1", "Table III rows legal, buffer columns recomputed", bound="exact to the printed digit")
def test_table_iii(accept: Accept) -> None:
    accept(*run_units("E1"))


@pytest.mark.line("E3", "search with edp", bound="Table III; never a higher objective")
def test_search(accept: Accept) -> None:
    accept(*run_units("E3"))


@pytest.mark.line("E4", "event model equals closed form, 5 layers and 50 random plans", bound="0 cycles")
def test_closed_form(accept: Accept) -> None:
    accept(*run_units("E4"))


@pytest.mark.line("E10", "bounds on random layers and plans", bound="all hold; half the psum bus doubles within 1 %")
def test_bounds(accept: Accept) -> None:
    accept(*run_units("E10"))


@pytest.mark.line("E11", "run-length code", bound="lossless; counter = encoder; size within 1 %")
def test_rlc(accept: Accept) -> None:
    accept(*run_units("E11"))


@pytest.mark.line("E12", "gated MACs by the closed count, 100 random layers", bound="equal to brute force")
def test_gated_macs(accept: Accept) -> None:
    accept(*run_units("E12"))


@pytest.mark.line("E13", "function in both psum modes", bound="bit-exact")
def test_function(accept: Accept) -> None:
    accept(*run_units("E13"))


@pytest.mark.line("E15", "ISCA 2016 columns, 16 x 16, batch 16", bound="MAC and RF to 0.1e9")
def test_isca16(accept: Accept) -> None:
    accept(*run_units("E15"))


@pytest.mark.line("E16", "explicit plans on other networks", bound="legal run, illegal name the rule")
def test_other_networks(accept: Accept) -> None:
    accept(*run_units("E16"))


@pytest.mark.line("E17", "thesis-256pe", bound="Tables 3.2 and 3.3 exact; 128 GMACS")
def test_thesis_baseline(accept: Accept) -> None:
    accept(*run_units("E17"))


SPEED = """
import archsim, json, resource, time
archsim.simulate(archsim.load_study("eyeriss-alexnet.yaml"))
searched = archsim.load_study("eyeriss-alexnet.yaml", ["platform.accelerators.npu.plans={}"])
before = time.process_time()
result = archsim.simulate(searched)
spent = time.process_time() - before
assert all(layer.cycles for layer in result.layers if layer.macs_dense)
print(json.dumps([spent, resource.getrusage(resource.RUSAGE_SELF).ru_maxrss]))
"""


@pytest.mark.line("E-speed", "AlexNet, mappings searched, all layers, warm kernels", bound="<= 2 CPU s, <= 300 MB")
def test_speed(accept: Accept) -> None:
    done = subprocess.run([sys.executable, "-c", SPEED], capture_output=True, text=True, cwd=ROOT, timeout=300)
    assert done.returncode == 0, done.stderr
    cpu_s, peak = json.loads(done.stdout)
    peak_MB = peak * 1024 / 1e6 if sys.platform != "darwin" else peak / 1e6
    accept(f"{cpu_s:.2f} CPU s, {peak_MB:.0f} MB", cpu_s <= 2 and peak_MB <= 300)
