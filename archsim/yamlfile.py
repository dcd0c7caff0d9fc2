"""YAML files whose errors name the line: data plus the line of every key and item."""

from __future__ import annotations

import types
import typing
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path as FilePath
from typing import Any, TypeAlias, TypeVar

import yaml
from pydantic import BaseModel, ConfigDict, ValidationError

from archsim.errors import ArchsimError, StudyError, did_you_mean

KeyPath: TypeAlias = tuple[str | int, ...]
M = TypeVar("M", bound=BaseModel)
MAX_SHOWN = 120
"""Characters of a wrong value in a message."""
MAX_ENTRIES = 300_000
"""More keys and items than any study, network or price table holds; aliases of aliases reach it in a few lines."""


class Written(BaseModel):
    """A part of a file as its author wrote it: unknown keys are refused, types are not coerced."""

    model_config = ConfigDict(frozen=True, extra="forbid", strict=True)


@dataclass(frozen=True)
class YamlFile:
    """Parsed YAML: `data`, and `lines` (1-based) by path of keys and list positions."""

    file: str
    data: Any
    lines: dict[KeyPath, int] = field(default_factory=dict)

    def line(self, path: Sequence[str | int]) -> int | None:
        """Return the line of `path`, or of its nearest enclosing key."""
        for end in range(len(path), 0, -1):
            if tuple(path[:end]) in self.lines:
                return self.lines[tuple(path[:end])]
        return None

    def error(self, path: Sequence[str | int], message: str) -> StudyError:
        """Return a StudyError `file:line: a.b.c: message`."""
        return StudyError(message, file=self.file, line=self.line(path), field=".".join(str(part) for part in path))

    @contextmanager
    def errors_at(self, path: Sequence[str | int]) -> Iterator[None]:
        """Point errors raised inside the block at `path`."""
        try:
            yield
        except ArchsimError as error:
            if isinstance(error, StudyError) and error.file:
                raise
            raise self.error(path, str(error)) from error


def read_yaml(path: FilePath) -> YamlFile:
    """Read one YAML document.

    Raises: StudyError with file and line for a syntax error, a repeated key, or a file that cannot be read.
    """
    try:
        return parse_yaml(path.read_text(encoding="utf-8"), path.name)
    except (OSError, UnicodeDecodeError) as error:
        reason = error.strerror if isinstance(error, OSError) else "not a UTF-8 text file"
        raise StudyError(f"cannot be read: {reason}", file=str(path)) from error


class _Loader(yaml.SafeLoader):
    """A SafeLoader whose every complaint names the line, also about an impossible date or an endless integer."""

    def construct_object(self, node: yaml.Node, deep: bool = False) -> Any:
        """Build the value of a node."""
        try:
            return super().construct_object(node, deep)
        except (ValueError, KeyError, AttributeError) as error:
            problem = f"{str(node.value)[:40]!r} is no {node.tag.rpartition(':')[2]}"
            raise yaml.constructor.ConstructorError(None, None, problem, node.start_mark) from error


def parse_yaml(text: str, file: str) -> YamlFile:
    """Parse YAML text; `file` names it in messages. Raises: as `read_yaml`."""
    try:
        data, lines = _parse(text, file)
    except yaml.MarkedYAMLError as error:
        line = error.problem_mark.line + 1 if error.problem_mark else None
        raise StudyError(f"not valid YAML: {error.problem or error.context}", file=file, line=line) from error
    except yaml.YAMLError as error:
        raise StudyError(f"not valid YAML: {str(error).splitlines()[0]}", file=file) from error
    except RecursionError:
        raise StudyError("not usable: nested too deeply, or an alias inside its own anchor", file=file) from None
    return YamlFile(file, data, lines)


def _parse(text: str, file: str) -> tuple[Any, dict[KeyPath, int]]:
    """Return the data of one document, aliases copied so that a change of one place stays there, and the lines."""
    loader = _Loader(text)
    try:
        node = loader.get_single_node()
        lines: dict[KeyPath, int] = {}
        if node is None:
            return None, lines
        _collect(node, (), lines, file)
        return _unshared(loader.construct_document(node)), lines
    finally:
        loader.dispose()


def _unshared(value: Any) -> Any:
    """Return a copy in which no two places are the same object."""
    if isinstance(value, dict):
        return {key: _unshared(one) for key, one in value.items()}
    return [_unshared(one) for one in value] if isinstance(value, list) else value


def _collect(node: yaml.Node, path: KeyPath, lines: dict[KeyPath, int], file: str) -> None:
    """Record the line of every key and list item below `node`."""
    if len(lines) > MAX_ENTRIES:
        raise StudyError(f"not usable: more than {MAX_ENTRIES} entries, aliases written out", file=file)
    if isinstance(node, yaml.MappingNode):
        for key, value in node.value:
            line = key.start_mark.line + 1
            if not isinstance(key, yaml.ScalarNode):
                raise StudyError("not usable: a key must be a name, not a list or mapping", file=file, line=line)
            here = (*path, key.value)
            if here in lines:
                first = lines[here]
                raise StudyError(
                    f"key given twice (first in line {first})", file=file, line=line, field=".".join(map(str, here))
                )
            lines[here] = line
            _collect(value, here, lines, file)
    elif isinstance(node, yaml.SequenceNode):
        for index, item in enumerate(node.value):
            lines[(*path, index)] = item.start_mark.line + 1
            _collect(item, (*path, index), lines, file)


def override(source: YamlFile, overrides: Sequence[str]) -> YamlFile:
    """Return the file with `a.b=value` set; keys may be new, intermediate mappings are made. Raises: StudyError."""
    for text in overrides:
        key, equals, value = text.partition("=")
        if not equals or not key:
            raise StudyError(f"--set needs key=value, got {text!r}")
        if not isinstance(source.data, dict):
            raise StudyError("must be a mapping of keys to values", file=source.file)
        parts = key.split(".")
        node = source.data
        for depth, part in enumerate(parts[:-1]):
            if node.get(part) is None:
                node[part] = {}
            node = node[part]
            if not isinstance(node, dict):
                raise StudyError(f"--set {key}: {'.'.join(parts[: depth + 1])} is not a mapping")
        try:
            node[parts[-1]] = parse_yaml(value, f"--set {key}").data
        except StudyError as error:
            raise StudyError(f"--set {text}: {error.rule}") from error
    return source


def validate(model: type[M], data: Any, source: YamlFile, at: KeyPath = ()) -> M:
    """Return `data` as a pydantic model; `at` is the path of `data` in the file.

    Raises: StudyError for the first broken rule: field, rule, value got, allowed names.
    """
    try:
        return model.model_validate(data)
    except ValidationError as error:
        problems = _told(error.errors(include_url=False), data)
        # A misspelt key often is what is missing elsewhere: name it first.
        first = min(problems, key=lambda p: (p["type"] != "extra_forbidden", source.line((*at, *p["loc"])) or 0))
        path, message = _explain(model, first)
        more = f" (and {len(problems) - 1} more)" if len(problems) > 1 else ""
        field_name = ".".join(map(str, (*at, *path)))
        line = source.line((*at, *first["loc"]))
        raise StudyError(message + more, file=source.file, line=line, field=field_name) from None


def _told(problems: Sequence[Mapping[str, Any]], data: Any) -> list[dict[str, Any]]:
    """Return the problems worth telling, with paths of the data.

    pydantic reports every branch of a union, with its tag in the path; the branch that got deepest was meant.
    """
    found = [{**problem, "loc": _data_path(data, problem)} for problem in problems]
    return [
        one
        for one in found
        if not any(len(other["loc"]) > len(one["loc"]) and _starts(other["loc"], one["loc"]) for other in found)
    ]


def _starts(path: KeyPath, start: KeyPath) -> bool:
    return path[: len(start)] == start


def _data_path(data: Any, problem: Mapping[str, Any]) -> KeyPath:
    """Return the path of a problem in the data, a missing field included."""
    kept: list[str | int] = []
    for part in problem["loc"]:
        inside = part in data if isinstance(data, dict) else isinstance(data, list) and part in range(len(data))
        if inside:
            data = data[part]
            kept.append(part)
    return (*kept, problem["loc"][-1]) if problem["type"] == "missing" else tuple(kept)


def _explain(model: type[BaseModel], problem: Mapping[str, Any]) -> tuple[KeyPath, str]:
    """Return the path and the message of one problem."""
    path: KeyPath = problem["loc"]
    if problem["type"] == "extra_forbidden":
        allowed = _fields(_model_at(model, path[:-1]))
        return path[:-1], f"unknown field {path[-1]!r}{did_you_mean(str(path[-1]), allowed)}"
    if problem["type"] == "missing":
        return path[:-1], f"needs the field {path[-1]!r}"
    got = repr(problem["input"])
    return path, f"must {_rule(str(problem['msg']))}, got {got if len(got) <= MAX_SHOWN else got[:MAX_SHOWN] + '...'}"


def _rule(message: str) -> str:
    """Return what must hold, from what pydantic says ("String should match pattern ...") or a validator of ours."""
    if message.startswith("Value error, "):
        return "be " + message.removeprefix("Value error, ")
    return message.partition(" should ")[2] or message


def _fields(model: type[BaseModel] | None) -> list[str]:
    """Return the names a user may write in `model`."""
    return [info.alias or name for name, info in model.model_fields.items()] if model else []


def _step(annotation: Any, part: str | int) -> Any:
    """Return the annotation one path step below `annotation`, or None if there is none."""
    if isinstance(annotation, type) and issubclass(annotation, BaseModel):
        for name, info in annotation.model_fields.items():
            if part in (name, info.alias):
                return info.annotation
        return None
    origin, arguments = typing.get_origin(annotation), typing.get_args(annotation)
    if origin in (typing.Union, types.UnionType):
        found = [step for step in (_step(choice, part) for choice in arguments) if step is not None]
        return found[0] if found else None
    if origin in (dict, Mapping):
        return arguments[1]
    if origin in (list, tuple, Sequence) and isinstance(part, int):
        return arguments[0]
    return None


def _model_at(model: type[BaseModel], path: KeyPath) -> type[BaseModel] | None:
    """Return the pydantic model whose fields `path` lists, looking inside unions."""
    annotation: Any = model
    for part in path:
        annotation = _step(annotation, part)
    choices = [annotation, *typing.get_args(annotation)]
    return next((c for c in choices if isinstance(c, type) and issubclass(c, BaseModel)), None)
