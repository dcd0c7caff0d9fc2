"""What is told about a batch besides cycles and counts: sums, whose units the result adds up; readers divide."""

from __future__ import annotations

from typing import Any

import numpy as np

from archsim.accelerators.base import Clockwork
from archsim.accelerators.snapea.config import WORD_BYTES, SnapeaConfig
from archsim.accelerators.snapea.kernel import (
    FALSE_NEGATIVE,
    NEGATIVE,
    POSITIVE,
    SIGN_LOST,
    SIGN_STOPS,
    THRESHOLD_STOPS,
    TRUE_NEGATIVE,
)
from archsim.accelerators.snapea.order import Streams
from archsim.accelerators.snapea.plan import SnapeaPlan
from archsim.accelerators.snapea.traffic import STREAM_WORDS
from archsim.energy import PriceTable, account
from archsim.units import bytes_to_MB
from archsim.workload.params import Array

SMALL_PERCENT = (1, 3, 10, 30)
"""Results above 0 lost to the threshold are counted below these shares of the batch's largest result."""


def window_metrics(config: SnapeaConfig, streams: Streams, stats: Array, windows: int) -> dict[str, float]:
    """Return what the windows of one batch did; stats int64 (M, STATS) of `kernel.py`, `windows` of each kernel.

    non_negative_macs: MACs up to the negative part; bound_macs: the least MACs of the exact mode, which stops no window
    before the first negative weight and none whose result is not negative.
    """
    total = stats.sum(axis=0)
    may_stop = stats[:, NEGATIVE] if config.sign_compare == "<" else windows - stats[:, POSITIVE]
    metrics: dict[str, float] = {
        "total_windows": windows * len(stats),
        "negative_windows": int(total[NEGATIVE]),
        "positive_windows": int(total[POSITIVE]),
        "sign_stopped_windows": int(total[SIGN_STOPS]),
        "streamed_macs": windows * int(streams.lengths.sum()),
        "non_negative_macs": windows * int(streams.negative_at.sum()),
        "bound_macs": int(bound_macs(streams, may_stop, windows).sum()),
    }
    if total[SIGN_LOST]:
        metrics["sign_lost_windows"] = int(total[SIGN_LOST])
    return metrics


def bound_macs(streams: Streams, may_stop: Array, windows: int) -> Array:
    """Return the least MACs of every kernel in exact mode, int64 (M,); `may_stop` (M,) of its windows end below 0.

    Source: derived from section 3.3 of V. Akhlaghi, UC San Diego 2020: a sum first falls with the first negative
    weight.
    """
    earliest = np.minimum(streams.negative_at + 1, streams.lengths)
    bound: Array = may_stop * earliest + (windows - may_stop) * streams.lengths
    return bound


def prediction_metrics(stats: Array, lost: Array) -> dict[str, float]:
    """Return how the thresholds of one batch did; `lost`: shares of the largest result that were taken away.

    Source: rates as in V. Akhlaghi, UC San Diego 2020, Table 3.5; only stops by the threshold count, zeros do not.
    """
    total = stats.sum(axis=0)
    below = {f"false_negative_below_{p}_percent_windows": int(np.count_nonzero(lost < p / 100)) for p in SMALL_PERCENT}
    return {
        "threshold_stopped_windows": int(total[THRESHOLD_STOPS]),
        "true_negative_windows": int(total[TRUE_NEGATIVE]),
        "false_negative_windows": int(total[FALSE_NEGATIVE]),
        **below,
    }


def timing_metrics(
    config: SnapeaConfig, prices: PriceTable, plan: SnapeaPlan, work: Clockwork, off: Clockwork, compute: int
) -> dict[str, Any]:
    """Return the figures of a batch that has just ended; `off` is the same batch with termination off."""
    total, moved = int(work.env.now), work.memory.bytes_moved
    once = plan.turns * STREAM_WORDS * WORD_BYTES * sum(plan.kernel_weights)
    delivered = STREAM_WORDS * WORD_BYTES * work.counts["weight_buffer.write"]
    return {
        "compute_cycles": compute,
        "stall_cycles": total - compute,
        "lane_cycles": total * config.pes * config.lanes,
        "termination_off_cycles": int(off.env.now),
        "on_chip_energy_pJ": sum(account(work.counts, prices).values()),
        "termination_off_on_chip_energy_pJ": sum(account(off.counts, prices).values()),
        "dram_ifmap_MB": bytes_to_MB(moved.get(("ifmap", "read"), 0)),
        "dram_weights_MB": bytes_to_MB(moved.get(("weights", "read"), 0)),
        "dram_ofmap_MB": bytes_to_MB(moved.get(("ofmap", "write"), 0)),
        "pe_weights_MB": bytes_to_MB(delivered),
        "streamed_once_weights_MB": bytes_to_MB(once),
    }
