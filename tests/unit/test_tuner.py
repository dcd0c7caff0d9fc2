"""Tuning from file to studies: what is found holds, nothing is measured twice, mistakes are named."""

from __future__ import annotations

import json
import re
import sqlite3
from dataclasses import replace
from functools import cache
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from archsim.assets import find, shipped_root
from archsim.config import load_study, study_from_text
from archsim.errors import ArchsimError, OutputError
from archsim.report.folder import write_folder
from archsim.run import simulate
from archsim.tuner.problem import Problem
from archsim.tuner.spec import TuneRequest, load_tune
from archsim.tuner.store import Store, TrialKey
from archsim.tuner.tuning import TuneResult, tune
from archsim.workload.datasets import load_data
from archsim.workload.spec import DataSpec
from tests.bad_inputs import called

BOUNDS = (0, 1, 2, 3)
SMALL = ("tune.optimise.images=120", "tune.test.images=60", "tune.options={grid: {n: [4, 16]}}")


def request(*overrides: str) -> TuneRequest:
    return load_tune("snapea-digits.yaml", (*SMALL, *overrides))


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("tuned") / "digits"


@pytest.fixture(scope="module")
def found(folder: Path) -> TuneResult:
    result = tune(request(), folder)
    write_folder(result.files, folder, ["log"])
    return result


def test_every_bound_is_kept_and_macs_do_not_rise(found: TuneResult) -> None:
    points = found.curve["points"]
    assert [point["max_loss_points"] for point in points] == list(BOUNDS)
    assert all(point["loss_points"] <= point["max_loss_points"] + 1e-9 for point in points)
    macs = [point["macs_done"] for point in points]
    assert macs == sorted(macs, reverse=True)
    assert macs[-1] < macs[0] <= found.curve["exact"]["macs_done"]
    assert points[-1]["filters_approximated"] > 0.3 * points[-1]["filters"]


def test_no_loss_is_the_accuracy_of_the_exact_network(found: TuneResult) -> None:
    first, exact = found.curve["points"][0], found.curve["exact"]
    assert first["max_loss_points"] == 0 and first["top1"] >= exact["top1"]
    plain = load_study("snapea-digits-study.yaml", ["platform.accelerators.npu.mode=exact", *images("optimise")])
    accuracy = simulate(plain).accuracy
    assert accuracy is not None and accuracy.top1 == exact["top1"]


def images(which: str) -> list[str]:
    spec = request().spec
    data = getattr(spec, which).model_dump(exclude_none=True)
    calibration = {**spec.optimise.model_dump(exclude_none=True), "images": 32}
    return [f"workload.data={data}", f"workload.calibration={calibration}", "workload.timed_images=10"]


@pytest.mark.parametrize("bound", BOUNDS)
def test_a_study_of_the_result_gives_the_figures_of_its_point(bound: int, found: TuneResult, folder: Path) -> None:
    point = found.curve["points"][bound]
    study = load_study(folder / point["study"])
    assert study.name == f"snapea-digits-study-loss-{bound}"
    seen = {which: simulate(study_of(folder / point["study"], which)) for which in ("optimise", "test")}
    assert seen["optimise"].accuracy.top1 == point["top1"]
    assert seen["test"].accuracy.top1 == point["test_top1"]
    totals = seen["test"].totals
    assert totals.latency_us / totals.images_timed == pytest.approx(point["latency_us_per_image"], rel=1e-12)
    assert totals.energy_pJ / totals.images_timed == pytest.approx(point["energy_pJ_per_image"], rel=1e-12)


def study_of(path: Path, which: str) -> Any:
    return load_study(path, images(which))


def test_a_second_run_measures_nothing(found: TuneResult, folder: Path) -> None:
    again = tune(request(), folder)
    assert again.curve["evaluations"]["network_evaluations"] == 0
    assert found.curve["evaluations"]["network_evaluations"] > 5
    for key in ("exact", "points"):
        assert again.curve[key] == found.curve[key]


def test_a_run_that_was_killed_goes_on_where_it_was(found: TuneResult, tmp_path: Path) -> None:
    steps = 0

    def killed(text: str, done: int, total: int) -> None:
        nonlocal steps
        steps += text.startswith("local pass")
        if steps == 3:
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        tune(request(), tmp_path / "out", progress=killed)
    with Store(tmp_path / "snapea-digits.sqlite") as store:
        before = len(store)
    assert before > 0
    resumed = tune(request(), tmp_path / "out")
    assert resumed.curve["points"] == found.curve["points"]
    measured = resumed.curve["evaluations"]["network_evaluations"]
    assert 0 < measured < found.curve["evaluations"]["network_evaluations"]


def test_the_result_depends_on_neither_memory_nor_threads(found: TuneResult, tmp_path: Path) -> None:
    small = tune(request("workload.max_memory_MB=1"), tmp_path / "out", threads=1).curve
    assert small["points"] == found.curve["points"]


def test_batches_have_whole_images_and_mac_shares(tmp_path: Path) -> None:
    batches = ("workload.batch=20", "workload.timed_images=20", "tune.cost_images=20")
    short = ("tune.max_loss_points=[0]", "tune.options={entries: 1}")
    curve = tune(request(*batches, *short), tmp_path / "out").curve
    assert 0.5 < curve["points"][0]["macs_done_share"] <= curve["exact"]["macs_done_share"] < 1
    with pytest.raises(ArchsimError, match=r"tune\.optimise\.images: must be a multiple of batch 25, got 120"):
        request("workload.batch=25", "workload.timed_images=25", "tune.cost_images=25")


def test_images_are_known_by_what_they_show(tmp_path: Path) -> None:
    (tmp_path / "task.yaml").write_text(shipped())
    data = load_data("digits", None, "train", 40, 0, tmp_path, True)
    assert data.labels is not None
    asked = ("tune.optimise={file: im.npz, images: 40}", "tune.max_loss_points=[0]", "tune.options={entries: 1}")
    told = []
    for shift in (0, 1, 0):
        np.savez(tmp_path / "im.npz", images=data.images, labels=(data.labels + shift) % 10)
        curve = tune(load_tune(tmp_path / "task.yaml", asked), tmp_path / "out").curve
        told.append((curve["exact"]["top1"] > 0.5, curve["evaluations"]["network_evaluations"] > 0))
    assert told == [(True, True), (False, True), (True, False)]


def test_profiling_tells_what_it_saved(found: TuneResult) -> None:
    effort = found.curve["evaluations"]
    saved = effort["profiling_evaluations_as_printed"] - effort["profiling_evaluations"]
    assert saved == effort["profiling_evaluations_saved"] > 100 * effort["profiling_evaluations"]


def test_trials_of_other_seeds_images_and_machines_are_apart(found: TuneResult, folder: Path) -> None:
    for change in ("seed=1", "platform.accelerators.npu.th_compare=<=", "tune.optimise.first=1"):
        changed = request(change, "tune.max_loss_points=[0]", "tune.options={entries: 1}")
        assert tune(changed, folder).curve["evaluations"]["network_evaluations"] > 0


def test_energies_of_a_price_file_that_was_edited_are_measured_again(tmp_path: Path) -> None:
    table = (shipped_root() / "archsim" / "energy" / "tables" / "nnd-chip.yaml").read_text()
    text = Path(find("quickstart.yaml")).read_text().replace("chip-jssc17}", "chip-jssc17, prices: mine.yaml}")
    assert "mine.yaml" in text
    images = DataSpec(name="digits", images=2)

    def unit_energy_pJ(prices: str) -> float:
        (tmp_path / "mine.yaml").write_text(prices)
        with Store(tmp_path / "trials.sqlite") as store:
            return Problem(study_from_text(text, tmp_path), images, images, 2, store).unit_energy({})

    before = unit_energy_pJ(table)
    assert unit_energy_pJ(table) == before
    (mac,) = re.findall(r"^ +mac:.*?energy_pJ: ([0-9.]+)", table, re.MULTILINE)
    assert (
        unit_energy_pJ(re.sub(r"(^ +mac:.*?energy_pJ: )[0-9.]+", rf"\g<1>{10 * float(mac)}", table, flags=re.M))
        > before
    )


def test_the_store_keeps_the_first_of_equal_trials(tmp_path: Path) -> None:
    key = TrialKey("net", "config", "setting", "images", 0, "quality")
    with Store(tmp_path / "trials.sqlite") as store:
        assert store.get(key) is None
        store.put(key, {"top1": 0.5})
        store.put(key, {"top1": 0.7})
        store.put(key._replace(seed=1), {"top1": 0.9})
    with Store(tmp_path / "trials.sqlite") as store:
        assert (store.get(key), len(store)) == ({"top1": 0.5}, 2)


def test_a_store_with_other_columns_or_damaged_rows_is_named(tmp_path: Path) -> None:
    key = TrialKey("net", "config", "setting", "images", 0, "quality")
    with sqlite3.connect(tmp_path / "other.sqlite") as other:
        other.execute("CREATE TABLE trials (a TEXT)")
    with Store(tmp_path / "other.sqlite") as store, pytest.raises(OutputError, match=r"other\.sqlite: no such column"):
        store.get(key)
    with Store(tmp_path / "damaged.sqlite") as store:
        store.put(key, {"top1": 0.5})
        with sqlite3.connect(tmp_path / "damaged.sqlite") as damaged:
            damaged.execute("UPDATE trials SET metrics = '{'")
        with pytest.raises(OutputError, match=r"damaged\.sqlite: Expecting"):
            store.get(key)


def test_a_store_that_is_no_database_is_named(tmp_path: Path) -> None:
    (tmp_path / "trials.sqlite").write_text("these are no trials, and many bytes of them" * 20)
    with pytest.raises(OutputError, match=r"trials\.sqlite: file is not a database"):
        Store(tmp_path / "trials.sqlite")


@cache
def shipped() -> str:
    return find("snapea-digits.yaml").read_text()


@pytest.mark.parametrize(
    ("change", "expected"),
    [
        ("tune.method=snape", ("unknown method 'snape'", "did you mean 'snapea'")),
        ("tune.study=snapea-digits-studi.yaml", ("tune.study", "did you mean 'snapea-digits-study.yaml'")),
        ("tune.study=snapea-digits.yaml", ("this is no study but a tuning task",)),
        ("tune.bounds=[1]", ("tune", "'bounds'")),
        ("tune.max_loss_points=[]", ("max_loss_points", "at least 1")),
        ("tune.max_loss_points=[1, 1]", ("max_loss_points", "must differ")),
        ("tune.max_loss_points=[-1]", ("max_loss_points", "greater than or equal to 0", "-1")),
        ("tune.max_loss_points=[.nan]", ("max_loss_points", "nan")),
        ("tune.optimise.images=100000", ("tune.optimise", "100000")),
        ("tune.test={images: 10}", ("tune.test", "exactly one of")),
        ("tune.store=out/x.sqlite", ("tune.store", "must not lie in the result folder")),
        ("platform.accelerators.npu.mode=exact", ("tune.study", "mode 'exact' takes no levels")),
        ("workload.network=digits_cn.onnx", ("tune.study", "did you mean 'digits_cnn.onnx'")),
        ("tune.cost_images=70", ("tune.cost_images", "60 images of test", "70")),
        ("tune.options={entrys: 4}", ("tune.options", "'entrys'", "did you mean 'entries'")),
        ("tune.options={knob: speculate}", ("tune.options", "'speculate'", "there are: speculation")),
        ("tune.options={grid: {m: [1]}}", ("tune.options", "'m'", "th_quantile")),
        ("tune.options={grid: {n: []}}", ("tune.options", "at least one n")),
        ("platform.accelerators.npu={kind: eyeriss, preset: thesis-256pe}", ("no machine of the study can profile",)),
        ("knobs={conv1: {dram: 1}}", ("conv1", "'dram'")),
        ("tune.options={grid: {n: [0]}}", ("n of the grid of speculation", "whole numbers from 1", "got 0")),
        ("tune.options={grid: {th_quantile: [1.5]}}", ("th_quantile", "from 0 to 1", "got 1.5")),
    ],
)
def test_mistakes_are_one_line(change: str, expected: tuple[str, ...], tmp_path: Path) -> None:
    with pytest.raises(ArchsimError) as error:
        tune(request(change), tmp_path / "out")
    message = str(error.value)
    assert "\n" not in message and all(text in message for text in expected), message
    assert not (tmp_path / "out").exists()


def test_the_command_line(found: TuneResult, folder: Path) -> None:
    options = [part for one in SMALL for part in ("--set", one)]
    code, printed, complaints = called(["tune", "snapea-digits.yaml", "--out", "digits", *options], folder.parent)
    assert (code, complaints) == (0, "")
    assert "exact" in printed and "loss-3/study.yaml" in printed and "0 passes" in printed
    assert max(map(len, printed.splitlines())) <= 100
    files = {str(path.relative_to(folder)) for path in folder.rglob("*") if path.is_file()}
    assert {"curve.json", "curve.csv", "run.log", "loss-3/study.yaml"} < files
    code, printed, _ = called(["tune", "snapea-digits.yaml", "--out", "digits", "--json", *options], folder.parent)
    assert json.loads(printed)["points"] == found.curve["points"]
    assert json.loads((folder / "curve.json").read_text()) == json.loads(printed)


def test_run_and_tune_refuse_each_others_files(tmp_path: Path) -> None:
    code, _, complaint = called(["run", "snapea-digits.yaml"], tmp_path)
    assert code == 2 and "archsim tune takes it" in complaint
    code, _, complaint = called(["tune", "quickstart.yaml"], tmp_path)
    assert code == 2 and "a tune file has the key 'tune'" in complaint


def test_files_beside_the_study_are_found_from_the_result(tmp_path: Path) -> None:
    work = tmp_path / "work"
    work.mkdir()
    (work / "net.onnx").write_bytes(find("digits_cnn.onnx").read_bytes())
    text = find("snapea-digits-study.yaml").read_text().replace("digits_cnn.onnx", "net.onnx")
    (work / "study.yaml").write_text(text)
    (work / "task.yaml").write_text(shipped().replace("snapea-digits-study.yaml", "study.yaml"))
    small = ("tune.max_loss_points=[3]", "tune.options={entries: 1}")
    asked = load_tune(work / "task.yaml", (*SMALL[:2], *small))
    result = tune(asked, tmp_path / "elsewhere" / "out")
    write_folder(result.files, tmp_path / "elsewhere" / "out", [])
    study = load_study(
        tmp_path / "elsewhere" / "out" / "loss-3" / "study.yaml", ["workload.data.images=4", "workload.timed_images=4"]
    )
    assert simulate(study).accuracy is not None
    assert replace(study, setting={}) != study
