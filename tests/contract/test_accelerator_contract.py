"""What holds for every machine: real ones and test doubles, every preset, small ragged layers."""

from __future__ import annotations

import inspect
import json
import os
import pickle
import subprocess
import sys
from itertools import pairwise
from pathlib import Path

import numpy as np
import pytest

import tests.doubles  # noqa: F401  (registers them)
from archsim.accelerators.base import Accelerator, known_accelerators
from archsim.approx import LayerSetting
from archsim.energy import account
from archsim.errors import MappingError
from archsim.units import BITS_PER_BYTE
from tests.contract.driver import EXACT, Case, all_cases, digests

KINDS = known_accelerators()
CASES = list(all_cases(KINDS))
ROOT = Path(__file__).resolve().parents[2]
FLOAT_ERROR = 1e-5
"""Of the largest output of an image: a floating machine adds in its own order, the reference in that of BLAS."""


@pytest.fixture(params=CASES, ids=str)
def case(request: pytest.FixtureRequest) -> Case:
    """A case that can be mapped; a machine says precisely why it cannot run a layer."""
    one: Case = request.param
    try:
        assert one.plan.batch == one.layer.N
    except MappingError as reason:
        assert any(digit in str(reason) for digit in "0123456789"), f"names no number: {reason}"
        pytest.skip(str(reason))
    return one


@pytest.mark.parametrize("kind", KINDS)
def test_machine_can_be_driven(kind: str) -> None:
    """Every machine has a preset and runs most of the layers of its types, so nothing below is vacuous."""
    machine = KINDS[kind]
    assert machine.presets and machine.formats and machine.accepts
    mapped = []
    for one in all_cases({kind: machine}):
        try:
            mapped.append(bool(one.plan))
        except MappingError:
            mapped.append(False)
    assert sum(mapped) * 2 > len(mapped)


def test_level_0_equals_the_dense_reference(case: Case) -> None:
    y = case.execute().y
    assert y is not None
    expected = case.reference()
    if case.machine.formats[0].integer:
        np.testing.assert_array_equal(y, expected)
        assert y.dtype == expected.dtype
    else:
        largest = np.abs(expected).max(axis=tuple(range(1, expected.ndim)), keepdims=True)
        assert (np.abs(y - expected) <= FLOAT_ERROR * largest).all() and y.dtype == expected.dtype


def test_every_knob_is_exact_at_level_0(case: Case) -> None:
    plain = case.execute()
    for knob in case.machine.knobs:
        zero = case.execute(case.settings(knob)[0])
        np.testing.assert_array_equal(zero.y, plain.y)
        assert zero.batches == plain.batches


def test_macs_done_lie_between_0_and_dense(case: Case) -> None:
    for setting in _all_settings(case):
        for batch in case.execute(setting).batches:
            assert 0 < batch.macs_done <= case.layer.macs_dense


def test_cycles_respect_peak_and_bandwidth(case: Case) -> None:
    (batch, *_) = case.execute().batches
    for bandwidth_GB_per_s in (0.05, 0.48, 10.0):
        timed = case.time(batch, bandwidth_GB_per_s=bandwidth_GB_per_s, latency_ns=0.0)
        assert timed.cycles * case.machine.peak_macs_per_cycle >= batch.macs_done
        moved_bits = sum(timed.memory_counts.values())
        bits_per_cycle = bandwidth_GB_per_s * 1000 * BITS_PER_BYTE / case.machine.config.clock_MHz
        assert moved_bits and timed.cycles * bits_per_cycle >= moved_bits * (1 - 1e-12)


def test_counted_actions_are_declared_and_priced(case: Case) -> None:
    for setting in _all_settings(case):
        for batch in case.execute(setting).batches:
            timed = case.time(batch)
            assert timed.counts.keys() <= case.machine.actions
            energy = account(timed.counts, case.machine.prices)
            assert energy.keys() == timed.counts.keys() and sum(energy.values()) > 0
            assert not timed.counts.keys() & timed.memory_counts.keys()


def test_inputs_are_not_modified(case: Case) -> None:
    """The driver hands out read-only arrays, so a write raises; codes are compared all the same."""
    x, params = case.tensors
    arrays = [a for a in (x, params.weights, params.bias) if a is not None]
    before = [a.copy() for a in arrays]
    for setting in _all_settings(case):
        case.execute(setting)
    assert not any(a.flags.writeable for a in arrays)
    for now, then in zip(arrays, before):
        np.testing.assert_array_equal(now, then)


def test_raising_a_level_never_raises_energy(case: Case) -> None:
    """Same input, same plan; a machine whose knob deviates (`always_saves`) says why in its README."""
    for knob in case.machine.knobs:
        if not knob.always_saves:
            readme = Path(inspect.getfile(type(case.machine))).with_name("README.md")
            assert f"`{knob.name}`" in readme.read_text(encoding="utf-8")
            continue
        energies = [_energy_pJ(case, setting) for setting in case.settings(knob)]
        assert len(energies) > 1
        assert all(after <= before * (1 + 1e-12) for before, after in pairwise(energies)), energies


def test_infinite_bandwidth_gives_the_closed_form(case: Case) -> None:
    for setting in _all_settings(case):
        for batch in case.execute(setting).batches:
            timed = case.time(batch, bandwidth_GB_per_s=float("inf"), latency_ns=0.0)
            assert timed.cycles == case.machine.closed_form_cycles(case.layer, case.plan, batch)


def test_a_faster_link_never_takes_longer(case: Case) -> None:
    (batch, *_) = case.execute().batches
    cycles = [case.time(batch, bandwidth_GB_per_s=b).cycles for b in (0.05, 0.2, 1.0, 5.0, float("inf"))]
    assert cycles == sorted(cycles, reverse=True)


def test_timing_starts_from_a_reset_machine(case: Case) -> None:
    (batch, *_) = case.execute().batches
    first, again = case.time(batch), case.time(batch)
    assert (first.cycles, first.counts, first.memory_counts) == (again.cycles, again.counts, again.memory_counts)


def test_results_do_not_depend_on_the_block_size(case: Case) -> None:
    """All batches at once equal batch by batch, random draws included."""
    n = case.layer.N
    for setting in _all_settings(case):
        whole = case.execute(setting)
        parts = [case.execute(setting, slice(i, i + n)) for i in range(0, len(case.tensors[0]), n)]
        np.testing.assert_array_equal(whole.y, np.concatenate([part.y for part in parts if part.y is not None]))
        assert whole.batches == tuple(batch for part in parts for batch in part.batches)
        assert whole.saturated_words == sum(part.saturated_words for part in parts)


def test_plans_and_activities_travel(case: Case) -> None:
    """Picklable for worker processes, hashable and equal by value for reuse."""
    things = [case.plan, *case.execute().batches]
    copies = pickle.loads(pickle.dumps(things))
    assert copies == things and [hash(one) for one in copies] == [hash(one) for one in things]
    assert all(isinstance(value, int | str) for value in case.plan.describe().values())


def test_expected_activity_can_be_timed_and_priced(case: Case) -> None:
    if not case.machine.can_expect:
        pytest.skip(f"{case.kind} needs tensors")
    for fractions in ((0.0, 0.0), (0.4, 0.6)):
        activity = case.machine.expect(case.layer, case.plan, fractions)
        (batch,) = activity.batches
        timed = case.time(batch)
        assert activity.y is None and 0 < batch.macs_done <= case.layer.macs_dense and timed.cycles > 0
        assert account(timed.counts, case.machine.prices)


@pytest.fixture(scope="module")
def other_process() -> dict[str, str]:
    """The digests of a fresh process with another hash seed."""
    environment = {**os.environ, "PYTHONHASHSEED": "271828"}
    command = [sys.executable, "-m", "tests.contract.driver"]
    done = subprocess.run(command, capture_output=True, text=True, cwd=ROOT, env=environment, timeout=240)
    assert done.returncode == 0, done.stderr
    told: dict[str, str] = json.loads(done.stdout)
    return told


def test_same_seed_same_result_in_another_process(other_process: dict[str, str]) -> None:
    assert digests(KINDS) == other_process
    assert {name.split("-")[0] for name in other_process} == set(KINDS)


def test_duplicate_kind_names_both_modules() -> None:
    for kind, machine in KINDS.items():
        with pytest.raises(TypeError, match=kind) as caught:
            type("Impostor", (Accelerator,), {"kind": kind, "__module__": "somewhere.else"})
        assert machine.__module__ in str(caught.value) and "somewhere.else" in str(caught.value)
        assert known_accelerators()[kind] is machine


def _all_settings(case: Case) -> list[LayerSetting]:
    """Exact, the highest level of every knob, and a mix over filters where the knob allows it."""
    tops = [case.settings(knob)[-1] for knob in case.machine.knobs]
    mixed = [case.mixed(knob) for knob in case.machine.knobs if knob.granularity == "filter"]
    return [EXACT, *tops, *mixed]


def _energy_pJ(case: Case, setting: LayerSetting) -> float:
    """Return the layer's energy over all its batches, the memory's accesses at a flat price included."""
    total = 0.0
    for batch in case.execute(setting).batches:
        timed = case.time(batch)
        total += sum(account(timed.counts, case.machine.prices).values()) + sum(timed.memory_counts.values())
    return total
