"""What `rtl/bsg_mac_array` is made to do: random layers, and pieces of real ones with their generated weights.

Sums that must come out are those of an integer convolution by NumPy, cycles those of `timing.py`. Activations of a real
layer are made integers of 8 bits: the largest magnitude among those given becomes 127, zero stays zero.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from math import prod
from typing import NamedTuple, cast

import numpy as np
from numpy.lib.stride_tricks import sliding_window_view

from archsim.accelerators.base import Plan, Stored
from archsim.accelerators.bsg.config import BsgConfig
from archsim.accelerators.bsg.function import Generated
from archsim.accelerators.bsg.generator import assembled, slice_weights
from archsim.accelerators.bsg.mac_model import AXES, SUM_BITS, X_BITS, packed
from archsim.accelerators.bsg.plan import BsgPlacement, BsgPlan, as_conv, part, plan_layer, slice_sizes
from archsim.accelerators.bsg.timing import compute_cycles, visit_cycles
from archsim.errors import MappingError
from archsim.rtl import RtlModel, Signals
from archsim.workload.layers import Conv, Layer
from archsim.workload.params import Array
from archsim.workload.random import rng_for

Pattern = tuple[int, ...]
ALWAYS = (1,)
TILE_BLOCKS = 2
"""Slices of a tile lie in so many blocks along the filters: all that meet in the sums of these filters."""
IDLE: Signals = {
    **dict.fromkeys(("rst", "start_valid", "start_overlap", "start_whole", "start_positions", "start_slices"), 0),
    **dict.fromkeys((f"{name}_{axis}" for name in ("start", "slice") for axis in AXES), 0),
    **dict.fromkeys(("w_valid", "w", "slice_fresh", "slice_last", "x"), 0),
    "out_ready": 1,
}  # fmt: skip


@dataclass(frozen=True, eq=False)
class SliceWords:
    """One slice: its size inside the layer, whether it is the first or last of its sums, weights as they come, and
    the words of its taps, int8 (taps, positions and as many more as fill the last columns).
    """

    ports: Signals
    weights: tuple[int, ...]
    x: Array


@dataclass(frozen=True)
class Visit:
    """One run through slices; the first weight comes `lead` cycles after a buffer is free."""

    ports: Signals
    lead: int
    columns: int
    slices: tuple[SliceWords, ...]

    def words(self, outputs: Signals) -> int:
        """Return what the array asks for."""
        first = outputs["x_position"]
        return packed(self.slices[outputs["x_slice"]].x[outputs["x_tap"], first : first + self.columns], X_BITS)


class _Source:
    """Where the weights of a visit come from: a generator that starts when a buffer is free, or a store (lead 0)."""

    def __init__(self, visit: Visit) -> None:
        self.visit, self.slice, self.weight = visit, 0, 0
        self.left, self.started = visit.lead, False

    @property
    def is_empty(self) -> bool:
        return self.slice == len(self.visit.slices)

    def ports(self, offered: int) -> Signals:
        """Return the next weight with its slice."""
        one = self.visit.slices[self.slice]
        return {**one.ports, "w_valid": int(offered and not self.left), "w": one.weights[self.weight]}

    def passed(self, inputs: Signals, outputs: Signals) -> None:
        """Go on after a cycle."""
        if inputs["w_valid"] and outputs["w_ready"]:
            self.weight += 1
            if self.weight == len(self.visit.slices[self.slice].weights):
                self.slice, self.weight, self.left, self.started = self.slice + 1, 0, self.visit.lead, False
        elif self.left and (self.started or outputs["w_ready"]):
            self.left, self.started = self.left - 1, True


@dataclass(frozen=True)
class ArrayCase:
    """Visits one after the other; `offered` and `taken`, repeated, say when weights come and sums are taken."""

    about: str
    visits: tuple[Visit, ...]
    outcomes: tuple[Signals, ...]
    totals: Signals
    offered: Pattern = ALWAYS
    taken: Pattern = ALWAYS

    def play(self, model: RtlModel) -> Iterator[tuple[Signals, Signals]]:
        """Reset; start every visit as soon as the block lets it; give it weights and words; take all sums."""
        resets = {**IDLE, "rst": 1}
        yield resets, model.step(resets)
        cycle = started = done = x = 0
        source: _Source | None = None
        while done < len(self.outcomes):
            inputs = {**IDLE, "x": x, "out_ready": self.taken[cycle % len(self.taken)]}
            if started < len(self.visits):
                inputs |= self.visits[started].ports
            if source is not None and not source.is_empty:
                inputs |= source.ports(self.offered[cycle % len(self.offered)])
            outputs = model.step(inputs)
            yield inputs, outputs
            done += outputs["out_valid"] and inputs["out_ready"]
            if source is not None:
                source.passed(inputs, outputs)
                x = source.visit.words(outputs) if outputs["x_valid"] else x
            if inputs["start_valid"] and outputs["start_ready"]:
                source, started = _Source(self.visits[started]), started + 1
            cycle += 1
        for _ in range(2):
            yield IDLE, model.step(IDLE)


class Piece(NamedTuple):
    """Some blocks of slices of a layer, which run over its partitions.

    plan: of these slices only; weights int (slices, filters, channels, rows, columns), whole slices; maps int8
    (C, H, W) with their padding; ranges: first and end position of every visit.
    """

    config: BsgConfig
    conv: Conv
    plan: BsgPlan
    weights: Array
    maps: Array
    ranges: Sequence[tuple[int, int]]


def make_case(
    about: str, piece: Piece, lead: int | None = None, offered: Pattern = ALWAYS, taken: Pattern = ALWAYS
) -> ArrayCase:
    """Return the case of a piece: its sums by NumPy, its cycles by the law of the simulator.

    `lead` other than the generator's: the law does not hold. Raises: MappingError for sums that the block has no bits
    for.
    """
    config, plan = piece.config, piece.plan
    inside = _inside(piece)
    if (worst := int(np.abs(inside).sum(axis=(1, 2, 3)).max()) << X_BITS - 1) >= 1 << SUM_BITS - 1:
        raise MappingError(
            f"layer {piece.conv.name!r} has sums up to {worst}: the block bsg_mac_array has {SUM_BITS} bit"
        )
    law = lead is None and offered == taken == ALWAYS
    if lead is None:
        lead = config.generation_cycles - config.slice_weights if plan.code_words else 0
    taps = _taps(piece)
    visits = tuple(_visit(piece, taps[:, first:end], lead) for first, end in piece.ranges)
    sums = inside.reshape(len(inside), -1) @ taps
    outcomes = [one for first, end in piece.ranges for one in _outcomes(piece, sums[:, first:end])]
    totals = dict(_counts(piece))
    if law:
        totals["cnt_cycles"] = sum(visit_cycles(config, plan, end - first) for first, end in piece.ranges)
    return ArrayCase(about, visits, tuple(outcomes), totals, offered, taken)


def _inside(piece: Piece) -> Array:
    """Return the weights that lie in the layer, int64 (filters, C, R, S)."""
    plan, shape = piece.plan, piece.config.slice_shape
    size = (sum(plan.filters), sum(plan.channels), sum(plan.rows), sum(plan.columns))
    return assembled(piece.weights.astype(np.int64), size, shape)


def _taps(piece: Piece) -> Array:
    """Return what every tap of the kernel meets at every position, int64 (C * R * S, P * Q)."""
    conv = piece.conv
    reach = (conv.dilation[0] * (conv.R - 1) + 1, conv.dilation[1] * (conv.S - 1) + 1)
    windows = sliding_window_view(piece.maps, reach, axis=(1, 2))[:, :: conv.stride[0], :: conv.stride[1]]
    windows = windows[..., :: conv.dilation[0], :: conv.dilation[1]].astype(np.int64)
    return windows.transpose(0, 3, 4, 1, 2).reshape(conv.C * conv.R * conv.S, -1)


def _visit(piece: Piece, taps: Array, lead: int) -> Visit:
    """Return one run over positions: taps (C * R * S, positions)."""
    config, plan, conv = piece.config, piece.plan, piece.conv
    generated, positions = bool(plan.code_words), taps.shape[1]
    spare = -positions % config.array_columns
    words = np.pad(taps.astype(np.int8), ((0, 0), (0, spare)), constant_values=-1)  # not to be added
    cube = words.reshape(conv.C, conv.R, conv.S, -1)
    slices = []
    grid = [len(axis) for axis in (plan.filters, plan.channels, plan.rows, plan.columns)]
    for weights, place in zip(piece.weights, np.ndindex(*grid)):
        at = [index * size for index, size in zip(place, config.slice_shape)]
        size = [axis[i] for axis, i in zip((plan.filters, plan.channels, plan.rows, plan.columns), place)]
        x = cube[tuple(slice(first, first + count) for first, count in zip(at[1:], size[1:]))]
        of_sums = np.ravel_multi_index(place[1:], grid[1:])
        ports = {f"slice_{axis}": count for axis, count in zip(AXES, size)}
        ports |= {"slice_fresh": int(of_sums == 0), "slice_last": int(of_sums == prod(grid[1:]) - 1)}
        comes = weights if generated else weights[tuple(slice(count) for count in size)]
        slices.append(SliceWords(ports, tuple(comes.ravel().tolist()), x.reshape(-1, x.shape[-1])))
    ports = {f"start_{axis}": count for axis, count in zip(AXES, config.slice_shape)}
    ports |= {
        "start_valid": 1, "start_overlap": int(generated and config.overlap), "start_whole": int(generated),
        "start_positions": positions, "start_slices": len(slices),
    }  # fmt: skip
    return Visit(ports, lead, config.array_columns, tuple(slices))


def _outcomes(piece: Piece, sums: Array) -> Iterator[Signals]:
    """Yield the sums (filters, positions) as they leave: blocks of filters, in each blocks of positions."""
    m, n, first = piece.config.array_rows, piece.config.array_columns, 0
    for filters in piece.plan.filters:
        for row in range(first, first + filters, m):
            for column in range(0, sums.shape[1], n):
                whole = np.zeros((m, n), np.int64)
                block = sums[row : min(row + m, first + filters), column : column + n]
                whole[: block.shape[0], : block.shape[1]] = block
                yield {"out_sums": packed(whole, SUM_BITS)}
        first += filters


def _counts(piece: Piece) -> Mapping[str, int]:
    """Return the counters that no waiting changes."""
    config, plan = piece.config, piece.plan
    filters, taps = slice_sizes(plan)
    sizes = [end - first for first, end in piece.ranges]
    comes = config.slice_weights * plan.slices if plan.code_words else plan.weights
    reads = (filters * taps).sum() * sum(-(-size // config.array_columns) for size in sizes)
    return {
        "cnt_compute": sum(int(compute_cycles(config, plan, size).sum()) for size in sizes),
        "cnt_mac": plan.weights * sum(sizes),
        "cnt_weights": len(sizes) * comes,
        "cnt_weight_write": len(sizes) * plan.weights,
        "cnt_weight_read": int(reads),
    }


def random_cases(config: BsgConfig, seed: int) -> Iterator[ArrayCase]:
    """Yield random cases without end, of four kinds in turn: generated slices, some with few filters, for which the
    array is the slower one; loaded slices; generated ones that come early or late and sums that have to wait; and
    several partitions.
    """
    rng = np.random.default_rng(seed)
    number = 0
    while True:
        kind = number % 4
        piece = _random_piece(config, rng, generated=config.design == "bsg" and kind != 1, partitions=1 + (kind == 3))
        about = f"slices {'x'.join(map(str, piece.config.slice_shape))}, {_about(piece)}"
        if kind == 2:
            yield make_case(f"{about}, held up", piece, int(rng.integers(3)), _pattern(rng), _pattern(rng))
        else:
            yield make_case(about, piece)
        number += 1


def _random_piece(config: BsgConfig, rng: np.random.Generator, *, generated: bool, partitions: int) -> Piece:
    """Return a whole small layer: two or three slices along an axis at most, ragged or not."""
    filters, channels, rows, columns = (int(rng.integers(1, min(size, 3) + 1)) for size in config.slice_shape)
    if rng.random() < 0.6:
        filters = int(rng.integers(1, config.slice_shape[0] + 1))
    one = config.model_copy(update={"slice_shape": (filters, channels, rows, columns)})
    M, C = int(rng.integers(1, 2 * filters + 1)), int(rng.integers(1, 3 * channels + 1))
    R, S = int(rng.integers(1, rows + 2)), int(rng.integers(1, columns + 2))
    blocks = -(-filters // config.array_rows)
    rounds = int(rng.integers(1, max(2, -(-config.partition_words // config.macs)) // blocks + 1))
    stride, dilation = (int(size) for size in rng.integers(1, 3, 2))
    most = partitions * rounds * config.array_columns
    Q = int(rng.integers(1, min(most, 12) + 1))
    P = max(1, most // Q - int(rng.integers(0, 2)))
    H, W = ((size - 1) * stride + dilation * (kernel - 1) + 1 for size, kernel in ((P, R), (Q, S)))
    conv = Conv(
        name="random", inputs=("x",), output="y", N=1, C=C, M=M, H=H, W=W, R=R, S=S, stride=(stride, stride),
        dilation=(dilation, dilation),
    )  # fmt: skip
    plan = plan_layer(one, conv, BsgPlacement(partitions=partitions), generated=generated, able=True, affine_words=0)
    weights = rng.integers(-config.n_c, config.n_c + 1, (plan.slices, *one.slice_shape))
    weights[rng.random(weights.shape) < 0.1] = 0
    maps = rng.integers(-128, 128, (C, H, W)).astype(np.int8)
    maps[rng.random(maps.shape) < 0.3] = 0
    return Piece(one, conv, plan, weights, maps, position_ranges(plan))


def position_ranges(plan: BsgPlan) -> list[tuple[int, int]]:
    """Return first and end position of every partition."""
    ends = np.cumsum([part(plan.positions, plan.partitions, index) for index in range(plan.partitions)]).tolist()
    return list(zip([0, *ends], ends))


def _pattern(rng: np.random.Generator) -> Pattern:
    """Return a pattern of 0 and 1 with at least one 1, mostly 0 or mostly 1."""
    return (*(rng.random(13) < rng.uniform(0.2, 0.9)).astype(int).tolist(), 1)


def _about(piece: Piece) -> str:
    plan, sizes = piece.plan, [end - first for first, end in piece.ranges]
    made = "generated" if plan.code_words else "loaded"
    return f"{plan.slices} {made}, {sum(plan.filters)} filters, positions {sizes}"


def cases_from(
    config: BsgConfig, layer: Layer, plan: Plan, x: Array, stored: Stored, tiles: int, seed: int
) -> Iterator[ArrayCase]:
    """Yield pieces of a real layer, drawn over images, partitions and blocks of filters: x bfloat16 (images, C, H, W).

    Raises: MappingError if its weights are loaded, which are no integers, or if it has groups.
    """
    own, conv = stored.extra, as_conv(layer)
    if not isinstance(own, Generated):
        raise MappingError(f"layer {layer.name!r} has loaded weights, bfloat16: the block bsg_mac_array takes integers")
    if conv.groups > 1:
        raise MappingError(f"layer {layer.name!r} has {conv.groups} groups: rows of bsg_mac_array share their words")
    whole, rng = cast("BsgPlan", plan), rng_for(seed, "bsg", layer.name, "array", 0)
    made = slice_weights(own.codes.base, own.words, config.slice_weights, config.generator)
    blocks = made.reshape(len(whole.filters), -1, *config.slice_shape)
    maps, ranges = np.pad(integers(x), _padding(conv)), position_ranges(whole)
    for _ in range(tiles):
        image, visit = int(rng.integers(len(maps))), int(rng.integers(len(ranges)))
        first = int(rng.integers(max(0, len(blocks) - TILE_BLOCKS) + 1))
        some = replace(whole, filters=whole.filters[first : first + TILE_BLOCKS])
        weights = blocks[first : first + TILE_BLOCKS].reshape(-1, *config.slice_shape)
        piece = Piece(config, conv, some, weights, maps[image], [ranges[visit]])
        yield make_case(f"layer {layer.name}, image {image}, filter block {first}, {_about(piece)}", piece)


def integers(x: Array) -> Array:
    """Return activations as int8: the largest magnitude becomes 127, zero stays zero."""
    values = np.asarray(x, np.float32)
    largest = float(np.abs(values).max())
    codes: Array = np.rint(values * (127 / largest if largest else 0)).astype(np.int8)
    return codes


def _padding(conv: Conv) -> tuple[tuple[int, int], ...]:
    top, left, bottom, right = conv.pad
    return (0, 0), (0, 0), (top, bottom), (left, right)
