"""What a notebook does: simulate twice, look, pickle, change one thing."""

from __future__ import annotations

import pickle
import sys
from functools import cache

import pytest

import archsim
from archsim.errors import MissingExtraError, StudyError

CUT = ["workload.data.images=6", "workload.batch=2", "workload.timed_images=4"]


@cache
def study() -> archsim.Study:
    return archsim.load_study("quickstart.yaml", CUT)


@cache
def result() -> archsim.RunResult:
    return archsim.simulate(study())


def test_public_names_are_listed_before_they_are_loaded() -> None:
    assert set(dir(archsim)) == set(archsim.__all__) >= {"load_study", "simulate"}


def test_same_study_same_result() -> None:
    assert archsim.simulate(study()) == result()


def test_results_and_studies_survive_pickling() -> None:
    assert pickle.loads(pickle.dumps(result())) == result()
    assert archsim.simulate(pickle.loads(pickle.dumps(study()))) == result()


def test_repr_is_short_and_says_the_main_figures() -> None:
    text = repr(result())
    assert len(text) < 300
    assert f"latency_us={result().totals.latency_us!r}" in text
    assert "study='quickstart'" in text


def test_frames_hold_the_totals() -> None:
    frames = result().to_frames()
    assert list(frames["layers"].layer) == [layer.name for layer in result().layers]
    assert frames["energy"].energy_pJ.sum() == pytest.approx(result().totals.energy_pJ, rel=1e-12)


def test_frames_without_pandas_say_what_to_install(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "pandas", None)
    with pytest.raises(MissingExtraError, match=r"pip install 'archsim\[frames\]'"):
        result().to_frames()


def test_replace_checks_what_belongs_together() -> None:
    def with_batch(batch: int) -> archsim.Study:
        return study().replace(workload=study().workload.model_copy(update={"batch": batch}))

    assert archsim.simulate(with_batch(1)).totals.batches == 4
    with pytest.raises(StudyError, match="multiple of batch 3, got 4"):
        with_batch(3)
