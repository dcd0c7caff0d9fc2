"""In which order a layer multiplies: window by window, taps by channel, row and column, those of padding left out."""

from __future__ import annotations

from dataclasses import dataclass
from functools import lru_cache

import numpy as np

from archsim.accelerators.bloom.floats import Array
from archsim.workload.layers import Conv, Layer, Linear


@dataclass(frozen=True, eq=False)
class Stream:
    """Window i multiplies x[x_at[e]] by w[k_at[e]], e from start[i] to start[i+1]; int32 arrays, one group's."""

    start: Array
    x_at: Array
    k_at: Array
    group_words: int
    groups: int
    filters: int

    @property
    def operations(self) -> int:
        """Multiplications of one image."""
        return int(self.start[-1]) * self.filters

    @property
    def arguments(self) -> tuple[Array, Array, Array, int, int]:
        """What the kernels take."""
        return self.start, self.x_at, self.k_at, self.group_words, self.groups


@lru_cache(maxsize=64)
def stream_of(layer: Layer) -> Stream:
    """Return the stream of a Conv or Linear; that of its N is the same for every image."""
    if isinstance(layer, Linear):
        taps = np.arange(layer.C, dtype=np.int32)
        return Stream(np.array([0, layer.C], np.int32), taps, taps, 0, 1, layer.M)
    assert isinstance(layer, Conv)
    channels = layer.C // layer.groups
    rows = _positions(layer.P, layer.R, layer.stride[0], layer.pad[0], layer.dilation[0])
    columns = _positions(layer.Q, layer.S, layer.stride[1], layer.pad[1], layer.dilation[1])
    inside = ((rows >= 0) & (rows < layer.H))[:, None, :, None] & ((columns >= 0) & (columns < layer.W))[:, None, :]
    at = rows[:, None, :, None] * layer.W + columns[:, None, :]
    window, channel, r, s = np.nonzero(np.repeat(inside.reshape(-1, 1, layer.R, layer.S), channels, axis=1))
    counts = np.bincount(window, minlength=layer.P * layer.Q)
    flat = at.reshape(-1, layer.R, layer.S)[window, r, s]
    start: Array = np.concatenate([[0], np.cumsum(counts)])
    x_at: Array = channel * (layer.H * layer.W) + flat
    k_at: Array = (channel * layer.R + r) * layer.S + s
    start, x_at, k_at = (np.ascontiguousarray(one, np.int32) for one in (start, x_at, k_at))
    return Stream(start, x_at, k_at, channels * layer.H * layer.W, layer.groups, layer.M)


def _positions(windows: int, taps: int, stride: int, pad: int, dilation: int) -> Array:
    """Return where tap t of window i lies in the unpadded map, int32 (windows, taps)."""
    return (np.arange(windows)[:, None] * stride - pad + np.arange(taps) * dilation).astype(np.int32)
