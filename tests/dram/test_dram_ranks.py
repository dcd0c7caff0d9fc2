"""Several ranks on one bus: commands are those of a controller that ticks; bursts keep apart, refreshes take turns."""

from __future__ import annotations

import random
from itertools import pairwise

import numpy as np
import pytest
import simpy
from pydantic import ValidationError

from archsim.errors import MappingError
from archsim.memory.dram import Dram
from archsim.memory.dram.channels import Channels
from archsim.memory.dram.config import DramConfig
from archsim.memory.dram.controller import Controller, rules_of
from archsim.memory.dram.fields import (
    ACT,
    CLOCK,
    END,
    GLIDED,
    LEFT,
    LINES,
    LOGGED,
    N_REF,
    PRE,
    PREA,
    RD,
    REF,
    RUN_FIELDS,
    WR,
    Array,
    Rules,
)
from archsim.memory.dram.kernel import advance
from archsim.memory.dram.rtl import ctl_parameters_of
from tests.dram.test_dram_runs import of_runs, one_by_one, runs_of
from tests.dram.test_dram_runs import served as serve_runs
from tests.dram.tick import Command, Ticking, data_at, rank_of, spacings
from tests.dram.traces import config

SEEDS = range(48)
Request = tuple[int, bool, int]


def memory(seed: int) -> DramConfig:
    """Either configuration with two or four ranks, often refreshed; all policies, other mappings and turns."""
    choose = random.Random(f"memory {seed}")
    changes = choose.choice([{}, {}, {"hit_cap": 1}, {"hit_cap": 4}, {"row_policy": "closed"}])
    changes |= choose.choice([{}, {}, {}, {"tRTRS_cycles": 0}, {"tRTRS_cycles": 5}, {"CL_cycles": 5}])
    changes |= choose.choice(
        [{}, {}, {"mapping": "rank-row-bank-group-column"}, {"mapping": "row-bank-group-rank-column"}]
    )
    ranks, tREFI = (2, 4)[seed // 2 % 2], choose.choice([701, 1500, 6240])
    return config("AC"[seed % 2], ranks=ranks, tREFI_cycles=tREFI, **changes)


def line_of(given: DramConfig, **place: int) -> int:
    return sum(value << given.address_bits[name][0] for name, value in place.items())


def requests(seed: int) -> list[Request]:
    """Line, write flag, first cycle: few rows of few banks of all ranks, or runs within a row, or anything."""
    choose, given = random.Random(f"requests {seed}"), memory(seed)
    kind = ("few", "hits", "any")[seed // 4 % 3]
    share, most_gap, cycle, made = choose.choice([0.0, 0.3, 0.5, 1.0]), choose.choice([0, 0, 3, 20]), 0, []
    for _ in range(choose.choice([60, 120])):
        line = line_of(
            given, rank=choose.randrange(given.ranks), bank=choose.randrange(1 if kind == "hits" else 3),
            row=choose.randrange(4) if kind == "few" or choose.random() < 0.05 else 1, column=choose.randrange(128),
        )  # fmt: skip
        if kind == "any":
            line = choose.randrange(given.capacity_bytes // 64)
        cycle += choose.randrange(most_gap + 1)
        made.append((line, choose.random() < share, cycle))
    return made


def as_runs(asked: list[Request]) -> Array:
    runs = np.zeros((len(asked), RUN_FIELDS), np.int64)
    for run, (line, write, cycle) in zip(runs, asked):
        run[:4], run[LEFT] = (line, 1, write, cycle), 1
    return runs


def played(seed: int) -> tuple[Controller, list[Command]]:
    controller, log = Controller(memory(seed)), np.zeros((4000, 4), np.int64)
    controller.serve(as_runs(requests(seed)), log)
    return controller, [tuple(row) for row in log[: controller.state.now[LOGGED]].tolist()]


def open_cycles(rules: Rules, log: list[Command], until: int) -> int:
    """Return cycles up to `until` in which a row is open, of every rank."""
    rows, found, before = set[int](), 0, 0
    for at, command, bank, _ in [*log, (until, REF, -1, -1)]:
        found += (min(at, until) - min(before, until)) * len({rank_of(rules, b) for b in rows})
        before = at
        if command == ACT:
            rows.add(bank)
        elif command == PRE:
            rows.remove(bank)
        elif command == PREA:
            rows = {b for b in rows if rank_of(rules, b) != -1 - bank}
    return found


@pytest.mark.parametrize("seed", SEEDS)
def test_every_command_is_that_of_a_controller_that_ticks(seed: int) -> None:
    controller, log = played(seed)
    told, done = Ticking(controller.rules).run(requests(seed)), controller.counters
    assert log == told.log[: len(log)]
    assert all(command in (PRE, PREA, REF) for _, command, *_ in told.log[len(log) :])
    assert (done.hits, done.misses, done.conflicts) == (told.hits, told.misses, told.conflicts)
    assert (done.forwarded, done.merged) == (told.forwarded, told.merged)
    assert (done.read_latency_cycles, done.cycles) == (told.latency, told.last)
    assert done.active_cycles_until(done.cycles + 99) == open_cycles(controller.rules, log, done.cycles + 99)
    assert done.active_cycles + done.idle_cycles == memory(seed).ranks * done.cycles


@pytest.mark.parametrize("seed", SEEDS)
def test_every_spacing_is_kept_and_bursts_keep_apart(seed: int) -> None:
    controller, log = played(seed)
    rules = controller.rules
    for i, (at, command, bank, _) in enumerate(log):
        assert all(earlier + gap <= at for earlier, gap in spacings(rules, log[:i], command, bank))
    bursts = [(at + data_at(rules, one), rank_of(rules, bank)) for at, one, bank, _ in log if one in (RD, WR)]
    for (at, rank), (later, other) in pairwise(sorted(bursts)):
        assert later >= at + rules.burst + (rules.tRTRS if rank != other else 0)


def test_the_traces_reach_every_rule() -> None:
    """All turns between ranks as early as they may come; ranks that work beside one that is being refreshed."""
    turns, beside, refreshed = set[tuple[int, int]](), 0, set[int]()
    for seed in SEEDS:
        controller, log = played(seed)
        rules, busy_until = controller.rules, dict[int, int]()
        columns = [(at, command, rank_of(rules, bank)) for at, command, bank, _ in log if command in (RD, WR)]
        for (at, first, rank), (later, second, other) in pairwise(columns):
            turned = data_at(rules, first) + rules.burst + rules.tRTRS - data_at(rules, second)
            if rank != other and later - at == max(turned, 1):
                turns.add((first, second))
        for at, command, bank, _ in log:
            if command == REF:
                busy_until[-1 - bank] = at + rules.tRFC
                refreshed.add(-1 - bank)
            beside += command in (RD, WR) and any(at < until for until in busy_until.values())
    assert turns == {(RD, RD), (RD, WR), (WR, RD), (WR, WR)} and refreshed == {0, 1, 2, 3} and beside > 100


@pytest.mark.parametrize("seed", SEEDS)
def test_slices_change_nothing(seed: int) -> None:
    whole, log = played(seed)
    parts, runs, found = Controller(memory(seed)), as_runs(requests(seed)), np.zeros((4000, 4), np.int64)
    until = 37
    while runs[:, LEFT].any():
        advance(parts.rules, *parts.state, runs, until, 0, 1, found)
        until += 37
    assert [tuple(row) for row in found[: parts.state.now[LOGGED]].tolist()] == log
    assert parts.counters == whole.counters


def rules_of_runs(seed: int) -> Rules:
    choose = random.Random(f"runs {seed}")
    changes = choose.choice([{}, {}, {"row_policy": "closed"}, {"tRTRS_cycles": 7}, {"bank_groups": 1}])
    changes |= choose.choice([{}, {}, {"mapping": "row-bank-group-rank-column"}])
    return rules_of(
        config("AC"[seed % 2], ranks=(2, 4)[seed // 2 % 2], tREFI_cycles=choose.choice([900, 6240]), **changes)
    )


@pytest.mark.parametrize("seed", SEEDS)
def test_a_run_is_its_lines(seed: int) -> None:
    given, runs, log = rules_of_runs(seed), runs_of(seed), np.zeros((40000, 4), np.int64)
    singles, expected = one_by_one(runs), np.zeros_like(log)
    told, logged, quiet = serve_runs(given, singles, expected), serve_runs(given, runs, log), runs_of(seed)
    np.testing.assert_array_equal(log, expected)
    assert of_runs(told.now) == of_runs(logged.now) == of_runs(serve_runs(given, quiet).now)
    ends = np.maximum.reduceat(singles[:, END], np.cumsum(runs[:, LINES]) - runs[:, LINES])
    np.testing.assert_array_equal(quiet[:, END], ends)
    sliced = serve_runs(given, runs_of(seed), slices=random.Random(seed))
    assert of_runs(sliced.now)[1:] == of_runs(told.now)[1:]


def test_runs_on_several_ranks_are_compressed() -> None:
    glided = lines = 0
    for seed in SEEDS:
        runs = runs_of(seed)
        glided, lines = glided + serve_runs(rules_of_runs(seed), runs).now[GLIDED], lines + runs[:, LINES].sum()
    assert glided > lines / 4


@pytest.mark.parametrize("ranks", [1, 2, 4])
def test_ranks_that_nobody_uses_are_refreshed_in_turn(ranks: int) -> None:
    rules, log = rules_of(config("C", ranks=ranks)), np.zeros((100, 4), np.int64)
    controller = Controller(config("C", ranks=ranks))
    advance(rules, *controller.state, np.zeros((0, RUN_FIELDS), np.int64), 10 * rules.tREFI, 0, 2, log)
    due = sorted((k * 9364 + r * 9364 // ranks, REF, -1 - r, -1) for k in range(10) for r in range(ranks))[1:]
    assert [tuple(row) for row in log[: controller.state.now[LOGGED]].tolist()] == due
    assert controller.state.now[N_REF] == 10 * ranks - 1 and controller.state.now[CLOCK] == 10 * rules.tREFI


@pytest.mark.parametrize("name", ["A", "C"])
def test_every_rank_is_refreshed_once_an_interval_under_load(name: str) -> None:
    given, choose = config(name, ranks=4), np.random.default_rng(1)
    controller, log = Controller(given), np.zeros((200_000, 4), np.int64)
    controller.offer(choose.integers(0, given.capacity_bytes // 64, 30_000), choose.integers(0, 2, 30_000), log=log)
    for rank in range(4):
        at = log[(log[:, 1] == REF) & (log[:, 2] == -1 - rank), 0]
        due = rank * given.tREFI_cycles // 4 + given.tREFI_cycles * (np.arange(len(at)) + (rank == 0))
        assert len(at) > 5 and ((at >= due) & (at < due + given.tREFI_cycles / 4)).all()
        assert abs(len(at) - controller.counters.cycles // given.tREFI_cycles) <= 1


@pytest.mark.parametrize("name", ["A", "C"])
@pytest.mark.parametrize("seed", range(12))
def test_conflicts_on_two_ranks_are_not_slower_than_on_one(seed: int, name: str) -> None:
    """Two who read and write rows of their own: in the same banks of two ranks instead of one."""
    given, choose = config(name, ranks=2), np.random.default_rng(seed)
    rows, banks, who = choose.integers(0, 1000, 2000), choose.integers(0, 4, 2000), choose.integers(0, 2, 2000)
    writes = (choose.random(2000) < choose.choice([0, 0.3, 1])).astype(np.int64)
    cycles = []
    for ranks in (who, 0 * who):
        controller = Controller(given)
        row, bank, rank = (given.address_bits[field][0] for field in ("row", "bank", "rank"))
        controller.offer((rows + 1000 * who << row) + (banks << bank) + (ranks << rank), writes)
        cycles.append(controller.counters.cycles)
    assert cycles[0] <= cycles[1]


def test_the_bus_stays_with_a_rank_as_long_as_it_has_hits() -> None:
    """Hits that come in turns are not served in turns: those of the rank that has the bus become legal first.

    If only one waits at a time, every turn costs burst + tRTRS, 6 instead of 4 cycles.
    """
    given = config("A", ranks=2, refresh=False, tRTRS_cycles=2)
    who, column = np.arange(2000) % 2, np.arange(2000) // 2 % 128
    cycles = {}
    for field in ("bank", "rank"):
        controller = Controller(given)
        controller.offer((who << given.address_bits[field][0]) + column, 0 * who)
        cycles[field] = controller.counters.cycles
    assert 0 < cycles["rank"] - cycles["bank"] < 200
    log = np.zeros((3000, 4), np.int64)
    Controller(given).offer((who << given.address_bits["rank"][0]) + column, 0 * who, gap=6, log=log)
    reads = log[log[:, 1] == RD]
    assert len(reads) == 2000 and (np.diff(reads[10:, 0]) == 6).all() and (np.diff(reads[10:, 2]) != 0).all()


def test_where_the_rank_is_in_an_address() -> None:
    assert config("C", ranks=2, channels=2).address_bits == {
        "column": (0, 7), "channel": (7, 1), "group": (8, 2), "bank": (10, 2), "rank": (12, 1), "row": (13, 16),
    }  # fmt: skip
    assert config("A", ranks=4, mapping="rank-row-bank-group-column").address_bits["rank"] == (24, 2)
    assert config("A", ranks=4, channels=2).capacity_bytes == 8 * config("A").capacity_bytes
    named = config("C", mapping="row-rank-bank-group-column")
    assert rules_of(named)._replace(rank_shift=0) == rules_of(config("C"))


@pytest.mark.parametrize(
    "mapping", ["row-bank-group-column", "rank-row-bank-group-column", "row-channel-column-rank-group-bank"]
)
def test_a_line_opens_the_row_its_mapping_names(mapping: str) -> None:
    given, choose = config("C", ranks=4, channels=2, mapping=mapping), random.Random(mapping)
    for _ in range(20):
        place = {name: choose.randrange(1 << bits) for name, (_, bits) in given.address_bits.items()}
        runs, log = as_runs([(line_of(given, **place), False, 0)]), np.zeros((2, 4), np.int64)
        parts = Channels(given).split(runs)[place["channel"]][0]
        Controller(given).serve(parts, log)
        assert log[0, 1:].tolist() == [ACT, 16 * place["rank"] + 4 * place["group"] + place["bank"], place["row"]]


def test_standby_is_counted_for_every_rank() -> None:
    """Two channels of four ranks: the ranks without a row open idle on; refreshes of all; prices as those of one."""
    env, given = simpy.Environment(), config("A", ranks=4, channels=2)
    port = Dram(given).port(env, 800.0)
    env.run(port.access("read", "weights", 0, 64))
    end = int(env.now)
    counts = port.counts()
    assert counts["dram.active_cycle"] == end - 1 and counts["dram.active_cycle"] + counts["dram.idle_cycle"] == 8 * end
    env.run(env.timeout(62_500 - end))
    counts = port.counts()
    assert counts["dram.refresh"] == 2 * (10 + 3 * 10) and counts["dram.pre_all"] == 1
    assert counts["dram.active_cycle"] + counts["dram.idle_cycle"] == 8 * 62_500
    assert port.metrics()["dram_bus_cycles"] == 2 * 62_500
    assert Dram(given).prices.prices == Dram(config("A")).prices.prices


def test_what_has_one_rank_says_so() -> None:
    with pytest.raises(ValidationError, match="policy in_order has one rank, got ranks 2"):
        config("A", ranks=2, policy="in_order")
    with pytest.raises(ValidationError, match="ranks"):
        config("A", ranks=3)
    with pytest.raises(ValidationError, match="mapping must name"):
        config("A", ranks=2, mapping="rank-rank-row-bank-group-column")
    with pytest.raises(MappingError, match="the block dram_ctl has ranks 1, the configuration 2"):
        ctl_parameters_of(config("A", ranks=2))
