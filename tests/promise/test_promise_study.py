"""PROMISE in a study: swings, residency, the heterogeneous platform, what the report says, bad input."""

from __future__ import annotations

from functools import cache
from itertools import pairwise
from typing import Any

import pytest

from archsim.accelerators.promise.mapping import PromisePlacement
from archsim.accelerators.promise.swing import LEVELS
from archsim.approx import LayerSetting
from archsim.config import load_study, study_from_text
from archsim.errors import ArchsimError
from archsim.result import RunResult
from archsim.run import simulate
from archsim.session import Session
from archsim.workload.bench import Workbench
from archsim.workload.layers import Conv, Linear
from tests.promise.promise_cases import machine
from tests.unit.test_table import printed

DIGITS = "promise-digits.yaml"
NPU = "platform.accelerators.npu"
SMALL = ("workload.data.images=40", "workload.timed_images=2")
LAYERS = ("conv1", "conv2", "conv3", "fc")


@cache
def ran(*overrides: str) -> RunResult:
    return simulate(load_study(DIGITS, (*SMALL, *overrides)))


def layers(result: RunResult) -> dict[str, Any]:
    return {layer.name: layer for layer in result.layers if layer.accelerator == "npu"}


def swings(level: int) -> str:
    return f"knobs={{{', '.join(f'{name}: {{swing: {level}}}' for name in LAYERS)}}}"


# swing ----------------------------------------------------------------------------------------------------------------
def test_report_names_swings_residency_and_the_parts_of_the_energy() -> None:
    result = ran()
    shown = printed(result.to_dict())
    assert "swing: P7 (conv1); P5 (conv2, fc); noiseless (priced P7) (conv3)" in shown
    assert "weights resident: ifmap in the banks (conv1, conv2); resident (conv3, fc)" in shown
    assert all(part in shown for part in ("link", "leakage", "bank", "sram"))
    by_layer = layers(result)
    assert set(by_layer["conv2"].energy_pJ) == {
        "bank.dot128@P5", "leakage.bank_ns", "link.read_bit", "link.write_bit", "sram.write_byte"
    }  # fmt: skip
    assert "bank.dot128@P7" in by_layer["conv1"].counts


def test_lowering_the_voltage_of_any_layer_never_raises_its_energy() -> None:
    """T9, for every layer and pair of neighbours, the other layers at a swing of their own; time never changes."""
    study = load_study(DIGITS, SMALL)
    session = Session(Workbench(study.workload, study.folder), study, study.assign)
    for name in LAYERS:
        energies, times = [], set()
        for level in range(1, len(LEVELS)):
            setting = {**study.setting, name: LayerSetting({"swing": level})}
            totals, told = session.cost(setting, 1)
            energies.append(next(one.energy_total_pJ for one in told if one.name == name))
            times.add(totals.latency_us)
        assert all(high > low for high, low in pairwise(energies)) and len(times) == 1


def test_accuracy_falls_with_the_voltage() -> None:
    top1 = {level: ran(swings(level)).accuracy.top1 for level in (0, 1, 7)}  # type: ignore[union-attr]
    assert top1[0] >= 0.95 and top1[1] >= 0.9 and top1[7] < top1[1]


def test_result_depends_neither_on_blocks_nor_on_threads() -> None:
    study = load_study(DIGITS, (*SMALL, swings(4)))
    small = load_study(DIGITS, (*SMALL, swings(4), "workload.max_memory_MB=1"))
    results = [simulate(study, threads=1), simulate(study, threads=2), simulate(small)]
    first, *others = [(one.accuracy, one.layers, one.totals) for one in results]
    assert all(one == first for one in others)


def test_a_layer_draws_the_same_whatever_the_others_do() -> None:
    """T7f in a network: conv1 alone or with all others noisy gives the same ofmap; batches change nothing."""
    seen = {}
    for changes in (
        ("knobs={conv1: {swing: 5}}",),
        (swings(5),),
        (swings(5), "workload.batch=4", "workload.timed_images=4"),
    ):
        study = load_study(DIGITS, (*SMALL, *changes))
        session = Session(Workbench(study.workload, study.folder), study, study.assign)
        found = session.watch(study.setting, 40, lambda seat, x: (seat.layer.name, x))
        seen[changes] = [x for name, x in found["conv2"]]
    first, *others = seen.values()
    assert all(len(one) == len(first) and all((a == b).all() for a, b in zip(one, first)) for one in others)


# residency ------------------------------------------------------------------------------------------------------------
def test_resident_weights_are_not_loaded_again() -> None:
    resident, cold = layers(ran()), layers(ran(f"{NPU}.residency=cold"))
    for name in LAYERS:
        told = resident[name].metrics
        stays = told["residency"] == "resident"
        assert stays == (name in ("conv3", "fc")) and cold[name].metrics["residency"] == "cold"
        assert (resident[name].energy_total_pJ < cold[name].energy_total_pJ) == stays
        if stays:
            assert told["dram_weights_MB"] == 0 < cold[name].metrics["dram_weights_MB"]
            assert resident[name].latency_us < cold[name].latency_us
    assert ran().accuracy == ran(f"{NPU}.residency=cold").accuracy


def linear(name: str, k: int, n: int) -> Linear:
    return Linear(name=name, inputs=(f"{name} in",), output=f"{name} out", C=k, M=n)


def test_banks_are_given_away_in_network_order_and_leave_room_for_the_rest() -> None:
    one = machine(residency="resident", banks=16)
    chain = [linear("a", 512, 128), linear("b", 1024, 256), linear("c", 256, 300), linear("d", 128, 128)]
    placed = one.place_all([chain[:2], chain[2:]])
    banks = {
        name: (bool(place.chip), place.banks) for name, place in placed.items() if isinstance(place, PromisePlacement)
    }
    # Beside a (4 banks) a column tile of b (8) must fit: c (6) leaves too little, d (1) does not; b (16) never fits.
    assert banks == {"a": (True, 15), "b": (False, 11), "c": (False, 11), "d": (True, 12)}
    for layer in chain:
        plan: Any = one.map(layer, None, placed[layer.name])  # type: ignore[arg-type]
        assert all(chunk.bpc * max(tile.act for tile in chunk.tiles) <= plan.banks for chunk in plan.chunks)
        assert plan.resident == banks[layer.name][0]


def test_swapped_layers_never_stay() -> None:
    one = machine(residency="resident")
    tall = Conv(name="tall", inputs=("x",), output="y", C=3, M=16, H=32, W=32, R=3, S=3, pad=(1, 1, 1, 1))
    wide = Conv(name="wide", inputs=("y",), output="z", C=16, M=64, H=4, W=4, R=3, S=3, pad=(1, 1, 1, 1))
    placed = one.place_all([[tall, wide]])
    assert {name: place.chip for name, place in placed.items()} == {"tall": frozenset(), "wide": frozenset({"weights"})}
    assert one.map(tall, None, placed["tall"]).describe()["in_banks"] == "ifmap (loaded for every batch)"  # type: ignore[arg-type]
    assert one.map(wide, None, placed["wide"]).describe()["in_banks"] == "weights, resident"  # type: ignore[arg-type]


@pytest.mark.parametrize(("k", "stays", "chunks"), [(40000, True, 2), (32769, True, 2), (32768, False, 1)])
def test_a_split_layer_leaves_room_for_others_to_stay(k: int, stays: bool, chunks: int) -> None:
    """Sums longer than all banks are split anyway; the banks of the longest chunk do, as long as no more are made."""
    one, small, long = machine(residency="resident"), linear("small", 1024, 1000), linear("long", k, 10)
    placed = one.place_all([[small, long]])
    assert {name for name, place in placed.items() if place.chip} == ({"small"} if stays else set())
    plan: Any = one.map(long, None, placed["long"])  # type: ignore[arg-type]
    assert plan.banks == (192 if stays else 256) and len(plan.chunks) == chunks


@pytest.mark.parametrize(("groups", "banks", "at_once"), [(1, 256, 3), (2, 228, 8)])
def test_resident_groups_keep_their_banks(groups: int, banks: int, at_once: int) -> None:
    """Replicas of a group lie in the banks that hold the weights of no other group."""
    one, layer = machine(residency="resident"), grouped(groups)
    plan: Any = one.map(layer, None, one.place_all([[layer]])[layer.name])  # type: ignore[arg-type]
    (chunk,) = plan.chunks
    assert plan.resident and plan.banks == banks and chunk.par == at_once
    cold: Any = machine().map(layer, None, machine().place_all([[layer]])[layer.name])  # type: ignore[arg-type]
    assert cold.banks == 256
    held, (tile,) = chunk.bpc * chunk.ct, chunk.tiles
    assert tile.act == chunk.ct and (groups - 1) * held + held * chunk.par <= 256


def grouped(groups: int) -> Conv:
    return Conv(
        name="grouped", inputs=("x",), output="y", C=384, M=384, H=13, W=13, R=3, S=3, pad=(1, 1, 1, 1), groups=groups
    )


# the heterogeneous platform -------------------------------------------------------------------------------------------
BOTH = """\
schema: 1
name: two-machines
workload:
  network: digits_cnn.onnx
  data: {name: digits, split: test, images: 20}
  calibration: {name: digits, split: train, images: 32}
  timed_images: 2
platform:
  accelerators:
    analog: {kind: promise, preset: hpvm}
    digital: {kind: eyeriss, preset: thesis-256pe}
  memory: {kind: link, preset: promise-golden}
  assign: {conv2: analog, default: digital}
compare_to: {assign: {default: digital}}
knobs: {conv2: {swing: 1}}
"""


def test_layers_are_spread_over_machines_and_converted_at_the_border() -> None:
    result = simulate(study_from_text(BOTH))
    told = {layer.name: layer for layer in result.layers}
    assert told["conv2"].accelerator == "analog" and told["conv3"].accelerator == told["fc"].accelerator == "digital"
    network = Workbench(study_from_text(BOTH).workload, study_from_text(BOTH).folder).network
    words = dict.fromkeys(network.shapes, 1)
    for name, shape in network.shapes.items():
        for extent in shape:
            words[name] *= extent
    conv2, conv3 = (next(one for one in network.layers if one.name == name) for name in ("conv2", "conv3"))
    assert told["conv2.convert"].counts == {"vector_unit.convert": 2 * words[conv2.inputs[0]]}
    assert told["conv3.convert"].counts == {"vector_unit.convert": 2 * words[conv3.inputs[0]]}
    assert {name for name in told if name.endswith(".convert")} == {"conv2.convert", "conv3.convert"}
    totals = result.totals
    assert totals.energy_pJ == pytest.approx(sum(one.energy_pJ for one in totals.by_accelerator.values()), rel=1e-12)
    assert totals.latency_us == pytest.approx(sum(one.latency_us for one in totals.by_accelerator.values()), rel=1e-12)
    components = {action.split(".")[0] for action in told["conv2"].energy_pJ}
    assert components == {"bank", "sram", "link", "leakage"}
    assert result.compare_to is not None and result.compare_to.ratios["energy"]
    assert all(layer.accelerator != "analog" for layer in result.compare_to.layers)


# bad input ------------------------------------------------------------------------------------------------------------
@pytest.mark.parametrize(
    ("override", "parts"),
    [
        ("knobs={conv1: {swing: 8}}", ("conv1", "swing", "8", "7")),
        ("knobs={conv1: {swin: 1}}", ("swin", "did you mean 'swing'")),
        (f"{NPU}.bank=3", ("'bank'", "did you mean 'banks'")),
        (f"{NPU}.residency=warm", ("residency", "'cold' or 'resident'")),
        (f"{NPU}.format=fixed16", ("fixed16", "int8")),
        (f"{NPU}.clock_MHz=300", ("whole number of ns", "300")),
    ],
)
def test_mistakes_are_told_in_one_line(override: str, parts: tuple[str, ...]) -> None:
    with pytest.raises(ArchsimError) as caught:
        simulate(load_study(DIGITS, (*SMALL, override)))
    message = str(caught.value)
    assert "\n" not in message and all(part in message for part in parts), message
