"""Results of a run: frozen, picklable, with provenance. Meaning of the figures: `docs/result.md`."""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import asdict, dataclass, field
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    import pandas as pd

SCHEMA = 1


@dataclass(frozen=True)
class LayerResult:
    """One layer on one machine, summed over the timed images; cycles are those of the machine's own clock."""

    name: str
    accelerator: str
    cycles: int
    latency_us: float
    macs_dense: int
    macs_done: int
    bound: str
    counts: Mapping[str, int] = field(default_factory=dict)
    energy_pJ: Mapping[str, float] = field(default_factory=dict)
    metrics: Mapping[str, Any] = field(default_factory=dict)

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
class Comparison:
    """The second assignment of a study and the ratios baseline / study."""

    totals: Totals
    layers: tuple[LayerResult, ...]
    quality: Quality | None
    ratios: Mapping[str, float | None]


@dataclass(frozen=True)
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
        """Return `layers` (one row per layer) and `energy` (layer x action, pJ) as pandas frames."""
        import pandas as pd

        layers = pd.DataFrame(layer_rows(self.layers))
        return {"layers": layers, "energy": pd.DataFrame(energy_rows(self.layers))}

    def __rich_repr__(self) -> Any:
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
