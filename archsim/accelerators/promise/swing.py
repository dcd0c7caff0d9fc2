"""Swing levels: what a read voltage costs is in the price table, how wrong it reads is here."""

from __future__ import annotations

from typing import NamedTuple

from archsim.approx import Knob, LayerSetting
from archsim.counts import Action


class Swing(NamedTuple):
    """A read voltage: its name, and the relative deviation of the values that pass through it."""

    name: str
    sigma: float

    @property
    def action(self) -> Action:
        """The dot product of 128 weights in one bank that is counted."""
        return f"bank.dot128@{self.name}"


SWINGS = (
    Swing("P1", 0.64),
    Swing("P2", 0.336),
    Swing("P3", 0.21),
    Swing("P4", 0.168),
    Swing("P5", 0.14),
    Swing("P6", 0.11),
    Swing("P7", 0.0784),
)
"""Rising voltage: energy up, error down. Source: error.cu of the HPVM release (vzyrianov/hpvm-autograd @521cc3b)."""

NOISELESS = Swing("P7", 0.0)
"""Level 0: the digital reference, priced as P7. The machine has no such mode."""

LEVELS = (NOISELESS, *reversed(SWINGS))
"""By level of the knob: 0 without noise, then P7 to P1."""

SWING = Knob(
    "swing",
    len(LEVELS),
    "layer",
    "read voltage: level 1 is P7, level 7 is P1, less energy and more error; 0: noiseless reference, priced as P7",
)


def swing_of(setting: LayerSetting) -> Swing:
    """Return the swing in force."""
    level = setting.level(SWING.name)
    assert isinstance(level, int)
    return LEVELS[level]


def told(swing: Swing) -> str:
    """Return the name a report shows."""
    return swing.name if swing.sigma else f"noiseless (priced {swing.name})"
