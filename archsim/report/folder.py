"""Result folders: written beside their final name and renamed, so a killed run leaves no half result."""

from __future__ import annotations

import csv
import errno
import fnmatch
import io
import json
import os
import shutil
import tempfile
from collections.abc import Callable, Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import yaml

from archsim.energy.export import ert_of_record
from archsim.errors import OutputError
from archsim.result import RunResult, energy_rows, layer_rows
from archsim.sim import Timeline

Rows = Sequence[Mapping[str, Any]]


@dataclass(frozen=True)
class Kind:
    """A kind of result folder: the file that is always there, and what else archsim writes into it.

    A folder that holds anything else, or lacks the first, is not replaced.
    """

    marker: str
    others: tuple[str, ...]

    def owns(self, name: str) -> bool:
        """Tell whether archsim writes files or folders of this name."""
        return any(fnmatch.fnmatchcase(name, pattern) for pattern in (self.marker, *self.others))


RUN = Kind("result.json", ("layers.csv", "energy.csv", "study.resolved.yaml", "ert.yaml", "run.log", "trace.json"))
TUNING = Kind("curve.json", ("curve.csv", "run.log", "loss-*", "design-*"))


def result_json(result: RunResult) -> str:
    """Return `result.json`: keys in a fixed order, floats as `repr`, no times or host names.

    Raises: OutputError if a figure left the range of floats.
    """
    try:
        return json.dumps(result.to_dict(), indent=1, allow_nan=False) + "\n"
    except ValueError as error:
        raise OutputError(f"a figure of the result is no finite number: {str(error).lower()}") from error


def check_writable(folder: Path, kind: Kind = RUN) -> None:
    """Raise OutputError before a long run if `folder` cannot be made or replaced, or holds other people's work."""
    try:
        problem = _obstacle(folder, kind)
    except OSError as error:
        problem = error.strerror
    if problem:
        raise OutputError(f"output folder {folder}: {problem}")


def _obstacle(folder: Path, kind: Kind) -> str | None:
    """Return why `folder` cannot be made or replaced."""
    if folder.exists() and not folder.is_dir():
        return "a file of that name exists"
    here = Path.cwd()
    if folder.resolve() in (here, *here.parents):
        return "the current folder lies in it; choose another --out"
    found = {path.name for path in folder.iterdir()} if folder.is_dir() else set()
    if found and kind.marker not in found:
        return f"not empty and no result of archsim ({kind.marker} is missing); choose another --out"
    foreign = sorted(name for name in found if not kind.owns(name))
    if foreign:
        return f"holds what archsim did not write: {', '.join(foreign)}; choose another --out"
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
    files: dict[str, str | Rows] = {
        "result.json": result_json(result),
        "layers.csv": layer_rows(result.layers),
        "energy.csv": energy_rows(result.layers),
        "study.resolved.yaml": yaml.safe_dump(dict(result.study), sort_keys=False, allow_unicode=True, width=120),
        "ert.yaml": ert_of_record(result.provenance["prices"]),
    }
    if timeline is not None:
        files["trace.json"] = json.dumps(timeline.to_dict())
    write_folder(files, folder, log)


def write_folder(files: Mapping[str, str | Rows], folder: Path, log: Sequence[str]) -> None:
    """Write files by relative name, text as it is and rows as CSV, and put the folder in place in one step.

    Raises: OutputError naming the folder and the reason.
    """
    try:
        place = folder.resolve()
        place.parent.mkdir(parents=True, exist_ok=True)
        _replace(place, lambda new: _fill({**files, "run.log": "\n".join(log) + "\n"}, new))
    except OSError as error:
        raise OutputError(f"output folder {folder}: {error.strerror or error}") from error


def _fill(files: Mapping[str, str | Rows], folder: Path) -> None:
    """Write files into an empty folder."""
    for name, content in files.items():
        path = folder / name
        path.parent.mkdir(exist_ok=True)
        path.write_text(content if isinstance(content, str) else _csv(content), encoding="utf-8")


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


def _csv(rows: Rows) -> str:
    """Return rows as CSV with the union of their columns, in order of first appearance."""
    text = io.StringIO()
    writer = csv.DictWriter(text, list(dict.fromkeys(key for row in rows for key in row)), lineterminator="\n")
    writer.writeheader()
    writer.writerows(rows)
    return text.getvalue()
