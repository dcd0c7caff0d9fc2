"""The study file: pydantic models of what a user writes, and the resolved, frozen Study that is simulated."""

from __future__ import annotations

import dataclasses
import hashlib
import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Literal

from pydantic import Field, FiniteFloat

from archsim import assets
from archsim.accelerators.base import accelerator_class
from archsim.accelerators.vector_unit import VectorUnitConfig
from archsim.approx import Knob, LayerSetting, Level, LevelTable, read_levels
from archsim.errors import StudyError, did_you_mean
from archsim.memory.base import memory_class
from archsim.platform import MachineSpec, MemorySpec, PlatformSpec, resolve_machine, resolve_memory, resolve_vector_unit
from archsim.workload.graph import Network
from archsim.workload.layers import Layer
from archsim.workload.spec import WorkloadSpec
from archsim.yamlfile import Written, YamlFile, override, parse_yaml, read_yaml, validate


class CompareSpec(Written):
    """A second assignment of the same study; the report shows ratios."""

    assign: dict[str, str]


class StudySpec(Written):
    """The whole study file."""

    version: Literal[1] = Field(alias="schema")
    name: str = Field(min_length=1, pattern=r"^[A-Za-z0-9][A-Za-z0-9._-]*$")
    workload: WorkloadSpec
    platform: PlatformSpec
    compare_to: CompareSpec | None = None
    knobs: dict[str, dict[str, int | list[int]]] = Field(default_factory=dict)
    levels: dict[str, dict[str, str | list[dict[str, int | FiniteFloat]]]] = Field(default_factory=dict)
    seed: int = Field(default=0, ge=0)


@dataclass(frozen=True)
class Study:
    """A study with every value in force. `folder` is where its files are looked for first."""

    name: str
    workload: WorkloadSpec
    machines: Mapping[str, MachineSpec]
    memory: MemorySpec
    vector_unit: VectorUnitConfig
    assign: Mapping[str, str]
    compare_assign: Mapping[str, str] | None
    setting: Mapping[str, LayerSetting]
    seed: int
    folder: Path
    source: YamlFile = field(repr=False, compare=False)

    def error(self, path: Sequence[str | int], message: str) -> StudyError:
        """Return an error that points at `path` in the study file."""
        return self.source.error(path, message)

    def check_addressed(self, what: str) -> None:
        """Refuse `what` for a memory that does not know where data lie. Raises: StudyError."""
        if not memory_class(self.memory.kind).addressed:
            message = f"{what} needs a memory that knows addresses, as kind dram; got {self.memory.kind!r}"
            raise self.error(("platform", "memory", "kind"), message)

    def machine_of(self, layer: str) -> str:
        """Return the machine a layer is assigned to."""
        return self.assign.get(layer, self.assign["default"])

    def to_dict(self) -> dict[str, Any]:
        """Return the resolved study as plain data: what `--resolved` prints and `result.json` keeps."""
        machines = {
            name: {"kind": m.kind, "preset": m.preset, "format": m.format.name, **m.config.model_dump(mode="json")}
            for name, m in self.machines.items()
        }
        data: dict[str, Any] = {
            "schema": 1,
            "name": self.name,
            "workload": self.workload.model_dump(mode="json"),
            "platform": {
                "accelerators": machines,
                "memory": self.memory.to_dict(),
                "vector_unit": self.vector_unit.model_dump(mode="json"),
                "assign": dict(self.assign),
            },
            "compare_to": {"assign": dict(self.compare_assign)} if self.compare_assign is not None else None,
            "knobs": {name: dict(s.levels) for name, s in self.setting.items() if s.levels},
            "levels": _levels_dict(self.setting),
            "seed": self.seed,
        }
        plain: dict[str, Any] = json.loads(json.dumps(data))
        return plain

    @property
    def config_hash(self) -> str:
        """sha256 over the resolved study."""
        return hashlib.sha256(json.dumps(self.to_dict(), sort_keys=True).encode()).hexdigest()

    def replace(self, **changes: Any) -> Study:
        """Return a copy with some fields changed (for the Python API, tuners and sweeps). Raises: StudyError."""
        changed = dataclasses.replace(self, **changes)
        _check_workload(changed.workload, changed.source)
        return changed


def _levels_dict(setting: Mapping[str, LayerSetting]) -> dict[str, dict[str, list[dict[str, Any]]]]:
    """Return knob -> layer -> rows."""
    out: dict[str, dict[str, list[dict[str, Any]]]] = {}
    for layer, one in setting.items():
        for knob, rows in one.tables.items():
            out.setdefault(knob, {})[layer] = [dict(row) for row in rows]
    return out


def load_study(path: str | Path, overrides: Sequence[str] = ()) -> Study:
    """Read and resolve a study file; `overrides` are `a.b=value` strings (value in YAML).

    Raises: StudyError with file, line, field, rule, value and allowed values.
    """
    given = Path(path)
    found = given if assets.is_file(given) else assets.find(str(path))
    source = read_yaml(found)
    return resolve_study(override(source, overrides), found.parent)


def study_from_text(text: str, folder: Path | None = None) -> Study:
    """Resolve a study given as YAML text; files are looked for in `folder` first. Raises: as `load_study`."""
    return resolve_study(parse_yaml(text, "study"), folder or Path.cwd())


def _mapping(source: YamlFile) -> dict[str, Any]:
    """Return the data of the file. Raises: StudyError if it is empty or a list."""
    if not isinstance(source.data, dict):
        raise StudyError("a study file is a mapping with schema, name, workload and platform", file=source.file)
    if "tune" in source.data:
        raise source.error(("tune",), "this is no study but a tuning task: archsim tune takes it")
    return source.data


def resolve_study(source: YamlFile, folder: Path) -> Study:
    """Check everything that needs no network and fill in presets. Raises: StudyError."""
    spec = validate(StudySpec, _mapping(source), source)
    _check_workload(spec.workload, source)
    machines = {name: resolve_machine(name, dict(raw), source) for name, raw in spec.platform.accelerators.items()}
    compare = spec.compare_to.assign if spec.compare_to else None
    assign = _assign(spec.platform.assign, machines, source, ("platform", "assign"))
    return Study(
        name=spec.name,
        workload=spec.workload,
        machines=machines,
        memory=resolve_memory(dict(spec.platform.memory), source),
        vector_unit=resolve_vector_unit(spec.platform.vector_unit, source),
        assign=assign,
        compare_assign=None if compare is None else _assign(compare, machines, source, ("compare_to", "assign")),
        setting=_setting(spec, source, folder),
        seed=spec.seed,
        folder=folder,
        source=source,
    )


def _check_workload(spec: WorkloadSpec, source: YamlFile) -> None:
    """Check the rules that tie two workload fields together."""
    for key, data in (("data", spec.data), ("calibration", spec.calibration)):
        if data is not None and (data.name is None) == (data.file is None):
            raise source.error(("workload", key), "needs exactly one of 'name' and 'file'")
    if spec.data is not None and spec.zero_fractions:
        raise source.error(("workload", "zero_fractions"), "with images in data, zeros are counted: leave one out")
    timed, images, path = spec.images_timed, spec.images, ("workload", "timed_images")
    if timed <= 0 or timed > images:
        raise source.error(path, f"must be between 1 and the {images} images of the study, got {timed}")
    if timed % spec.batch:
        raise source.error(path, f"must be a multiple of batch {spec.batch}, got {timed}")


def _assign(
    written: Mapping[str, str], machines: Mapping[str, MachineSpec], source: YamlFile, at: tuple[str, ...]
) -> dict[str, str]:
    """Check the machine names of an assignment; a platform with one machine may leave `default` out."""
    for layer, machine in written.items():
        if machine not in machines:
            raise source.error((*at, layer), f"unknown accelerator {machine!r}{did_you_mean(machine, machines)}")
    if "default" in written:
        return dict(written)
    if len(machines) > 1:
        raise source.error(at, f"needs 'default': one of {', '.join(sorted(machines))}")
    return {**written, "default": next(iter(machines))}


def _setting(spec: StudySpec, source: YamlFile, folder: Path) -> dict[str, LayerSetting]:
    """Join `knobs:` and `levels:` by layer; knob names are checked when the layers are known."""
    tables: dict[str, dict[str, LevelTable]] = {}
    for knob, by_layer in spec.levels.items():
        for layer, rows in by_layer.items():
            with source.errors_at(("levels", knob, layer)):
                table = tuple(read_levels(assets.find(rows, folder)) if isinstance(rows, str) else rows)
                if not all(isinstance(row.get("level"), int) and row["level"] > 0 for row in table):
                    raise StudyError("every row needs a column 'level' with an integer above 0 (level 0 is exact)")
            tables.setdefault(layer, {})[knob] = table
    return {
        layer: LayerSetting(
            {
                knob: tuple(level) if isinstance(level, list) else level
                for knob, level in spec.knobs.get(layer, {}).items()
            },
            tables.get(layer, {}),
        )
        for layer in [*spec.knobs, *(name for name in tables if name not in spec.knobs)]
    }


def check_layer_names(study: Study, network: Network) -> None:
    """Check the layer and knob names of a study against its network. Raises: StudyError with near names."""
    layers = {layer.name: layer for layer in network.layers}
    classes = [accelerator_class(machine.kind) for machine in study.machines.values()]
    if not any(isinstance(layer, one.accepts) for layer in network.layers for one in classes):
        wanted = ", ".join(dict.fromkeys(layer_type.__name__ for one in classes for layer_type in one.accepts))
        raise study.error(("workload", "network"), f"{network.name} has no layer for an accelerator (none of {wanted})")
    written: list[tuple[str, ...]] = [("platform", "assign", name) for name in study.assign if name != "default"]
    written += [("compare_to", "assign", name) for name in study.compare_assign or () if name != "default"]
    written += [("workload", "zero_fractions", name) for name in study.workload.zero_fractions]
    written += [("knobs", name) for name in study.setting]
    written += [path for machine in study.machines.values() for path in machine.layer_paths()]
    for path in written:
        if path[-1] not in layers:
            raise study.error(path, f"no layer {path[-1]!r} in {network.name}{did_you_mean(path[-1], layers)}")
    memory_knobs = study.memory.build().knobs_in_force()
    for name, setting in study.setting.items():
        machine = study.machines[study.machine_of(name)]
        if not any(isinstance(layers[name], one.accepts) for one in classes):
            raise study.error(
                ("knobs", name), f"{type(layers[name]).__name__} runs on the vector unit: no knob reaches it"
            )
        known = {knob.name: knob for knob in (*accelerator_class(machine.kind).knobs, *memory_knobs)}
        for knob in (*setting.levels, *setting.tables):
            if knob not in known:
                raise study.error(
                    ("knobs", name, knob), f"unknown knob {knob!r} of {machine.kind}{did_you_mean(knob, known)}"
                )
        for knob, level in setting.levels.items():
            _check_level(study, ("knobs", name, knob), known[knob], level, setting, layers[name])


def check_machine_settings(study: Study) -> None:
    """Check the levels of every machine's layers against its mode, and the memory's. Raises: StudyError."""
    with study.source.errors_at(("platform", "memory")):
        study.memory.build().check_setting(study.setting)
    for name, spec in study.machines.items():
        mine = {layer: one for layer, one in study.setting.items() if study.machine_of(layer) == name}
        if name in (study.assign["default"], *study.assign.values()):
            with study.source.errors_at(("platform", "accelerators", name)):
                accelerator_class(spec.kind).check_setting(spec.config, mine)


def _check_level(
    study: Study, path: tuple[str, ...], knob: Knob, level: Level, setting: LayerSetting, layer: Layer
) -> None:
    """Check one knob's level: range, one per filter where the knob allows it, and rows for levels from tables."""
    levels = level if isinstance(level, tuple) else (level,)
    if isinstance(level, tuple) and (knob.granularity != "filter" or len(level) != getattr(layer, "M", None)):
        want = f"a list of {getattr(layer, 'M', '?')} levels" if knob.granularity == "filter" else "one level"
        raise study.error(path, f"must be {want}, got a list of {len(level)}")
    rows = setting.tables.get(knob.name, ())
    highest = knob.levels - 1 if knob.levels is not None else max((int(row["level"]) for row in rows), default=0)
    for one in levels:
        if not 0 <= one <= highest:
            raise study.error(path, f"must be a level from 0 (exact) to {highest}, got {one}")
