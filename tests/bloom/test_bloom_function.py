"""Layers and streams through the units: the sequential reference, counts, profiles, selection, faults."""

from __future__ import annotations

from collections import Counter
from dataclasses import replace
from itertools import pairwise

import numpy as np
import pytest
from pydantic import ValidationError

from archsim.accelerators.base import Placement, Sample, Stored
from archsim.accelerators.bloom import Bloom, profile
from archsim.accelerators.bloom.events import evaluate, events_of
from archsim.accelerators.bloom.faults import farther, products_at, struck
from archsim.accelerators.bloom.floats import apply_unit, flushed, top_bits
from archsim.accelerators.bloom.prepare import Filtered, product_extremes
from archsim.accelerators.bloom.profile import (
    Events,
    frequent_events,
    frequent_products,
    key_counts,
    operands_of,
    products_of,
)
from archsim.accelerators.bloom.stream import stream_of
from archsim.approx import LayerSetting
from archsim.errors import StudyError
from archsim.workload.layers import Conv, Layer, Linear, OpStream
from archsim.workload.networks import load_network
from archsim.workload.pictures import scenes
from archsim.workload.random import rng_for
from archsim.workload.reference import op_stream_reference
from tests.bloom.cases import config
from tests.contract.driver import LAYERS, parameters

CONVS = [layer for layer in LAYERS if isinstance(layer, Conv | Linear)]
KERNELS = ("sobel", "roberts", "prewitt", "scharr", "sharpen")


def draws(use: str, image: int) -> np.random.Generator:
    return rng_for(3, "bloom", "layer", use, image)


def issue_order(layer: Layer) -> list[list[tuple[int, int]]]:
    """For every window the (input word, weight) of its taps: channel, row, column; padding taps are not issued."""
    if isinstance(layer, Linear):
        return [[(c, c) for c in range(layer.C)]]
    assert isinstance(layer, Conv)
    windows = []
    for p in range(layer.P):
        for q in range(layer.Q):
            taps = []
            for c in range(layer.C // layer.groups):
                for r in range(layer.R):
                    for s in range(layer.S):
                        y = p * layer.stride[0] - layer.pad[0] + r * layer.dilation[0]
                        x = q * layer.stride[1] - layer.pad[1] + s * layer.dilation[1]
                        if 0 <= y < layer.H and 0 <= x < layer.W:
                            taps.append(((c * layer.H + y) * layer.W + x, (c * layer.R + r) * layer.S + s))
            windows.append(taps)
    return windows


def sequential(layer: Layer, x: np.ndarray, w: np.ndarray, bias: np.ndarray, unit=None) -> np.ndarray:
    """F10: NumPy scalars, one rounding each, in order of issue."""
    M, groups = len(w), getattr(layer, "groups", 1)
    flat, w = x.reshape(len(x), -1), w.reshape(M, -1)
    shift = flat.shape[1] // groups
    windows = issue_order(layer)
    y = np.empty((len(x), M, len(windows)), np.float32)
    for n in range(len(x)):
        for m in range(M):
            words = flat[n, m // (M // groups) * shift :]
            for i, taps in enumerate(windows):
                acc = bias[m]
                for at, k in taps:
                    product = unit(words[at], w[m, k]) if unit else words[at] * w[m, k]
                    acc = np.float32(acc + product)
                y[n, m, i] = acc
    return y


@pytest.mark.parametrize("layer", CONVS, ids=lambda one: one.name)
def test_streams_are_in_order_of_issue(layer: Layer) -> None:
    stream = stream_of(layer)
    found = [
        list(zip(stream.x_at[a:b].tolist(), stream.k_at[a:b].tolist()))
        for a, b in zip(stream.start[:-1], stream.start[1:])
    ]
    assert found == issue_order(layer)


def machine_and_params(layer: Layer, **changes):
    machine = Bloom(config(**changes))
    x, params = parameters(layer, machine.formats[0], False)
    return machine, x, params, replace(params, calibration=machine.calibrate([Sample(layer, params, x)]))


@pytest.mark.parametrize("layer", CONVS, ids=lambda one: one.name)
def test_level_0_is_the_sequential_reference_bit_for_bit(layer: Layer) -> None:
    """A15."""
    machine, x, params, _ = machine_and_params(layer)
    plain = replace(params, bias=params.bias)
    plan = machine.map(layer, Stored(plain), Placement())
    y = machine.execute(layer, plan, x, Stored(plain), LayerSetting(), draws).y
    expected = sequential(layer, x, params.weights, params.bias)
    if layer.activation.kind != "none":
        expected = np.clip(expected, layer.activation.low, layer.activation.high).astype(np.float32)
    assert y is not None and y.dtype == np.float32
    np.testing.assert_array_equal(y.reshape(expected.shape).view(np.uint32), expected.view(np.uint32))


@pytest.mark.parametrize("apx", [9, 16])
@pytest.mark.parametrize("wiring", [("per_bf", "per_output"), ("shared", "per_output"), ("shared", "single")], ids=str)
def test_filtered_layers_equal_the_units_one_by_one(apx: int, wiring: tuple[str, str]) -> None:
    """Tables (9 bits) and hashes (16 bits) against asking the filters operation by operation; both wirings."""
    layer = next(one for one in CONVS if one.name == "depthwise")
    levels = ((apx, 12),) * 5
    machine, x, params, calibrated = machine_and_params(
        layer, match_levels=levels, hash=wiring[0], vector=wiring[1], fp_max_unit=1.0, m=32
    )
    setting = LayerSetting({"bloom_match": 1})
    stored = machine.prepare(layer, calibrated, setting)
    assert isinstance(stored.extra, Filtered)
    bank, seen = stored.extra.banks["mul"], Counter[str]()

    def unit(a: np.float32, b: np.float32) -> np.float32:
        tops = top_bits(np.float32([a, b]), apx)[None]
        found = bank.ask(tops)
        seen["queries"] += 1
        seen["hits"] += int(found[0] >= 0)
        seen["false"] += int(bank.false(tops, found)[0])
        return bank.outputs[found[0]] if found[0] >= 0 else np.float32(a * b)

    plan = machine.map(layer, stored, Placement())
    activity = machine.execute(layer, plan, x, stored, setting, draws)
    expected = np.maximum(sequential(layer, x, params.weights, params.bias, unit), 0)
    assert activity.y is not None
    np.testing.assert_array_equal(activity.y.reshape(expected.shape), expected)
    metrics = [dict(batch.metrics) for batch in activity.batches]
    for name, metric in (("queries", "query_events"), ("hits", "hit_events"), ("false", "false_hit_events")):
        assert sum(one[metric] for one in metrics) == seen[name]
    assert seen["hits"] > 0.1 * seen["queries"] and (seen["false"] > 0 or wiring[1] == "per_output")


def counted(layers: list[Layer], apx: int) -> tuple[list, Counter]:
    """Operands and counts by the slow way."""
    operands, keys = [], Counter[tuple[int, int]]()
    for layer in layers:
        x, params = parameters(layer, Bloom.formats[0], False)
        operands.append(operands_of(stream_of(layer), x, params.weights))
        groups = getattr(layer, "groups", 1)
        flat, w = x.reshape(len(x), -1), params.weights.reshape(layer.M, -1)
        for image in flat:
            for m in range(layer.M):
                words = image[m // (layer.M // groups) * (flat.shape[1] // groups) :]
                for taps in issue_order(layer):
                    for at, k in taps:
                        a, b = top_bits(np.float32([words[at], w[m, k]]), apx)
                        keys[int(a), int(b)] += 1
    return operands, keys


@pytest.mark.parametrize("apx", [8, 11, 12, 32])
def test_most_frequent_patterns(apx: int) -> None:
    """By descending count, then ascending key; narrow keys from a table, wide ones through buckets; several layers."""
    operands, keys = counted([CONVS[0], CONVS[2]], apx)
    table = key_counts(operands, apx) if apx <= 11 else None
    found = frequent_products(operands, apx, 20, "mid", table)
    expected = sorted(keys.items(), key=lambda item: (-item[1], item[0]))[:20]
    assert [tuple(one) for one in found.tops.tolist()] == [key for key, _ in expected]
    assert found.counts.tolist() == [count for _, count in expected] and found.counts[0] > found.counts[-1]


@pytest.mark.parametrize("slots", [64, 1024])
@pytest.mark.parametrize("apx", [12, 32])
def test_no_frequent_pattern_is_lost_to_a_small_table(slots: int, apx: int, monkeypatch: pytest.MonkeyPatch) -> None:
    """Far more keys than the table has places: they are counted share by share."""
    operands, keys = counted([CONVS[0], CONVS[2]], apx)
    monkeypatch.setattr(profile, "HEAVY_SLOTS", slots)
    found = frequent_products(operands, apx, 400, "mid")
    expected = sorted(keys.items(), key=lambda item: (-item[1], item[0]))[:400]
    assert [tuple(one) for one in found.tops.tolist()] == [key for key, _ in expected] and len(keys) > 4 * slots
    assert found.counts.tolist() == [count for _, count in expected]


def test_wide_global_patterns_are_screened_on_every_layer() -> None:
    """Share of false hits among the queries that no stored pattern answers, every key of both layers asked."""
    layers = [CONVS[0], CONVS[2]]
    machine = Bloom(config(profile="global", match_levels=((12, 40),) * 5, fp_max_unit=1.0, m=32))
    samples = [
        Sample(layer, params, x) for layer in layers for x, params in [parameters(layer, Bloom.formats[0], False)]
    ]
    told = machine.calibrate(samples).filtered(layers[0], 1)
    bank, shares = told.banks["mul"], []
    for layer in layers:
        _, keys = counted([layer], 12)
        tops, times = np.array(list(keys), np.uint32), np.array(list(keys.values()))
        found = bank.ask(tops)
        false = bank.false(tops, found)
        shares.append((times[false].sum(), times[false | (found < 0)].sum()))
    false, missing = np.sum(shares, axis=0)
    assert told.screened["mul"] == pytest.approx(false / missing)
    assert shares[1][0] > 0 and shares[0][0] / shares[0][1] != pytest.approx(false / missing)


def test_representatives_of_products() -> None:
    layer = CONVS[0]
    operands, _ = counted([layer], 9)
    found = frequent_products(operands, 9, 60, "mean", key_counts(operands, 9))
    keys = (found.tops[:, 0].astype(np.uint64) << np.uint64(9)) | found.tops[:, 1]
    sums, seen, first = products_of(operands, 9, keys)
    np.testing.assert_array_equal(seen, found.counts)
    np.testing.assert_array_equal(found.outputs, (sums / seen).astype(np.float32))
    first_ones = frequent_products(operands, 9, 60, "first", key_counts(operands, 9))
    np.testing.assert_array_equal(first_ones.outputs, first)
    assert len(set(first.tolist())) > 10 and (first != found.outputs).any()


def test_patterns_with_one_output_share_a_filter() -> None:
    """Zeros: many patterns, one output of each sign; filter 0 is hit most often."""
    operands, _ = counted([CONVS[0]], 9)
    chosen = frequent_products(operands, 9, 30, "mean", key_counts(operands, 9))
    grouped, first, outputs = chosen.by_filter()
    assert len(outputs) < len(chosen.outputs) and len(set(outputs.view(np.uint32).tolist())) == len(outputs)
    totals = [grouped.counts[a:b].sum() for a, b in pairwise(first)]
    assert totals == sorted(totals, reverse=True)
    for f, (a, b) in enumerate(pairwise(first)):
        assert (grouped.outputs[a:b].view(np.uint32) == outputs[f].view(np.uint32)).all()


def test_patterns_of_a_filter_may_be_limited() -> None:
    """Further patterns of an output go to filters of their own, with the same output."""
    operands, _ = counted([CONVS[0]], 9)
    chosen = frequent_products(operands, 9, 30, "mean", key_counts(operands, 9))
    for limit in (1, 3):
        grouped, first, outputs = replace(chosen, per_filter=limit).by_filter()
        assert np.diff(first).max() == limit and len(grouped.counts) == 30
        assert (limit == 1) == (len(outputs) == 30)
        for f, (a, b) in enumerate(pairwise(first)):
            assert (grouped.outputs[a:b].view(np.uint32) == outputs[f].view(np.uint32)).all()
        assert len(set(outputs.view(np.uint32).tolist())) < len(outputs)


def test_outputs_first() -> None:
    """Of the two most frequent outputs the three most frequent inputs."""
    operands = np.float32([[1, 6], [2, 3], [2, 3], [3, 2], [1, 5], [5, 1], [5, 1], [1, 4], [1, 4], [1, 4]])
    events = Events("mul", operands, apply_unit("mul", [operands[:, 0], operands[:, 1]]))
    found = frequent_events(events, 32, 3, 2, "mean")
    assert sorted(found.outputs.tolist()) == [4.0, 6.0, 6.0] and found.counts.tolist() == [3, 2, 1]


# Streams of operations


@pytest.mark.parametrize("kernel", KERNELS)
def test_kernels_at_level_0_are_exact(kernel: str) -> None:
    (layer,) = load_network(kernel).layers
    assert isinstance(layer, OpStream)
    x = scenes("test", 0, 2)[:, None].astype(np.float32)
    layer = replace(layer, H=x.shape[2], W=x.shape[3])
    np.testing.assert_array_equal(evaluate(layer, x), op_stream_reference(layer, x))


def test_filtered_streams_equal_the_units_one_by_one() -> None:
    (layer,) = load_network("sobel").layers
    assert isinstance(layer, OpStream)
    x = scenes("test", 0, 2)[:, None, :12, :14].astype(np.float32)
    layer = replace(layer, H=12, W=14)
    machine = Bloom(config(match_levels=((32, 40),) * 5, fp_max_unit=1.0, m=256))
    params = parameters(layer, machine.formats[0], True)[1]
    knowledge = machine.calibrate([Sample(layer, params, x[:1])])
    setting = LayerSetting({"bloom_match": 1})
    stored = machine.prepare(layer, replace(params, calibration=knowledge), setting)
    activity = machine.execute(layer, machine.map(layer, stored, Placement()), x, stored, setting, draws)
    hits = Counter[str]()

    def answer(_, kind, operands, exact):
        out = exact.copy()
        for i in range(len(exact)):
            tops = top_bits(np.array([one[i] for one in operands]), 32)[None]
            (found,) = stored.extra.banks[kind].ask(tops)
            if found >= 0:
                hits[kind] += 1
                out[i] = stored.extra.banks[kind].outputs[found]
        return out

    np.testing.assert_array_equal(activity.y, evaluate(layer, x, answer))
    told = Counter[str]()
    for batch in activity.batches:
        for name, value in batch.metrics:
            told[name] += value
    assert {kind: told[f"{kind}_hit_events"] for kind in hits} == dict(hits)
    assert set(hits) == {"add", "mul", "mac", "sqrt"} and told["hit_events"] == hits.total()


def test_profile_events_are_all_operations() -> None:
    (layer,) = load_network("roberts").layers
    assert isinstance(layer, OpStream)
    x = scenes("train", 0, 2)[:, None].astype(np.float32)
    layer = replace(layer, H=120, W=160)
    events = events_of(layer, x)
    assert {kind: len(one.outputs) for kind, one in events.items()} == {
        "mul": 3 * 2 * 118 * 158, "mac": 3 * 2 * 118 * 158, "sqrt": 2 * 118 * 158
    }  # fmt: skip


# Faults


@pytest.mark.parametrize("rate", [0.0, 1e-3, 0.3, 1.0])
def test_faults_strike_at_their_rate(rate: float) -> None:
    operations = 200_000
    at = struck(np.random.default_rng(1), operations, rate)
    assert (np.diff(at) > 0).all() and (len(at) == 0 or (at[0] >= 0 and at[-1] < operations))
    assert abs(len(at) - rate * operations) <= 4 * np.sqrt(operations * rate * (1 - rate)) + 1e-9


@pytest.mark.parametrize("rate", [1e-12, 1e-19, 1e-300])
def test_the_least_rates_strike_nothing(rate: float) -> None:
    """Gaps of up to 2^63 are drawn; their sum must not turn negative."""
    assert all(len(struck(np.random.default_rng(seed), 200_000, rate)) == 0 for seed in range(20))


def test_faulty_products_are_the_exact_ones_elsewhere() -> None:
    layer = CONVS[0]
    machine, x, params, calibrated = machine_and_params(layer)
    table = {"unit_faults": ({"level": 1, "mul": 0.02},)}
    setting = LayerSetting({"unit_faults": 1}, table)
    stored = machine.prepare(layer, calibrated, setting)
    stream = stream_of(layer)
    flat, w = flushed(x).reshape(len(x), -1), flushed(params.weights).reshape(layer.M, -1)
    extremes = product_extremes(operands_of(stream, x, params.weights))
    assert stored.extra.extremes["mul"] == extremes
    plan = machine.map(layer, stored, Placement())
    y = machine.execute(layer, plan, x, stored, setting, draws).y
    assert y is not None
    for image in range(len(x)):
        at = struck(draws("faults", image), stream.operations, 0.02)
        wrong = dict(zip(at.tolist(), farther(products_at(stream, flat[image], w, at), extremes)))
        operations = iter(range(stream.operations))

        def unit(a: np.float32, b: np.float32, wrong=wrong, operations=operations) -> np.float32:
            return wrong.get(next(operations), np.float32(a * b))

        expected = np.maximum(sequential(layer, x[image : image + 1], w, params.bias, unit), 0)
        np.testing.assert_array_equal(y[image].reshape(expected.shape[1:]), expected[0])


# Mistakes


def test_patterns_need_images() -> None:
    layer = CONVS[0]
    machine, _, params, _ = machine_and_params(layer)
    with pytest.raises(StudyError, match=r"'plain'.*workload\.calibration"):
        machine.prepare(layer, params, LayerSetting({"bloom_match": 2}))


@pytest.mark.parametrize(
    ("row", "told"), [({"level": 1, "mull": 0.1}, "got mull 0.1"), ({"level": 1, "mul": 2}, "from 0 to 1; got mul 2")]
)
def test_wrong_fault_tables(row: dict, told: str) -> None:
    layer = CONVS[0]
    machine, _, _, calibrated = machine_and_params(layer)
    with pytest.raises(StudyError, match=told):
        machine.prepare(layer, calibrated, LayerSetting({"unit_faults": 1}, {"unit_faults": (row,)}))


def test_knobs_exclude_each_other() -> None:
    both = {"conv1": LayerSetting({"unit_faults": 1, "bloom_match": 1})}
    with pytest.raises(StudyError, match="conv1"):
        Bloom.check_setting(config(), both)


def test_representatives_that_do_not_exist() -> None:
    with pytest.raises(ValidationError, match="'mean', 'mid', 'first', 'trunc' or 'mode'"):
        config(representative="median")


def test_wirings_that_do_not_exist() -> None:
    with pytest.raises(ValidationError, match="needs hash 'shared'"):
        config(vector="single")
    with pytest.raises(ValidationError, match="needs 5 rows"):
        config(match_levels=((9, 10),))
