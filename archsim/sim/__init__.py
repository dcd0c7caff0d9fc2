"""A thin layer over simulated time: the timeline trace, a barrier. Importing it does not import simpy."""

from archsim.sim.barrier import Barrier
from archsim.sim.timeline import Timeline

__all__ = ["Barrier", "Timeline"]
