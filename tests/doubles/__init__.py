"""Machines that exist to hold the seams: importing this package registers them, archsim itself never sees them.

`mac_array` has lanes, a knob with levels from tables, on-chip feature maps, `expect`, `profile` and an RTL block;
`stream_unit` runs streams of scalar operations.
"""

from tests.doubles.mac_array import MacArray
from tests.doubles.stream_unit import StreamUnit

__all__ = ["MacArray", "StreamUnit"]
