"""What the operand streams of a layer do to the filters: compiled loops over real operands.

A Conv or Linear issues its multiplications window by window: x (images, words) and w (M, K) are float32 with
subnormals flushed; window i of every map multiplies x[x_at[e]] by w[k_at[e]] for e in start[i] .. start[i+1], padding
taps left out, and adds each product to an accumulator that begins with the bias. Group g of the filters reads
`group_words` further on for every group.
"""

from __future__ import annotations

from typing import Any

import numpy as np
import numpy.typing as npt

from archsim.kernels._jit import njit

Array = npt.NDArray[Any]
MISS = -1
FALSE_HIT = 1 << 30
"""Set in a table's int32 answer where the key is none of those stored for that output; above any number of filters."""
TINY = np.float32(2.0**-126)
ZERO = np.float32(0)
HITS, FALSE_HITS = range(2)
"""Columns of `stats`, int64 (images, 2)."""


@njit(inline="always")
def _flush(value: Any) -> Any:
    """A subnormal becomes zero of its sign; NaN stays."""
    return value if abs(value) >= TINY else value * ZERO


@njit
def answer(hashes: Array, vectors: Array, tags: Array, k: int, log2_m: int, out: Array) -> None:
    """out[i] = the lowest filter that says hit, or MISS; hashes uint64 (n, banks), vectors uint8 (filters or 1, m).

    With one vector for all patterns, `tags` (m,) gives the filter by the first address.
    """
    for i in range(len(hashes)):
        out[i] = _first_hit(hashes[i], vectors, tags, k, log2_m)


@njit(inline="always")
def _first_hit(hashes: Array, vectors: Array, tags: Array, k: int, log2_m: int) -> int:
    mask = np.uint64((1 << log2_m) - 1)
    width = np.uint64(log2_m)
    found = MISS
    for filter in range(len(vectors)):
        packed = hashes[filter if len(hashes) > 1 else 0]
        all_set = True
        for _ in range(k):
            if not vectors[filter, packed & mask]:
                all_set = False
                break
            packed >>= width
        if all_set:
            found = filter
            break
    if found != MISS and len(tags):
        found = tags[hashes[0] & mask]
    return found


@njit
def run_exact(
    x: Array, w: Array, bias: Array, start: Array, x_at: Array, k_at: Array, group_words: int, groups: int, y: Array
) -> None:
    """y (images, M, windows) = sums in order of issue, every product and sum rounded once; filters off."""
    per_group = len(w) // groups
    for image in range(len(x)):
        for m in range(len(w)):
            shift = m // per_group * group_words
            for i in range(len(start) - 1):
                acc = bias[m]
                for e in range(start[i], start[i + 1]):
                    acc = _flush(acc + _flush(x[image, shift + x_at[e]] * w[m, k_at[e]]))
                y[image, m, i] = acc


@njit
def run_table(
    x: Array, w: Array, x_top: Array, w_top: Array, bias: Array, start: Array, x_at: Array, k_at: Array,
    group_words: int, groups: int, table: Array, outputs: Array, y: Array, stats: Array,
) -> None:  # fmt: skip
    """As `run_exact`, with table[x_top + w_top] giving the answer of all filters to a key."""
    per_group = len(w) // groups
    for image in range(len(x)):
        hits = 0
        false_hits = 0
        for m in range(len(w)):
            shift = m // per_group * group_words
            for i in range(len(start) - 1):
                acc = bias[m]
                for e in range(start[i], start[i + 1]):
                    at = shift + x_at[e]
                    found = table[x_top[image, at] + w_top[m, k_at[e]]]
                    if found >= 0:
                        hits += 1
                        false_hits += found >= FALSE_HIT
                        acc = _flush(acc + outputs[found & (FALSE_HIT - 1)])
                    else:
                        acc = _flush(acc + _flush(x[image, at] * w[m, k_at[e]]))
                y[image, m, i] = acc
        stats[image, HITS] += hits
        stats[image, FALSE_HITS] += false_hits


@njit
def run_hashed(
    x: Array, w: Array, x_top: Array, w_top: Array, x_hash: Array, w_hash: Array, bias: Array,
    start: Array, x_at: Array, k_at: Array, group_words: int, groups: int,
    vectors: Array, tags: Array, k: int, log2_m: int, stored: Array, first: Array, outputs: Array,
    y: Array, stats: Array,
) -> None:  # fmt: skip
    """As `run_table`, every key hashed: x_hash uint64 (images, words, banks), w_hash (M, K, banks).

    stored uint32 (patterns, 2), those of filter f from first[f] to first[f+1].
    """
    per_group = len(w) // groups
    hashes = np.empty(x_hash.shape[2], np.uint64)
    for image in range(len(x)):
        for m in range(len(w)):
            shift = m // per_group * group_words
            for i in range(len(start) - 1):
                acc = bias[m]
                for e in range(start[i], start[i + 1]):
                    at = shift + x_at[e]
                    for bank in range(len(hashes)):
                        hashes[bank] = x_hash[image, at, bank] ^ w_hash[m, k_at[e], bank]
                    found = _first_hit(hashes, vectors, tags, k, log2_m)
                    if found >= 0:
                        known = False
                        for n in range(first[found], first[found + 1]):
                            if stored[n, 0] == x_top[image, at] and stored[n, 1] == w_top[m, k_at[e]]:
                                known = True
                        stats[image, HITS] += 1
                        stats[image, FALSE_HITS] += not known
                        acc = _flush(acc + outputs[found])
                    else:
                        acc = _flush(acc + _flush(x[image, at] * w[m, k_at[e]]))
                y[image, m, i] = acc


@njit
def count_keys(
    x_top: Array, w_top: Array, start: Array, x_at: Array, k_at: Array, group_words: int, groups: int, counts: Array
) -> None:
    """counts[key] += 1 for every multiplication; keys uint64: x_top | w_top."""
    per_group = len(w_top) // groups
    for image in range(len(x_top)):
        for m in range(len(w_top)):
            shift = m // per_group * group_words
            for e in range(start[-1]):
                counts[x_top[image, shift + x_at[e]] | w_top[m, k_at[e]]] += 1


@njit(inline="always")
def _bucket(key: Any, mask: Any) -> Any:
    """A place for a key of up to 64 bits; the multiplier is that of Fibonacci hashing."""
    mixed = key * np.uint64(0x9E3779B97F4A7C15)
    return (mixed ^ mixed >> np.uint64(29)) >> np.uint64(8) & mask


@njit
def count_buckets(
    x_top: Array, w_top: Array, start: Array, x_at: Array, k_at: Array, group_words: int, groups: int, buckets: Array
) -> None:
    """buckets[place of the key] += 1: never less than any of its keys' counts."""
    per_group = len(w_top) // groups
    mask = np.uint64(len(buckets) - 1)
    for image in range(len(x_top)):
        for m in range(len(w_top)):
            shift = m // per_group * group_words
            for e in range(start[-1]):
                buckets[_bucket(x_top[image, shift + x_at[e]] | w_top[m, k_at[e]], mask)] += 1


@njit
def count_heavy(
    x_top: Array, w_top: Array, start: Array, x_at: Array, k_at: Array, group_words: int, groups: int,
    buckets: Array, threshold: int, part: int, parts: int, keys: Array, counts: Array,
) -> bool:  # fmt: skip
    """Count exactly the keys in every `parts`-th bucket from `part` on (parts: a power of two) that has at least
    `threshold`; keys and counts are an open-addressed table, count 0 is empty. Returns False once a key finds no place.
    """
    per_group = len(w_top) // groups
    mask, slots = np.uint64(len(buckets) - 1), np.uint64(len(keys) - 1)
    mine, others = np.uint64(part), np.uint64(parts - 1)
    for image in range(len(x_top)):
        for m in range(len(w_top)):
            shift = m // per_group * group_words
            for e in range(start[-1]):
                key = x_top[image, shift + x_at[e]] | w_top[m, k_at[e]]
                place = _bucket(key, mask)
                if buckets[place] < threshold or place & others != mine:
                    continue
                slot = _bucket(key ^ np.uint64(0xA5A5), slots)
                for _ in range(64):
                    if counts[slot] == 0:
                        keys[slot] = key
                    if keys[slot] == key:
                        counts[slot] += 1
                        break
                    slot = (slot + np.uint64(1)) & slots
                else:
                    return False
    return True


@njit(inline="always")
def _slot_of(keys: Array, index: Array, key: Any, slots: Any) -> int:
    """What an open-addressed table says of a key; -1 if it holds it not."""
    slot = _bucket(key, slots)
    while index[slot] >= 0 and keys[slot] != key:
        slot = (slot + np.uint64(1)) & slots
    return int(index[slot])


@njit
def place_keys(chosen: Array, keys: Array, index: Array) -> None:
    """Write keys uint64 (n,) and their numbers into an open-addressed table; index -1 is empty."""
    slots = np.uint64(len(keys) - 1)
    for n in range(len(chosen)):
        slot = _bucket(chosen[n], slots)
        while index[slot] >= 0:
            slot = (slot + np.uint64(1)) & slots
        keys[slot] = chosen[n]
        index[slot] = n


@njit
def gather_products(
    x: Array, w: Array, x_top: Array, w_top: Array, start: Array, x_at: Array, k_at: Array, group_words: int,
    groups: int, keys: Array, index: Array, sums: Array, seen: Array, first: Array,
) -> None:  # fmt: skip
    """Add up the exact products of every pattern in the table; `first` takes its first one, in order of issue."""
    per_group = len(w) // groups
    slots = np.uint64(len(keys) - 1)
    for image in range(len(x)):
        for m in range(len(w)):
            shift = m // per_group * group_words
            for e in range(start[-1]):
                at = shift + x_at[e]
                found = _slot_of(keys, index, x_top[image, at] | w_top[m, k_at[e]], slots)
                if found >= 0:
                    product = _flush(x[image, at] * w[m, k_at[e]])
                    if seen[found] == 0:
                        first[found] = product
                    seen[found] += 1
                    sums[found] += product


@njit
def modal_pairs(
    words: Array, seen: Array, start: Array, classes: int, w_bits: Array, w_first: Array, w_tap: Array, w_times: Array,
    pattern_first: Array, pattern_end: Array, x_class: Array, best: Array, a: Array, b: Array,
) -> None:  # fmt: skip
    """a[p], b[p] uint32 = the most frequent pair of a word and a weight of pattern p, best[p] its count.

    The words of tap t and class c are words[s] from start[t * classes + c], seen[s] times. Weight v stands w_times[i]
    times at tap w_tap[i], i from w_first[v]; patterns pattern_first[v] to pattern_end[v] have its top bits, and words
    of class x_class[p].
    """
    for v in range(len(w_bits)):
        for p in range(pattern_first[v], pattern_end[v]):
            size = 0
            for i in range(w_first[v], w_first[v + 1]):
                segment = w_tap[i] * classes + x_class[p]
                size += start[segment + 1] - start[segment]
            met, counts = np.empty(size, np.uint32), np.empty(size, np.int64)
            n = 0
            for i in range(w_first[v], w_first[v + 1]):
                segment = w_tap[i] * classes + x_class[p]
                for s in range(start[segment], start[segment + 1]):
                    met[n] = words[s]
                    counts[n] = seen[s] * w_times[i]
                    n += 1
            if w_first[v + 1] - w_first[v] > 1:
                order = np.argsort(met)
                met, counts = met[order], counts[order]
            total = 0
            for s in range(size):
                total += counts[s]
                if s + 1 < size and met[s + 1] == met[s]:
                    continue
                smaller = met[s] < a[p] or (met[s] == a[p] and w_bits[v] < b[p])
                if total > best[p] or (total == best[p] and smaller):
                    best[p], a[p], b[p] = total, met[s], w_bits[v]
                total = 0


@njit
def run_faulty(
    x: Array, w: Array, bias: Array, start: Array, x_at: Array, k_at: Array, group_words: int, groups: int,
    struck: Array, values: Array, y: Array,
) -> None:  # fmt: skip
    """As `run_exact` for one image x (words,); operation struck[i], in order of issue, gives values[i]."""
    per_group = len(w) // groups
    operation = 0
    next_one = 0
    for m in range(len(w)):
        shift = m // per_group * group_words
        for i in range(len(start) - 1):
            acc = bias[m]
            for e in range(start[i], start[i + 1]):
                product = _flush(x[shift + x_at[e]] * w[m, k_at[e]])
                if next_one < len(struck) and struck[next_one] == operation:
                    product = values[next_one]
                    next_one += 1
                acc = _flush(acc + product)
                operation += 1
            y[m, i] = acc
