"""Words a layer moves: what every turn of the array reads and writes off chip, and what is broadcast to the PEs.

A turn is one portion for every row of PEs. Every turn reads all kernels once (weights, indices, thresholds) and
broadcasts each down its column. An ifmap that fits the array is read once; of a larger one every turn reads what it
needs, words that its portions share once. Source: ours; the thesis (section 3.6) says what is broadcast.
"""

from __future__ import annotations

from functools import lru_cache
from typing import NamedTuple

import numpy as np

from archsim.accelerators.snapea.plan import Portions, SnapeaPlan, portions_of
from archsim.workload.layers import Conv
from archsim.workload.params import Array

STREAM_WORDS = 2
"""A weight and its index."""


class Turn(NamedTuple):
    """16-bit words of one turn: ifmap and ofmap with where they begin, kernels with indices and thresholds."""

    ifmap: int
    ifmap_offset: int
    kernels: int
    ofmap: int
    ofmap_offset: int


class Span(NamedTuple):
    """Input rows (or columns) of portions, int64 arrays [first, end), inside the map."""

    first: Array
    end: Array

    @property
    def size(self) -> Array:
        """How many."""
        return np.asarray(np.maximum(self.end - self.first, 0))


def input_rows(conv: Conv, portions: Portions) -> Span:
    """Return the input rows every portion reads; padding is no data."""
    return _span(portions.row, portions.row_end, conv.stride[0], conv.pad[0], (conv.R - 1) * conv.dilation[0], conv.H)


def input_columns(conv: Conv, portions: Portions) -> Span:
    """Return the input columns every portion reads."""
    span = (conv.S - 1) * conv.dilation[1]
    return _span(portions.column, portions.column_end, conv.stride[1], conv.pad[1], span, conv.W)


def _span(first: Array, end: Array, stride: int, pad: int, reach: int, size: int) -> Span:
    return Span(np.clip(first * stride - pad, 0, size), np.clip((end - 1) * stride - pad + reach + 1, 0, size))


@lru_cache(maxsize=256)
def portion_input_words(conv: Conv, plan: SnapeaPlan) -> int:
    """Return the input words of all portions of a batch, those of overlaps counted for each."""
    portions = portions_of(conv, plan)
    return conv.C * int((input_rows(conv, portions).size * input_columns(conv, portions).size).sum())


@lru_cache(maxsize=256)
def turns_of(conv: Conv, plan: SnapeaPlan, ifmap_fits: bool) -> tuple[Turn, ...]:
    """Return the off-chip words of every turn of one batch; feature maps that stay on chip move none."""
    portions = portions_of(conv, plan)
    turn = np.arange(plan.portions) // plan.pe_rows
    ofmap = conv.M * np.bincount(turn, _windows(portions), plan.turns).astype(np.int64)
    ifmap = conv.C * _new_pixels(conv, plan, portions, ifmap_fits)
    kernels = STREAM_WORDS * sum(plan.kernel_weights) + sum(plan.threshold_words)
    ifmap_offsets, ofmap_offsets = conv.C * _first_pixels(conv, plan, portions), np.cumsum(ofmap) - ofmap
    return tuple(
        Turn(
            ifmap=0 if plan.ifmap_on_chip else int(ifmap[t]),
            ifmap_offset=int(ifmap_offsets[t]),
            kernels=kernels,
            ofmap=0 if plan.ofmap_on_chip else int(ofmap[t]),
            ofmap_offset=int(ofmap_offsets[t]),
        )
        for t in range(plan.turns)
    )


def _first_pixels(conv: Conv, plan: SnapeaPlan, portions: Portions) -> Array:
    """Return where every turn begins to read, int64 (turns,): a map is held pixel by pixel, all channels of each."""
    rows, columns = input_rows(conv, portions), input_columns(conv, portions)
    pixels = (portions.image * conv.H + rows.first) * conv.W + columns.first
    return np.asarray(np.minimum.reduceat(pixels, np.arange(0, plan.portions, plan.pe_rows)))


def _windows(portions: Portions) -> Array:
    return np.asarray((portions.row_end - portions.row) * (portions.column_end - portions.column))


def _new_pixels(conv: Conv, plan: SnapeaPlan, portions: Portions, keeps: bool) -> Array:
    """Return the pixels every turn reads, int64 (turns,): what it needs, without what it `keeps` from before."""
    rows, columns = input_rows(conv, portions), input_columns(conv, portions)
    held = np.zeros((conv.N, conv.H, conv.W), bool)
    pixels = np.zeros(plan.turns, np.int64)
    for t in range(plan.turns):
        mine = range(t * plan.pe_rows, min((t + 1) * plan.pe_rows, plan.portions))
        images = held[portions.image[mine[0]] : portions.image[mine[-1]] + 1]
        if not keeps:
            images[:] = False
        before = np.count_nonzero(images)
        for i in mine:
            held[portions.image[i], rows.first[i] : rows.end[i], columns.first[i] : columns.end[i]] = True
        pixels[t] = np.count_nonzero(images) - before
    return pixels
