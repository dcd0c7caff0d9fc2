"""Reduced twins of the acceptance lines of the foundation that no other test here covers."""

from __future__ import annotations

import json
import math
import subprocess
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

import archsim
from archsim.assets import data_folder
from benchmarks import bench_studies
from tests.lower_bounds import complaints, floors, layers_of, tightest

ROOT = Path(__file__).resolve().parents[2]


# A1: a clone holds what the checkout runs on -------------------------------------------------------------------------
@pytest.mark.skipif(not (ROOT / ".git").exists(), reason="not a git checkout")
def test_nothing_that_is_shipped_is_ignored_by_git() -> None:
    """A file that .gitignore swallows runs here and is missing in every clone."""
    command = ["git", "ls-files", "--others", "--ignored", "--exclude-standard", "archsim", "configs", "workloads"]
    done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, check=True)
    assert [name for name in done.stdout.splitlines() if "__pycache__" not in name] == []


# A3: fixed point on the machine itself -------------------------------------------------------------------------------
@pytest.mark.skipif(data_folder() is None, reason="no external data: set ARCHSIM_DATA")
def test_resnet20_on_eyeriss_keeps_its_accuracy() -> None:
    overrides = ["workload.data.images=40", "workload.timed_images=1"]
    accuracy = archsim.simulate(archsim.load_study("eyeriss-resnet20.yaml", overrides)).accuracy
    assert accuracy is not None and accuracy.images == 40
    assert accuracy.top1_fp32 >= 0.85
    assert abs(accuracy.top1 - accuracy.top1_fp32) <= 1 / 40 + 1e-12


# A5: lower bounds ----------------------------------------------------------------------------------------------------
@pytest.mark.parametrize("network", ["digits_cnn.onnx", "resnet18.yaml"])
def test_no_layer_beats_the_widths_of_the_chip(network: str) -> None:
    layers = layers_of(network)
    assert [text for layer in layers for text in complaints(*layer)] == []
    assert tightest(layers)["link"] < 1.5  # the floor is near enough to mean something


def test_every_floor_is_enforced_to_the_cycle() -> None:
    """One cycle below a floor is a complaint that names it, the floor itself is none."""
    named = set()
    for layer, ofmap_words in layers_of("alexnet.yaml", 4):
        for name, least in floors(layer, ofmap_words).items():
            needed = math.ceil(least)
            below = complaints(replace(layer, cycles=needed - 1), ofmap_words)
            at = complaints(replace(layer, cycles=needed), ofmap_words)
            if needed:
                assert any(f" {name} needs " in text for text in below)
                named.add(name)
            assert not any(f" {name} needs " in text for text in at)
    assert named == {"multipliers", "psums out", "psums in", "ifmap bus", "filter bus", "link"}


def test_lost_psums_and_unknown_bounds_are_noticed() -> None:
    layer, ofmap_words = layers_of("digits_cnn.onnx")[0]
    few = replace(layer, counts={**layer.counts, "noc.psum_word": ofmap_words - 1})
    assert any("fewer psums" in text for text in complaints(few, ofmap_words))
    assert complaints(replace(layer, bound="luck"), ofmap_words) == [f"{layer.name}: unknown bound 'luck'"]


# A6: what measures is right ------------------------------------------------------------------------------------------
BUSY = """
import time
while time.process_time() < 0.4:
    pass
time.sleep(0.4)
print("done")
"""


def test_cpu_time_is_the_childs_and_waiting_is_none() -> None:
    spent = bench_studies.spend("-c", BUSY)
    assert spent.printed == "done"
    assert 0.4 <= spent.cpu_s < 0.6 and spent.wall_s >= 0.8


def test_peak_memory_is_the_childs_alone() -> None:
    held = np.ones(40_000_000)  # 320 MB that a child forked from here would be charged with
    small = bench_studies.spend("-S", "-c", "pass")
    large = bench_studies.spend("-S", "-c", "held = b'x' * 200_000_000")
    assert small.peak_MB < 50 and 200 <= large.peak_MB < 240
    assert held[-1] == 1


def test_failed_process_is_an_error_with_its_last_words() -> None:
    with pytest.raises(RuntimeError, match=r"^no such study$"):
        bench_studies.spend("-c", "raise SystemExit('first\\nno such study')")


def test_best_run_decides_over_the_bar(capsys: pytest.CaptureFixture[str]) -> None:
    runs = [bench_studies.Spent(cpu_s, 1.0, 10.0, "") for cpu_s in (5.0, 2.0, 3.0)]
    assert bench_studies.row("net", runs, 2.0, 0.5, cycles=1000)
    assert not bench_studies.row("net", runs, 1.9, 0.5)
    met, missed = capsys.readouterr().out.splitlines()
    assert met.split() == ["net", "2.00", "3.00", "1.00", "1.00", "2.0+", "10", "500", "4.0"]
    assert missed.split()[5:] == ["1.9<", "10", "-", "4.0"]


def test_benchmarked_study_writes_its_cycles(tmp_path: Path) -> None:
    small = bench_studies.Bench("shapes", "quickstart.yaml", 60, ("workload={network: resnet56_cifar.yaml, batch: 2}",))
    assert bench_studies.run_study(small, tmp_path).cpu_s > 0
    result = json.loads((tmp_path / "result" / "result.json").read_text(encoding="utf-8"))
    assert bench_studies.simulated_cycles(tmp_path) == result["totals"]["cycles"] > 0
    assert result["totals"]["images_timed"] == 2
