"""Words moved by a layer: what the structure of a plan decides, whatever the data.

Source: derived from Y.-H. Chen et al., JSSC 52(1), 2017 (mapping and buffer rules); the sums reproduce its Table V.
"""

from __future__ import annotations

from functools import lru_cache
from typing import NamedTuple

from archsim.accelerators.eyeriss.closed_form import channel_blocks, filter_blocks, resident_blocks, strips
from archsim.accelerators.eyeriss.config import WORD_BYTES
from archsim.accelerators.eyeriss.plan import EyerissPlan, padded_columns, strip_ifmap_rows
from archsim.counts import Counts
from archsim.units import bytes_to_MB
from archsim.workload.layers import Conv


class DramWords(NamedTuple):
    """Uncompressed 16-bit words between DRAM and buffer; `psum` is spilled and read again between channel calls."""

    ifmap: int
    filter: int
    ofmap: int
    psum: int

    @property
    def MB(self) -> float:
        """All of them in 10^6 bytes."""
        return bytes_to_MB(sum(self) * WORD_BYTES)


def ifmap_rows(conv: Conv, plan: EyerissPlan) -> int:
    """Return the ifmap rows read for all strips, overlaps counted again."""
    return sum(count * strip_ifmap_rows(conv, strip_rows) for strip_rows, count in strips(conv, plan))


def total_passes(conv: Conv, plan: EyerissPlan) -> int:
    """Return strips * X * Y * N/n."""
    n_strips = sum(count for _, count in strips(conv, plan))
    return n_strips * channel_blocks(conv, plan) * filter_blocks(conv, plan) * (plan.batch // plan.pass_ifmaps)


def dram_words(conv: Conv, plan: EyerissPlan) -> DramWords:
    """Return the words a layer moves through the link; tensors on chip move none."""
    ifmap_words = plan.batch * conv.C * ifmap_rows(conv, plan) * padded_columns(conv) * resident_blocks(conv, plan)
    filter_reads = plan.batch // plan.pass_ifmaps * sum(count for _, count in strips(conv, plan))
    ofmap_words = plan.batch * conv.M * conv.P * conv.Q
    return DramWords(
        ifmap=0 if plan.ifmap_on_chip else ifmap_words,
        filter=conv.weight_count * filter_reads,
        ofmap=0 if plan.ofmap_on_chip else ofmap_words,
        psum=2 * (plan.channel_calls - 1) * ofmap_words,
    )


@lru_cache(maxsize=256)
def structure_counts(conv: Conv, plan: EyerissPlan) -> Counts:
    """Return the actions of one batch that do not depend on the data; a partial block counts as a full one.

    Every psum goes to the buffer and back once per channel block (the last time on its way out) and once more where a
    channel call spills it. Filters reach the e columns of a set; an ifmap row reaches every PE on its diagonal.
    """
    dram, passes = dram_words(conv, plan), total_passes(conv, plan)
    ofmap_words = plan.batch * conv.M * conv.P * conv.Q
    psum_blocks, spills = channel_blocks(conv, plan), plan.channel_calls - 1
    ifmap_words = _pass_sum(conv, plan, ifmap_rows(conv, plan)) * padded_columns(conv)
    filter_words = passes * plan.pass_filters * plan.pass_channels * conv.R * conv.S
    filter_deliveries = filter_words * conv.P // sum(count for _, count in strips(conv, plan))
    ifmap_deliveries = _pass_sum(conv, plan, conv.P * conv.R * plan.filter_sets) * padded_columns(conv)
    counts = {
        "global_buffer.psum_write": (psum_blocks + spills) * ofmap_words,
        "global_buffer.psum_read": (psum_blocks + spills) * ofmap_words,
        "global_buffer.ifmap_read": ifmap_words,
        "global_buffer.ifmap_write": dram.ifmap,
        "global_buffer.filter_read": filter_words,
        "global_buffer.filter_write": dram.filter,
        "spad.filter_write": filter_deliveries,
        "spad.ifmap_write": ifmap_deliveries,
        "noc.filter_word": filter_words,
        "noc.filter_delivery": filter_deliveries,
        "noc.ifmap_word": ifmap_words,
        "noc.ifmap_delivery": ifmap_deliveries,
        "noc.psum_word": (2 * psum_blocks - 1) * ofmap_words,
        "noc.psum_hop": psum_blocks * ofmap_words * (conv.R * plan.channel_sets - 1),
    }
    return Counts({action: n for action, n in counts.items() if n})


def _pass_sum(conv: Conv, plan: EyerissPlan, rows: int) -> int:
    """Return N*Y*X*q*r * `rows`: rows per ifmap and channel, summed over all passes."""
    return plan.batch * filter_blocks(conv, plan) * channel_blocks(conv, plan) * plan.pass_channels * rows


def published_buffer_words(counts: Counts) -> int:
    """Return the buffer accesses the chip's table counts: psums both ways and ifmap reads, no fills, no filters."""
    names = ("psum_write", "psum_read", "ifmap_read")
    return sum(counts[f"global_buffer.{name}"] for name in names)
