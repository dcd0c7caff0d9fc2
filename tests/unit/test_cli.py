"""The command line: exit codes, one-line errors, no output folder after an error, equal results, Ctrl-C."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import numpy as np
import onnx
import pytest

from archsim.assets import shipped_root

SMALL = ["--set", "workload.data.images=8", "--set", "workload.timed_images=2"]
DIGITS = shipped_root() / "workloads" / "trained" / "digits_cnn.onnx"


def archsim(*arguments: str, cwd: Path, check: int | None = 0) -> subprocess.CompletedProcess[str]:
    command = [sys.executable, "-m", "archsim", *arguments]
    done = subprocess.run(command, cwd=cwd, capture_output=True, text=True, timeout=300, check=False)
    if check is not None:
        assert done.returncode == check, done.stderr + done.stdout
    return done


def refused(*arguments: str, cwd: Path, expect: list[str]) -> None:
    """Run a bad study: exit code 2, one line on stderr, nothing written."""
    before = sorted(cwd.rglob("*"))
    done = archsim("run", *arguments, cwd=cwd, check=2)
    lines = done.stderr.strip().splitlines()
    assert len(lines) == 1, done.stderr
    for part in expect:
        assert part in lines[0]
    assert sorted(cwd.rglob("*")) == before


def test_run_writes_the_folder_and_is_reproducible(tmp_path: Path) -> None:
    done = archsim("run", "quickstart.yaml", *SMALL, "--out", "a", cwd=tmp_path)
    assert "accuracy" in done.stdout
    assert max(map(len, done.stdout.splitlines())) <= 100
    archsim("run", "quickstart.yaml", *SMALL, "--out", "b", "--threads", "1", "--quiet", cwd=tmp_path)
    first, second = ((tmp_path / name / "result.json").read_bytes() for name in "ab")
    assert first == second
    names = {path.name for path in (tmp_path / "a").iterdir()}
    assert names == {"result.json", "layers.csv", "energy.csv", "study.resolved.yaml", "run.log"}
    result = json.loads(first)
    assert {"schema", "study", "totals", "accuracy", "layers", "quality", "compare_to", "provenance"} == set(result)
    assert result["totals"]["images_timed"] == 2
    assert result["accuracy"]["images"] == 8
    rows = (tmp_path / "a" / "energy.csv").read_text().splitlines()
    energy = sum(float(row.split(",")[-1]) for row in rows[1:])
    assert energy == pytest.approx(result["totals"]["energy_pJ"], rel=1e-12)
    compared = archsim("compare", "a", "b", cwd=tmp_path)
    assert "1.000" in compared.stdout


def test_json_is_the_result_file(tmp_path: Path) -> None:
    done = archsim("run", "quickstart.yaml", *SMALL, "--json", cwd=tmp_path)
    assert done.stdout.encode() == (tmp_path / "runs" / "quickstart" / "result.json").read_bytes()


def test_resolved_writes_nothing(tmp_path: Path) -> None:
    done = archsim("run", "quickstart.yaml", "--resolved", cwd=tmp_path)
    assert "clock_MHz: 200.0" in done.stdout
    assert not list(tmp_path.iterdir())


def test_bad_files_are_refused(tmp_path: Path) -> None:
    np.savez(tmp_path / "no_labels.npz", images=np.zeros((4, 8, 8), np.uint8))
    np.savez(tmp_path / "big.npz", images=np.zeros((4, 9, 9), np.uint8), labels=np.zeros(4, np.int64))
    (tmp_path / "text.onnx").write_text("this is no network")
    (tmp_path / "cut.onnx").write_bytes(DIGITS.read_bytes()[:-500])
    (tmp_path / "odd.onnx").write_bytes(_with_unsupported_operator())
    (tmp_path / "cheap.yaml").write_text("name: cheap\nabout: x\nsource: x\nclasses: {mac: {energy_pJ: 1, source: x}}\n")
    network, data = "workload.network={}", "workload.data={{file: {}, images: 4}}"
    for override, expect in {
        network.format("digits_cn.onnx"): ["digits_cn.onnx", "did you mean 'digits_cnn.onnx'"],
        network.format("text.onnx"): ["text.onnx", "ONNX"],
        network.format("cut.onnx"): ["cut.onnx"],
        network.format("odd.onnx"): ["Erf"],
        data.format("no_labels.npz"): ["no_labels.npz", "labels"],
        data.format("big.npz"): ["9", "8"],
        data.format("none.npz"): ["none.npz", "not found"],
        "workload.data.images=100000": ["599", "100000"],
        "workload.data.name=digit": ["did you mean 'digits'"],
        "platform.accelerators.npu.pe_rows=2": ["conv1", "rows"],
        "platform.accelerators.npu.prices=cheap.yaml": ["cheap", "pe."],
        "platform.assign={conv7: npu, default: npu}": ["conv7", "did you mean"],
        "knobs={conv1: {speculation: 1}}": ["speculation"],
    }.items():
        refused("quickstart.yaml", "--set", override, cwd=tmp_path, expect=expect)
    refused("quickstart.yaml", *SMALL, "--out", "text.onnx", cwd=tmp_path, expect=["text.onnx"])


def _with_unsupported_operator() -> bytes:
    """Return a network with an operator archsim does not know."""
    value = onnx.helper.make_tensor_value_info
    x, y = (value(name, onnx.TensorProto.FLOAT, ["N", 1, 8, 8]) for name in ("x", "y"))
    graph = onnx.helper.make_graph([onnx.helper.make_node("Erf", ["x"], ["y"], name="odd")], "g", [x], [y])
    return onnx.helper.make_model(graph, opset_imports=[onnx.helper.make_opsetid("", 13)]).SerializeToString()


@pytest.mark.skipif(os.geteuid() == 0, reason="root may write anywhere")
def test_unwritable_folder_is_refused_before_the_run(tmp_path: Path) -> None:
    tmp_path.chmod(0o500)
    try:
        refused("quickstart.yaml", "--out", "x", cwd=tmp_path, expect=["not writable"])
    finally:
        tmp_path.chmod(0o700)


def test_a_folder_that_is_no_result_is_not_replaced(tmp_path: Path) -> None:
    (tmp_path / "mine").mkdir()
    (tmp_path / "mine" / "thesis.tex").write_text("years of work")
    refused("quickstart.yaml", "--out", "mine", cwd=tmp_path, expect=["mine", "not empty"])


def test_ctrl_c_leaves_within_a_second(tmp_path: Path) -> None:
    command = [sys.executable, "-m", "archsim", "run", "eyeriss-vgg16.yaml", "--set", "workload.batch=24"]
    process = subprocess.Popen(command, cwd=tmp_path, stderr=subprocess.PIPE, text=True)
    time.sleep(1.5)
    assert process.poll() is None
    started = time.perf_counter()
    process.send_signal(signal.SIGINT)
    _, stderr = process.communicate(timeout=10)
    assert time.perf_counter() - started < 1.0
    assert process.returncode == 130
    assert "interrupted" in stderr
    assert "Traceback" not in stderr
    assert not list(tmp_path.iterdir())
