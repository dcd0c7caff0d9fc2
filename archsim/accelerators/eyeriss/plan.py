"""The mapping of one layer and the rules that make it legal. Letters in docstrings are those of the Eyeriss papers."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import asdict, dataclass
from typing import NamedTuple

from archsim.accelerators.base import Plan
from archsim.accelerators.eyeriss.config import WORD_BYTES, EyerissConfig
from archsim.errors import MappingError
from archsim.workload.layers import Conv, Layer, Linear

LINEAR_MAP_LIMIT = 12
"""A Linear is mapped as a convolution over the map it was flattened from up to this height and width."""


@dataclass(frozen=True)
class EyerissPlan(Plan):
    """Row-stationary mapping: strips of e output rows, m psum planes in the buffer, passes of n ifmaps.

    A PE interleaves p filters and q channels; r sets of PEs work on other channels, t sets on other filters. A layer
    larger than the machine's counters is cut into calls. `compress_ifmap`: DRAM holds the ifmap run-length coded.
    Source: Y.-H. Chen et al., JSSC 52(1), 2017, Table III.
    """

    strip_rows: int
    resident_filters: int
    pass_ifmaps: int
    interleaved_filters: int
    interleaved_channels: int
    channel_sets: int
    filter_sets: int
    filter_calls: int = 1
    channel_calls: int = 1
    compress_ifmap: bool = True
    ifmap_on_chip: bool = False
    ofmap_on_chip: bool = False

    @property
    def pass_filters(self) -> int:
        """p*t: filters of one pass."""
        return self.interleaved_filters * self.filter_sets

    @property
    def pass_channels(self) -> int:
        """q*r: channels of one pass."""
        return self.interleaved_channels * self.channel_sets

    def active_pes(self, conv: Conv) -> int:
        """R*e*r*t: PEs inside a set; all others are clock-gated."""
        return conv.R * self.strip_rows * self.channel_sets * self.filter_sets

    def describe(self) -> dict[str, int | str]:
        """Return the fields of the mapping."""
        return {name: int(value) for name, value in asdict(self).items()}


class Rule(NamedTuple):
    """One constraint: `value` must not exceed `limit`, and must divide or be a multiple where the rule says so."""

    name: str
    value: int
    limit: int
    holds: bool
    advice: str


def as_conv(layer: Layer) -> Conv:
    """Return the convolution the array runs: a Linear is R x S over its small map, else 1 x 1 on a 1 x 1 map."""
    if isinstance(layer, Conv):
        return layer
    assert isinstance(layer, Linear)
    channels, rows, columns = layer.map_shape or (layer.C, 1, 1)
    if max(rows, columns) > LINEAR_MAP_LIMIT:
        channels, rows, columns = layer.C, 1, 1
    return Conv(
        name=layer.name, inputs=layer.inputs, output=layer.output, N=layer.N, activation=layer.activation,
        C=channels, M=layer.M, H=rows, W=columns, R=rows, S=columns,
    )  # fmt: skip


def window_rows(conv: Conv) -> int:
    """Return the ifmap rows a filter spans: R, more if dilated."""
    return (conv.R - 1) * conv.dilation[0] + 1


def window_columns(conv: Conv) -> int:
    """Return the ifmap columns a filter spans: S, more if dilated."""
    return (conv.S - 1) * conv.dilation[1] + 1


def padded_columns(conv: Conv) -> int:
    """Return W with the padding of both sides."""
    return conv.W + conv.pad[1] + conv.pad[3]


def padded_rows(conv: Conv) -> int:
    """Return H with the padding of both sides."""
    return conv.H + conv.pad[0] + conv.pad[2]


def strip_ifmap_rows(conv: Conv, strip_rows: int) -> int:
    """Return the ifmap rows a strip of e output rows reads: (e-1)*U + R."""
    return (strip_rows - 1) * conv.stride[0] + window_rows(conv)


def call_size(size: int, calls: int) -> int:
    """Return the filters or channels of a call when `size` is cut into equal calls (the last may be smaller)."""
    return -(-size // calls)


def group_channels(conv: Conv) -> int:
    """Return the channels of one group."""
    return conv.C // conv.groups


def group_filters(conv: Conv) -> int:
    """Return the filters of one group."""
    return conv.M // conv.groups


def sets_that_fit(config: EyerissConfig, filter_rows: int, strip_rows: int) -> int:
    """Return how many PE sets of R x e fit; a set wider than the array is cut into segments mapped separately.

    Source: derived from the active PEs of JSSC 2017, Table III.
    """
    down, columns = config.pe_rows // filter_rows, config.pe_columns
    return down * (columns // strip_rows) if strip_rows <= columns else down // -(-strip_rows // columns)


def ifmap_buffer_bytes(conv: Conv, plan: EyerissPlan) -> int:
    """Return the buffer bytes of the ifmap: one pass's rows, or the whole padded map of the batch if it stays."""
    if plan.ifmap_on_chip:
        return WORD_BYTES * plan.batch * conv.C * padded_rows(conv) * padded_columns(conv)
    rows = strip_ifmap_rows(conv, plan.strip_rows)
    return WORD_BYTES * plan.pass_ifmaps * plan.pass_channels * rows * padded_columns(conv)


def psum_buffer_bytes(conv: Conv, plan: EyerissPlan) -> int:
    """Return the buffer bytes of the psums: m planes of a strip for n ifmaps, or the whole ofmap if it stays."""
    if plan.ofmap_on_chip:
        return WORD_BYTES * plan.batch * conv.M * conv.P * conv.Q
    return WORD_BYTES * plan.pass_ifmaps * plan.resident_filters * plan.strip_rows * conv.Q


def filter_block_bytes(conv: Conv, plan: EyerissPlan) -> int:
    """Return the bytes of one pass's filters: 2*p*t*q*r*R*S."""
    return WORD_BYTES * plan.pass_filters * plan.pass_channels * conv.R * conv.S


def buffer_banks(config: EyerissConfig, conv: Conv, plan: EyerissPlan) -> int:
    """Return the banks used; each bank holds ifmap or psum, never both."""
    size = config.global_buffer_bank_bytes
    return -(-ifmap_buffer_bytes(conv, plan) // size) + -(-psum_buffer_bytes(conv, plan) // size)


def check_plan(config: EyerissConfig, conv: Conv, plan: EyerissPlan) -> None:
    """Refuse an illegal plan. Raises: MappingError naming the first violated rule, both numbers and a way out."""
    for rule in plan_rules(config, conv, plan):
        if not rule.holds:
            raise MappingError(f"layer {conv.name!r}: {rule.name}: got {rule.value}, limit {rule.limit}; {rule.advice}")


def plan_rules(config: EyerissConfig, conv: Conv, plan: EyerissPlan) -> Iterator[Rule]:
    """Yield every rule of a mapping with its value and limit, coarse ones first."""
    yield from _shape_rules(conv, plan)
    yield from _array_rules(config, conv, plan)
    yield from _memory_rules(config, conv, plan)


def _at_most(name: str, value: int, limit: int, advice: str = "") -> Rule:
    return Rule(name, value, limit, value <= limit, advice or f"at most {limit}")


def _shape_rules(conv: Conv, plan: EyerissPlan) -> Iterator[Rule]:
    """Pieces fit the layer, and blocks come out even where the machine needs it."""
    filters = call_size(group_filters(conv), plan.filter_calls)
    channels = call_size(group_channels(conv), plan.channel_calls)
    block, m, n = plan.pass_filters, plan.resident_filters, plan.pass_ifmaps
    yield _at_most("strip_rows within the output rows", plan.strip_rows, conv.P)
    yield _at_most("interleaved_channels * channel_sets within the channels of a group", plan.pass_channels, channels)
    yield _at_most("interleaved_filters * filter_sets within the filters of a group", block, filters)
    yield _at_most("resident_filters within the filters of a group", m, filters)
    below, above = m // block * block, min(-(-m // block) * block, filters)
    advice = f"nearest: {below or above} or {above}"
    whole = m % block == 0 or m == filters
    yield Rule("resident_filters a multiple of interleaved_filters * filter_sets", m, block, whole, advice)
    divisors = [size for size in range(1, plan.batch + 1) if plan.batch % size == 0]
    nearest = min(divisors, key=lambda size: abs(size - n))
    yield Rule("pass_ifmaps divides the batch", n, plan.batch, plan.batch % n == 0, f"nearest divisor: {nearest}")


def _array_rules(config: EyerissConfig, conv: Conv, plan: EyerissPlan) -> Iterator[Rule]:
    """PE sets fit the array, interleaved filters and channels fit the scratch pads."""
    p, q = plan.interleaved_filters, plan.interleaved_channels
    sets = sets_that_fit(config, conv.R, plan.strip_rows)
    yield _at_most("channel_sets * filter_sets within the PE sets that fit", plan.channel_sets * plan.filter_sets, sets)
    columns = window_columns(conv)
    limit = config.spad_ifmap_words
    yield _at_most(
        "interleaved_channels * S within spad_ifmap_words", q * columns, limit,
        f"interleaved_channels at most {limit // columns}",
    )  # fmt: skip
    limit = config.spad_filter_words
    yield _at_most(
        "interleaved_filters * interleaved_channels * S within spad_filter_words", p * q * conv.S, limit,
        f"interleaved_filters at most {limit // (q * conv.S)}",
    )  # fmt: skip
    yield _at_most("interleaved_filters within spad_psum_words", p, config.spad_psum_words)


def _memory_rules(config: EyerissConfig, conv: Conv, plan: EyerissPlan) -> Iterator[Rule]:
    """Ifmap rows and psums fit the buffer's banks, a pass's filters fit the preload memory."""
    block_bytes, limit = filter_block_bytes(conv, plan), config.filter_buffer_bytes
    fitting = limit * plan.pass_filters // block_bytes
    yield _at_most(
        "bytes of a pass's filters within filter_buffer_bytes", block_bytes, limit,
        f"interleaved_filters * filter_sets at most {fitting}",
    )  # fmt: skip
    psum_banks = -(-psum_buffer_bytes(conv, plan) // config.global_buffer_bank_bytes)
    used = buffer_banks(config, conv, plan)
    left = (config.global_buffer_banks - used + psum_banks) * config.global_buffer_bank_bytes
    per_plane = WORD_BYTES * plan.pass_ifmaps * plan.strip_rows * conv.Q
    yield _at_most(
        f"banks of ifmap ({used - psum_banks}) and psum ({psum_banks}) within global_buffer_banks", used,
        config.global_buffer_banks, f"resident_filters at most {max(left, 0) // per_plane}",
    )  # fmt: skip
