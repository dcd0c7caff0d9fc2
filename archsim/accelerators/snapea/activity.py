"""From what windows did to what PEs, buffers and the clock make of it: one BatchActivity per batch."""

from __future__ import annotations

import numpy as np

from archsim.accelerators.base import Activity, BatchActivity
from archsim.accelerators.snapea.actions import action_counts, dense_activity
from archsim.accelerators.snapea.config import SnapeaConfig
from archsim.accelerators.snapea.function import Outcome, compute, compute_dense, termination
from archsim.accelerators.snapea.kernel import LANE_READS, MACS, THRESHOLD_STOPS
from archsim.accelerators.snapea.metrics import prediction_metrics, window_metrics
from archsim.accelerators.snapea.order import SnapeaStored, Streams
from archsim.accelerators.snapea.plan import SnapeaPlan, as_conv
from archsim.accelerators.snapea.schedule import Busy, busy_batches
from archsim.workload.layers import Conv, Layer
from archsim.workload.params import Array


def execute_layer(config: SnapeaConfig, layer: Layer, plan: SnapeaPlan, x: Array, stored: SnapeaStored) -> Activity:
    """Compute the ofmap of k*N images and what each of the k batches did: x int (k*N, C, H, W) or (k*N, C).

    Raises: AccumulatorOverflowError naming layer and image.
    """
    conv, how = as_conv(layer), termination(config, layer, stored.params)
    if how.startswith("off"):
        y, saturated_words = compute_dense(layer, x, stored.params)
        batches = (dense_activity(config, conv, plan, how),) * (len(x) // plan.batch)
        return Activity(y, batches, saturated_words)
    done = compute(config, layer, plan.batch, x, stored)
    busy = busy_batches(config, conv, plan, done.group_op)
    made = (_batch(config, conv, plan, stored, done, how, *one) for one in enumerate(busy))
    return Activity(done.y, tuple(made), done.saturated_words)


def _batch(
    config: SnapeaConfig,
    conv: Conv,
    plan: SnapeaPlan,
    stored: SnapeaStored,
    done: Outcome,
    how: str,
    batch: int,
    busy: Busy,
) -> BatchActivity:
    """Return what one of the batches did."""
    streams, stats, windows = stored.extra, done.stats[batch], plan.batch * conv.P * conv.Q
    assert streams is not None
    macs = int(stats[:, MACS].sum())
    lane_reads = int(stats[:, LANE_READS].sum())
    counts = action_counts(config, conv, plan, busy, macs, pau_checks(streams, stats, windows), lane_reads)
    metrics: dict[str, float | str] = {"termination": how, **window_metrics(config, streams, stats, windows)}
    if streams.n.any():
        metrics |= prediction_metrics(stats, done.lost[batch])
    return BatchActivity(macs, counts, busy.tiles, tuple(metrics.items()))


def pau_checks(streams: Streams, stats: Array, windows: int) -> int:
    """Return how often a partial sum was checked: every step of the negative part, and once after n weights."""
    stopped = stats[:, THRESHOLD_STOPS]
    in_negative_part = stats[:, MACS] - stopped * streams.n - (windows - stopped) * streams.negative_at
    return int(in_negative_part.sum()) + windows * int(np.count_nonzero(streams.n))
