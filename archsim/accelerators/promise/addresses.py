"""Where the windows of a convolution begin in its ifmap, which lies in memory as it is: bytes, (N, C, H, W).

A window is fetched as C/groups*R*S bytes, as the source has it, in one run from its first byte on. The run is moved
forward to end within the ifmap; more bytes than the ifmap has are read in equal passes over it.
"""

from __future__ import annotations

from typing import NamedTuple

from archsim.workload.layers import Conv, Pair

MOST_PASSES = 4
"""Equal passes are looked for up to so many times the fewest; else the bytes are read in one run from the first on."""


class Windows(NamedTuple):
    """The ifmap of a convolution, `channels` of each group, and how its windows lie."""

    N: int
    groups: int
    channels: int
    H: int
    W: int
    R: int
    S: int
    P: int
    Q: int
    stride: Pair
    dilation: Pair
    corner: Pair
    """Rows and columns of padding above and left."""

    @property
    def n_bytes(self) -> int:
        """Bytes of the ifmap."""
        return self.N * self.groups * self.channels * self.H * self.W

    def first_byte(self, group: int, window: int, tap: int) -> int:
        """Return the address of element `tap` of a window; one in the padding counts as the nearest of the ifmap."""
        image, place = divmod(window, self.P * self.Q)
        channel, (r, s) = tap // (self.R * self.S), divmod(tap % (self.R * self.S), self.S)
        row = place // self.Q * self.stride[0] - self.corner[0] + r * self.dilation[0]
        column = place % self.Q * self.stride[1] - self.corner[1] + s * self.dilation[1]
        row, column = max(0, min(row, self.H - 1)), max(0, min(column, self.W - 1))
        plane = (image * self.groups + group) * self.channels + channel
        return (plane * self.H + row) * self.W + column

    def passes(self, n_bytes: int) -> int:
        """Return in how many equal passes, each no longer than the ifmap, so many bytes are read."""
        fewest = max(1, -(-n_bytes // self.n_bytes))
        return next((one for one in range(fewest, MOST_PASSES * fewest) if n_bytes % one == 0), 1)

    def offset(self, group: int, window: int, tap: int, n_bytes: int) -> int:
        """Return where a run of `n_bytes` that begins with this element is read."""
        return min(self.first_byte(group, window, tap), max(0, self.n_bytes - n_bytes))


def windows_of(conv: Conv) -> Windows:
    """Return the windows of a convolution."""
    return Windows(
        conv.N, conv.groups, conv.C // conv.groups, conv.H, conv.W, conv.R, conv.S, conv.P, conv.Q,
        conv.stride, conv.dilation, conv.pad[:2],
    )  # fmt: skip
