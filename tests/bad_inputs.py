"""Bad inputs a user may give, and what the one line about each must name."""

from __future__ import annotations

import contextlib
import io
import subprocess
import sys
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from unittest import mock

import numpy as np
import onnx
from onnx import helper, numpy_helper

from archsim.assets import shipped_root
from archsim.cli import main

TRAINED = shipped_root() / "workloads" / "trained" / "digits_cnn.onnx"


@dataclass(frozen=True)
class BadInput:
    """One mistake: `set_` overrides the quick start study, `out` the output folder."""

    rule: str
    expect: tuple[str, ...]
    set_: str = ""
    out: str = ""


def _data(name: str) -> str:
    return f"workload.data={{file: {name}, images: 4}}"


NPU = "platform.accelerators.npu"
CASES = (
    BadInput("unknown key", ("workload", "'bacht'", "did you mean 'batch'"), "workload.bacht=2"),
    BadInput("unknown machine field", ("npu", "'pe_row'", "did you mean 'pe_rows'"), f"{NPU}.pe_row=2"),
    BadInput("wrong type", ("quickstart.yaml:", "workload.batch", "integer", "'two'"), "workload.batch=two"),
    BadInput("negative size", ("workload.data.images", "greater than 0", "-4"), "workload.data.images=-4"),
    BadInput("zero size", (f"{NPU}.pe_rows", "greater than 0", "got 0"), f"{NPU}.pe_rows=0"),
    BadInput("missing network", ("did you mean 'digits_cnn.onnx'",), "workload.network=digits_cn.onnx"),
    BadInput("missing data file", ("none.npz", "not found"), _data("none.npz")),
    BadInput("unknown data set", ("'digit'", "did you mean 'digits'"), "workload.data.name=digit"),
    BadInput("too many images", ("598", "100000"), "workload.data.images=100000"),
    BadInput("not an ONNX file", ("text.onnx", "ONNX"), "workload.network=text.onnx"),
    BadInput("truncated ONNX", ("cut.onnx",), "workload.network=cut.onnx"),
    BadInput("empty ONNX", ("empty.onnx",), "workload.network=empty.onnx"),
    BadInput("unsupported operator", ("odd.onnx", "'Erf'", "allowed"), "workload.network=odd.onnx"),
    BadInput("image shape", ("workload.data", "(9, 9)", "(1, 8, 8)"), _data("big.npz")),
    BadInput(
        "calibration shape",
        ("workload.calibration", "(9, 9)", "(1, 8, 8)"),
        "workload.calibration={file: big.npz, images: 4}",
    ),
    BadInput("label beyond the classes", ("workload.data", "label 10", "10 classes"), _data("eleven.npz")),
    BadInput("images that are no numbers", ("workload.data", "nan.npz", "finite"), _data("nan.npz")),
    BadInput("zero fractions beside images", ("zero_fractions", "data"), "workload.zero_fractions={conv1: 0.5}"),
    BadInput("a name with a slash", ("name: must match pattern", "'a/b'"), "name=a/b"),
    BadInput("labels missing", ("no_labels.npz", "labels"), _data("no_labels.npz")),
    BadInput("a layer the machine cannot map", ("tall", "13", "12"), "workload={network: tall.yaml}"),
    BadInput("unknown preset", ("preset", "'chip-jsc17'", "did you mean 'chip-jssc17'"), f"{NPU}.preset=chip-jsc17"),
    BadInput("accumulator range", ("conv1", "image", "48-bit", "accumulator"), "workload.network=loud.onnx"),
    BadInput("output is a file", ("text.onnx",), out="text.onnx"),
    BadInput("output folder holds something else", ("mine", "not empty"), out="mine"),
    BadInput("output folder not writable", ("x", "not writable"), out="/dev/null/x"),
    BadInput("price missing", ("cheap", "no price", "pe.mac_gated"), f"{NPU}.prices=cheap.yaml"),
    BadInput("unknown layer", ("conv7", "did you mean"), "platform.assign={conv7: npu, default: npu}"),
    BadInput("unknown layer in plans", ("conv9", "did you mean"), f"{NPU}.plans={{conv9: alexnet-conv1}}"),
    BadInput("unknown knob", ("conv1", "'speculation'"), "knobs={conv1: {speculation: 1}}"),
)  # fmt: skip


def prepare(folder: Path) -> None:
    """Write the files the cases name."""
    np.savez(folder / "no_labels.npz", images=np.zeros((4, 8, 8), np.uint8))
    np.savez(folder / "big.npz", images=np.zeros((4, 9, 9), np.uint8), labels=np.zeros(4, np.int64))
    np.savez(folder / "eleven.npz", images=np.zeros((4, 8, 8), np.uint8), labels=np.full(4, 10))
    np.savez(folder / "nan.npz", images=np.full((4, 8, 8), np.nan, np.float32), labels=np.zeros(4, np.int64))
    (folder / "text.onnx").write_text("this is no network")
    (folder / "empty.onnx").write_bytes(b"")
    (folder / "cut.onnx").write_bytes(TRAINED.read_bytes()[:-500])
    (folder / "odd.onnx").write_bytes(_model([helper.make_node("Erf", ["x"], ["y"], name="odd")], []))
    (folder / "loud.onnx").write_bytes(_overflowing_network())
    (folder / "tall.yaml").write_text(
        "name: tall\nsource: test\ninput: [1, 20, 20]\nlayers:\n- {name: tall, conv: {M: 4, kernel: [13, 3]}}\n"
    )
    (folder / "cheap.yaml").write_text(
        "name: cheap\nabout: x\ntechnology_nm: 45\nvoltage_mV: null\nsource: x\n"
        "classes: {mac: {energy_pJ: 1, per_bits: 16, source: x}}\n"
    )
    (folder / "mine").mkdir()
    (folder / "mine" / "thesis.tex").write_text("years of work")


def _overflowing_network() -> bytes:
    """Return a network whose bias is so large that a 48-bit accumulator with the weights' scale cannot hold it."""
    weights = np.full((10, 1, 8, 8), 1e-6, np.float32)
    bias = np.full(10, 1000, np.float32)
    nodes = [
        helper.make_node("Conv", ["x", "w", "b"], ["c"], name="conv1"),
        helper.make_node("Flatten", ["c"], ["y"], name="flatten"),
    ]
    return _model(nodes, [numpy_helper.from_array(weights, "w"), numpy_helper.from_array(bias, "b")], ["N", 10])


def _model(nodes: list[onnx.NodeProto], weights: list[onnx.TensorProto], out: list[object] | None = None) -> bytes:
    """Return a serialised network from x (N, 1, 8, 8) to y."""
    value = helper.make_tensor_value_info
    x = value("x", onnx.TensorProto.FLOAT, ["N", 1, 8, 8])
    y = value("y", onnx.TensorProto.FLOAT, out or ["N", 1, 8, 8])
    graph = helper.make_graph(nodes, "g", [x], [y], weights)
    return helper.make_model(graph, opset_imports=[helper.make_opsetid("", 13)], ir_version=8).SerializeToString()


Runner = Callable[[list[str], Path], tuple[int, str]]
"""Runs the command line with arguments in a folder and returns its exit code and what it wrote to stderr."""


def archsim(*arguments: str, cwd: Path) -> subprocess.CompletedProcess[str]:
    """Run the command line in its own process."""
    command = [sys.executable, "-m", "archsim", *arguments]
    return subprocess.run(command, cwd=cwd, capture_output=True, text=True, timeout=300, check=False)


def in_its_own_process(arguments: list[str], folder: Path) -> tuple[int, str]:
    """Run as a user does."""
    done = archsim(*arguments, cwd=folder)
    return done.returncode, done.stderr


def in_this_process(arguments: list[str], folder: Path) -> tuple[int, str]:
    """Run without the cost of starting Python."""
    code, _, stderr = called(arguments, folder)
    return code, stderr


def called(arguments: list[str], folder: Path) -> tuple[int, str, str]:
    """Run the command line in this process and return its exit code, stdout and stderr."""
    out, err, code = io.StringIO(), io.StringIO(), 0
    with contextlib.ExitStack() as stack:
        for place in (contextlib.chdir(folder), contextlib.redirect_stdout(out), contextlib.redirect_stderr(err)):
            stack.enter_context(place)
        stack.enter_context(mock.patch("sys.argv", ["archsim", *arguments]))
        try:
            main()
        except SystemExit as leave:
            code = int(leave.code or 0)
    return code, out.getvalue(), err.getvalue()


def complaint(case: BadInput, folder: Path, run: Runner) -> str:
    """Run one case in a prepared folder; return '' if it is refused as it must be, else what is wrong."""
    before = sorted(folder.rglob("*"))
    arguments = ["run", "quickstart.yaml", *(["--set", case.set_] if case.set_ else []), "--out", case.out or "new"]
    code, stderr = run(arguments, folder)
    lines = stderr.strip().splitlines()
    if code != 2:
        return f"{case.rule}: exit code {code}, not 2: {stderr}"
    if len(lines) != 1:
        return f"{case.rule}: {len(lines)} lines: {stderr}"
    missing = [part for part in case.expect if part not in lines[0]]
    if missing:
        return f"{case.rule}: {missing} not in: {lines[0]}"
    return f"{case.rule}: files appeared" if sorted(folder.rglob("*")) != before else ""
