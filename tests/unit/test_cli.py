"""The command line: exit codes, one-line errors, no output folder after an error, equal results, Ctrl-C."""

from __future__ import annotations

import io
import json
import signal
import subprocess
import sys
import time
from functools import partial
from pathlib import Path
from unittest import mock

import pytest

from archsim.__main__ import main as entry_point
from archsim.assets import find
from archsim.cli import _progress
from archsim.report.table import compare_rows
from tests.bad_inputs import CASES, BadInput, archsim, called, complaint, in_this_process, prepare

SMALL = ["--set", "workload.data.images=8", "--set", "workload.timed_images=2"]


def ok(*arguments: str, cwd: Path) -> str:
    """Run a command that must succeed and return what it printed."""
    code, printed, complaints = called(list(arguments), cwd)
    assert (code, complaints) == (0, "")
    return printed


def test_run_writes_the_folder_and_is_reproducible(tmp_path: Path) -> None:
    table = ok("run", "quickstart.yaml", *SMALL, "--out", "a", cwd=tmp_path)
    assert "accuracy" in table
    assert max(map(len, table.splitlines())) <= 100
    other = archsim("run", "quickstart.yaml", *SMALL, "--out", "b", "--threads", "1", "--quiet", cwd=tmp_path)
    assert (other.returncode, other.stdout) == (0, ""), other.stderr
    first, second = ((tmp_path / name / "result.json").read_bytes() for name in "ab")
    assert first == second
    names = {path.name for path in (tmp_path / "a").iterdir()}
    assert names == {"result.json", "layers.csv", "energy.csv", "study.resolved.yaml", "run.log", "ert.yaml"}
    result = json.loads(first)
    assert {"schema", "study", "totals", "accuracy", "layers", "quality", "compare_to", "provenance"} == set(result)
    assert result["totals"]["images_timed"] == 2
    assert result["accuracy"]["images"] == 8
    rows = (tmp_path / "a" / "energy.csv").read_text().splitlines()
    energy = sum(float(row.split(",")[-1]) for row in rows[1:])
    assert energy == pytest.approx(result["totals"]["energy_pJ"], rel=1e-12)
    assert "1.000" in ok("compare", "a", "b", cwd=tmp_path)


def test_json_is_the_result_file(tmp_path: Path) -> None:
    printed = ok("run", "quickstart.yaml", *SMALL, "--json", cwd=tmp_path)
    assert printed.encode() == (tmp_path / "runs" / "quickstart" / "result.json").read_bytes()


def test_what_is_listed_is_found_from_anywhere(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    known = json.loads(ok("list", "--json", cwd=tmp_path))
    monkeypatch.chdir(tmp_path)
    names = [row["name"] for kind in ("networks", "studies") for row in known[kind]]
    assert {"digits_cnn.onnx", "alexnet.yaml", "quickstart.yaml"} <= set(names)
    assert all(find(name).is_file() for name in names)
    takers = {row["name"]: row["taken by"] for row in known["studies"]}
    assert takers["quickstart.yaml"] == "archsim run" and takers["snapea-digits.yaml"] == "archsim tune"
    assert takers["snapea-digits-study.yaml"] == "archsim tune, through snapea-digits.yaml"


def test_runs_of_other_networks_have_no_ratio() -> None:
    one = {
        "totals": {"images_timed": 2, "macs_dense": 8, "latency_us": 6.0, "energy_pJ": 4.0},
        "provenance": {"workload": {"network": "digits_cnn"}},
        "accuracy": None,
    }
    other = {**one, "provenance": {"workload": {"network": "alexnet"}}}
    rows = compare_rows({"a": one, "b": other, "c": {**one, "totals": {**one["totals"], "latency_us": 3.0}}})
    assert [row["latency_ratio"] for row in rows] == [1.0, None, 2.0]
    assert [row["energy_ratio"] for row in rows] == [1.0, None, 1.0]


@pytest.mark.parametrize("compiled", [False, True])
def test_first_run_says_that_it_compiles(compiled: bool, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    terminal = io.StringIO()
    monkeypatch.setattr(terminal, "isatty", lambda: True, raising=False)
    monkeypatch.setattr("sys.stderr", terminal)
    monkeypatch.setenv("NUMBA_CACHE_DIR", str(tmp_path))
    if compiled:
        (tmp_path / "conv").mkdir()
        (tmp_path / "conv" / "kernel.nbi").touch()
    with _progress("study", show=True) as advance:
        assert advance is not None
    assert ("compiling kernels (once)" in terminal.getvalue()) is not compiled


def test_resolved_writes_nothing(tmp_path: Path) -> None:
    assert "clock_MHz: 200.0" in ok("run", "quickstart.yaml", "--resolved", cwd=tmp_path)
    assert not list(tmp_path.iterdir())


@pytest.fixture(scope="module")
def prepared(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("bad")
    prepare(folder)
    return folder


@pytest.mark.parametrize("case", CASES, ids=lambda case: case.rule)
def test_bad_input_is_one_line_and_exit_code_2(case: BadInput, prepared: Path) -> None:
    assert complaint(case, prepared, in_this_process) == ""


@pytest.mark.parametrize(
    "text", ['{"schema": 1}', '{"schema": 1, "totals": {"images_timed": 0}}', "[]", '{"schema": 9}']
)
def test_what_is_no_result_cannot_be_compared(text: str, tmp_path: Path) -> None:
    (tmp_path / "result.json").write_text(text)
    code, stderr = in_this_process(["compare", "result.json"], tmp_path)
    assert code == 2
    assert stderr.startswith("archsim: result.json: ")
    assert len(stderr.splitlines()) == 1


def test_a_missing_file_is_compared_with_files_not_folders(tmp_path: Path) -> None:
    (tmp_path / "quickstarts").mkdir()
    code, stderr = in_this_process(["run", "quickstart"], tmp_path)
    assert code == 2
    assert "quickstarts" not in stderr


@pytest.mark.parametrize(
    ("command", "default"),
    [("run", "runs/<study name>"), ("run", "cores available"), ("tune", "runs/<name of the file>"),
     ("cosim", "runs/cosim-<block>"), ("cosim", "all that can be shown")],
)  # fmt: skip
def test_help_names_the_defaults(command: str, default: str, tmp_path: Path) -> None:
    told = " ".join(ok(command, "--help", cwd=tmp_path).replace("│", " ").split())
    assert default in told


def test_ctrl_c_leaves_within_a_second(tmp_path: Path) -> None:
    command = [sys.executable, "-m", "archsim", "run", "snapea-vgg16.yaml"]  # many seconds of compiled code
    process = subprocess.Popen(
        command, cwd=tmp_path, stderr=subprocess.PIPE, text=True,
        preexec_fn=partial(signal.signal, signal.SIGINT, signal.SIG_DFL),  # whoever runs the tests may ignore it
    )  # fmt: skip
    time.sleep(1.5)
    assert process.poll() is None
    started = time.perf_counter()
    process.send_signal(signal.SIGINT)
    _, stderr = process.communicate(timeout=10)
    assert time.perf_counter() - started < 1.0
    assert process.returncode in (130, -signal.SIGINT)  # a shell shows both as 130
    assert "interrupted" in stderr
    assert "Traceback" not in stderr
    assert not list(tmp_path.iterdir())


def test_ctrl_c_while_the_command_line_loads_is_one_line(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    class Loading:
        def __getattr__(self, name: str) -> None:
            raise KeyboardInterrupt

    monkeypatch.setitem(sys.modules, "archsim.cli", Loading())
    with pytest.raises(SystemExit, match="130"):
        entry_point()
    assert capsys.readouterr().err == "archsim: interrupted\n"


def test_ctrl_c_before_the_simulation_is_one_line(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("archsim.config.load_study", mock.Mock(side_effect=KeyboardInterrupt))
    assert in_this_process(["run", "quickstart.yaml"], tmp_path) == (130, "archsim: interrupted\n")


def test_output_that_cannot_be_written_is_one_line(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    full = mock.Mock(side_effect=OSError(28, "No space left on device"))
    monkeypatch.setattr("archsim.report.catalogue.catalogue", full)
    assert in_this_process(["list"], tmp_path) == (2, "archsim: [Errno 28] No space left on device\n")
