"""Each contract test fails for a machine that breaks what it checks: `mac_array` broken in one way at a time."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest

from archsim.accelerators.base import Activity, BatchActivity
from archsim.energy import PriceTable
from archsim.errors import PricingError
from tests.contract import test_accelerator_contract as contract
from tests.contract.driver import LAYERS, Case
from tests.doubles import MacArray

Check = Callable[[Case], None]


class Broken(MacArray):
    """Base of the mutants: prices stay those of the sound machine."""

    fresh = True

    @property
    def prices(self) -> PriceTable:
        return MacArray(self.config).prices


class WrongRounding(Broken):
    def execute(self, *given: Any) -> Activity:
        right = super().execute(*given)
        assert right.y is not None
        return replace(right, y=right.y + (np.arange(right.y.size).reshape(right.y.shape) == 3))


class WrongType(Broken):
    def execute(self, *given: Any) -> Activity:
        right = super().execute(*given)
        assert right.y is not None
        return replace(right, y=right.y.astype(np.float64))


class Altered(Broken):
    """Changes every batch's activity."""

    def altered(self, batch: BatchActivity) -> BatchActivity:
        raise NotImplementedError

    def execute(self, *given: Any) -> Activity:
        right = super().execute(*given)
        return replace(right, batches=tuple(self.altered(batch) for batch in right.batches))


class InexactLevel0(Altered):
    def execute(self, *given: Any) -> Activity:
        *_, setting, _ = given
        return super().execute(*given) if setting.levels else MacArray.execute(self, *given)

    def altered(self, batch: BatchActivity) -> BatchActivity:
        return replace(batch, macs_done=batch.macs_done - 1)


class NoMacs(Altered):
    def altered(self, batch: BatchActivity) -> BatchActivity:
        return replace(batch, macs_done=0)


class TooManyMacs(Altered):
    def altered(self, batch: BatchActivity) -> BatchActivity:
        return replace(batch, macs_done=batch.macs_done + 1)


class UndeclaredAction(Altered):
    def altered(self, batch: BatchActivity) -> BatchActivity:
        return replace(batch, counts=(*batch.counts, ("pe.surprise", 1)))


class FasterThanPeak(Altered):
    def altered(self, batch: BatchActivity) -> BatchActivity:
        return replace(batch, tiles=tuple((busy // 8,) for (busy,) in batch.tiles))


class Unhashable(Altered):
    def altered(self, batch: BatchActivity) -> BatchActivity:
        return replace(batch, tiles=list(batch.tiles))  # type: ignore[arg-type]


class CountsPositions(Altered):
    """Says something else for the same batch at another place of the block."""

    def execute(self, *given: Any) -> Activity:
        right = MacArray.execute(self, *given)
        batches = (replace(b, metrics=(("position", float(i)),)) for i, b in enumerate(right.batches))
        return replace(right, batches=tuple(batches))


class DearApproximation(Altered):
    def execute(self, *given: Any) -> Activity:
        *_, setting, _ = given
        return MacArray.execute(self, *given) if setting.exact else super().execute(*given)

    def altered(self, batch: BatchActivity) -> BatchActivity:
        return replace(batch, counts=tuple((action, 10 * n) for action, n in batch.counts))


class WritesInput(Broken):
    def execute(self, layer: Any, plan: Any, x: Any, *rest: Any) -> Activity:
        x[0] = 0
        return super().execute(layer, plan, x, *rest)


class FreeMemory(Broken):
    """Does not wait for what it moves."""

    def time(self, layer: Any, plan: Any, activity: Any, work: Any) -> Any:
        port = work.memory

        def access(*given: Any) -> Any:
            port.access(*given)
            return work.env.timeout(0)

        return super().time(layer, plan, activity, replace(work, memory=SimpleNamespace(access=access)))


class ForgottenFill(Broken):
    def closed_form_cycles(self, layer: Any, plan: Any, activity: Any) -> int:
        return super().closed_form_cycles(layer, plan, activity) - self.config.fill_cycles


class Remembers(Broken):
    def time(self, layer: Any, plan: Any, activity: Any, work: Any) -> Any:
        if not self.fresh:
            yield work.env.timeout(1)
        self.fresh = False
        return (yield from super().time(layer, plan, activity, work))


class SlowerOnFastLinks(Broken):
    def time(self, layer: Any, plan: Any, activity: Any, work: Any) -> Any:
        timing = yield from super().time(layer, plan, activity, work)
        dense = plan.weights_per_filter * plan.filters * plan.windows
        yield work.env.timeout(max(0, 4 * dense - 2 * int(work.env.now)))
        return timing


class ExpectsTooMuch(Broken):
    def expect(self, layer: Any, plan: Any, zero_fractions: Any) -> Activity:
        right = super().expect(layer, plan, zero_fractions)
        return replace(right, batches=(replace(right.batches[0], macs_done=10**9),))


CATCHES: list[tuple[type[Broken], Check]] = [
    (WrongRounding, contract.test_level_0_equals_the_dense_reference),
    (WrongType, contract.test_level_0_equals_the_dense_reference),
    (InexactLevel0, contract.test_every_knob_is_exact_at_level_0),
    (NoMacs, contract.test_macs_done_lie_between_0_and_dense),
    (TooManyMacs, contract.test_macs_done_lie_between_0_and_dense),
    (FasterThanPeak, contract.test_cycles_respect_peak_and_bandwidth),
    (FreeMemory, contract.test_cycles_respect_peak_and_bandwidth),
    (UndeclaredAction, contract.test_counted_actions_are_declared_and_priced),
    (WritesInput, contract.test_inputs_are_not_modified),
    (DearApproximation, contract.test_raising_a_level_never_raises_energy),
    (ForgottenFill, contract.test_infinite_bandwidth_gives_the_closed_form),
    (SlowerOnFastLinks, contract.test_a_faster_link_never_takes_longer),
    (Remembers, contract.test_timing_starts_from_a_reset_machine),
    (CountsPositions, contract.test_results_do_not_depend_on_the_block_size),
    (Unhashable, contract.test_plans_and_activities_travel),
    (ExpectsTooMuch, contract.test_expected_activity_can_be_timed_and_priced),
]


@pytest.mark.parametrize(("mutant", "check"), CATCHES, ids=lambda one: one.__name__)
def test_broken_machine_is_caught(mutant: type[Broken], check: Check) -> None:
    case = Case("mac_array", "small", LAYERS[0])
    check(case)  # the sound machine passes
    broken = Case("mac_array", "small", LAYERS[0])
    vars(broken)["machine"] = mutant(case.machine.config)
    with pytest.raises({WritesInput: ValueError, Unhashable: TypeError}.get(mutant, AssertionError)):
        check(broken)


def test_action_without_a_price_is_caught(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(MacArray, "actions", MacArray.actions | {"pe.surprise"})
    with pytest.raises(PricingError, match=r"pe\.surprise"):
        contract.test_counted_actions_are_declared_and_priced(Case("mac_array", "small", LAYERS[0]))


def test_cases_exercise_saturation_zeros_and_both_signs() -> None:
    """The random data show the interesting: words that saturate, zeros, negative and positive codes."""
    saturated = 0
    for layer in LAYERS[:7]:
        for sign in (True, False):
            case = Case("mac_array", "small", layer, sign)
            x, params = case.tensors
            assert params.weights is not None and (x == 0).any() and (x > 0).any() and (x < 0).any() != sign
            assert (params.weights < 0).any() and (params.weights > 0).any() and (params.weights == 0).any()
            saturated += case.execute().saturated_words
    assert saturated > 0
