"""The worked example of the documentation: extracted, found as a package, held to the contract, simulated."""

from __future__ import annotations

import json
import os
import re
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[2]
BLOCK = re.compile(r'```\w+ title="([^"]+)"\n(.*?)```', re.DOTALL)

WITH_EXAMPLE = """
import json, sys
import archsim, archsim.accelerators, pytest
archsim.accelerators.__path__.append(sys.argv[1] + "/archsim/accelerators")
result = archsim.simulate(archsim.load_study(sys.argv[1] + "/grid.yaml"))
print(json.dumps(result.to_dict()))
sys.exit(pytest.main(["-q", "-rs", "-p", "no:cacheprovider", "tests/contract", "-k", "grid"]))
"""
"""Simulates the study of the page, then holds the machine to the contract: one process, which is what takes time."""


@pytest.fixture(scope="module")
def example(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The files of the page, written under their titles."""
    folder = tmp_path_factory.mktemp("example")
    for name, text in BLOCK.findall((ROOT / "docs" / "adding-an-accelerator.md").read_text(encoding="utf-8")):
        path = folder / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(text, encoding="utf-8")
    return folder


@pytest.fixture(scope="module")
def done(example: Path) -> subprocess.CompletedProcess[str]:
    """A process in which the example is a package of archsim: the result as JSON, then what pytest prints."""
    command = [sys.executable, "-W", "error", "-c", WITH_EXAMPLE, str(example)]
    return subprocess.run(command, capture_output=True, text=True, cwd=ROOT, env=os.environ, timeout=300)


def test_example_keeps_the_contract(done: subprocess.CompletedProcess[str]) -> None:
    assert done.returncode == 0, done.stdout + done.stderr
    counted = re.search(r"(\d+) passed", done.stdout)
    assert counted and int(counted.group(1)) > 100
    skipped = re.findall(r"^SKIPPED .*", done.stdout, re.MULTILINE)
    assert all("grid needs tensors" in line for line in skipped), skipped  # it has no `expect`; all layers are mapped


def test_example_study_runs(done: subprocess.CompletedProcess[str]) -> None:
    assert done.returncode == 0, done.stderr
    result = json.loads(done.stdout.splitlines()[0])
    by_name = {layer["name"]: layer for layer in result["layers"]}
    assert by_name["conv2"]["macs_done"] * 4 == by_name["conv2"]["macs_dense"] * 3  # stop: 1 leaves out a quarter
    assert by_name["conv1"]["macs_done"] == by_name["conv1"]["macs_dense"] > 0
    assert result["totals"]["by_accelerator"]["npu"]["kind"] == "grid"
    assert result["accuracy"]["top1_fp32"] > 0.95 and result["accuracy"]["images"] == 60
    assert result["totals"]["latency_us"] > 0 and result["totals"]["energy_pJ"] > 0


def test_example_is_clean(example: Path) -> None:
    """The example obeys the rules it teaches."""
    ruff = Path(sys.executable).with_name("ruff")
    settings = ["--config", str(ROOT / "pyproject.toml"), "--no-cache", str(example)]
    for action in (["check"], ["format", "--check"]):
        done = subprocess.run([str(ruff), *action, *settings], capture_output=True, text=True, timeout=60)
        assert done.returncode == 0, done.stdout
