"""What a pass of images through the machines left behind."""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np

from archsim.accelerators.base import Activity, BatchActivity
from archsim.workload.layers import Layer
from archsim.workload.params import Array


@dataclass
class Trail:
    """What is kept of a pass: activities of the timed batches, MACs of all of them, words that need telling, the rank
    of every right label among the logits or the likeness of every picture, and what an onlooker wanted to keep of
    every layer and block.
    """

    activities: dict[str, list[BatchActivity]] = field(default_factory=dict)
    macs_done: Counter[str] = field(default_factory=Counter)
    seen: dict[str, list[Any]] = field(default_factory=dict)
    converted_words: Counter[str] = field(default_factory=Counter)
    saturated_words: Counter[str] = field(default_factory=Counter)
    overflow_events: Counter[str] = field(default_factory=Counter)
    ranks: Array | None = None
    psnr_dB: Array | None = None

    def note(self, layer: Layer, activity: Activity, timed_batches: int) -> None:
        """Keep the activities of the timed batches and add up what was saturated."""
        self.activities.setdefault(layer.name, []).extend(activity.batches[:timed_batches])
        self.macs_done[layer.name] += sum(batch.macs_done for batch in activity.batches)
        self.saturated_words[layer.name] += activity.saturated_words
        self.overflow_events[layer.name] += activity.overflow_events

    @classmethod
    def joined(cls, parts: Sequence[Trail]) -> Trail:
        """Join the trails of consecutive blocks of images."""
        whole = cls(ranks=_joined([part.ranks for part in parts]), psnr_dB=_joined([part.psnr_dB for part in parts]))
        for part in parts:
            for name, activities in part.activities.items():
                whole.activities.setdefault(name, []).extend(activities)
            for name, kept in part.seen.items():
                whole.seen.setdefault(name, []).extend(kept)
            whole.macs_done.update(part.macs_done)
            whole.converted_words |= part.converted_words
            whole.saturated_words.update(part.saturated_words)
            whole.overflow_events.update(part.overflow_events)
        return whole


def _joined(parts: Sequence[Array | None]) -> Array | None:
    """Return what was noted of every image, None if nothing was."""
    given = [part for part in parts if part is not None]
    return np.concatenate(given) if given else None
