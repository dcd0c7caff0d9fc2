"""One batch on simpy's clock: the memory port and the banks, one turn (a group of rows on one filling) after another.

Serial, as the golden model: every transfer waits for the one before it and for the banks. With `overlap` the rows of
the next turn are loaded, and the results of the one before stored, while the banks compute (assumed: two row buffers).
"""

from __future__ import annotations

from collections.abc import Generator, Sequence
from typing import TYPE_CHECKING, Any

from archsim.accelerators.base import Clockwork, Timing
from archsim.accelerators.promise.config import ADDED_OUTPUTS_PER_CYCLE, PromiseConfig
from archsim.accelerators.promise.schedule import PromisePlan, Turn, ceil_div, turns_of
from archsim.accelerators.promise.stages import run_tile
from archsim.units import bytes_to_MB

if TYPE_CHECKING:
    from archsim.memory.base import Direction, Region

Process = Generator[Any, Any, None]


def time_layer(config: PromiseConfig, plan: PromisePlan, work: Clockwork) -> Generator[Any, Any, Timing]:
    """Simulate one batch."""
    run = Run(config, plan, work)
    memory = work.env.process(run.move())
    yield work.env.all_of([memory, work.env.process(run.compute())])
    return Timing("compute" if 2 * run.busy >= work.env.now else "memory", run.metrics())


class Run:
    """The two processes of one batch and what they tell each other: a turn is loaded, a turn is computed."""

    def __init__(self, config: PromiseConfig, plan: PromisePlan, work: Clockwork) -> None:
        self.config, self.plan, self.work = config, plan, work
        self.turns: Sequence[Turn] = tuple(turns_of(plan))
        self.loaded = [work.env.event() for _ in self.turns]
        self.computed = [work.env.event() for _ in self.turns]
        self.busy = 0
        self.stage_busy = [0, 0, 0, 0]
        self.opened = 0

    def move(self) -> Process:
        """Load and store everything, one transfer at a time."""
        ahead = self.config.overlap
        for i, turn in enumerate(self.turns):
            if not self.loaded[i].triggered:
                yield from self._load(i)
            following = self.turns[i + 1] if i + 1 < len(self.turns) else None
            if ahead and following is not None and not following.opens:
                yield from self._load(i + 1)
            yield self.computed[i]
            if turn.store_bytes:
                yield from self._transfer("write", "ofmap", turn.store_offset, turn.store_bytes, turn.banks)
            if ahead and (following is None or following.opens):
                self._leak(turn.tile_banks, int(self.work.env.now) - self.opened)

    def compute(self) -> Process:
        """Compute turn by turn; a split sum is added to the chunk before it."""
        env = self.work.env
        for i, turn in enumerate(self.turns):
            yield self.loaded[i]
            cycles = self._tile_cycles(turn.columns) + ceil_div(turn.added, ADDED_OUTPUTS_PER_CYCLE)
            self._draw("banks", f"{turn.rows} rows", cycles)
            yield env.timeout(cycles)
            self.busy += cycles
            self.work.counts.add("sram.write_byte", turn.added)
            if not self.config.overlap:
                self._leak(turn.banks, cycles)
            self.computed[i].succeed()

    def _tile_cycles(self, columns: int) -> int:
        """Return the cycles of a tile: of the law, or of the stages where a split is given."""
        if self.config.stages is None:
            return self.config.tile_cycles(columns)
        run = run_tile(self.config, columns)
        for i, spans in enumerate(run.occupied):
            self.stage_busy[i] += sum(cycles for _, cycles in spans)
        return run.cycles

    def _load(self, i: int) -> Process:
        """Fill the banks if the turn opens a filling, then fetch its rows one by one."""
        turn, (filled, streamed) = self.turns[i], self._regions()
        if turn.opens:
            self.opened = int(self.work.env.now)
        if turn.load_bytes:
            load = (turn.load_offset, turn.load_bytes, turn.tile_banks, turn.load_passes)
            yield from self._transfer("read", filled, *load)
            self.work.counts.add("sram.write_byte", turn.load_bytes)
        for offset in turn.row_offsets:
            yield from self._transfer("read", streamed, offset, turn.row_bytes, turn.banks, turn.row_passes)
        self.loaded[i].succeed()

    def _regions(self) -> tuple[Region, Region]:
        """Return which tensor fills the banks and which is streamed."""
        return ("ifmap", "weights") if self.plan.swapped else ("weights", "ifmap")

    def _transfer(
        self, direction: Direction, region: Region, offset: int, n_bytes: int, banks: int, passes: int = 1
    ) -> Process:
        """Move bytes, in equal passes over the same addresses, while `banks` banks leak."""
        began = int(self.work.env.now)
        yield self.work.memory.access(direction, region, offset, n_bytes // passes, rows=passes)
        spent = int(self.work.env.now) - began
        if self.work.trace is not None:
            self.work.trace.add("promise", "memory", f"{direction} {region}", began, spent)
        if not self.config.overlap:
            self._leak(banks, spent)

    def _leak(self, banks: int, cycles: int) -> None:
        self.work.counts.add("leakage.bank_ns", banks * cycles * self.config.cycle_ns)

    def _draw(self, track: str, name: str, cycles: int) -> None:
        if self.work.trace is not None:
            self.work.trace.add("promise", track, name, int(self.work.env.now), cycles)

    def metrics(self) -> dict[str, Any]:
        """Return the figures of the batch that has just ended."""
        moved = self.work.memory.bytes_moved
        told: dict[str, Any] = {
            "compute_cycles": self.busy,
            "stall_cycles": int(self.work.env.now) - self.busy,
            "dram_ifmap_MB": bytes_to_MB(moved.get(("ifmap", "read"), 0)),
            "dram_weights_MB": bytes_to_MB(moved.get(("weights", "read"), 0)),
            "dram_ofmap_MB": bytes_to_MB(moved.get(("ofmap", "write"), 0)),
            "residency": self._residency(),
        }
        if self.config.stages is not None:
            told |= {f"stage_c{i}_busy_cycles": busy for i, busy in enumerate(self.stage_busy, 1)}
        return told

    def _residency(self) -> str:
        """Return whether the weights were loaded for this batch, and if so why."""
        if self.plan.resident:
            return "resident"
        if self.config.residency == "cold":
            return "cold"
        return "ifmap in the banks" if self.plan.swapped else "no room"
