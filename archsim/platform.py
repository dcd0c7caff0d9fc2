"""The platform of a study: machines, memory and vector unit, as they are written and as they are resolved."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from pydantic import Field

from archsim.accelerators.base import Accelerator, AcceleratorConfig, accelerator_class
from archsim.accelerators.vector_unit import VECTOR_UNIT_PRESETS, VectorUnitConfig
from archsim.errors import StudyError, did_you_mean
from archsim.memory.base import Memory, MemoryConfig, memory_class
from archsim.workload.formats import NumberFormat
from archsim.yamlfile import Written, YamlFile, override, validate


class PlatformSpec(Written):
    """Machines, their shared memory, the vector unit, and which layer runs where."""

    accelerators: dict[str, dict[str, Any]] = Field(min_length=1)
    memory: dict[str, Any]
    vector_unit: dict[str, Any] | str = "free"
    assign: dict[str, str] = Field(default_factory=dict)


@dataclass(frozen=True)
class MachineSpec:
    """One accelerator of the platform, fully resolved."""

    name: str
    kind: str
    preset: str | None
    format: NumberFormat
    config: AcceleratorConfig

    def build(self, folder: Path) -> Accelerator:
        """Return the machine; `folder` is that of the study."""
        return accelerator_class(self.kind)(self.config, folder)

    def layer_paths(self) -> list[tuple[str, ...]]:
        """Return the study paths of all layer names in the machine's configuration."""
        at = ("platform", "accelerators", self.name)
        fields = {name: getattr(self.config, name) for name in accelerator_class(self.kind).layer_fields}
        return [(*at, name, layer) for name, value in fields.items() if isinstance(value, Mapping) for layer in value]

    def about(self, machine: Accelerator) -> str:
        """Return one line: kind, preset, format, clock and price table."""
        preset = f" {self.preset}" if self.preset else ""
        nm, scaled_from = machine.prices.technology_nm, machine.prices.scaled_from_nm
        node = (f"{nm} nm" if nm else "node not stated") + (f", scaled from {scaled_from} nm" if scaled_from else "")
        return (
            f"{self.kind}{preset}, {self.format.name}, {self.config.clock_MHz:g} MHz, "
            f"prices {machine.prices.name} ({node})"
        )


@dataclass(frozen=True)
class MemorySpec:
    """The platform's off-chip memory, fully resolved."""

    kind: str
    preset: str | None
    config: MemoryConfig

    def about(self, memory: Memory) -> str:
        """Return one line: kind, preset, peak bandwidth."""
        preset = f" {self.preset}" if self.preset else ""
        return f"{self.kind}{preset}, {memory.bandwidth_bytes_per_us / 1000:.4g} GB/s peak"

    def to_dict(self) -> dict[str, Any]:
        """Return every value in force as plain data."""
        return {"kind": self.kind, "preset": self.preset, **self.config.model_dump(mode="json")}

    def build(self) -> Memory:
        """Return the memory."""
        return memory_class(self.kind)(self.config)


def _with_preset(
    raw: dict[str, Any], presets: Mapping[str, Mapping[str, Any]], source: YamlFile, at: tuple[str, ...]
) -> tuple[str | None, dict[str, Any]]:
    """Return (preset name, preset values overridden by the fields written in the study)."""
    preset = raw.pop("preset", None)
    if preset is None:
        return None, raw
    if not isinstance(preset, str) or preset not in presets:
        raise source.error((*at, "preset"), f"unknown preset {preset!r}{did_you_mean(str(preset), presets)}")
    return preset, {**presets[preset], **raw}


def _kind(raw: dict[str, Any], source: YamlFile, at: tuple[str, ...]) -> str:
    """Take `kind` out of a machine or memory mapping."""
    kind = raw.pop("kind", None)
    if not isinstance(kind, str):
        raise source.error(at, f"needs a 'kind' (a name, see `archsim list`), got {kind!r}")
    return kind


def resolve_machine(name: str, raw: dict[str, Any], source: YamlFile) -> MachineSpec:
    """Resolve one accelerator of the platform."""
    at = ("platform", "accelerators", name)
    if name == "vector_unit":
        raise source.error(at, "the name 'vector_unit' is taken by the platform's own vector unit")
    kind = _kind(raw, source, at)
    with source.errors_at((*at, "kind")):
        machine = accelerator_class(kind)
    fmt = raw.pop("format", None)
    names = {number_format.name: number_format for number_format in machine.formats}
    if fmt is not None:
        with source.errors_at((*at, "format")):
            if not isinstance(fmt, str) or fmt not in names:
                raise StudyError(f"{kind} does not compute in {fmt!r}{did_you_mean(str(fmt), names)}")
    preset, fields = _with_preset(raw, machine.presets, source, at)
    config = validate(machine.Config, fields, source, at)
    return MachineSpec(name, kind, preset, names[fmt] if fmt else machine.formats[0], config)


def load_memory(kind: str, preset: str, overrides: Sequence[str] = ()) -> MemorySpec:
    """Resolve a memory by itself; `overrides` are `field=value` strings. Raises: StudyError."""
    source = YamlFile("", {"platform": {"memory": {"kind": kind, "preset": preset}}})
    source = override(source, [f"platform.memory.{text}" for text in overrides])
    return resolve_memory(dict(source.data["platform"]["memory"]), source)


def resolve_memory(raw: dict[str, Any], source: YamlFile) -> MemorySpec:
    """Resolve the platform's memory."""
    at = ("platform", "memory")
    kind = _kind(raw, source, at)
    with source.errors_at((*at, "kind")):
        memory = memory_class(kind)
    preset, fields = _with_preset(raw, memory.presets, source, at)
    with source.errors_at(at):
        return MemorySpec(kind, preset, validate(memory.Config, fields, source, at))


def resolve_vector_unit(raw: dict[str, Any] | str, source: YamlFile) -> VectorUnitConfig:
    """Resolve the vector unit: a preset name, or a mapping with optional preset."""
    at = ("platform", "vector_unit")
    given = {"preset": raw} if isinstance(raw, str) else dict(raw)
    _, fields = _with_preset(given, VECTOR_UNIT_PRESETS, source, at)
    return validate(VectorUnitConfig, fields, source, at)
