"""The hook `calibrate`: once per machine, all its layers, on the calibration images, for approximated layers only."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
import pytest

from archsim.accelerators.base import Sample, Stored
from archsim.approx import LayerSetting
from archsim.config import study_from_text
from archsim.session import Session
from archsim.workload.bench import Workbench
from archsim.workload.calibrate import calibration_inputs
from archsim.workload.layers import Layer
from archsim.workload.params import LayerParams
from tests.doubles import StreamUnit

STUDY = """\
schema: 1
name: watched
workload:
  network: sharpen.yaml
  data: {name: scenes, images: 2}
  calibration: {name: scenes, split: train, images: 3}
platform:
  accelerators: {npu: {kind: stream_unit, preset: slow}}
  memory: {kind: link, preset: flat-ddr4, bandwidth_GB_per_s: 1, latency_ns: 0}
"""


class Watching(StreamUnit):
    """Keeps what it is shown."""

    def calibrate(self, samples: Sequence[Sample]) -> Any:
        return ["seen", *samples]

    def prepare(self, layer: Layer, params: LayerParams, setting: LayerSetting) -> Stored:
        return Stored(params, params.calibration)


@pytest.fixture
def session(monkeypatch: pytest.MonkeyPatch) -> Session:
    study = study_from_text(STUDY)
    session = Session(Workbench(study.workload, study.folder), study, study.assign)
    session.seating.machines["npu"] = Watching(session.seating.machines["npu"].config)
    return session


def test_approximated_layers_find_what_the_machine_kept(session: Session) -> None:
    (layer,) = session.network.layers
    seat = session.seating.seat(layer, LayerSetting({"skip_rows": 1}))
    told, sample = seat.stored.extra
    assert told == "seen" and sample.layer is layer and sample.x.shape == (3, 1, 120, 160)
    images = session.bench.calibration_images
    np.testing.assert_array_equal(sample.x, calibration_inputs(session.network, images, [layer.name])[layer.name])
    assert session.seating.seat(layer, LayerSetting({"skip_rows": 2})).stored.extra is seat.stored.extra


def test_exact_layers_cost_no_look(session: Session) -> None:
    (layer,) = session.network.layers
    assert session.seating.seat(layer, LayerSetting()).stored.extra is None


def test_machines_answer_the_hooks_they_define() -> None:
    config = StreamUnit.Config(**StreamUnit.presets["slow"])
    assert Watching(config).answers("calibrate") and not StreamUnit(config).answers("calibrate")


def test_pictures_of_a_machine_that_skips_rows_are_judged(session: Session) -> None:
    exact, rough = (session.likeness({"kernel": LayerSetting({"skip_rows": n})}) for n in (0, 3))
    assert exact is not None and rough is not None and exact.loss == 0 < rough.loss
    assert session.quality({}) is None
