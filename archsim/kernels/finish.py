"""From accumulators to codes: bias, activation as a clip, one half-up shift, saturation (house rule for outputs).

s > 0: (acc + 2^(s-1)) >> s, arithmetic; s <= 0: acc << -s; then saturate to n bits and count the saturated words.
"""

from __future__ import annotations

from typing import NamedTuple

import numpy as np

from archsim.kernels._geometry import Array
from archsim.kernels._jit import njit

_INT64 = np.iinfo(np.int64)


class Finish(NamedTuple):
    """What happens to an accumulator, as the kernels take it: clip to [low, high], shift, saturate to codes."""

    low: int
    high: int
    shift: int
    code_min: int
    code_max: int


def code_dtype(bits: int) -> type[np.int16] | type[np.int32]:
    """Return the storage type of `bits`-bit codes: int16 up to 16 bits, else int32.

    Raises: ValueError outside 2 .. 32.
    """
    if not 2 <= bits <= 32:
        raise ValueError(f"bits must be 2 .. 32; got {bits}")
    return np.int16 if bits <= 16 else np.int32


def finish_of(low: int | None, high: int | None, shift: int, bits: int) -> Finish:
    """Return the kernel arguments; `low` and `high` bound the accumulator (None: open), any integer `shift`."""
    code_max = (1 << (bits - 1)) - 1
    if shift > 63:  # |acc| <= 2^63 rounds to 0, and the machine's shifter ends at 63
        return Finish(0, 0, 63, -code_max - 1, code_max)
    at_least = _INT64.min if low is None else low
    at_most = _INT64.max if high is None else high
    return Finish(int(at_least), int(at_most), max(shift, -62), -code_max - 1, code_max)


@njit(inline="always")
def _requantise_run(acc: Array, bias: int, finish: Finish, y: Array) -> int:
    """acc (L,) any numeric dtype -> y (L,) codes; returns the number of saturated words."""
    low, high, shift, code_min, code_max = finish
    saturated = 0
    if shift > 0:
        for i in range(acc.size):
            a = min(max(int(acc[i]) + bias, low), high)
            # floor(a / 2^s) + the bit below: equals (a + 2^(s-1)) >> s and cannot overflow
            code = (a >> shift) + ((a >> (shift - 1)) & 1)
            bounded = min(max(code, code_min), code_max)
            saturated += code != bounded
            y[i] = bounded
        return saturated
    # compare before shifting left, so that nothing is lost beyond 63 bits
    fits_max, fits_min = code_max >> -shift, -(-code_min >> -shift)
    for i in range(acc.size):
        a = min(max(int(acc[i]) + bias, low), high)
        if a > fits_max:
            y[i] = code_max
            saturated += 1
        elif a < fits_min:
            y[i] = code_min
            saturated += 1
        else:
            y[i] = a << -shift
    return saturated


@njit
def requantise_block(acc: Array, bias: Array, finish: Finish, first_window: int, y: Array) -> int:
    """acc (M, L), bias int64 (M,) -> y (N, M, P*Q) from flat window `first_window` on; returns saturated words."""
    saturated = 0
    windows = y.shape[2]
    for m in range(acc.shape[0]):
        at = 0
        while at < acc.shape[1]:
            n, start = divmod(first_window + at, windows)
            run = min(windows - start, acc.shape[1] - at)
            saturated += _requantise_run(acc[m, at : at + run], bias[m], finish, y[n, m, start : start + run])
            at += run
    return saturated


@njit
def store_block(acc: Array, bias: Array, low: float, high: float, first_window: int, y: Array) -> None:
    """acc (M, L), bias (M,) -> y (N, M, P*Q) = clip(acc + bias) from flat window `first_window` on."""
    windows = y.shape[2]
    for m in range(acc.shape[0]):
        at = 0
        while at < acc.shape[1]:
            n, start = divmod(first_window + at, windows)
            run = min(windows - start, acc.shape[1] - at)
            for i in range(run):
                y[n, m, start + i] = min(max(y.dtype.type(acc[m, at + i]) + bias[m], low), high)
            at += run


def requantise_array(acc: Array, finish: Finish, y: Array) -> int:
    """Write the codes of acc (L,), integers, to y (L,) and return the number of saturated words."""
    return int(_requantise_run(acc, 0, finish, y))


class FinishedOutput:
    """The finished tensor y (N, M, windows): clipped int64 accumulators, or codes with their count of saturated words.

    `low` and `high` bound the accumulator (None: open); with `shift` None nothing is requantised.
    """

    def __init__(
        self, shape: tuple[int, int, int], low: int | None, high: int | None, shift: int | None, bits: int
    ) -> None:
        self.finish: Finish = finish_of(low, high, 0 if shift is None else shift, bits)
        self.requantised = shift is not None
        self.y: Array = np.empty(shape, code_dtype(bits) if self.requantised else np.int64)
        self.saturated = 0

    def write(self, acc: Array, bias: Array, first_window: int, first_filter: int = 0) -> None:
        """Finish acc (m, L) plus bias (m,): filters and windows (counted over all images) from the first ones on."""
        y = self.y[:, first_filter : first_filter + len(acc)]
        if self.requantised:
            self.saturated += int(requantise_block(acc, bias, self.finish, first_window, y))
        else:
            store_block(acc, bias, self.finish.low, self.finish.high, first_window, y)
