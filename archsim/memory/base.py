"""Off-chip memory: the port a machine's timing process uses, and what an approximate memory does to data."""

from __future__ import annotations

import importlib
import pkgutil
from abc import ABC, abstractmethod
from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any, ClassVar, Literal, TypeAlias

from pydantic import BaseModel, ConfigDict

from archsim.approx import Knob, LayerSetting, Setting
from archsim.counts import Action, Column, Counts
from archsim.energy import PriceTable
from archsim.errors import StudyError, did_you_mean
from archsim.rtl import RtlBlock
from archsim.threads import Progress

if TYPE_CHECKING:
    import numpy.typing as npt
    import simpy

Direction = Literal["read", "write"]
Region = Literal["weights", "ifmap", "ofmap", "other"]
Addresses: TypeAlias = Mapping[Region, int]
"""Byte addresses at which a layer's regions begin; `other` are spilled psums."""
NOWHERE: Addresses = {}
"""All regions begin at 0."""


class MemoryConfig(BaseModel):
    """Base of a memory's Config; unit in every field name."""

    model_config = ConfigDict(frozen=True, extra="forbid")


@dataclass
class RequestLog:
    """What a memory that knows addresses was asked, `origin_us` after the start of the batch.

    `runs`: (us, first byte, bytes, is a write) of every contiguous transfer, in the order of asking.
    """

    origin_us: float = 0.0
    runs: list[tuple[float, int, int, bool]] = field(default_factory=list)


class MemoryPort(ABC):
    """One machine's port for one layer and batch. `bytes_moved` is kept per (region, direction).

    `stationary` is True if an access that finds the memory idle always takes the same time for the same bytes; then
    identical passes may be simulated once and multiplied with `repeat`.
    """

    stationary: ClassVar[bool]

    def __init__(self) -> None:
        self.log: RequestLog | None = None
        self.bytes_moved: dict[tuple[Region, Direction], int] = {}

    @abstractmethod
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
        """Move `rows` rows of `n_bytes` and return the simpy event of their completion (machine cycles)."""

    @abstractmethod
    def counts(self) -> Counts:
        """Return the memory's own action counts so far."""

    def metrics(self) -> Mapping[str, Any]:
        """Return what else there is to tell of this layer and batch, by names that end in their unit."""
        return {}

    def account(self, direction: Direction, region: Region, n_bytes: int) -> None:
        """Count a transfer without spending time."""
        key = (region, direction)
        self.bytes_moved[key] = self.bytes_moved.get(key, 0) + n_bytes

    def snapshot(self) -> dict[tuple[Region, Direction], int]:
        """Return a copy of the traffic counters."""
        return dict(self.bytes_moved)

    def repeat(self, since: Mapping[tuple[Region, Direction], int], times: int) -> None:
        """Count the traffic since a snapshot `times` more times (stationary memories only)."""
        for (region, direction), n_bytes in self.snapshot().items():
            self.account(direction, region, (n_bytes - since.get((region, direction), 0)) * times)


class Memory(ABC):
    """A memory kind; subclasses in this package register by `kind`.

    `addressed`: timing depends on where data lie. `columns` are figures of layers that the report shows.
    """

    kind: ClassVar[str]
    about: ClassVar[str] = ""
    Config: ClassVar[type[MemoryConfig]]
    presets: ClassVar[Mapping[str, Mapping[str, Any]]] = {}
    knobs: ClassVar[tuple[Knob, ...]] = ()
    columns: ClassVar[tuple[Column, ...]] = ()
    addressed: ClassVar[bool] = False
    actions: ClassVar[frozenset[Action]]
    rtl: ClassVar[tuple[RtlBlock, ...]] = ()
    registry: ClassVar[dict[str, type[Memory]]] = {}

    def __init_subclass__(cls, **kwargs: Any) -> None:
        super().__init_subclass__(**kwargs)
        kind = cls.__dict__.get("kind")
        if kind is None:
            return
        other = Memory.registry.get(kind)
        if other is not None and other.__module__ != cls.__module__:
            raise TypeError(f"memory kind {kind!r} is defined in both {other.__module__} and {cls.__module__}")
        Memory.registry[kind] = cls

    def __init__(self, config: MemoryConfig) -> None:
        self.config = config

    @property
    @abstractmethod
    def prices(self) -> PriceTable:
        """Prices of the memory's actions."""

    @property
    @abstractmethod
    def bandwidth_bytes_per_us(self) -> float:
        """Peak bandwidth, for bounds and rooflines."""

    def prices_at(self, setting: LayerSetting, counts: Counts) -> PriceTable:
        """Return the prices under a layer's levels; `counts` tell which regions it uses. Default: always the same."""
        return self.prices

    def clocked(self, setting: LayerSetting, chip: Collection[str] = ()) -> Memory:
        """Return the memory with the timings of a layer's levels, the same object for the same ones; default: itself.

        Regions on `chip` are not in the memory.
        """
        return self

    def knobs_in_force(self) -> tuple[Knob, ...]:
        """Return the knobs with the number of levels this configuration has."""
        return self.knobs

    @property
    def capacity_bytes(self) -> int | None:
        """Bytes it holds; None for no limit."""
        return None

    def check_setting(self, setting: Setting) -> None:  # noqa: B027 - most memories serve any study
        """Refuse levels, and policies, that this configuration cannot serve a study with. Raises: StudyError."""

    def notes(self, setting: Setting) -> Sequence[str]:
        """Return what a reader must know to take the figures for what they are."""
        return ()

    @abstractmethod
    def port(self, env: simpy.Environment, clock_MHz: float, addresses: Addresses = NOWHERE) -> MemoryPort:
        """Return a fresh port whose times are cycles of `clock_MHz`."""

    def write_requests(self, log: RequestLog, path: Path) -> None:
        """Write down what was asked, if the memory knows addresses."""
        raise NotImplementedError

    def play_trace(
        self, path: Path, gap_cycles: int, progress: Progress | None = None, level: int = 0
    ) -> dict[str, Any]:
        """Serve a file of requests, all data at a level; return all figures, if the memory knows addresses.

        Raises: AssetError; StudyError for a level there is not.
        """
        raise NotImplementedError

    def perturb(
        self,
        tensor: npt.NDArray[Any],
        region: Region,
        level: int,
        layer: str,
        image: int,
        *,
        bits: int,
        seed: int = 0,
        address: int = 0,
    ) -> npt.NDArray[Any]:
        """Return what a reader of `tensor` sees at `level`; an exact memory returns the tensor itself.

        `image`: index of image or (weights) batch. `bits` of every word are stored, the low ones of an integer, the
        high ones of a float, from byte `address` on.
        """
        return tensor


def known_memories() -> dict[str, type[Memory]]:
    """Import every memory module once and return kind -> class."""
    import archsim.memory as here

    for found in pkgutil.iter_modules(here.__path__):
        importlib.import_module(f"{here.__name__}.{found.name}")
    return dict(sorted(Memory.registry.items()))


def memory_class(kind: str) -> type[Memory]:
    """Return the class of `kind`. Raises: StudyError with the nearest and the allowed kinds."""
    known = known_memories()
    if kind not in known:
        raise StudyError(f"unknown memory kind {kind!r}{did_you_mean(kind, known)}")
    return known[kind]
