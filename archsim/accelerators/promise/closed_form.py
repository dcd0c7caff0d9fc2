"""Time and energy of a plan in closed form: in nanoseconds as the source has them, or in whole cycles.

Serial: every load, computation and store waits for the one before. Source: promise_timing_model.cpp of the HPVM release
(vzyrianov/hpvm-autograd @521cc3b), which counts fractions of a nanosecond and no cycles.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator
from dataclasses import dataclass
from fractions import Fraction
from math import ceil, fsum
from typing import NamedTuple

from archsim.accelerators.promise.config import ADDED_OUTPUTS_PER_CYCLE, PromiseConfig
from archsim.accelerators.promise.schedule import PromisePlan, ceil_div, dot_products, turns_of
from archsim.accelerators.promise.swing import Swing
from archsim.energy import PriceTable
from archsim.units import BITS_PER_BYTE


class Link(NamedTuple):
    """The off-chip memory of the closed form; bandwidth and latency as they were written, so nothing is rounded."""

    latency_ns: Fraction
    bandwidth_GB_per_s: Fraction
    energy_pJ_per_bit: float

    def transfer_ns(self, n_bytes: int) -> Fraction:
        """Return the time of one transfer that waits for nothing."""
        return self.latency_ns + n_bytes / self.bandwidth_GB_per_s


GOLDEN_LINK = Link(Fraction(100), Fraction(30), 20.0)
"""30 GB/s, 100 ns, 20 pJ/bit; the memory preset `promise-golden`."""


class Phase(NamedTuple):
    """A step of the serial schedule: bytes moved, or cycles computed, in `banks` banks; bytes written to the banks."""

    moved_bytes: int
    cycles: int
    banks: int
    written_bytes: int = 0


@dataclass(frozen=True)
class Cost:
    """Time (ns) and energy (pJ) of a plan, and their parts."""

    latency_ns: float
    compute_ns: float
    memory_ns: float
    phases: int
    compute_pJ: float
    sram_pJ: float
    dram_pJ: float
    leakage_pJ: float

    @property
    def energy_pJ(self) -> float:
        """All four parts."""
        return fsum((self.compute_pJ, self.sram_pJ, self.dram_pJ, self.leakage_pJ))


def phases(config: PromiseConfig, plan: PromisePlan) -> Iterator[Phase]:
    """Yield the steps of one batch in order."""
    for turn in turns_of(plan):
        if turn.load_bytes:
            yield Phase(turn.load_bytes, 0, turn.tile_banks, turn.load_bytes)
        for _ in range(turn.rows):
            yield Phase(turn.row_bytes, 0, turn.banks)
        yield Phase(0, config.tile_cycles(turn.columns), turn.banks)
        if turn.added:
            yield Phase(0, ceil_div(turn.added, ADDED_OUTPUTS_PER_CYCLE), turn.banks, turn.added)
        if turn.store_bytes:
            yield Phase(turn.store_bytes, 0, turn.banks)


def cost(
    config: PromiseConfig,
    prices: PriceTable,
    plan: PromisePlan,
    swing: Swing,
    link: Link = GOLDEN_LINK,
    *,
    whole_cycles: bool = False,
) -> Cost:
    """Return what one batch takes, serial. With `whole_cycles` every transfer is rounded up to the machine's clock, as
    it is in simulation.
    """
    steps = Counter(phases(config, plan))
    times = {step: times * _time_ns(config, link, step, whole_cycles) for step, times in steps.items()}
    latency, compute = sum(times.values(), Fraction(0)), config.cycle_ns * _sum(steps, "cycles")
    leakage = sum((time * step.banks for step, time in times.items()), Fraction(0))

    def price(action: str) -> float:
        return prices.prices[action].energy_pJ

    return Cost(
        latency_ns=float(latency),
        compute_ns=float(compute),
        memory_ns=float(latency - compute),
        phases=steps.total(),
        compute_pJ=dot_products(plan) * price(swing.action),
        sram_pJ=_sum(steps, "written_bytes") * price("sram.write_byte"),
        dram_pJ=_sum(steps, "moved_bytes") * BITS_PER_BYTE * link.energy_pJ_per_bit,
        leakage_pJ=float(leakage) * price("leakage.bank_ns"),
    )


def _sum(steps: Counter[Phase], name: str) -> int:
    """Add up one field of all steps."""
    return sum(int(getattr(step, name)) * times for step, times in steps.items())


def _time_ns(config: PromiseConfig, link: Link, step: Phase, whole_cycles: bool) -> Fraction:
    """Return the time of one step."""
    if not step.moved_bytes:
        return Fraction(step.cycles * config.cycle_ns)
    time = link.transfer_ns(step.moved_bytes)
    return Fraction(ceil(time / config.cycle_ns) * config.cycle_ns) if whole_cycles else time


def compute_cycles(config: PromiseConfig, plan: PromisePlan) -> int:
    """Return the cycles of one batch with an infinitely fast memory."""
    return sum(
        config.tile_cycles(turn.columns) + ceil_div(turn.added, ADDED_OUTPUTS_PER_CYCLE) for turn in turns_of(plan)
    )
