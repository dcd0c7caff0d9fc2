"""Traces of requests as files: the line formats of Ramulator 2 and DRAMsim3, and a channel that plays them.

`LD 0x1c0` / `ST 448` and `R 0x1c0` / `W 448` are Ramulator 2's, `0x1C0 READ 17` (bus cycle) is DRAMsim3's. Source:
CMU-SAFARI/ramulator2 @c5b1c3a478b6, umd-memsys/DRAMsim3 @29817593b338.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from itertools import islice
from pathlib import Path
from typing import NamedTuple

import numpy as np

from archsim.errors import AssetError
from archsim.memory.base import RequestLog
from archsim.memory.dram.config import LINE_BYTES, DramConfig
from archsim.memory.dram.fields import Array
from archsim.threads import Progress
from archsim.units import us_to_ps

SHORTEST = 8
"""Bytes of a short line: how far a file has come is a guess on the safe side."""
MOST = 1 << 50
"""Addresses and cycles stay below this."""
PIECE = 1 << 18
"""Lines of a file that are held at once."""
_WRITES = {"LD": False, "ST": True, "R": False, "W": True, "READ": False, "WRITE": True}


class Requests(NamedTuple):
    """A piece of a trace: lines and write flags int64 (n,), cycle from which each may be offered int64 (n,)."""

    lines: Array
    writes: Array
    at: Array


def read_trace(path: Path, config: DramConfig, gap: int = 0, progress: Progress | None = None) -> Iterator[Requests]:
    """Yield a trace in pieces; requests without a cycle may be offered `gap` cycles after the one before.

    Comments (`#`) and empty lines are passed over. Raises: AssetError with file, line, value and what is allowed.
    """
    try:
        with path.open(encoding="utf-8") as file:
            told = (_request(path, n, text) for n, text in enumerate(file, 1) if text.split("#")[0].split())
            taken, last = 0, 0
            while piece := list(islice(told, PIECE)):
                table = np.array(piece, np.int64)
                paced = table[:, 2] < 0
                table[paced, 2] = gap * (taken + np.flatnonzero(paced))
                _check(path, config, table, last)
                taken, last = taken + len(table), int(table[-1, 2])
                if progress is not None:
                    progress("requests", taken, max(taken, path.stat().st_size // SHORTEST))
                yield Requests(table[:, 0], table[:, 1], table[:, 2])
        if not taken:
            raise AssetError(f"{path}: no request in it")
    except (OSError, UnicodeDecodeError) as error:
        raise AssetError(f"{path}: not a trace: {error}") from None


def _request(path: Path, number: int, text: str) -> tuple[int, bool, int]:
    """Return line, write flag and cycle (-1: none) of one line of a file."""
    words = text.split("#")[0].split()
    try:
        if len(words) == 2 and words[0] in ("LD", "ST", "R", "W"):
            return _below(int(words[1], 0)) // LINE_BYTES, _WRITES[words[0]], -1
        if len(words) == 3 and words[1] in ("READ", "WRITE") and int(words[2]) >= 0:
            return _below(int(words[0], 0)) // LINE_BYTES, _WRITES[words[1]], _below(int(words[2]))
    except ValueError:
        pass
    forms = "'LD address', 'ST address', 'R address', 'W address' or 'address READ|WRITE cycle'"
    raise AssetError(f"{path}:{number}: must be {forms}, addresses in bytes, got {text.strip()!r}")


def _below(value: int) -> int:
    """Return a number the compiled controller can count with. Raises: ValueError."""
    if value >= MOST:
        raise ValueError
    return value


def _check(path: Path, config: DramConfig, table: Array, last: int) -> None:
    """Refuse addresses outside the channel and cycles that go back. Raises: AssetError."""
    capacity = config.capacity_bytes
    wrong = table[(table[:, 0] < 0) | (table[:, 0] >= capacity // LINE_BYTES), 0]
    if len(wrong):
        told = f"{capacity:#x} ({capacity >> 20} MiB), got {wrong[0] * LINE_BYTES:#x}"
        raise AssetError(f"{path}: addresses must be from 0 to below {told}")
    cycles = np.concatenate([[last], table[:, 2]])
    back = np.flatnonzero(np.diff(cycles) < 0)
    if len(back):
        raise AssetError(f"{path}: cycles must not go back, got {cycles[back[0] + 1]} after {cycles[back[0]]}")


def write_trace(log: RequestLog, path: Path, config: DramConfig) -> int:
    """Write what a run asked of the memory, one line of 64 bytes each; return how many.

    A name that ends in `.ldst` is written for Ramulator 2, which knows no cycles, any other for DRAMsim3.
    """
    ramulator, count = path.suffix == ".ldst", 0
    hidden = path.with_name(f".{path.name}.part")
    try:
        with hidden.open("w", encoding="utf-8") as file:
            for text in _texts(log, config, ramulator):
                file.write(text)
                count += 1
        hidden.replace(path)
    finally:
        hidden.unlink(missing_ok=True)
    return count


def _texts(log: RequestLog, config: DramConfig, ramulator: bool) -> Iterable[str]:
    last = 0
    for at_us, start, n_bytes, write in log.runs:
        last = max(last, -int(-us_to_ps(at_us) // config.tCK_ps))
        for line in range(start // LINE_BYTES, (start + n_bytes - 1) // LINE_BYTES + 1):
            address = line * LINE_BYTES % config.capacity_bytes
            if ramulator:
                yield f"{'ST' if write else 'LD'} {address:#x}\n"
            else:
                yield f"{address:#x} {'WRITE' if write else 'READ'} {last}\n"
