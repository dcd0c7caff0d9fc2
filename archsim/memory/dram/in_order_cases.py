"""What the controller of `rtl/dram_ctl` is made to do: traffic of every kind, with gaps and data that have to wait.

Every command, its cycle, and all counters are worked out by the compiled kernel that serves traces in order.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping

import numpy as np

from archsim.memory.dram import kernel_in_order as kernel
from archsim.memory.dram.config import LINE_BYTES, DramConfig
from archsim.memory.dram.fields import ACT, PRE, PREA, RD, REF, WR, Array
from archsim.memory.dram.in_order import COUNTERS, TAG_BITS, CtlCase
from archsim.memory.dram.in_order_controller import InOrderController
from archsim.rtl import Signals

REQUESTS = 24
"""Requests of a random case, on average."""
QUIET_CYCLES = 2
"""Cycles a case goes on after its last data."""
NOBODY = np.zeros(0, np.int64)
BEFORE_REFRESH_CYCLES = 120
"""Every seventh case starts within so many cycles before a refresh, to see one."""


def ctl_cases(config: DramConfig, seed: int, requests: int = REQUESTS) -> Iterator[CtlCase]:
    """Yield random cases of about so many requests without end, one kind of traffic after the other."""
    rng = np.random.default_rng(seed)
    number = 0
    while True:
        kind = list(TRAFFIC)[number % len(TRAFFIC)]
        n = max(1, int(requests * rng.uniform(0.5, 1.5)))
        lines, writes = TRAFFIC[kind](config, rng, n)
        most_gap = int(rng.choice([0, 0, 3, 40]))
        offered = np.cumsum(rng.integers(0, most_gap + 1, n))
        ready = (*rng.integers(0, 2, 13).tolist(), 1) if number // len(TRAFFIC) % 3 == 2 else (1,)
        if config.refresh and number % 7 == 6:
            offered += config.tREFI_cycles - int(rng.integers(1, BEFORE_REFRESH_CYCLES))
        about = f"{kind}, {n} requests, gaps up to {most_gap}{', data wait' if len(ready) > 1 else ''}"
        yield ctl_case(config, about, lines, writes, offered, ready)
        number += 1


def ctl_case(
    config: DramConfig, about: str, lines: Array, writes: Array, offered: Array, data_ready: tuple[int, ...] = (1,)
) -> CtlCase:
    """Return the case of requests int64 (n,), each offered from its cycle on. What happens is what the kernel says."""
    controller, log = InOrderController(config), np.zeros((5 * len(lines) + 100, 4), np.int64)
    now, ready = controller.state[0], np.array(data_ready, np.int64)
    controller.advance(lines, writes, offered, data_ready=ready, log=log)
    last = int(max(now[kernel.LAST], now[kernel.CLOCK])) + QUIET_CYCLES
    controller.advance(NOBODY, NOBODY, NOBODY, until=last + 1, drain=2, log=log)
    while now[kernel.LOGGED] and log[now[kernel.LOGGED] - 1, 0] == last:  # counters show it one cycle later
        last += 1
        controller.advance(NOBODY, NOBODY, NOBODY, until=last + 1, drain=2, log=log)
    return CtlCase(
        about=about,
        requests=tuple(_ports(config, k, line, write) for k, (line, write) in enumerate(zip(lines, writes))),
        offered=tuple(offered.tolist()),
        data_ready=data_ready,
        cycles=last + 1,
        outcomes=tuple(_bus(*row) for row in log[: now[kernel.LOGGED]].tolist()),
        totals=_totals(controller, last),
    )


def _ports(config: DramConfig, number: int, line: int, write: int) -> Signals:
    """Return the ports that offer a request: column, bank group, bank, row from the least significant bit."""
    block, column = divmod(int(line), config.row_lines)
    rest, group = divmod(block, config.bank_groups)
    row, bank = divmod(rest, config.banks // config.bank_groups)
    return {
        "req_valid": 1,
        "req_bank": group * (config.banks // config.bank_groups) + bank,
        "req_row": row,
        "req_column": column,
        "req_write": int(write),
        "req_tag": number % (1 << TAG_BITS),
    }


def _bus(cycle: int, command: int, bank: int, row: int) -> Signals:
    """Return what the command bus shows."""
    return {"now": cycle, "cmd": command, "cmd_bank": max(bank, 0), "cmd_row": max(row, 0)}


def _totals(controller: InOrderController, last: int) -> Signals:
    """Return the counters in the cycle `last`."""
    done, commands = controller.counters, controller.state[0][kernel.COMMANDS :].tolist()
    counts = (ACT, PRE, PREA, RD, WR, REF)
    found = (*(commands[one] for one in counts), done.hits, done.misses, done.conflicts)
    return dict(zip(COUNTERS, (*found, done.active_cycles_until(last - 1)))) | {"now": last}


# traffic: lines int64 (n,), writes int64 (n,) ------------------------------------------------------------------------
Traffic = Callable[[DramConfig, np.random.Generator, int], tuple[Array, Array]]


def _writes(rng: np.random.Generator, n: int) -> Array:
    """Return write flags: none, some, most, or all."""
    writes: Array = (rng.random(n) < rng.choice([0.0, 0.3, 0.7, 1.0])).astype(np.int64)
    return writes


def _line(config: DramConfig, row: Array, bank: Array, column: Array) -> Array:
    """Return lines; `bank` counts all banks, the bank group in its lowest bits."""
    lines: Array = (row * config.banks + bank) * config.row_lines + column
    return lines


def _stream(config: DramConfig, rng: np.random.Generator, n: int) -> tuple[Array, Array]:
    """Lines in order, across the border of a row."""
    first = int(rng.integers(1, config.rows * config.banks)) * config.row_lines - int(rng.integers(n + 1))
    return first + np.arange(n), np.full(n, int(rng.integers(2)))


def _row_runs(config: DramConfig, rng: np.random.Generator, n: int) -> tuple[Array, Array]:
    """Two to eight hits, then another row of the same bank."""
    run = np.repeat(np.arange(n), rng.integers(2, 9, n))[:n]
    bank = rng.integers(config.banks, size=2)[run % 2]
    return _line(config, run % config.rows, bank, np.arange(n) % config.row_lines), _writes(rng, n)


def _one_bank(config: DramConfig, rng: np.random.Generator, n: int) -> tuple[Array, Array]:
    """Every request needs another row of the same bank."""
    bank = np.full(n, int(rng.integers(config.banks)))
    return _line(config, np.arange(n) % config.rows, bank, np.zeros(n, np.int64)), _writes(rng, n)


def _turnarounds(config: DramConfig, rng: np.random.Generator, n: int) -> tuple[Array, Array]:
    """Reads and writes by turns in two banks' open rows."""
    bank = rng.integers(config.banks, size=2)[rng.integers(2, size=n)]
    return _line(config, np.full(n, 5), bank, np.arange(n) % config.row_lines), np.arange(n) // int(
        rng.integers(1, 4)
    ) % 2


def _all_banks(config: DramConfig, rng: np.random.Generator, n: int) -> tuple[Array, Array]:
    """Bank after bank, in one group after the other or group by group, a few rows: bursts of activations."""
    step = int(rng.choice([1, config.bank_groups]))
    bank = (np.arange(n) * step + np.arange(n) * step // config.banks) % config.banks
    return _line(config, rng.integers(3, size=n), bank, rng.integers(config.row_lines, size=n)), _writes(rng, n)


def _anything(config: DramConfig, rng: np.random.Generator, n: int) -> tuple[Array, Array]:
    """Lines from anywhere."""
    return rng.integers(config.capacity_bytes // LINE_BYTES, size=n), _writes(rng, n)


TRAFFIC: Mapping[str, Traffic] = {
    "stream": _stream, "row runs": _row_runs, "one bank": _one_bank, "turnarounds": _turnarounds,
    "all banks": _all_banks, "anything": _anything,
}  # fmt: skip
