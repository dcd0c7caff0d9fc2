"""A thin layer over simpy: barrier and timeline trace. Importing it does not import simpy."""

from archsim.sim.timeline import Timeline

__all__ = ["Timeline"]
