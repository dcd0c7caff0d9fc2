"""The kernel: bit-equal to the dense layer, step for step equal to a slow reference, sound where it stops."""

from __future__ import annotations

from dataclasses import replace
from itertools import product
from typing import Any

import numpy as np
import pytest

from archsim.accelerators.snapea import kernel
from archsim.accelerators.snapea.function import termination
from archsim.accelerators.snapea.order import SnapeaStored
from archsim.errors import AccumulatorOverflowError, MappingError, StudyError
from archsim.workload.layers import Activation, Linear
from archsim.workload.reference import reference
from tests.unit import snapea_twins as twin
from tests.unit.snapea_cases import EXACT, RELU, LayerCase, config, levels, random_layer, random_speculation

LAYERS = 200
VOID = 0.3
"""A batch of random layers in which fewer windows stop shows nothing."""


def stopped_share(cases: list[LayerCase]) -> float:
    stats = [case.outcome().stats.sum(axis=(0, 1)) for case in cases]
    windows = sum(case.outcome().group_op.shape[0] * case.outcome().y[:, 0].size for case in cases)
    return float(sum(one[kernel.SIGN_STOPS] + one[kernel.THRESHOLD_STOPS] for one in stats) / windows)


@pytest.mark.parametrize("order", ["magnitude", "index"])
@pytest.mark.parametrize("drop", [False, True])
def test_exact_mode_equals_the_dense_layer(order: str, drop: bool) -> None:
    cases = [random_layer(seed) for seed in range(LAYERS)]
    for case in cases:
        got = case.run(region_order=order, drop_zero_weights=drop)
        expected = reference(case.conv, case.x, case.params)
        np.testing.assert_array_equal(got.y, expected.y)
        assert got.y is not None and got.y.dtype == expected.y.dtype
        assert got.saturated_words == expected.saturated_words
    assert stopped_share(cases) >= VOID
    assert sum(case.run().saturated_words for case in cases) > 0


def test_random_layers_show_the_interesting() -> None:
    convs = [random_layer(seed).conv for seed in range(LAYERS)]
    assert any(conv.Q % 4 for conv in convs) and any(conv.groups > 1 for conv in convs)
    assert any(conv.stride[1] == 2 for conv in convs) and any(conv.weight_count == conv.M for conv in convs)
    biases = np.concatenate([random_layer(seed).params.bias for seed in range(LAYERS)])  # type: ignore[list-item]
    assert (biases < 0).any() and (biases > 0).any()


def reference_windows(case: LayerCase, stored: SnapeaStored | None = None, **changes: Any) -> dict[str, Any]:
    """Steps, output sums and kinds of stop of all windows by the slow reference."""
    conv, held = case.conv, stored or case.stored(**changes)
    words = twin.window_words(case.x, conv)
    shape = (len(case.x), conv.M, conv.P, conv.Q)
    found = {"op": np.zeros(shape, int), "out": np.zeros(shape, object), "dense": np.zeros(shape, object)}
    stops = np.full(shape, "", object)
    clean, compares = case.stored(**changes).extra, {k: changes.get(k, "<") for k in ("th_compare", "sign_compare")}
    assert clean is not None and held.params.weights is not None
    for m in range(conv.M):
        weights = held.params.weights[m].reshape(-1).tolist()
        sequence = (clean.kernel(m)[1].tolist(), int(clean.negative_at[m]))
        bias, n, th = (int(v) for v in (case.params.bias[m], clean.n[m], clean.th[m]))  # type: ignore[index]
        for at in product(*(range(size) for size in (len(case.x), conv.P, conv.Q))):
            x = words[at][m // (conv.M // conv.groups)].tolist()
            lane = twin.run_lane(weights, x, sequence, bias, n, th, **compares)
            index = (at[0], m, at[1], at[2])
            found["op"][index], found["out"][index], found["dense"][index] = lane.op, lane.output, lane.dense
            stops[index] = lane.stop
    return {**found, "stop": stops}


def check_windows(case: LayerCase, stored: SnapeaStored | None = None, **changes: Any) -> dict[str, Any]:
    """Compare every window with the reference; outputs as raw accumulators."""
    expected = reference_windows(case, stored, **changes)
    raw = replace(case, params=replace(case.params, y_scale=None))
    held = None if stored is None else replace(stored, params=replace(stored.params, y_scale=None))
    done = raw.outcome(held, **changes)
    np.testing.assert_array_equal(raw.window_ops(held, **changes), expected["op"])
    np.testing.assert_array_equal(done.y, expected["out"].astype(np.int64))
    stats = dict(zip(kernel.STATS, done.stats.sum(axis=(0, 1)).tolist()))
    dense, stop = expected["dense"].astype(np.int64), expected["stop"]
    assert stats["macs"] == expected["op"].sum()
    assert (stats["negative"], stats["positive"]) == ((dense < 0).sum(), (dense > 0).sum())
    assert stats["sign_stops"] == (stop == "sign").sum()
    assert stats["threshold_stops"] == (stop == "threshold").sum()
    assert stats["true_negative"] == ((stop == "threshold") & (dense < 0)).sum()
    assert stats["false_negative"] == ((stop == "threshold") & (dense > 0)).sum()
    assert stats["sign_lost"] == ((stop == "sign") & (dense > 0)).sum()
    return expected


@pytest.mark.parametrize(("th_compare", "sign_compare"), [("<", "<"), ("<=", "<"), ("<", "<="), ("<=", "<=")])
def test_steps_equal_the_window_by_window_reference(th_compare: str, sign_compare: str) -> None:
    windows = stopped = on_zero = 0
    for seed in range(24):
        for case in (random_layer(seed), random_speculation(random_layer(seed), seed)):
            expected = check_windows(case, th_compare=th_compare, sign_compare=sign_compare, mode="predictive")
            windows += expected["op"].size
            stopped += (expected["stop"] != "").sum()
            on_zero += (expected["dense"] == 0).sum()
    assert windows >= 10_000 / 4 and stopped >= VOID * windows and on_zero > 50


def test_comparisons_differ_where_sums_are_zero() -> None:
    """On zero-heavy data the four readings of the comparisons are four different machines."""
    case = random_speculation(random_layer(8), 1)
    reads = {
        (th, sign): case.window_ops(th_compare=th, sign_compare=sign, mode="predictive").sum()
        for th, sign in product(("<", "<="), repeat=2)
    }
    cases = [random_speculation(random_layer(seed), seed) for seed in range(2, 60, 3)]
    sums = [
        sum(one.window_ops(th_compare=th, sign_compare=sign, mode="predictive").sum() for one in cases)
        for th, sign in reads
    ]
    assert len(set(sums)) == 4


def disturbed(case: LayerCase, seed: int) -> SnapeaStored:
    """Weights as an approximate memory hands them over: some signs flipped, also in the negative part."""
    rng = np.random.default_rng(seed)

    def flips(words: Any) -> Any:
        return np.where(rng.random(words.shape) < 0.15, words ^ np.int16(-32768), words)

    stored = case.stored().perturbed(flips)
    assert isinstance(stored, SnapeaStored)
    return stored


def test_disturbed_weights_take_the_stepwise_kernel_and_may_lose_results() -> None:
    lost = 0
    for seed in (0, 1, 3, 4, 6, 7):
        for case in (random_layer(seed), random_speculation(random_layer(seed), seed)):
            expected = check_windows(case, disturbed(case, seed))
            lost += ((expected["stop"] == "sign") & (expected["dense"] > 0)).sum()
    assert lost > 0  # exact mode is not lossless any more, and the report counts it


def test_disturbed_inputs_are_read_as_unsigned_words() -> None:
    """A flipped sign bit makes a large activation, never a negative one: the PE multiplies unsigned words."""
    case = random_layer(4)
    x = case.x.copy()
    x[:, :, ::2] |= np.int16(-32768)
    flipped = replace(case, x=x)
    got = flipped.run().y
    expected = reference(case.conv, x.view(np.uint16).astype(np.int32), case.params).y
    np.testing.assert_array_equal(got, expected)
    np.testing.assert_array_equal(flipped.run(mode="dense").y, expected)


@pytest.mark.parametrize(
    ("activation", "non_negative", "mode", "how"),
    [
        (RELU, True, "exact", "sign"),
        (RELU, True, "predictive", "sign and threshold"),
        (Activation("clip", 0.0, 6.0), True, "exact", "sign"),
        (Activation("clip", -1.0, 6.0), True, "exact", "off: no ReLU"),
        (Activation("clip", 0.5, 6.0), True, "exact", "off: no ReLU"),
        (Activation(), True, "exact", "off: no ReLU"),
        (RELU, False, "exact", "off: signed ifmap"),
        (RELU, True, "dense", "off: mode dense"),
    ],
)
def test_windows_stop_only_where_it_is_sound(activation: Activation, non_negative: bool, mode: str, how: str) -> None:
    for seed in (0, 1, 2, 9):
        case = random_layer(seed)
        x = case.x if non_negative else case.x - np.int16(4000)
        params = replace(
            case.params, x_non_negative=non_negative, x_scale=replace(case.params.x_scale, fraction_bits=20)
        )
        one = LayerCase(replace(case.conv, activation=activation), x, params)
        assert termination(config(mode=mode), one.conv, params) == how
        done = one.run(mode=mode)
        np.testing.assert_array_equal(done.y, reference(one.conv, x, params).y)
        assert dict(done.batches[0].metrics)["termination"] == how
        if how.startswith("off"):
            assert done.batches[0].macs_done == one.conv.macs_dense


def test_stopping_on_signed_inputs_would_be_wrong() -> None:
    """Why signed layers run dense: with the termination forced on, results change."""
    wrong = 0
    for seed in range(0, 12, 3):
        case = random_layer(seed)
        x = case.x - np.int16(4000)
        words = twin.window_words(x, case.conv)
        for m in range(case.conv.M):
            weights = case.params.weights[m].reshape(-1).tolist()  # type: ignore[index]
            for one in words[0, :, :, m // (case.conv.M // case.conv.groups)].reshape(-1, len(weights)):
                lane = twin.run_lane(weights, one.tolist(), twin.order(weights), int(case.params.bias[m]))  # type: ignore[index]
                wrong += lane.output != max(lane.dense, 0)
    assert wrong > 0


def test_linear_layers_are_one_window_per_image() -> None:
    rng = np.random.default_rng(3)
    layer = Linear(name="fc", inputs=("x",), output="y", N=3, C=50, M=17, activation=RELU)
    base = random_layer(0).params
    params = replace(
        base, weights=rng.integers(-900, 800, (17, 50)).astype(np.int16), bias=rng.integers(-(10**7), 10**7, 17)
    )
    x = rng.integers(0, 3000, (6, 50)).astype(np.int16)
    case = LayerCase(layer, x, params)  # type: ignore[arg-type]
    done = case.run()
    np.testing.assert_array_equal(done.y, reference(layer, x, params).y)
    assert len(done.batches) == 2 and done.batches[0] != done.batches[1]
    assert sum(batch.macs_done for batch in done.batches) < 2 * layer.macs_dense


def test_batches_add_up_whatever_the_block() -> None:
    case = random_layer(7, batches=3)
    whole = case.run()
    parts = [replace(case, x=case.x[i : i + case.conv.N]).run() for i in range(0, len(case.x), case.conv.N)]
    assert whole.batches == tuple(part.batches[0] for part in parts)


def test_accumulator_overflow_names_layer_and_image() -> None:
    case = random_layer(0)
    bias = np.zeros(case.conv.M, np.int64)
    bias[-1] = (1 << 47) - 10
    loud = replace(case, params=replace(case.params, bias=bias), x=np.maximum(case.x, 1))
    with pytest.raises(AccumulatorOverflowError, match=r"random.*image 0.*48-bit"):
        loud.run()


def test_bias_at_the_edge_of_the_accumulator_is_exact() -> None:
    """Sums that may overflow but do not: looked at step by step, in 64-bit integers."""
    case = random_layer(3)
    bias = np.full(case.conv.M, -(1 << 47) + 1, np.int64)
    params = replace(case.params, bias=bias, weights=np.abs(case.params.weights))  # type: ignore[arg-type]
    edge = replace(case, params=params)
    np.testing.assert_array_equal(edge.run().y, reference(case.conv, case.x, params).y)


@pytest.mark.parametrize(
    ("rows", "error", "message"),
    [
        ({0: (5, 0)}, StudyError, "filter 0, level 1: n must be a whole number, 1 to"),
        ({0: (1 << 47, 1)}, StudyError, "filter 0, level 1: th must be a whole number, -140737488355327 to"),
        ({0: (5, 10**6)}, MappingError, "got 1000000"),
        ({0: (0.5, 1)}, StudyError, "th must be a whole number"),
    ],
)
def test_impossible_levels_are_refused(rows: Any, error: type[Exception], message: str) -> None:
    case = random_layer(0)
    with pytest.raises(error, match=message):
        replace(case, setting=levels(rows, case.conv.M)).stored(mode="predictive")


def test_level_without_a_row_is_refused() -> None:
    case = random_layer(0)
    setting = replace(levels({0: (1, 1)}, case.conv.M), levels={"speculation": 1})
    with pytest.raises(StudyError, match=r"levels\.speculation\.random: no row for filter 1, level 1"):
        replace(case, setting=setting).stored(mode="predictive")


def test_order_by_activation_needs_calibration_images() -> None:
    case = random_layer(0)
    with pytest.raises(MappingError, match="needs calibration images"):
        case.stored(region_order="activation")
    means = np.arange(1.0, case.conv.C + 1)
    stored = replace(case, params=replace(case.params, x_mean=means)).stored(region_order="activation")
    assert stored.extra is not None and case.setting is EXACT
    expected = np.repeat(means.reshape(case.conv.groups, -1), case.conv.R * case.conv.S, axis=1)
    weights = case.params.weights[0].reshape(-1).tolist()  # type: ignore[index]
    assert stored.extra.kernel(0)[1].tolist() == twin.order(weights, "activation", importance=expected[0].tolist())[0]
