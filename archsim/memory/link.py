"""A plain link to off-chip memory: bandwidth, latency and a flat price per bit."""

from __future__ import annotations

from collections.abc import Mapping
from fractions import Fraction
from functools import cache
from math import inf, lcm
from typing import TYPE_CHECKING, Any, ClassVar

from pydantic import Field, field_serializer

from archsim.counts import Action, Counts
from archsim.energy import Price, PriceTable
from archsim.memory.base import NOWHERE, Addresses, Direction, Memory, MemoryConfig, MemoryPort, Region
from archsim.units import BITS_PER_BYTE

if TYPE_CHECKING:
    import simpy

_ACTION: Mapping[Direction, Action] = {"read": "link.read_bit", "write": "link.write_bit"}


class LinkConfig(MemoryConfig):
    """Bandwidth (`.inf` = no limit) and latency of the link, both directions together, and its price."""

    bandwidth_GB_per_s: float = Field(gt=0, description="10^9 bytes per second, shared by both directions")
    latency_ns: float = Field(ge=0, allow_inf_nan=False, description="from the last byte's turn to its arrival")
    energy_pJ_per_bit: float = Field(ge=0, allow_inf_nan=False)
    price_source: str = Field(min_length=1, description="where energy_pJ_per_bit comes from")
    timing_source: str = Field(default="given in the study", description="where bandwidth and latency come from")

    @field_serializer("bandwidth_GB_per_s", when_used="json")
    def _without_infinity(self, value: float) -> float | str:
        """Write no limit as a text that is read back: JSON has no infinity."""
        return "Infinity" if value == inf else value


class Link(Memory):
    """One request after the other, in order, in one direction at a time."""

    kind = "link"
    about = "bandwidth, latency and a flat price per bit"
    Config = LinkConfig
    presets: ClassVar[Mapping[str, Mapping[str, Any]]] = {
        "eyeriss-jssc17": {
            "bandwidth_GB_per_s": 0.48,
            "latency_ns": 0.0,
            "energy_pJ_per_bit": 28.75,
            "price_source": "460 pJ per 16 bit DRAM access, stanford-mast/nn_dataflow @198a527, test_eyeriss_isscc16",
            "timing_source": "64 bit at 60 MHz, Y.-H. Chen et al., JSSC 52(1), 2017; latency not stated, 0 assumed",
        },
        "promise-golden": {
            "bandwidth_GB_per_s": 30.0,
            "latency_ns": 100.0,
            "energy_pJ_per_bit": 20.0,
            "price_source": "promise_timing_model, HPVM release (vzyrianov/hpvm-autograd @521cc3b)",
            "timing_source": "promise_timing_model, HPVM release (vzyrianov/hpvm-autograd @521cc3b)",
        },
        "flat-ddr4": {
            "latency_ns": 0.0,
            "energy_pJ_per_bit": 15.0,
            "price_source": "DDR4 access, V. Akhlaghi, UC San Diego 2020, Table 3.3",
            "timing_source": "bandwidth not stated by the source, given in the study; latency 0 assumed",
        },
    }
    actions = frozenset(_ACTION.values())
    config: LinkConfig

    @property
    def prices(self) -> PriceTable:
        """The flat price, for reads and writes."""
        source = self.config.price_source
        return PriceTable("link", {action: self._price(action) for action in sorted(self.actions)}, None, None, source)

    def _price(self, action: Action) -> Price:
        """Return the price of one bit."""
        pJ = self.config.energy_pJ_per_bit
        return Price(action, pJ, "off_chip", f"{pJ:g} pJ/bit", None, None, self.config.price_source)

    @property
    def bandwidth_bytes_per_us(self) -> float:
        """Bandwidth, both directions together."""
        return self.config.bandwidth_GB_per_s * 1000

    def port(self, env: simpy.Environment, clock_MHz: float, addresses: Addresses = NOWHERE) -> LinkPort:
        """Return a fresh, idle port whose times are cycles of `clock_MHz`."""
        return LinkPort(env, clock_MHz, self.config)


def _exact(value: float) -> Fraction:
    """Return the decimal number that was written, not its binary neighbour."""
    return Fraction(repr(value))


@cache
def _ticks(clock_MHz: float, bandwidth_GB_per_s: float, latency_ns: float) -> tuple[int, int, int]:
    """Return a machine cycle, a byte and the latency in the largest unit in which all three are whole."""
    cycle_ns = 1000 / _exact(clock_MHz)
    byte_ns = Fraction(0) if bandwidth_GB_per_s == inf else 1 / _exact(bandwidth_GB_per_s)
    ticks_per_ns = lcm(cycle_ns.denominator, byte_ns.denominator, _exact(latency_ns).denominator)
    cycle, byte, latency = (int(ns * ticks_per_ns) for ns in (cycle_ns, byte_ns, _exact(latency_ns)))
    return cycle, byte, latency


class LinkPort(MemoryPort):
    """FIFO: a request starts when the link is free, occupies it for its bytes and completes one latency later.

    Time is counted in integer ticks, the largest unit in which a machine cycle, a byte and the latency are whole, so
    nothing is rounded but the completion, once, up to a machine cycle.
    """

    stationary = True

    def __init__(self, env: simpy.Environment, clock_MHz: float, config: LinkConfig) -> None:
        super().__init__()
        self._env = env
        self._cycle, self._byte, self._latency = _ticks(clock_MHz, config.bandwidth_GB_per_s, config.latency_ns)
        self._free = 0

    def access(
        self,
        direction: Direction,
        region: Region,
        offset_bytes: int,
        n_bytes: int,
        *,
        stride_bytes: int = 0,
        rows: int = 1,
    ) -> simpy.Event:
        """Move `rows * n_bytes` bytes; where they lie makes no difference. No bytes complete at once."""
        total = rows * n_bytes
        if not total:
            return self._env.timeout(0)
        self.account(direction, region, total)
        now = int(self._env.now) * self._cycle
        self._free = max(now, self._free) + total * self._byte
        return self._env.timeout(-(-(self._free + self._latency - now) // self._cycle))

    def counts(self) -> Counts:
        """Return the bits read and written so far."""
        counts = Counts()
        for (_, direction), n_bytes in self.bytes_moved.items():
            counts.add(_ACTION[direction], n_bytes * BITS_PER_BYTE)
        return counts
