"""Action counts of a batch, and the batch in which no window stops."""

from __future__ import annotations

from functools import lru_cache

import numpy as np

from archsim.accelerators.base import BatchActivity
from archsim.accelerators.snapea.config import SnapeaConfig
from archsim.accelerators.snapea.plan import SnapeaPlan, row_groups
from archsim.accelerators.snapea.schedule import Busy, busy_batches
from archsim.accelerators.snapea.traffic import STREAM_WORDS, portion_input_words, turns_of
from archsim.counts import Action, Counts
from archsim.workload.layers import Conv


def action_counts(
    config: SnapeaConfig, conv: Conv, plan: SnapeaPlan, busy: Busy, macs: int, checks: int, lane_reads: int
) -> tuple[tuple[Action, int], ...]:
    """Return the on-chip actions of one batch.

    Weight and index are read once per step for all lanes, inputs one row of words per step or, with `lane_gate_input`,
    word by word. A portion is broadcast to the PEs of its row, a kernel to those of its column. With `replicated` every
    PE of a row writes what it is sent.
    """
    columns, windows = min(config.pe_columns, conv.M), plan.batch * conv.P * conv.Q
    loaded = sum(turn.ifmap for turn in turns_of(conv, plan, ifmap_fits(config, conv)))
    gated = config.lane_gate_input
    counts = Counts()
    for action, n in (
        ("pe.mac", macs),
        ("accumulator.read", macs),
        ("accumulator.write", macs),
        ("pau.check", checks),
        ("lane.idle", config.lanes * busy.pe_cycles - macs),
        ("weight_buffer.read", busy.steps),
        ("index_buffer.read", busy.steps),
        ("weight_buffer.write", busy.delivered_weights),
        ("index_buffer.write", busy.delivered_weights),
        ("input_ram.read", 0 if gated else busy.input_reads),
        ("input_ram.read_word", lane_reads if gated else 0),
        ("input_ram.write", loaded * (columns if config.io_capacity == "replicated" else 1)),
        ("output_ram.write", windows * conv.M),
        ("noc.ifmap_delivery", portion_input_words(conv, plan) * columns),
        ("noc.weight_delivery", STREAM_WORDS * busy.delivered_weights),
    ):
        counts.add(action, n)
    return tuple(counts.items())


def ifmap_fits(config: SnapeaConfig, conv: Conv) -> bool:
    """Return whether the ifmap of a batch fits the array and is read once."""
    return config.map_words >= conv.N * conv.C * conv.H * conv.W


@lru_cache(maxsize=256)
def dense_activity(config: SnapeaConfig, conv: Conv, plan: SnapeaPlan, how: str = "") -> BatchActivity:
    """Return what a batch does if no window stops; `how` says why. No partial sum is checked."""
    weights = np.array(plan.kernel_weights)
    rows, groups = plan.batch * conv.P, row_groups(conv, plan.lanes)
    (busy,) = busy_batches(config, conv, plan, np.broadcast_to(weights[:, None, None, None], (conv.M, 1, rows, groups)))
    macs = rows * conv.Q * int(weights.sum())
    counts = action_counts(config, conv, plan, busy, macs, checks=0, lane_reads=macs)
    return BatchActivity(macs, counts, busy.tiles, (("termination", how),))
