"""Finished trials in SQLite: what a killed run has measured is not measured again, by whatever run asks for it."""

from __future__ import annotations

import json
import sqlite3
from pathlib import Path
from types import TracebackType
from typing import Any, NamedTuple

from archsim.errors import OutputError

COLUMNS = "workload, config, setting, images, seed, kind"


class TrialKey(NamedTuple):
    """What a trial's figures depend on: hashes of workload, configuration (with archsim's version) and setting, which
    images, the seed, and what was measured.
    """

    workload: str
    config: str
    setting: str
    images: str
    seed: int
    kind: str


class Store:
    """Append-only: one row per trial, written through before the next one starts. Raises: OutputError if unusable."""

    def __init__(self, path: Path) -> None:
        self.path = path
        try:
            path.parent.mkdir(parents=True, exist_ok=True)
            self._db = sqlite3.connect(path, isolation_level=None)
            # WAL with NORMAL loses at most the last trial when the machine dies, none when the process does
            self._db.execute("PRAGMA journal_mode = WAL")
            self._db.execute("PRAGMA synchronous = NORMAL")
            self._db.execute(
                "CREATE TABLE IF NOT EXISTS trials (workload TEXT, config TEXT, setting TEXT, images TEXT, "
                f"seed INTEGER, kind TEXT, metrics TEXT NOT NULL, PRIMARY KEY ({COLUMNS}))"
            )
        except (sqlite3.Error, OSError) as error:
            raise OutputError(f"store of trials {path}: {error}") from error

    def get(self, key: TrialKey) -> Any:
        """Return what was stored, None if nothing was. Raises: OutputError if it is no store of archsim."""
        where = " AND ".join(f"{name} = ?" for name in COLUMNS.split(", "))
        try:
            row = self._db.execute(f"SELECT metrics FROM trials WHERE {where}", key).fetchone()
            return None if row is None else json.loads(row[0])
        except (sqlite3.Error, ValueError) as error:
            raise OutputError(f"store of trials {self.path}: {error}") from error

    def put(self, key: TrialKey, metrics: Any) -> None:
        """Store a finished trial; the first of two equal ones stays."""
        try:
            marks = ", ".join("?" * (len(key) + 1))
            self._db.execute(f"INSERT OR IGNORE INTO trials VALUES ({marks})", (*key, json.dumps(metrics)))
        except sqlite3.Error as error:
            raise OutputError(f"store of trials {self.path}: {error}") from error

    def __len__(self) -> int:
        (count,) = self._db.execute("SELECT COUNT(*) FROM trials").fetchone()
        return int(count)

    def __enter__(self) -> Store:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._db.close()
