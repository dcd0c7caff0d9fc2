"""Results of a run: frozen, picklable, with provenance. Meaning of the figures: `docs/result.md`."""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass, field
from typing import TYPE_CHECKING, Any

from archsim.accelerators.clockwork import Timed
from archsim.counts import Counts
from archsim.energy import PriceTable, account
from archsim.errors import MissingExtraError
from archsim.units import cycles_to_us, power_mW_to_energy_pJ
from archsim.workload.layers import Layer
from archsim.workload.pictures import IDENTICAL_dB

if TYPE_CHECKING:
    import pandas as pd

SCHEMA = 1


@dataclass(frozen=True)
class LayerResult:
    """One layer on one machine, summed over the timed images; `type` is that of the network, as Conv or Linear.

    `energy_readings_pJ`: the whole energy under other readings of prices that the machine's source leaves open.
    """

    name: str
    type: str
    accelerator: str
    cycles: int
    latency_us: float
    macs_dense: int
    macs_done: int
    bound: str
    counts: Mapping[str, int] = field(default_factory=dict)
    energy_pJ: Mapping[str, float] = field(default_factory=dict)
    metrics: Mapping[str, Any] = field(default_factory=dict)
    energy_readings_pJ: Mapping[str, float] = field(default_factory=dict)

    @property
    def energy_total_pJ(self) -> float:
        """Sum over all components."""
        return math.fsum(self.energy_pJ.values())


@dataclass(frozen=True)
class AcceleratorTotals:
    """What one machine of the platform did in all its layers."""

    kind: str
    clock_MHz: float
    cycles: int
    latency_us: float
    energy_pJ: float
    macs_done: int


@dataclass(frozen=True)
class Totals:
    """Sums over the timed images; `cycles` is None if the timed layers do not share one clock."""

    cycles: int | None
    latency_us: float
    energy_pJ: float
    macs_dense: int
    macs_done: int
    images_timed: int
    batches: int
    by_accelerator: Mapping[str, AcceleratorTotals] = field(default_factory=dict)
    energy_readings_pJ: Mapping[str, float] = field(default_factory=dict)


@dataclass(frozen=True)
class Accuracy:
    """Fractions 0..1 of right labels among `images`, in the machines' formats and in fp32."""

    images: int
    top1: float
    top5: float
    top1_fp32: float
    top5_fp32: float


@dataclass(frozen=True)
class Quality:
    """The metric a tuner constrains; `loss` is in percentage points for top1, in dB for psnr_dB."""

    metric: str
    value: float
    reference: float
    loss: float


@dataclass(frozen=True)
class PictureQuality(Quality):
    """Mean likeness to the exact pictures, of so many, and those of the worst and the best."""

    images: int
    lowest_dB: float
    highest_dB: float


@dataclass(frozen=True)
class Comparison:
    """The second assignment of a study and the ratios baseline / study."""

    totals: Totals
    layers: tuple[LayerResult, ...]
    quality: Quality | None
    ratios: Mapping[str, float | None]


@dataclass(frozen=True, repr=False)
class RunResult:
    """Everything `archsim run` found out; `to_dict()` is `result.json`."""

    study: Mapping[str, Any]
    totals: Totals
    layers: tuple[LayerResult, ...]
    accuracy: Accuracy | None
    quality: Quality | None
    compare_to: Comparison | None
    provenance: Mapping[str, Any]
    schema: int = SCHEMA

    def to_dict(self) -> dict[str, Any]:
        """Return plain data with keys in a fixed order."""
        data = asdict(self)
        order = ("schema", "study", "totals", "accuracy", "layers", "quality", "compare_to", "provenance")
        return {key: data[key] for key in order}

    def to_frames(self) -> dict[str, pd.DataFrame]:
        """Return `layers` (one row per layer) and `energy` (layer x action, pJ) as pandas frames.

        Raises: MissingExtraError without pandas.
        """
        try:
            import pandas as pd
        except ImportError as error:
            raise MissingExtraError("pandas", "frames") from error
        layers = pd.DataFrame(layer_rows(self.layers))
        return {"layers": layers, "energy": pd.DataFrame(energy_rows(self.layers))}

    def __repr__(self) -> str:
        shown = ", ".join(f"{name}={value!r}" for name, value in self.__rich_repr__())
        return f"{type(self).__name__}({shown})"

    def __rich_repr__(self) -> Iterator[tuple[str, Any]]:
        yield "study", self.study.get("name")
        yield "latency_us", self.totals.latency_us
        yield "energy_pJ", self.totals.energy_pJ
        yield "accuracy", self.accuracy


def layer_rows(layers: tuple[LayerResult, ...]) -> list[dict[str, Any]]:
    """Return one flat row per layer: figures, total energy and the scalar metrics."""
    rows = []
    for layer in layers:
        scalars = {key: value for key, value in layer.metrics.items() if isinstance(value, int | float | str)}
        rows.append(
            {
                "layer": layer.name,
                "type": layer.type,
                "accelerator": layer.accelerator,
                "cycles": layer.cycles,
                "latency_us": layer.latency_us,
                "macs_dense": layer.macs_dense,
                "macs_done": layer.macs_done,
                "bound": layer.bound,
                "energy_pJ": layer.energy_total_pJ,
                **scalars,
            }
        )
    return rows


def energy_rows(layers: tuple[LayerResult, ...]) -> list[dict[str, Any]]:
    """Return one row per layer and action: component, action, count, energy."""
    return [
        {
            "layer": layer.name,
            "accelerator": layer.accelerator,
            "component": action.split(".", 1)[0],
            "action": action,
            "count": layer.counts.get(action, 0),
            "energy_pJ": energy,
        }
        for layer in layers
        for action, energy in layer.energy_pJ.items()
    ]


EXTENSIVE = (
    "_cycles",
    "_ms",
    "_us",
    "_ns",
    "_requests",
    "_MB",
    "_passes",
    "_words",
    "_bytes",
    "_events",
    "_pJ",
    "_macs",
    "_windows",
)
"""Metrics whose name ends so are summed over batches; other numbers are averaged, everything else is taken once."""


@dataclass(frozen=True)
class BatchPart:
    """`times` equal batches of one layer: what the clock said and what the data did."""

    timed: Timed
    macs_done: int
    metrics: Mapping[str, float | str]
    times: int


def sum_parts(
    layer: Layer,
    accelerator: str,
    clock_MHz: float,
    parts: list[BatchPart],
    prices: tuple[PriceTable, ...],
    readings: Mapping[str, tuple[PriceTable, ...]],
    told: Mapping[str, Any],
    idle_power_mW: float,
) -> LayerResult:
    """Add up the batches of one layer and price the counts, `readings` too; `told` are metrics of the whole layer."""
    counts = Counts()
    for part in parts:
        counts.merge(part.timed.counts, part.times)
        counts.merge(part.timed.memory_counts, part.times)
    cycles = sum(part.timed.cycles * part.times for part in parts)
    latency_us = cycles_to_us(cycles, clock_MHz)
    energy = with_idle(account(counts, prices), idle_power_mW, latency_us)
    return LayerResult(
        name=layer.name,
        type=type(layer).__name__,
        accelerator=accelerator,
        cycles=cycles,
        latency_us=latency_us,
        macs_dense=layer.macs_dense * sum(part.times for part in parts),
        macs_done=sum(part.macs_done * part.times for part in parts),
        bound=_binding(parts),
        counts=dict(sorted(counts.items())),
        energy_pJ=energy,
        metrics={**merge_metrics(parts), **told},
        energy_readings_pJ={
            name: math.fsum(with_idle(account(counts, tables), idle_power_mW, latency_us).values())
            for name, tables in readings.items()
        },
    )


def with_idle(energy_pJ: dict[str, float], idle_power_mW: float, latency_us: float) -> dict[str, float]:
    """Return the energy of a layer with what the platform's other machines spend while it runs, if anything."""
    idle_pJ = power_mW_to_energy_pJ(idle_power_mW, latency_us)
    return {**energy_pJ, "idle.others": idle_pJ} if idle_pJ else energy_pJ


def _binding(parts: list[BatchPart]) -> str:
    """Return the bound that binds for most cycles."""
    weight: Counter[str] = Counter()
    for part in parts:
        weight[part.timed.timing.bound] += part.timed.cycles * part.times
    return max(weight, key=lambda bound: (weight[bound], bound))


def merge_metrics(parts: list[BatchPart]) -> dict[str, Any]:
    """Merge the metrics of all batches: sums for extensive ones, means for the rest."""
    merged: dict[str, Any] = {}
    rows = [({**part.timed.timing.metrics, **part.metrics}, part.times) for part in parts]
    batches = sum(times for _, times in rows)
    for key, sample in rows[0][0].items():
        values = [(row[key], times) for row, times in rows]
        merged[key] = _merge(key, sample, values, batches)
    return merged


def _merge(key: str, sample: Any, values: list[tuple[Any, int]], batches: int) -> Any:
    """Merge one metric of all batches; `sample` is its value in the first."""
    if isinstance(sample, bool) or not isinstance(sample, int | float):
        return sample
    if key.endswith(EXTENSIVE):
        total = math.fsum(value * times for value, times in values)
        return int(total) if isinstance(sample, int) else total
    if all(value == sample for value, _ in values):
        return sample
    return math.fsum(value * times for value, times in values) / batches


def sum_totals(
    layers: tuple[LayerResult, ...], clocks: Mapping[str, tuple[str, float]], images_timed: int, batches: int
) -> Totals:
    """Sum layers over the platform; `clocks` gives (kind, clock) by machine name."""
    by_accelerator = {}
    for name, (kind, clock_MHz) in clocks.items():
        mine = [layer for layer in layers if layer.accelerator == name]
        if mine:
            by_accelerator[name] = AcceleratorTotals(
                kind=kind,
                clock_MHz=clock_MHz,
                cycles=sum(layer.cycles for layer in mine),
                latency_us=math.fsum(layer.latency_us for layer in mine),
                energy_pJ=math.fsum(layer.energy_total_pJ for layer in mine),
                macs_done=sum(layer.macs_done for layer in mine),
            )
    timed_clocks = {one.clock_MHz for one in by_accelerator.values() if one.cycles}
    return Totals(
        cycles=sum(layer.cycles for layer in layers) if len(timed_clocks) <= 1 else None,
        latency_us=math.fsum(layer.latency_us for layer in layers),
        energy_pJ=math.fsum(layer.energy_total_pJ for layer in layers),
        macs_dense=sum(layer.macs_dense for layer in layers),
        macs_done=sum(layer.macs_done for layer in layers),
        images_timed=images_timed,
        batches=batches,
        by_accelerator=by_accelerator,
        energy_readings_pJ=_readings(layers),
    )


def _readings(layers: tuple[LayerResult, ...]) -> dict[str, float]:
    """Return the energy of all layers under every reading; a layer that has no such reading counts as it is."""
    names = dict.fromkeys(name for layer in layers for name in layer.energy_readings_pJ)
    return {
        name: math.fsum(layer.energy_readings_pJ.get(name, layer.energy_total_pJ) for layer in layers) for name in names
    }


def ratios(baseline: Totals, study: Totals) -> dict[str, float | None]:
    """Return baseline / study of cycles, latency and energy; None where one of them is missing or zero.

    Under `energy, <reading>` stands the ratio of the energies with that reading of the prices on both sides.
    """
    pairs: dict[str, tuple[float | None, float | None]] = {
        "cycles": (baseline.cycles, study.cycles),
        "latency": (baseline.latency_us, study.latency_us),
        "energy": (baseline.energy_pJ, study.energy_pJ),
    }
    for name in dict.fromkeys((*study.energy_readings_pJ, *baseline.energy_readings_pJ)):
        both = (one.energy_readings_pJ.get(name, one.energy_pJ) for one in (baseline, study))
        pairs[f"energy, {name}"] = (next(both), next(both))
    return {key: a / b if a is not None and b else None for key, (a, b) in pairs.items()}


def picture_quality(psnr_dB: Sequence[float]) -> PictureQuality:
    """Return the mean peak signal-to-noise ratio over pictures; equal ones count as IDENTICAL_dB."""
    mean_dB = math.fsum(psnr_dB) / len(psnr_dB)
    loss_dB = IDENTICAL_dB - mean_dB
    return PictureQuality("psnr_dB", mean_dB, IDENTICAL_dB, loss_dB, len(psnr_dB), min(psnr_dB), max(psnr_dB))


def quality_of(accuracy: Accuracy | None) -> Quality | None:
    """Return top-1 as the quality a tuner constrains; the loss is in percentage points."""
    if accuracy is None:
        return None
    return Quality("top1", accuracy.top1, accuracy.top1_fp32, 100 * (accuracy.top1_fp32 - accuracy.top1))
