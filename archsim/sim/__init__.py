"""A thin layer over simulated time: the timeline trace. Importing it does not import simpy."""

from archsim.sim.timeline import Timeline

__all__ = ["Timeline"]
