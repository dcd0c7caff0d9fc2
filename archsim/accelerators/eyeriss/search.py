"""Exhaustive search of the mapping space in compiled code; no candidate is stored."""

from __future__ import annotations

from functools import lru_cache
from typing import Any, NamedTuple

import numpy as np
import numpy.typing as npt

from archsim.kernels._jit import njit

OBJECTIVES = ("edp", "energy", "latency", "dram")
FIELDS = (
    "strip_rows", "channel_sets", "filter_sets", "interleaved_channels", "interleaved_filters", "pass_ifmaps",
    "resident_filters",
)  # fmt: skip
"""Order of the numbers a search returns, and of the lexicographic tie break: e, r, t, q, p, n, m."""

Numbers = npt.NDArray[np.int64]


class Space(NamedTuple):
    """One layer and the machine's limits, integers only; C and M per group, H and W padded; words of 16 bit.

    `channels_per_call` and `filters_per_call` bound a block; `ifmap_resident_banks` and `psum_resident_banks` are the
    banks of a whole map that stays on chip, -1 if it does not stay.
    """

    N: int
    groups: int
    C: int
    M: int
    W: int
    P: int
    Q: int
    R: int
    S: int
    stride: int
    window_rows: int
    window_columns: int
    channels_per_call: int
    filters_per_call: int
    pe_rows: int
    pe_columns: int
    spad_filter_words: int
    spad_ifmap_words: int
    spad_psum_words: int
    banks: int
    bank_words: int
    filter_buffer_words: int
    ifmap_resident_banks: int
    psum_resident_banks: int
    filter_bus_bits: int
    ifmap_bus_bits: int
    psum_bus_bits: int
    serial_fill: int
    shared_psum: int


@lru_cache(maxsize=1024)
def best_mapping(space: Space, objective: str) -> dict[str, int] | None:
    """Return the legal mapping of least `objective` by field name, or None if there is none.

    Ties go to fewer passes, then less energy, then the lexicographically first. Delay is the closed form, energy is
    200*dram + 6*(buffer + dram) + 2*psum hops + 5*MACs. Source: relative costs of ISCA 2016, Table IV.
    """
    best = np.zeros(len(FIELDS), np.int64)
    found = search(space, OBJECTIVES.index(objective), best)
    return dict(zip(FIELDS, best.tolist())) if found else None


@njit
def search(space: Any, objective: int, best: Numbers) -> bool:
    """Write the best mapping into `best` (7,); returns False if no mapping is legal."""
    key = np.full(3, np.inf)
    mapping = np.zeros(7, np.int64)
    for e in range(1, space.P + 1):
        sets = sets_that_fit(space, e)
        for r in range(1, min(sets, space.channels_per_call) + 1):
            for t in range(1, min(sets // r, space.filters_per_call) + 1):
                mapping[:3] = e, r, t
                search_interleaving(space, objective, mapping, key, best)
    return bool(key[0] < np.inf)


@njit
def floor(space: Any, objective: int, e: int, r: int, t: int, q: int, p: int) -> float:
    """Return what no mapping with these sets, q channels and at most p filters can undercut.

    Every PE of every set busy, psums and ifmap rows over their buses without a gap, weights read once per strip. It
    saves three quarters of the search; a hair is taken off, so that rounding never hides a mapping that ties.
    """
    ofmap = float(space.N) * space.groups * space.M * space.P * space.Q
    macs = ofmap * space.C * space.R * space.S
    x = ceil_blocks(space.C, space.channels_per_call, q * r)
    y = ceil_blocks(space.M, space.filters_per_call, p * t)
    psums = x * ofmap * 16.0 / space.psum_bus_bits
    strips = ceil_div(space.P, e)
    rows = strips * (space.window_rows - space.stride) + space.P * space.stride
    ifmap_words = float(space.N) * space.groups * y * space.C * rows * space.W
    delay = max(macs / (space.R * e * r * t), psums, ifmap_words * 16.0 / space.ifmap_bus_bits)
    dram = float(space.groups) * space.M * space.C * space.R * space.S * strips
    dram += ofmap if space.psum_resident_banks < 0 else 0.0
    energy = 206.0 * dram + 12.0 * x * ofmap + 6.0 * ifmap_words + 2.0 * x * ofmap * space.R * r + 5.0 * macs
    least = energy * delay
    if objective == 1:
        least = energy
    elif objective == 2:
        least = delay
    elif objective == 3:
        least = dram
    return float(least * (1 - 1e-9))


@njit
def search_interleaving(space: Any, objective: int, mapping: Numbers, key: npt.NDArray[Any], best: Numbers) -> None:
    """Try all q, p, n for the e, r, t in `mapping`; of all m only the one that can win."""
    e, r, t = mapping[:3]
    block_limit = space.filter_buffer_words // (space.R * space.S)
    for q in range(1, min(space.spad_ifmap_words // space.window_columns, space.channels_per_call // r) + 1):
        p_spads = min(space.spad_psum_words, space.spad_filter_words // (q * space.S))
        p_block = min(space.filters_per_call // t, block_limit // (q * r * t))
        most = min(p_spads, p_block)
        if most < 1 or floor(space, objective, e, r, t, q, most) > key[0]:
            continue
        for p in range(1, most + 1):
            for n in range(1, space.N + 1):
                if space.N % n:
                    continue
                mapping[3:6] = q, p, n
                m = best_resident_filters(space, e, q * r, p * t, n)
                if m:
                    mapping[6] = m
                    keep_better(space, objective, mapping, key, best)


@njit
def keep_better(space: Any, objective: int, mapping: Numbers, key: npt.NDArray[Any], best: Numbers) -> None:
    """Keep `mapping` if its (objective, passes, energy) is below `key`; equal ones leave the earlier in place."""
    energy, delay, dram, passes = evaluate(space, mapping)
    first = energy * delay
    if objective == 1:
        first = energy
    elif objective == 2:
        first = delay
    elif objective == 3:
        first = dram
    better = first < key[0]
    if first == key[0]:
        better = passes < key[1] or (passes == key[1] and energy < key[2])
    if better:
        key[:] = first, passes, energy
        best[:] = mapping


@njit
def sets_that_fit(space: Any, e: int) -> int:
    """Return how many PE sets of R x e fit the array; wider ones than the array are cut into segments."""
    down = space.pe_rows // space.R
    if e <= space.pe_columns:
        return int(down * (space.pe_columns // e))
    return int(down // ceil_div(e, space.pe_columns))


@njit
def ceil_div(a: int, b: int) -> int:
    """Return a / b rounded up."""
    return -(-a // b)


@njit
def ceil_blocks(size: int, call: int, step: int) -> int:
    """Return the blocks of `step` in `size` cut into calls of `call`."""
    rest = size % call
    return (size // call) * ceil_div(call, step) + ceil_div(rest, step)


@njit
def best_resident_filters(space: Any, e: int, channels: int, filters: int, n: int) -> int:
    """Return the least m with as few m-blocks as the buffer allows, 0 if not even one block of filters fits.

    m changes nothing but how often the ifmap is read, so this m wins or ties, and comes first among its equals.
    """
    rows = (e - 1) * space.stride + space.window_rows
    ifmap_banks = space.ifmap_resident_banks
    if ifmap_banks < 0:
        ifmap_banks = ceil_div(n * channels * rows * space.W, space.bank_words)
    left = (space.banks - ifmap_banks) * space.bank_words
    whole = space.filters_per_call
    largest = left // (n * e * space.Q) if space.psum_resident_banks < 0 else whole
    if left < 0 or (space.psum_resident_banks > space.banks - ifmap_banks):
        return 0
    if largest >= whole:
        return int(whole)
    largest = largest // filters * filters
    if largest == 0:
        return 0
    wanted = ceil_blocks(space.M, whole, largest)
    per_block = ceil_div(whole, ceil_div(whole, largest))
    m = ceil_div(per_block, filters) * filters
    while ceil_blocks(space.M, whole, m) > wanted:
        m += filters
    return int(m)


@njit
def bus_cycles(words: int, bus_bits: int) -> int:
    """Return the cycles of 16-bit words on a bus."""
    return ceil_div(words * 16, bus_bits)


@njit
def strip_cycles(space: Any, mapping: Numbers, e: int, x: int) -> int:
    """Return the cycles of x channel blocks of one strip of e rows and one filter block."""
    _, r, t, q, p, n, _ = mapping
    rows = (e - 1) * space.stride + space.window_rows
    load = bus_cycles(p * t * q * r * space.R * space.S, space.filter_bus_bits)
    window = bus_cycles(rows * q * r * space.window_columns, space.ifmap_bus_bits)
    fill = load + window if space.serial_fill else max(load, window)
    psum = bus_cycles(n * p * t * e * space.Q, space.psum_bus_bits)
    other = max(n * space.Q * space.S * p * q, bus_cycles(n * rows * q * r * space.W, space.ifmap_bus_bits))
    later = max(other, 2 * psum if space.shared_psum else psum)
    return int(x * fill + max(other, psum) + (x - 1) * later)


@njit
def evaluate(space: Any, mapping: Numbers) -> tuple[float, float, float, float]:
    """Return energy (in MACs), closed-form cycles, DRAM words and passes of a mapping."""
    e, r, t, q, p, n, m = mapping
    whole, rest = space.P // e, space.P % e
    strips = whole + int(rest > 0)
    rows = strips * (space.window_rows - space.stride) + space.P * space.stride
    x = ceil_blocks(space.C, space.channels_per_call, q * r)
    y = space.groups * ceil_blocks(space.M, space.filters_per_call, p * t)
    turns = space.N // n
    column = whole * strip_cycles(space, mapping, e, x)
    if rest:
        column += strip_cycles(space, mapping, rest, x)
    ofmap = space.N * space.groups * space.M * space.P * space.Q
    spills = ceil_div(space.C, space.channels_per_call) - 1
    dram = space.groups * space.M * space.C * space.R * space.S * turns * strips + 2 * spills * ofmap
    if space.ifmap_resident_banks < 0:
        m_blocks = ceil_blocks(space.M, space.filters_per_call, m)
        dram += space.N * space.C * space.groups * rows * space.W * m_blocks
    if space.psum_resident_banks < 0:
        dram += ofmap
    buffer = 2 * (x + spills) * ofmap + space.N * y * x * q * r * rows * space.W
    macs = ofmap * space.C * space.R * space.S
    energy = 200.0 * dram + 6.0 * (buffer + dram) + 2.0 * x * ofmap * space.R * r + 5.0 * macs
    return energy, float(y * turns * column), float(dram), float(strips * x * y * turns)
