"""The contract of an accelerator. A machine is one package beside this file; classes register themselves.

Order of the calls (run.py): place, prepare, map, then per block of images execute (or expect), then time per batch.
"""

from __future__ import annotations

import importlib
import inspect
import pkgutil
from abc import ABC, abstractmethod
from collections.abc import Callable, Generator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING, Any, ClassVar, NamedTuple, Protocol

import numpy as np
from pydantic import BaseModel, ConfigDict, Field

from archsim.approx import Knob, LayerSetting, Setting
from archsim.counts import Action, Column, Counts
from archsim.energy import PriceTable, load_prices, scaled
from archsim.errors import StudyError, did_you_mean
from archsim.rtl import RtlBlock, RtlCase, RtlModel, Signals
from archsim.units import BITS_PER_BYTE
from archsim.workload.formats import NumberFormat
from archsim.workload.layers import Layer
from archsim.workload.params import Array, LayerParams

if TYPE_CHECKING:
    import simpy

    from archsim.memory.base import MemoryPort
    from archsim.sim import Timeline


class AcceleratorConfig(BaseModel):
    """Fields every machine has; a subclass adds its own, unit in every name. Presets are `Accelerator.presets`."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    clock_MHz: float = Field(gt=0, allow_inf_nan=False)
    prices: str = Field(description="price table: a shipped name or a YAML file")
    scale_prices_to_nm: int | None = Field(default=None, gt=0, description="scale all prices linearly to this node")
    idle_power_mW: float = Field(
        default=0.0, ge=0, allow_inf_nan=False, description="charged while other machines of the platform run"
    )

    @property
    def area_mm2(self) -> float | None:
        """Area of the machine; None if its source states none."""
        return None


@dataclass(frozen=True)
class Placement:
    """Which tensors of a layer stay on chip ('weights', 'ifmap', 'ofmap'); those make no memory access."""

    chip: frozenset[str] = frozenset()
    group: str | None = None


@dataclass(frozen=True, eq=False)
class Stored:
    """What DRAM holds of one layer, made offline from clean weights; `extra`: the machine's own form (order, codes)."""

    params: LayerParams
    extra: Any = None

    def perturbed(self, read: Callable[[Array], Array]) -> Stored:
        """Return what a reader of an approximate memory sees; a machine with its own stored form overrides this."""
        if self.params.weights is None:
            return self
        return replace(self, params=replace(self.params, weights=read(self.params.weights)))


@dataclass(frozen=True)
class Plan:
    """A mapping: integers only, hashable. `batch` is the N it was made for. Machines extend it."""

    batch: int

    def describe(self) -> dict[str, int | str]:
        """Return the figures shown as `mapping` in the result; keys are the field's terms."""
        return {"batch": self.batch}


@dataclass(frozen=True)
class BatchActivity:
    """What the data of one batch did: counts and the integers timing needs. Hashable, no tensors.

    `tiles` holds whatever per-tile integers the machine's `time` reads (busy cycles, transfer bytes).
    """

    macs_done: int
    counts: tuple[tuple[Action, int], ...] = ()
    tiles: tuple[tuple[int, ...], ...] = ()
    metrics: tuple[tuple[str, float | str], ...] = ()


@dataclass(frozen=True, eq=False)
class Activity:
    """`y` holds the finished ofmap codes of all images given (None from `expect`); one BatchActivity per batch.

    `saturated_words` and `overflow_events` are summed over the images given.
    """

    y: Array | None
    batches: tuple[BatchActivity, ...]
    saturated_words: int = 0
    overflow_events: int = 0

    @classmethod
    def joined(cls, parts: Sequence[Activity]) -> Activity:
        """Join the activities of consecutive images."""
        return cls(
            y=np.concatenate([part.y for part in parts if part.y is not None]),
            batches=tuple(batch for part in parts for batch in part.batches),
            saturated_words=sum(part.saturated_words for part in parts),
            overflow_events=sum(part.overflow_events for part in parts),
        )


@dataclass(frozen=True)
class Timing:
    """What `time` returns: the bound that binds (a short name) and the machine's metrics."""

    bound: str
    metrics: Mapping[str, Any] = field(default_factory=dict)


@dataclass
class Clockwork:
    """What `time` works with: simpy's clock in machine cycles, the memory port, counters, trace.

    `fresh()` makes another one at cycle 0 with an idle port, for what-if figures: what happens there is not counted.
    """

    env: simpy.Environment
    memory: MemoryPort
    counts: Counts
    fresh: Callable[[], Clockwork]
    trace: Timeline | None = None


Candidate = tuple[Mapping[str, Any] | None, ...]
"""A row of a `levels:` table (without filter and level) for every filter; None: the filter stays exact."""


class Sample(NamedTuple):
    """What enters a layer on the calibration images: codes x (images, ...) in its machine's format."""

    layer: Layer
    params: LayerParams
    x: Array


class Profiled(NamedTuple):
    """What a candidate does to each filter: MACs done int64 (M,), sums of |change of an output| float64 (M,)."""

    macs_done: Array
    errors: Array

    def __add__(self, other: object) -> Profiled:
        """Return what it does over the images of both."""
        assert isinstance(other, Profiled)
        return Profiled(self.macs_done + other.macs_done, self.errors + other.errors)


class Draws(Protocol):
    """Random streams for `execute`: `draws(use, image)` is a counter-based generator keyed by seed, machine, layer."""

    def __call__(self, use: str, image: int) -> np.random.Generator:
        """Return the generator of one use and one image (index within the block given to `execute`)."""


class Accelerator(ABC):
    """A machine; subclass it in `archsim/accelerators/<kind>/` and it is known by its `kind`.

    `layer_fields` names the Config fields that may map layer names to values, so that a misspelt layer is an error.
    `columns` are figures of its layers that the report shows beside the common ones. `folder` is that of the study,
    where its files (a price table) are looked for first.
    """

    kind: ClassVar[str]
    about: ClassVar[str] = ""
    Config: ClassVar[type[AcceleratorConfig]]
    presets: ClassVar[Mapping[str, Mapping[str, Any]]] = {}
    formats: ClassVar[tuple[NumberFormat, ...]]
    accepts: ClassVar[tuple[type[Layer], ...]]
    knobs: ClassVar[tuple[Knob, ...]] = ()
    actions: ClassVar[frozenset[Action]]
    rtl: ClassVar[tuple[RtlBlock, ...]] = ()
    layer_fields: ClassVar[tuple[str, ...]] = ()
    columns: ClassVar[tuple[Column, ...]] = ()
    registry: ClassVar[dict[str, type[Accelerator]]] = {}

    def __init_subclass__(cls, **kwargs: Any) -> None:
        super().__init_subclass__(**kwargs)
        kind = cls.__dict__.get("kind")
        if kind is None:
            return
        other = Accelerator.registry.get(kind)
        if other is not None and other.__module__ != cls.__module__:
            raise TypeError(f"accelerator kind {kind!r} is defined in both {other.__module__} and {cls.__module__}")
        Accelerator.registry[kind] = cls

    def __init__(self, config: AcceleratorConfig, folder: Path | None = None) -> None:
        self.config = config
        self.folder = folder

    @classmethod  # noqa: B027 - most machines take any setting
    def check_setting(cls, config: Any, setting: Setting) -> None:
        """Refuse levels of this machine's layers that contradict its Config. Raises: StudyError."""

    @cached_property
    def prices(self) -> PriceTable:
        """Prices of all actions, scaled if asked for. Raises: PricingError naming an action without a price."""
        return self.load_prices()

    def load_prices(self, aliases: Mapping[str, str] | None = None) -> PriceTable:
        """Return the prices with some classes of `energy.yaml` replaced by others, scaled if asked for."""
        own = Path(inspect.getfile(type(self))).with_name("energy.yaml")
        table = load_prices(own, self.config.prices, self.actions, self.config.clock_MHz, self.folder, aliases)
        node_nm = self.config.scale_prices_to_nm
        return table if node_nm is None else scaled(table, node_nm)

    @property
    def price_readings(self) -> Mapping[str, PriceTable]:
        """Other readings of prices the source leaves open, by what they assume; energies are told for each."""
        return {}

    def notes(self, metrics: Mapping[str, Mapping[str, Any]]) -> Sequence[str]:
        """Return what a reader must know to take the figures for what they are; `metrics` of the results by layer."""
        return ()

    @property
    def peak_macs_per_cycle(self) -> int:
        """Multipliers that can work in one cycle."""
        raise NotImplementedError

    @property
    def can_expect(self) -> bool:
        """True if the machine counts from zero fractions, so shape-only networks need no tensors."""
        return self.answers("expect")

    def answers(self, hook: str) -> bool:
        """Tell whether the machine has an optional hook."""
        return getattr(type(self), hook) is not getattr(Accelerator, hook)

    @property
    def reads_channel_means(self) -> bool:
        """True if `prepare` needs the mean activation of every input channel (`LayerParams.x_mean`)."""
        return False

    def calibrate(self, samples: Sequence[Sample]) -> Any:
        """Return `params.calibration` of approximated layers, from samples of all of this machine's; optional."""
        raise NotImplementedError

    def place(self, layers: Sequence[Layer]) -> dict[str, Placement]:
        """Decide for a run of consecutive layers what stays on chip; default: everything in DRAM."""
        return {layer.name: Placement() for layer in layers}

    def weight_bytes(self, layer: Layer, number_format: NumberFormat) -> int:
        """Return the most that memory holds of a layer's weights at any setting, in the machine's own form."""
        return layer.weight_count * number_format.bits // BITS_PER_BYTE

    def place_all(self, runs: Sequence[Sequence[Layer]]) -> dict[str, Placement]:
        """Place all layers of the machine, runs in network order; default: every run by itself.

        For machines in which something stays for good, so that runs share what there is (resident weights).
        """
        return {name: placement for run in runs for name, placement in self.place(run).items()}

    def prepare(self, layer: Layer, params: LayerParams, setting: LayerSetting) -> Stored:
        """Turn clean weights into what DRAM holds; offline."""
        return Stored(params)

    @abstractmethod
    def map(self, layer: Layer, stored: Stored, placement: Placement) -> Plan:
        """Return the plan for `layer` (its N is the batch). Raises: MappingError naming the failed constraint."""

    @abstractmethod
    def execute(
        self, layer: Layer, plan: Plan, x: Array, stored: Stored, setting: LayerSetting, draws: Draws
    ) -> Activity:
        """Compute what the data does to the codes of k*N images: y finished, and one BatchActivity per batch.

        Blocks of images run in parallel: nothing of the machine may change here.
        """

    def expect(self, layer: Layer, plan: Plan, zero_fractions: tuple[float, float]) -> Activity:
        """Return the expected counts of one batch from the zero fractions (ifmap, ofmap); optional."""
        raise NotImplementedError

    @abstractmethod
    def time(self, layer: Layer, plan: Plan, activity: BatchActivity, work: Clockwork) -> Generator[Any, Any, Timing]:
        """Simpy process of one batch, from a reset machine; counts actions into `work.counts`."""

    @abstractmethod
    def closed_form_cycles(self, layer: Layer, plan: Plan, activity: BatchActivity) -> int:
        """Cycles with an infinitely fast memory: the oracle of the contract test."""

    def candidates(
        self, layer: Layer, plan: Plan, x: Array, stored: Stored, grid: Mapping[str, Sequence[float]]
    ) -> Sequence[Candidate]:
        """Return levels of the profiled knob worth trying on x, a sample of what enters the layer; optional.

        `grid`: values to combine, by names the knob's `grid` gives; the candidate of all None is not among them.
        """
        raise NotImplementedError

    def profile(
        self, layer: Layer, plan: Plan, x: Array, stored: Stored, candidates: Sequence[Candidate]
    ) -> Sequence[Profiled]:
        """Evaluate many levels of one knob on x in one pass, filter by filter, for tuners; optional.

        `stored` is that of level 0, x codes (k*N, C, H, W) or (k*N, C). Results of blocks of images add up.
        """
        raise NotImplementedError


def known_accelerators() -> dict[str, type[Accelerator]]:
    """Import every machine package once and return kind -> class."""
    import archsim.accelerators as here

    for found in pkgutil.iter_modules(here.__path__):
        if found.ispkg:
            importlib.import_module(f"{here.__name__}.{found.name}")
    return dict(sorted(Accelerator.registry.items()))


def accelerator_class(kind: str) -> type[Accelerator]:
    """Return the class of `kind`. Raises: StudyError with the nearest and the allowed kinds."""
    known = known_accelerators()
    if kind not in known:
        raise StudyError(f"unknown accelerator kind {kind!r}{did_you_mean(kind, known)}")
    return known[kind]


__all__ = [
    "Accelerator", "AcceleratorConfig", "Activity", "BatchActivity", "Candidate", "Clockwork", "Column", "Draws",
    "Placement", "Plan", "Profiled", "RtlBlock", "RtlCase", "RtlModel", "Sample", "Signals", "Stored", "Timing",
    "accelerator_class", "known_accelerators",
]  # fmt: skip
