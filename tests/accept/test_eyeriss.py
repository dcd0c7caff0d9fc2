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
def alexnet(conv3: str = "alexnet-conv3-alt") -> dict[str, LayerResult]:
    """The convolutions of the shipped study by name."""
    study = archsim.load_study("eyeriss-alexnet.yaml", [f"platform.accelerators.npu.plans.conv3={conv3}"])
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
    "E9", "power, one constant for all layers", bound="layer 20 %; conv1 highest; conv4, conv5 10 % below"
)
def test_power(accept: Accept) -> None:
    power_mW = {name: on_chip_power_mW(layer) for name, layer in alexnet().items()}
    errors = {name: 100 * (power / chip()[name]["power_mW"] - 1) for name, power in power_mW.items()}
    trend = max(power_mW, key=lambda name: power_mW[name]) == "conv1"
    below = max(power_mW["conv4"], power_mW["conv5"]) <= 0.9 * power_mW["conv1"]
    figure = ", ".join(f"{name} {power:.0f} mW ({errors[name]:+.0f} %)" for name, power in power_mW.items())
    accept(figure, trend and below and all(abs(error) <= 20 for error in errors.values()))


def on_chip_power_mW(layer: LayerResult) -> float:
    """The chip's power: everything but the memory behind the link; 1 pJ per us is 1e-3 mW."""
    energy_pJ = sum(pJ for action, pJ in layer.energy_pJ.items() if not action.startswith("link."))
    return energy_pJ / layer.latency_us * 1e-3


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
