"""The four stages of a Task on simpy's clock: the columns of a tile flow through them, one interval apart."""

from __future__ import annotations

from collections.abc import Generator
from functools import lru_cache
from typing import TYPE_CHECKING, Any, NamedTuple

from archsim.accelerators.promise.config import PromiseConfig

if TYPE_CHECKING:
    import simpy


class TileRun(NamedTuple):
    """What a tile did: cycles to its end, and (first cycle, cycles) of every column in each of the four stages."""

    cycles: int
    occupied: tuple[tuple[tuple[int, int], ...], ...]


@lru_cache(maxsize=512)
def run_tile(config: PromiseConfig, columns: int) -> TileRun:
    """Simulate a tile of `columns` columns; a stage holds one column, and one that is not free would hold up the next.

    Source: the two figures of promise_timing_model.cpp of the HPVM release (vzyrianov/hpvm-autograd @521cc3b), interval
    and reduction; how the stages of a column are chained is assumed (`PromiseConfig.stage_starts`).
    """
    import simpy

    env = simpy.Environment()
    stages = [simpy.Resource(env) for _ in config.stage_cycles]
    occupied: tuple[list[tuple[int, int]], ...] = tuple([] for _ in stages)
    end = env.process(_tile(env, config, columns, stages, occupied))
    env.run(end)
    return TileRun(int(env.now), tuple(tuple(one) for one in occupied))


def _tile(
    env: simpy.Environment,
    config: PromiseConfig,
    columns: int,
    stages: list[simpy.Resource],
    occupied: tuple[list[tuple[int, int]], ...],
) -> Generator[Any, Any, None]:
    """Start a column every interval; the tile ends with its last one."""
    running = []
    for _ in range(columns):
        running.append(env.process(_column(env, config, stages, occupied)))
        yield env.timeout(max(config.stage_cycles))
    yield env.all_of(running)


def _column(
    env: simpy.Environment,
    config: PromiseConfig,
    stages: list[simpy.Resource],
    occupied: tuple[list[tuple[int, int]], ...],
) -> Generator[Any, Any, None]:
    """Pass through the stages; they may overlap, the digital result is there when the column's cycles are over."""
    parts = [
        env.process(_stage(env, start, cycles, stage, log))
        for start, cycles, stage, log in zip(config.stage_starts, config.stage_cycles, stages, occupied)
    ]
    yield env.all_of([*parts, env.timeout(config.column_cycles)])


def _stage(
    env: simpy.Environment, start: int, cycles: int, stage: simpy.Resource, log: list[tuple[int, int]]
) -> Generator[Any, Any, None]:
    """Occupy one stage from `start` on, as soon as it is free."""
    yield env.timeout(start)
    if not cycles:
        return
    with stage.request() as turn:
        yield turn
        log.append((int(env.now), cycles))
        yield env.timeout(cycles)
