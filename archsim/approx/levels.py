"""Levels whose values are data: a CSV beside the study, one row per level (columns filter, level, ...)."""

from __future__ import annotations

import csv
import math
from pathlib import Path
from typing import Any

from archsim.errors import StudyError


def read_levels(path: Path) -> list[dict[str, Any]]:
    """Read a levels table from CSV; numbers become int or float.

    Raises: StudyError naming the file that is no CSV, or file, line and column of a cell that is no finite number.
    """
    try:
        with path.open(newline="", encoding="utf-8") as stream:
            rows = list(csv.DictReader(stream, restkey="cells beyond the header"))
    except (OSError, UnicodeDecodeError, csv.Error) as error:
        raise StudyError(f"{path.name} is not a readable CSV file: {error}") from error
    return [
        {key: _number(value, f"{path.name}:{line}: {key}") for key, value in row.items()}
        for line, row in enumerate(rows, 2)
    ]


def _number(text: str | list[str] | None, where: str) -> int | float:
    """Parse one cell of a levels table."""
    for kind in (int, float):
        try:
            number = kind(text)  # type: ignore[arg-type]
        except (TypeError, ValueError):
            continue
        if math.isfinite(number):
            return number
    raise StudyError(f"{where}: must be a number, got {text!r}")
