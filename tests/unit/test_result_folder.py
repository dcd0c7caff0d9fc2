"""The result folder: whose files it may replace, and what happens when writing is disturbed."""

from __future__ import annotations

from dataclasses import replace
from functools import cache
from pathlib import Path
from threading import Thread

import pytest

from archsim.config import load_study
from archsim.errors import OutputError
from archsim.report.folder import TUNING, check_writable, result_json, write_folder, write_run
from archsim.result import RunResult
from archsim.run import simulate


@cache
def result() -> RunResult:
    return simulate(load_study("eyeriss-alexnet.yaml"))


def names(folder: Path) -> set[str]:
    return {path.name for path in folder.iterdir()}


def written(folder: Path) -> Path:
    write_run(result(), folder, ["log"])
    return folder


def test_only_what_archsim_wrote_is_replaced(tmp_path: Path) -> None:
    run = written(tmp_path / "run")
    check_writable(run)
    (run / "notes.md").write_text("mine")
    with pytest.raises(OutputError, match=r"did not write: notes\.md"):
        check_writable(run)


def test_a_run_does_not_replace_a_tuning(tmp_path: Path) -> None:
    files = {"curve.json": "{}", "loss-1/study.yaml": "name: x", "loss-1/conv1.csv": [{"filter": 0, "level": 1}]}
    write_folder(files, tmp_path / "found", ["log"])
    assert names(tmp_path / "found") == {"curve.json", "loss-1", "run.log"}
    assert (tmp_path / "found" / "loss-1" / "conv1.csv").read_text() == "filter,level\n0,1\n"
    check_writable(tmp_path / "found", TUNING)
    with pytest.raises(OutputError, match=r"result\.json is missing"):
        check_writable(tmp_path / "found")
    with pytest.raises(OutputError, match=r"curve\.json is missing"):
        check_writable(written(tmp_path / "run"), TUNING)


def test_the_current_folder_is_not_replaced(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "inside").mkdir()
    monkeypatch.chdir(tmp_path / "inside")
    for name in (".", "..", str(tmp_path)):
        with pytest.raises(OutputError, match="current folder"):
            check_writable(Path(name))


def test_a_name_no_file_can_have(tmp_path: Path) -> None:
    with pytest.raises(OutputError, match="too long"):
        check_writable(tmp_path / ("x" * 300))
    assert names(written(tmp_path / ("x" * 250))) > {"result.json"}


def test_a_link_keeps_pointing_at_its_folder(tmp_path: Path) -> None:
    (tmp_path / "real").mkdir()
    (tmp_path / "link").symlink_to("real")
    written(tmp_path / "link")
    written(tmp_path / "link")
    assert names(tmp_path) == {"real", "link"}
    assert (tmp_path / "real" / "result.json").is_file()
    assert (tmp_path / "link").is_symlink()


@pytest.mark.parametrize("disturbance", [KeyboardInterrupt, PermissionError])
@pytest.mark.parametrize("renames", [0, 1])
def test_the_old_result_stays_if_the_swap_is_disturbed(
    renames: int, disturbance: type[BaseException], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    run = written(tmp_path / "run")
    before, real, calls = (run / "run.log").read_bytes(), Path.rename, []

    def disturbed(self: Path, target: Path) -> Path:
        calls.append(target)
        if len(calls) == renames + 1:
            raise disturbance
        return real(self, target)

    monkeypatch.setattr(Path, "rename", disturbed)
    with pytest.raises((disturbance, OutputError)):
        write_run(result(), run, ["other log"])
    assert (run / "run.log").read_bytes() == before
    assert names(tmp_path) == {"run"}


def test_runs_into_one_folder_at_once(tmp_path: Path) -> None:
    failures: list[BaseException] = []

    def writer(name: str) -> None:
        try:
            for _ in range(50):
                write_folder({"result.json": name}, tmp_path / "run", [name])
        except BaseException as error:
            failures.append(error)

    threads = [Thread(target=writer, args=(name,)) for name in "abcd"]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert failures == []
    assert names(tmp_path) == {"run"}
    assert (tmp_path / "run" / "result.json").read_text() in "abcd"


def test_a_figure_beyond_floats_is_an_error() -> None:
    endless = replace(result(), totals=replace(result().totals, energy_pJ=float("inf")))
    with pytest.raises(OutputError, match="finite"):
        result_json(endless)
