"""A barrier: everyone waits until the last one has arrived, again and again."""

from __future__ import annotations

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    import simpy


class Barrier:
    """Holds `parties` processes until all of them have arrived; `yield barrier.arrive()` costs no time by itself."""

    def __init__(self, env: simpy.Environment, parties: int) -> None:
        self._env, self._parties, self._arrived = env, parties, 0
        self._open = env.event()

    def arrive(self) -> simpy.Event:
        """Return the event of the last arrival of this round."""
        event = self._open
        self._arrived += 1
        if self._arrived == self._parties:
            self._arrived, self._open = 0, self._env.event()
            event.succeed()
        return event
