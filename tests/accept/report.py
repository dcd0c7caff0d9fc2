"""Writes docs/acceptance.md: every acceptance line with its figure, bound, date and command.

`python -m tests.accept.report` does the same without running anything.
"""

from __future__ import annotations

import ast
import hashlib
import json
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

SOURCES = ("archsim", "benchmarks", "configs", "rtl", "tests", "workloads", "Makefile", "pyproject.toml")
HEADER = """\
# Acceptance

Written by `make accept`: every line at full size, on the sources as they are. A line whose figure misses its bound is
shown as **failing**, one that could not be run as **not run**, one that was met before the sources last changed as ok
with that remark; nothing is left out.

"""


EARLIER = "ok, earlier sources"
STATES = ("ok", EARLIER, "**failing**", "not run")


def source_key(root: Path, sources: Sequence[str] = SOURCES) -> str:
    """Return a hash over what a figure depends on: package, studies, networks, tests and how they are run."""
    digest = hashlib.sha256()
    for top in (root / name for name in sources):
        for path in sorted(top.rglob("*")) if top.is_dir() else [top]:
            if path.is_file() and path.suffix not in (".pyc", ".md"):
                digest.update(str(path.relative_to(root)).encode() + b"\0" + path.read_bytes() + b"\0")
    return digest.hexdigest()[:16]


@dataclass(frozen=True)
class Declared:
    """A line as its test declares it."""

    id: str
    text: str
    bound: str
    command: str


def declared(root: Path) -> list[Declared]:
    """Return all lines of tests/accept/, read from the sources, in their order."""
    return [line for path in sorted((root / "tests" / "accept").glob("test_*.py")) for line in _lines(root, path)]


def _lines(root: Path, path: Path) -> Iterator[Declared]:
    """Yield the lines of one test file."""
    for node in ast.parse(path.read_text(encoding="utf-8")).body:
        if not isinstance(node, ast.FunctionDef):
            continue
        for mark in node.decorator_list:
            if isinstance(mark, ast.Call) and ast.unparse(mark.func) == "pytest.mark.line":
                line_id, text = (ast.literal_eval(argument) for argument in mark.args)
                (bound,) = (ast.literal_eval(keyword.value) for keyword in mark.keywords)
                command = f"pytest -m acceptance {path.relative_to(root)}::{node.name}"
                yield Declared(line_id, text, bound, command)


def render(root: Path) -> str:
    """Return the page."""
    rows = [(line, _stored(root, line.id)) for line in declared(root)]
    key = source_key(root)
    states = [_state(stored, key) for _, stored in rows]
    counts = ", ".join(f"{states.count(state)} {state}" for state in STATES if state != EARLIER or EARLIER in states)
    table = ["| line | what | bound | figure | state | date | command |", "|---|---|---|---|---|---|---|"]
    for (line, stored), state in zip(rows, states):
        cells = (line.id, line.text, line.bound, stored.get("figure", ""), state, stored.get("date", ""))
        table.append("| " + " | ".join(_cell(cell) for cell in cells) + f" | `{line.command}` |")
    return HEADER + f"{len(rows)} lines: {counts}.\n\n" + "\n".join(table) + "\n"


def _stored(root: Path, line_id: str) -> dict[str, Any]:
    """Return the stored outcome of a line; empty if it was never run."""
    path = root / ".cache" / "accept" / f"{line_id}.json"
    stored: dict[str, Any] = json.loads(path.read_text(encoding="utf-8")) if path.is_file() else {}
    return stored


def _state(stored: dict[str, Any], key: str) -> str:
    """Return ok, failing or not run; what was met on other sources says so."""
    if stored.get("ok") and stored["key"] != key:
        return EARLIER
    return {True: "ok", False: "**failing**", None: "not run"}[stored.get("ok")]


def _cell(text: str) -> str:
    """Return text that cannot break the table."""
    return text.replace("|", "\\|").replace("\n", " ")


def write(root: Path) -> Path:
    """Write the page and return its path."""
    path = root / "docs" / "acceptance.md"
    path.parent.mkdir(exist_ok=True)
    path.write_text(render(root), encoding="utf-8")
    return path


if __name__ == "__main__":
    print(write(Path(__file__).resolve().parents[2]))
