"""Execution order of kernels: the published examples, and a separate implementation on random weights."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from archsim.accelerators.snapea.order import SnapeaStored, Speculation, Streams, order_layer, speculation_set
from archsim.errors import MappingError
from archsim.workload.formats import Fixed, Scale
from archsim.workload.params import LayerParams
from tests.unit import snapea_twins as twin

TARGETS = json.loads((Path(__file__).parents[1] / "reference" / "snapea_targets.json").read_text())
LANE_CASES = TARGETS["worked_lane_cases"]
WEIGHTS = st.lists(st.one_of(st.integers(-6, 6), st.integers(-32768, 32767)), min_size=1, max_size=60)


def ordered(weights: list[int], how: str = "magnitude", n: int = 0, drop: bool = False, **more: Any) -> Streams:
    speculation = {0: Speculation(0, n)} if n else {}
    return order_layer("x", np.array([weights], np.int16), how, drop, speculation, **more)


@pytest.mark.parametrize("case", LANE_CASES, ids=lambda case: case["name"])
def test_worked_lane(case: dict[str, Any]) -> None:
    """The order, every partial sum and the steps of the published small examples."""
    streams = ordered(case["w"], case["region_order"], case["n"])
    assert streams.index.tolist() == case["sigma"] and streams.negative_at.tolist() == [case["p_neg"]]
    assert streams.weights.tolist() == [case["w"][i] for i in case["sigma"]]
    lane = twin.run_lane(
        case["w"], case["x"], twin.order(case["w"], case["region_order"], case["n"]), case["bias"], case["n"],
        case["th"] or 0,
    )  # fmt: skip
    assert (lane.op, lane.output, lane.dense) == (case["op"], case["output"], case["dense_sum"])
    assert list(lane.sums) == case["partial_sums"]


@given(WEIGHTS, st.sampled_from(["magnitude", "index"]), st.booleans(), st.data())
def test_order_of_random_kernels(weights: list[int], how: str, drop: bool, data: st.DataObject) -> None:
    kept = len([w for w in weights if w]) or 1 if drop else len(weights)
    n = data.draw(st.integers(0, kept))
    streams = ordered(weights, how, n, drop)
    indices, negative_at = twin.order(weights, how, n, drop)
    assert streams.index.tolist() == indices and streams.negative_at.tolist() == [negative_at]
    negative_part = streams.weights[negative_at:]
    assert (negative_part < 0).all() and (streams.weights[n:negative_at] >= 0).all()


@given(WEIGHTS, st.lists(st.floats(0, 100), min_size=60, max_size=60), st.integers(0, 3))
def test_order_by_mean_activation(weights: list[int], means: list[float], n: int) -> None:
    n = min(n, len(weights))
    importance = means[: len(weights)]
    streams = ordered(weights, "activation", n, importance=np.array([importance]))
    expected, negative_at = twin.order(weights, "activation", n, importance=importance)
    assert streams.negative_at.tolist() == [negative_at]
    size = np.abs(np.array(weights, float) * importance)
    for part in (slice(n, negative_at), slice(negative_at, None)):
        assert size[streams.index[part]].tolist() == size[expected[part]].tolist()
        assert (np.diff(size[streams.index[part]]) <= 0).all()


def test_kernels_of_a_layer_differ_in_order_and_speculation() -> None:
    rng = np.random.default_rng(0)
    weights = rng.integers(-50, 50, (7, 20)).astype(np.int16)
    weights[3] = 0
    streams = order_layer("x", weights, "magnitude", True, {1: Speculation(-5, 4), 6: Speculation(9, 1)})
    assert streams.n.tolist() == [0, 4, 0, 0, 0, 0, 1] and streams.th.tolist() == [0, -5, 0, 0, 0, 0, 9]
    for m, row in enumerate(weights.tolist()):
        indices, negative_at = twin.order(row, "magnitude", int(streams.n[m]), True)
        values, index = streams.kernel(m)
        assert index.tolist() == indices and streams.negative_at[m] == negative_at
        assert values.tolist() == [row[i] for i in indices]
    assert streams.lengths[3] == 1  # a kernel of zeros still takes a step
    np.testing.assert_array_equal(streams.dense(weights.shape), weights)


def test_large_layers_are_sorted_in_blocks(monkeypatch: pytest.MonkeyPatch) -> None:
    weights = np.random.default_rng(1).integers(-9, 9, (40, 30)).astype(np.int16)
    importance = np.random.default_rng(2).random((40, 30))
    whole = [order_layer("x", weights, how, False, {}, importance) for how in ("magnitude", "activation")]
    monkeypatch.setattr("archsim.accelerators.snapea.order.SORT_WEIGHTS", 70)
    for how, expected in zip(("magnitude", "activation"), whole):
        np.testing.assert_array_equal(order_layer("x", weights, how, False, {}, importance).index, expected.index)


@pytest.mark.parametrize("n", [1, 2, 3, 5, 8, 11])
def test_speculation_set_takes_the_largest_of_every_run(n: int) -> None:
    weights = np.array([5, -5, 0, 3, 3, -9, 1, 0, 7, -2, 7], np.int16)
    chosen = speculation_set(weights, np.arange(len(weights)), n).tolist()
    assert chosen == twin.order(weights.tolist(), "index", n)[0][:n]
    assert len(set(chosen)) == n


def test_work_leaves_out_zero_products_only() -> None:
    weights = np.array([[0, 3, 0, -2, 0, -1], [0, 0, 0, 0, 0, 0]], np.int16)
    streams = order_layer("x", weights, "magnitude", False, {0: Speculation(0, 3)})
    work = streams.work
    assert work.weights.tolist() == [w for w in streams.weights.tolist() if w]
    assert (work.end - work.start).tolist() == [3, 0]
    assert (work.end - work.negative).tolist() == (streams.lengths - streams.negative_at).tolist()


def test_flips_hit_the_stored_weights_and_keep_the_order() -> None:
    weights = np.array([[4, -3, 0, 2]], np.int16)
    params = LayerParams(Fixed(16), Scale(), Scale(), None, weights[:, :, None, None])
    stored = SnapeaStored(params, order_layer("x", weights, "magnitude", True, {}))

    def negate_first(words: Any) -> Any:
        assert words.tolist() == [4, 2, -3]  # what DRAM holds: reordered, zeros dropped
        flipped = words.copy()
        flipped[0] = -4
        return flipped

    seen = stored.perturbed(negate_first)
    assert isinstance(seen, SnapeaStored) and seen.extra is not None and seen.params.weights is not None
    assert seen.extra.index.tolist() == [0, 3, 1] and seen.extra.weights.tolist() == [-4, 2, -3]
    assert seen.params.weights.reshape(-1).tolist() == [-4, -3, 0, 2]
    assert stored.params.weights is params.weights and weights.reshape(-1).tolist() == [4, -3, 0, 2]


def test_impossible_kernels_are_refused() -> None:
    with pytest.raises(MappingError, match=r"conv9.*16-bit index: got 65537, limit 65536"):
        order_layer("conv9", np.zeros((1, 65537), np.int16), "index", False, {})
    for n in (0, 5):
        with pytest.raises(MappingError, match=rf"conv9.*filter 0.*got {n}, limit 4"):
            order_layer("conv9", np.zeros((1, 4), np.int16), "index", False, {0: Speculation(0, n)})
