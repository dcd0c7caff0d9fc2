"""Acceptance lines: a test records its figure, the store keeps it until the sources change, a table shows them all.

A line is a test marked `@pytest.mark.line(id, text, bound=...)` that calls `accept(figure, ok)` once. A finished line
is replayed, not run again; so fixtures stay cheap and the work is done in the test itself.
"""

from __future__ import annotations

import datetime
import json
import os
from collections.abc import Callable, Iterator
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import pytest

from tests.accept import report
from tests.accept.report import source_key


@dataclass(frozen=True)
class Line:
    """The outcome of one line; `ok` is None if it could not be run, `key` says for which sources it holds."""

    id: str
    figure: str
    ok: bool | None
    date: str
    key: str


@dataclass(frozen=True)
class Store:
    """One JSON file per line, written whole or not at all, so that a killed run loses the running line only."""

    root: Path

    @property
    def folder(self) -> Path:
        return self.root / ".cache" / "accept"

    def write(self, line: Line) -> None:
        self.folder.mkdir(parents=True, exist_ok=True)
        draft = self.folder / f"{line.id}.json.part"
        draft.write_text(json.dumps(asdict(line), indent=1) + "\n", encoding="utf-8")
        os.replace(draft, self.folder / f"{line.id}.json")

    def read(self, line_id: str) -> Line | None:
        path = self.folder / f"{line_id}.json"
        return Line(**json.loads(path.read_text(encoding="utf-8"))) if path.is_file() else None

    def finished(self, line_id: str, key: str) -> Line | None:
        """Return the line if it came to an end with these very sources."""
        line = self.read(line_id)
        return line if line is not None and line.key == key and line.ok is not None else None


def _today() -> str:
    return datetime.date.today().isoformat()


def _line_id(item: pytest.Item) -> str | None:
    marker = item.get_closest_marker("line")
    return None if marker is None else str(marker.args[0])


@pytest.fixture
def accept(request: pytest.FixtureRequest) -> Callable[[str, bool], None]:
    """Record the line's figure, then fail if it misses its bound."""
    line_id = _line_id(request.node)
    assert line_id is not None, "an acceptance test is marked with its line"
    root = request.config.rootpath

    def record(figure: str, ok: bool) -> None:
        Store(root).write(Line(line_id, figure, bool(ok), _today(), source_key(root)))
        assert ok, f"{line_id}: {figure}"

    return record


@pytest.hookimpl(tryfirst=True)
def pytest_pyfunc_call(pyfuncitem: pytest.Function) -> bool | None:
    """Replay a line that is finished for these sources."""
    line_id = _line_id(pyfuncitem)
    if line_id is None:
        return None
    root = pyfuncitem.config.rootpath
    line = Store(root).finished(line_id, source_key(root))
    if line is None:
        return None
    if not line.ok:
        pytest.fail(f"{line_id}: {line.figure} (sources unchanged since {line.date})", pytrace=False)
    return True


@pytest.hookimpl(wrapper=True)
def pytest_runtest_makereport(item: pytest.Item, call: pytest.CallInfo[None]) -> Iterator[Any]:
    """Keep what stopped a line that recorded nothing: an exception, or data that are not there."""
    outcome = yield
    line_id = _line_id(item)
    if line_id is not None and call.excinfo is not None:
        root = item.config.rootpath
        store, key = Store(root), source_key(root)
        if store.finished(line_id, key) is None:
            said = str(call.excinfo.value).replace(f"{root}/", "")  # the page names no folder of this machine
            reason = said.strip().splitlines() or ["no message"]
            store.write(Line(line_id, f"{call.excinfo.typename}: {reason[0]}", None, _today(), key))
    return outcome


def pytest_sessionfinish(session: pytest.Session) -> None:
    """Write the table if any line was run."""
    if any(_line_id(item) is not None for item in session.items):
        report.write(session.config.rootpath)
