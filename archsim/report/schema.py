"""The JSON Schema of study files, machines and memories included, for editors."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from pydantic import BaseModel

from archsim.accelerators.base import known_accelerators
from archsim.config import StudySpec
from archsim.memory.base import known_memories


def study_schema() -> dict[str, Any]:
    """Return the JSON Schema of study files, machines and memories included, for editors."""
    schema = StudySpec.model_json_schema(by_alias=True)
    schema["$schema"] = "https://json-schema.org/draft/2020-12/schema"
    platform = schema["$defs"]["PlatformSpec"]["properties"]
    kinds = [
        _kind_schema(schema, kind, a.Config, a.presets, [f.name for f in a.formats])
        for kind, a in known_accelerators().items()
    ]
    platform["accelerators"]["additionalProperties"] = {"oneOf": kinds}
    memories = [_kind_schema(schema, kind, m.Config, m.presets, []) for kind, m in known_memories().items()]
    platform["memory"] = {"oneOf": memories}
    return schema


def _kind_schema(
    schema: dict[str, Any],
    kind: str,
    config: type[BaseModel],
    presets: Mapping[str, Any],
    formats: list[str],
) -> dict[str, Any]:
    """Return the schema of one machine or memory; a preset may supply every field, so none is required."""
    part = config.model_json_schema(ref_template="#/$defs/{model}")
    schema["$defs"].update(part.pop("$defs", {}))
    part.pop("required", None)
    part["properties"] = {"kind": {"const": kind}, "preset": {"enum": sorted(presets)}, **part["properties"]}
    if formats:
        part["properties"]["format"] = {"enum": formats}
    part["required"] = ["kind"]
    return part
