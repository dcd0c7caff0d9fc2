"""Ofmaps kept from earlier settings: the same results, and only the layers behind a change are computed again."""

from __future__ import annotations

from collections import Counter
from typing import Any

import pytest

import archsim
from archsim.approx import LayerSetting
from archsim.seating import Seating
from archsim.session import Session, pasts_of
from archsim.threads import Recent
from archsim.workload.bench import Workbench
from archsim.workload.networks import load_network

ROOM = 2**28


def session(keeps_bytes: int) -> Session:
    memory = "{kind: dram, preset: DDR3-1600-2Gb-x16, profile: [{ber: 1.0e-3}, {ber: 1.0e-2}, {ber: 1.0e-1}]}"
    study = archsim.load_study("snapea-digits-study.yaml", ["workload.data.images=60", f"platform.memory={memory}"])
    return Session(Workbench(study.workload, study.folder), study, study.assign, keeps_bytes=keeps_bytes)


def settings(seating: Seating) -> list[dict[str, LayerSetting]]:
    """Return settings that begin alike: exact, one layer after the other with wrong bits, the first again."""
    layers = [layer.name for layer in seating.network.layers if layer.name.startswith("conv")]
    assert len(layers) >= 3
    rows = {name: LayerSetting({"dram_weights": level}) for level, name in enumerate(layers, 1)}
    return [{}, {layers[1]: rows[layers[1]]}, {name: rows[name] for name in layers[1:]}, {}, rows]


def test_kept_steps_change_nothing(monkeypatch: pytest.MonkeyPatch) -> None:
    kept, plain = session(ROOM), session(0)
    computed: list[str] = []
    step = Session._step

    def counted(self: Session, visit: Any, layer: Any, inputs: Any) -> Any:
        if self is kept:
            computed.append(layer.name)
        return step(self, visit, layer, inputs)

    monkeypatch.setattr(Session, "_step", counted)
    names = [layer.name for layer in kept.network.layers]
    done = []
    for index, setting in enumerate(settings(kept.seating)):
        kept._trails.clear()
        plain._trails.clear()
        computed.clear()
        assert kept.quality(setting) == plain.quality(setting)
        assert kept.macs_done(setting) == plain.macs_done(setting)
        assert kept.cost(setting)[0] == plain.cost(setting)[0]
        done.append(tuple(kept.macs_done(setting).items()))
        changed = {0: names[0], 1: "conv2", 2: "conv3", 3: None, 4: "conv1"}[index]
        behind = names[names.index(changed) :] if changed else []
        blocks = Counter(computed)
        assert set(blocks) == set(behind) and len(set(blocks.values())) <= 1
    assert len(set(done)) == 4 and done[0] == done[3]
    assert not plain._steps and 0 < kept._steps.weight <= ROOM


def test_past_of_a_layer_is_what_reaches_it() -> None:
    network = load_network("resnet56_cifar.yaml")
    one, other = LayerSetting({"a": 1}), LayerSetting({"a": 2})
    pasts = pasts_of(network, {"s1b0_conv2": one, "s1b2_conv1": other})
    assert pasts["stem"] == pasts["s1b0_conv1"] == ()
    assert pasts["s1b0_conv2"] == pasts["s1b0_add"] == pasts["s1b1_conv1"] == (("s1b0_conv2", repr(one)),)
    assert len(pasts["s1b2_conv1"]) == len(pasts["s1b2_add"]) == len(pasts["fc"]) == 2


def test_heaviest_and_oldest_go() -> None:
    recent: Recent[str, str] = Recent(10, len)
    recent.keep("a", "1234")
    recent.keep("b", "12345")
    assert recent.recall("a") == "1234" and recent.weight == 9
    recent.keep("c", "12")
    assert list(recent) == ["a", "c"] and recent.weight == 6
    recent.keep("c", "123")
    assert recent.weight == 7
    assert recent.recall("b") is None
    recent.keep("d", "12345678901")
    assert not recent and recent.weight == 0
