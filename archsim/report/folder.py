"""The result folder: written beside its final name and renamed, so a killed run leaves no half result."""

from __future__ import annotations

import csv
import errno
import json
import os
import shutil
import tempfile
from collections.abc import Callable, Sequence
from contextlib import suppress
from pathlib import Path
from typing import Any

import yaml

from archsim.energy.export import ert_of_record
from archsim.errors import OutputError
from archsim.result import RunResult, energy_rows, layer_rows
from archsim.sim import Timeline

FILES = frozenset(
    {"result.json", "layers.csv", "energy.csv", "study.resolved.yaml", "ert.yaml", "run.log", "trace.json"}
)
"""What a result folder holds; with anything else in it, it is not replaced."""


def result_json(result: RunResult) -> str:
    """Return `result.json`: keys in a fixed order, floats as `repr`, no times or host names.

    Raises: OutputError if a figure left the range of floats.
    """
    try:
        return json.dumps(result.to_dict(), indent=1, allow_nan=False) + "\n"
    except ValueError as error:
        raise OutputError(f"a figure of the result is no finite number: {str(error).lower()}") from error


def check_writable(folder: Path) -> None:
    """Raise OutputError before a long run if `folder` cannot be made or replaced, or holds other people's work."""
    try:
        problem = _obstacle(folder)
    except OSError as error:
        problem = error.strerror
    if problem:
        raise OutputError(f"output folder {folder}: {problem}")


def _obstacle(folder: Path) -> str | None:
    """Return why `folder` cannot be made or replaced."""
    if folder.exists() and not folder.is_dir():
        return "a file of that name exists"
    here = Path.cwd()
    if folder.resolve() in (here, *here.parents):
        return "the current folder lies in it; choose another --out"
    found = {path.name for path in folder.iterdir()} if folder.is_dir() else set()
    if found and "result.json" not in found:
        return "not empty and not a result of archsim; choose another --out"
    if found - FILES:
        return f"holds what archsim did not write: {', '.join(sorted(found - FILES))}; choose another --out"
    parent = folder.resolve().parent
    while not parent.exists():
        parent = parent.parent
    if not parent.is_dir() or not os.access(parent, os.W_OK | os.X_OK):
        return f"{parent} is not writable"
    return None


def write_run(result: RunResult, folder: Path, log: Sequence[str], timeline: Timeline | None = None) -> None:
    """Write all files of a run and put them in place in one step.

    Raises: OutputError naming the folder and the reason.
    """
    try:
        place = folder.resolve()
        place.parent.mkdir(parents=True, exist_ok=True)
        _replace(place, lambda new: _fill(result, new, log, timeline))
    except OSError as error:
        raise OutputError(f"output folder {folder}: {error.strerror or error}") from error


def _fill(result: RunResult, folder: Path, log: Sequence[str], timeline: Timeline | None) -> None:
    """Write the files of one run into an empty folder."""
    (folder / "result.json").write_text(result_json(result), encoding="utf-8")
    _write_csv(folder / "layers.csv", layer_rows(result.layers))
    _write_csv(folder / "energy.csv", energy_rows(result.layers))
    resolved = yaml.safe_dump(dict(result.study), sort_keys=False, allow_unicode=True, width=120)
    (folder / "study.resolved.yaml").write_text(resolved, encoding="utf-8")
    (folder / "ert.yaml").write_text(ert_of_record(result.provenance["prices"]), encoding="utf-8")
    (folder / "run.log").write_text("\n".join(log) + "\n", encoding="utf-8")
    if timeline is not None:
        timeline.write(folder / "trace.json")


def _replace(folder: Path, fill: Callable[[Path], None]) -> None:
    """Fill a new folder beside `folder` and swap it in; the old one goes last."""
    new = Path(tempfile.mkdtemp(prefix=f".{folder.name[:50]}-", dir=folder.parent))
    try:
        fill(new)
        new.chmod(0o755)
        while not _swapped(new, folder):
            pass
    finally:
        shutil.rmtree(new, ignore_errors=True)


def _swapped(new: Path, folder: Path) -> bool:
    """Put `new` in the place of `folder`; False if another run took the place in between.

    Whatever interrupts this, the old folder comes back unless there is a new one.
    """
    old = new.with_name(new.name + "-old")
    try:
        if folder.exists():
            folder.rename(old)
        new.rename(folder)
    except OSError as error:
        if error.errno not in (errno.ENOTEMPTY, errno.EEXIST, errno.ENOENT) or not new.exists():
            raise
        return False
    finally:
        if old.exists() and not folder.exists():
            with suppress(OSError):  # the place may just have been taken
                old.rename(folder)
        shutil.rmtree(old, ignore_errors=True)
    return True


def _write_csv(path: Path, rows: Sequence[dict[str, Any]]) -> None:
    """Write rows with the union of their columns, in order of first appearance."""
    columns = list(dict.fromkeys(key for row in rows for key in row))
    with path.open("w", newline="", encoding="utf-8") as stream:
        writer = csv.DictWriter(stream, columns, restval="")
        writer.writeheader()
        writer.writerows(rows)
