"""Registers of `rtl/bsg_mac_array`, one `step` per clock cycle."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np

from archsim.accelerators.bsg.config import BsgConfig
from archsim.errors import MappingError
from archsim.rtl import Signals
from archsim.workload.params import Array

X_BITS = 8
"""Of an activation: the array of the thesis has 8-bit significands."""
SUM_BITS = 32
SIZE_LIMIT = 255
"""The block counts filters, channels, rows and columns of a slice in 8 bits."""
AXES = ("filters", "channels", "rows", "columns")
COUNTERS = ("cnt_cycles", "cnt_compute", "cnt_mac", "cnt_weights", "cnt_weight_write", "cnt_weight_read")


def parameters_of(config: BsgConfig, layer: Any = None) -> dict[str, int]:
    """Return the parameters of the block: as many sums as a partition has words, more where a layer needs them.

    Raises: MappingError for a Config it does not have.
    """
    largest = max(*config.slice_shape, config.array_rows)
    if largest > SIZE_LIMIT:
        raise MappingError(f"the block bsg_mac_array has slices and rows up to {SIZE_LIMIT}, this one has {largest}")
    filters, *taps = config.slice_shape
    blocks, rounds = -(-filters // config.array_rows), -(-config.partition_words // config.macs)
    if layer is not None:
        from archsim.accelerators.bsg.plan import as_conv

        conv = as_conv(layer)
        rounds = max(rounds, blocks * -(-conv.P * conv.Q // config.array_columns))
    return {
        "M": config.array_rows, "N": config.array_columns, "WW": 2 + (config.n_c - 1).bit_length(), "WX": X_BITS,
        "ACC": SUM_BITS, "DEPTH": blocks * int(np.prod(taps)), "ROUNDS": max(2, rounds),
    }  # fmt: skip


def packed(values: Array, bits: int) -> int:
    """Return integers side by side, the first one lowest; so many bits of each, a multiple of 8."""
    octets = np.ascontiguousarray(values, "<i8").view(np.uint8).reshape(-1, 8)
    return int.from_bytes(octets[:, : bits // 8].tobytes(), "little")


def unpacked(word: int, bits: int, count: int) -> Array:
    """Return so many signed numbers of a word, int64, the first one lowest."""
    half, mask = 1 << (bits - 1), (1 << bits) - 1
    return np.array([((word >> at * bits & mask) ^ half) - half for at in range(count)], np.int64)


@dataclass
class _Filled:
    """What is known of a full buffer."""

    filters: int = 0
    taps: int = 0
    fresh: int = 0
    last: int = 0


@dataclass(frozen=True)
class _Step:
    """A step whose words have been asked for; weights (M,), 0 in rows without work, as `columns` is behind them."""

    weights: Array
    columns: int
    is_first: bool
    is_last: bool
    fresh: int
    leaves: int
    round: int


class BsgMacArray:
    """The registers of the block; sums (M, N) and weights are NumPy's."""

    def __init__(self, parameters: Mapping[str, int]) -> None:
        self.m, self.n, self.w_bits = parameters["M"], parameters["N"], parameters["WW"]
        self.x_bits, self.sum_bits, self.depth = parameters["WX"], parameters["ACC"], parameters["DEPTH"]
        self.words = np.zeros((2, self.depth, self.m), np.int64)
        self.kept: dict[int, Array] = {}
        self._clear()

    def _clear(self) -> None:
        self.overlap = self.whole = self.positions = self.fills_left = self.slices_left = self.slice = 0
        self.shape = [0, 0, 0, 0]
        self.full, self.filled = [False, False], [_Filled(), _Filled()]
        self.fill = self.fill_block = self.row = self.tap = 0
        self.at = [0, 0, 0, 0]
        self.read = self.first_row = self.read_block = self.round = self.x_tap = self.x_position = 0
        self.asked: _Step | None = None
        self.out_valid = self.out_sums = 0
        self.sums: Array = np.zeros((self.m, self.n), np.int64)
        self.counters = dict.fromkeys(COUNTERS, 0)

    def step(self, inputs: Signals) -> dict[str, int]:
        """Return the outputs of this cycle, then pass the clock edge."""
        hold = bool(self.out_valid and not inputs["out_ready"])
        steps = self.full[self.read] and not hold
        ends = steps and self._ends_slice()
        w_ready = bool(self.fills_left and not self.full[self.fill] and (self.overlap or not any(self.full)))
        start_ready = not self.slices_left or (ends and self.slices_left == 1)
        outputs = {
            "start_ready": int(start_ready), "w_ready": int(w_ready), "x_valid": int(steps), "x_slice": self.slice,
            "x_tap": self.x_tap, "x_position": self.x_position, "out_valid": self.out_valid,
            "out_sums": self.out_sums, **self.counters,
        }  # fmt: skip
        if inputs["rst"]:
            self._clear()
            return outputs
        self.counters["cnt_cycles"] += bool(self.slices_left)
        if not hold:
            self._multiply(inputs["x"])
            self.asked = self._ask() if steps else None
        if inputs["w_valid"] and w_ready:
            self._take(inputs)
        if ends:
            self._end_slice()
        if inputs["start_valid"] and start_ready:
            self._start(inputs)
        return outputs

    def _start(self, inputs: Signals) -> None:
        self.overlap, self.whole = inputs["start_overlap"], inputs["start_whole"]
        self.shape = [inputs[f"start_{axis}"] for axis in AXES]
        self.positions = inputs["start_positions"]
        self.fills_left = self.slices_left = inputs["start_slices"]
        self.slice = 0

    def _take(self, inputs: Signals) -> None:
        """Write a weight, or drop it, and go on to the next place of the slice."""
        inside = [inputs[f"slice_{axis}"] for axis in AXES]
        keep = all(at < size for at, size in zip(self.at, inside))
        if keep:
            half = 1 << (self.w_bits - 1)
            word = ((inputs["w"] & 2 * half - 1) ^ half) - half
            self.words[self.fill, self.fill_block + self.tap, self.row] = word
        self.counters["cnt_weights"] += 1
        self.counters["cnt_weight_write"] += keep
        self.tap += keep
        filters, *others = self.shape if self.whole else inside
        for axis in (3, 2, 1):
            self.at[axis] += 1
            if self.at[axis] < others[axis - 1]:
                return
            self.at[axis] = 0
        self._end_filter(inputs, filters)

    def _end_filter(self, inputs: Signals, filters: int) -> None:
        """Turn to the next row, block of rows or buffer."""
        now, taps, self.tap = self.filled[self.fill], self.tap, 0
        if self.at[0] < inputs["slice_filters"]:
            now.taps = taps
        self.at[0] += 1
        self.row += 1
        if self.row == self.m:
            self.row, self.fill_block = 0, self.fill_block + taps
        if self.at[0] == filters:
            now.filters, now.fresh, now.last = (inputs[f"slice_{name}"] for name in ("filters", "fresh", "last"))
            self.full[self.fill] = True
            self.at[0] = self.row = self.fill_block = 0
            self.fills_left -= 1
            self.fill ^= 1

    def _rows_left(self) -> int:
        return self.filled[self.read].filters - self.first_row

    def _columns_left(self) -> int:
        return self.positions - self.x_position

    def _ends_round(self) -> bool:
        return self.x_tap + 1 == self.filled[self.read].taps

    def _ends_slice(self) -> bool:
        return self._ends_round() and self._rows_left() <= self.m and self._columns_left() <= self.n

    def _ask(self) -> _Step:
        """Read the weights of a step and ask for its words; go on to the next one."""
        now, rows, columns = self.filled[self.read], min(self._rows_left(), self.m), min(self._columns_left(), self.n)
        ends_round, ends_slice = self._ends_round(), self._ends_slice()
        weights = self.words[self.read, self.read_block + self.x_tap].copy()
        weights[rows:] = 0
        step = _Step(weights, columns, self.x_tap == 0, ends_round, now.fresh, now.last, self.round)
        self.counters["cnt_compute"] += 1
        self.counters["cnt_mac"] += rows * columns
        self.counters["cnt_weight_read"] += rows
        self.x_tap += 1
        if ends_round:
            self.x_tap, self.round = 0, 0 if ends_slice else self.round + 1
            self.x_position += self.n
            if self.x_position >= self.positions:
                self.x_position = 0
                self.first_row += self.m
                self.read_block += now.taps
        return step

    def _end_slice(self) -> None:
        """Give the buffer back."""
        self.first_row = self.read_block = 0
        self.full[self.read] = False
        self.read ^= 1
        self.slices_left -= 1
        self.slice += 1

    def _multiply(self, x: int) -> None:
        """Add the products of the step asked for before; keep the sums at its round's end, or hand them out."""
        self.out_valid, step = 0, self.asked
        if step is None:
            return
        if step.is_first:
            self.sums = np.zeros_like(self.sums) if step.fresh else self.kept[step.round]
        words = unpacked(x, self.x_bits, self.n)
        words[step.columns :] = 0
        self.sums = self.sums + step.weights[:, None] * words
        self.out_sums = packed(self.sums, self.sum_bits)
        if step.is_last and step.leaves:
            self.out_valid = 1
        elif step.is_last:
            self.kept[step.round] = self.sums
