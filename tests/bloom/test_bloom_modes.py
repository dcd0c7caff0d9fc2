"""`representative: mode`: the exact operands that are most frequent in the class of a pattern."""

from __future__ import annotations

from collections import Counter

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from archsim.accelerators.bloom import Bloom
from archsim.accelerators.bloom.floats import OPERANDS, apply_unit, flushed, top_bits
from archsim.accelerators.bloom.modes import modal_products
from archsim.accelerators.bloom.profile import Events, frequent_events, frequent_products, key_counts, operands_of
from archsim.accelerators.bloom.stream import stream_of
from archsim.workload.layers import Conv, Linear
from tests.contract.driver import LAYERS, parameters

CONVS = [layer for layer in LAYERS if isinstance(layer, Conv | Linear)]


def coarse(values: np.ndarray, bits: int) -> np.ndarray:
    """Values with so many top bits only: exact operands repeat."""
    keep = np.uint32(0xFFFFFFFF << (32 - bits) & 0xFFFFFFFF)
    return (np.float32(values).view(np.uint32) & keep).view(np.float32)


def exact_pairs(operands: list) -> Counter:
    """How often every pair of exact operands occurs, as bits, one multiplication after the other."""
    pairs = Counter[tuple[int, int]]()
    for one in operands:
        stream, each = one.stream, len(one.w) // one.stream.groups
        x, w = one.x.view(np.uint32).tolist(), one.w.view(np.uint32).tolist()
        for words in x:
            for m, weights in enumerate(w):
                shift = m // each * stream.group_words
                pairs.update(
                    (words[shift + at], weights[k]) for at, k in zip(stream.x_at.tolist(), stream.k_at.tolist())
                )
    return pairs


@pytest.mark.parametrize("bits", [11, 13, 32])
@pytest.mark.parametrize("names", [("plain",), ("depthwise",), ("plain", "depthwise", "linear")], ids=str)
def test_most_frequent_operands_of_a_pattern(bits: int, names: tuple[str, ...]) -> None:
    """`mode`: counted pair by pair; weights that stand at several taps, in several layers; ties take smaller bits."""
    apx, operands = 9, []
    for layer in (one for one in CONVS if one.name in names):
        x, params = parameters(layer, Bloom.formats[0], False)
        operands.append(operands_of(stream_of(layer), coarse(x, bits), coarse(params.weights, bits)))
    pairs, best, ties = exact_pairs(operands), dict[tuple[int, int], tuple[int, int, int]](), 0
    for (a, b), n in pairs.items():
        pattern = (a >> (32 - apx), b >> (32 - apx))
        ties += pattern in best and best[pattern][0] == -n
        best[pattern] = min(best.get(pattern, (0, 0, 0)), (-n, a, b))
    found = frequent_products(operands, apx, 60, "mode", key_counts(operands, apx))
    a, b = modal_products(operands, apx, found.tops)
    expected = [best[int(x), int(w)][1:] for x, w in found.tops]
    assert list(zip(a.view(np.uint32).tolist(), b.view(np.uint32).tolist())) == expected and ties > 20
    np.testing.assert_array_equal(np.stack([top_bits(a, apx), top_bits(b, apx)], axis=1), found.tops)
    np.testing.assert_array_equal(found.outputs.view(np.uint32), apply_unit("mul", [a, b]).view(np.uint32))
    assert bits == 32 or max(-best[int(x), int(w)][0] for x, w in found.tops if x & 0xFF) > 2


@settings(max_examples=40, deadline=None)
@given(seed=st.integers(0, 2**32 - 1), apx=st.integers(4, 31), kind=st.sampled_from(["add", "mul", "mac", "sqrt"]))
def test_most_frequent_operands_of_a_unit(seed: int, apx: int, kind: str) -> None:
    """Streams: what a pattern stands for is the exact output of operands of its class, the most frequent ones."""
    rng = np.random.default_rng(seed)
    pool = flushed(rng.normal(size=5).astype(np.float32) * np.float32(2.0) ** rng.integers(-4, 4, 5))
    operands = np.concatenate([pool, flushed(pool * np.float32(1 + 2**-10))])[
        rng.integers(0, 10, (300, OPERANDS[kind]))
    ]
    events = Events(kind, operands, apply_unit(kind, list(operands.T)))
    found = frequent_events(events, apx, 40, None, "mode")
    rows, counts = np.unique(operands.view(np.uint32), axis=0, return_counts=True)
    for tops, output in zip(found.tops, found.outputs.view(np.uint32)):
        mine = np.flatnonzero((rows >> np.uint32(32 - apx) == tops).all(axis=1))
        likeliest = rows[mine[np.argmax(counts[mine])]].view(np.float32)
        assert output == apply_unit(kind, [np.float32([one]) for one in likeliest]).view(np.uint32)[0]


def test_whole_patterns_stand_for_themselves() -> None:
    """With all bits kept `mode` is exact."""
    x, params = parameters(CONVS[0], Bloom.formats[0], False)
    found = frequent_products([operands_of(stream_of(CONVS[0]), x, params.weights)], 32, 40, "mode")
    a, b = found.tops.view(np.float32).T
    np.testing.assert_array_equal(found.outputs.view(np.uint32), apply_unit("mul", [a, b]).view(np.uint32))
    values = np.random.default_rng(2).normal(size=(50, 3)).astype(np.float32)[np.arange(200) % 50]
    events = Events("mac", values, apply_unit("mac", list(values.T)))
    found = frequent_events(events, 32, 40, None, "mode")
    exact = apply_unit("mac", list(np.ascontiguousarray(found.tops).view(np.float32).T))
    np.testing.assert_array_equal(found.outputs.view(np.uint32), exact.view(np.uint32))
