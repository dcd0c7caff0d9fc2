"""Modelled accumulators against a word-by-word twin in unbounded integers."""

from __future__ import annotations

import kernel_twins as twin
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from archsim.kernels import stepwise
from archsim.kernels.stepwise import accumulate_stepwise, overflow_possible

GEOMETRY = (1, 1), (0, 0, 0, 0), (1, 1), 1


def accumulate_twin(x, w, bias, stride, pad, dilation, groups, order, acc_bits, overflow, product_shift):
    """The definition: one window, one step at a time, in Python integers."""
    M, channels, R, S = w.shape
    taps = twin.windows_of(x.astype(np.int64), R, S, stride, pad, dilation)
    N, _, _, _, P, Q = taps.shape
    low, high = -(1 << (acc_bits - 1)), (1 << (acc_bits - 1)) - 1
    acc, events, first, peak = np.empty((N, M, P, Q), np.int64), 0, -1, 0
    for n, m, p, q in np.ndindex(acc.shape):
        base = m // (M // groups) * channels
        window = taps[n, base : base + channels, :, :, p, q].reshape(-1)
        products = [(int(window[k]) * int(w[m].reshape(-1)[k])) >> product_shift for k in order]
        total = 0
        for step in [0 if bias is None else int(bias[m]), *products]:
            exact = total + step
            peak = max(peak, abs(exact))
            if not low <= exact <= high:
                events += 1
                first = n if first < 0 else first
            wrapped = (exact - low) % (1 << acc_bits) + low
            total = {"error": exact, "wrap": wrapped, "saturate": min(max(exact, low), high)}[overflow]
        acc[n, m, p, q] = total
    return acc, events, first, peak


@st.composite
def cases(draw):
    groups = draw(st.integers(1, 2))
    channels, filters = draw(st.integers(1, 3)), draw(st.integers(1, 2))
    R, S = draw(st.integers(1, 4)), draw(st.integers(1, 3))
    geometry = (
        (draw(st.integers(1, 3)), draw(st.integers(1, 2))),
        tuple(draw(st.integers(0, 2)) for _ in range(4)),
        (draw(st.integers(1, 2)), 1),
        groups,
    )
    H, W = draw(st.integers(geometry[2][0] * (R - 1) + 1, 9)), draw(st.integers(S, 8))
    shapes = (draw(st.integers(1, 3)), groups * channels, H, W), (groups * filters, channels, R, S)
    return shapes, geometry


@settings(max_examples=60)
@given(
    cases(),
    st.integers(0, 2**32),
    st.integers(14, 40),
    st.sampled_from(["error", "wrap", "saturate"]),
    st.integers(0, 9),
    st.sampled_from([1, 512]),
)
def test_every_mode_equals_the_twin(case, seed, acc_bits, overflow, product_shift, block_windows):
    (x_shape, w_shape), geometry = case
    rng = np.random.default_rng(seed)
    x, w = (rng.integers(-(2**15), 2**15, shape).astype(np.int16) for shape in (x_shape, w_shape))
    x.reshape(-1)[::5] = 0
    bias = rng.integers(-(2**acc_bits), 2**acc_bits, w_shape[0])
    order = rng.permutation(w[0].size)
    arguments = x, w, bias, *geometry, order, acc_bits, overflow, product_shift
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(stepwise, "BLOCK_WINDOWS", block_windows)
        acc, events, first, peak = accumulate_stepwise(*arguments)
    expected, *facts = accumulate_twin(*arguments)
    assert acc.dtype == np.int64
    np.testing.assert_array_equal(acc, expected)
    assert [events, first, peak] == facts


def signed_case(order):
    """Two images of one window, four products each; mixed signs leave 8 bits on the way in image 1 only."""
    x = np.array([[1, 1, 1, 1], [60, 60, 60, 60]], np.int16).reshape(2, 4, 1, 1)
    w = np.array([1, 1, 1, -1], np.int16).reshape(1, 4, 1, 1)
    return x, w, None, *GEOMETRY, np.array(order), 8


def test_the_order_decides_whether_a_balanced_sum_overflows():
    late, events, first, peak = accumulate_stepwise(*signed_case([0, 1, 2, 3]), "error", 0)
    assert (events, first, peak) == (1, 1, 180)
    early, events, first, peak = accumulate_stepwise(*signed_case([3, 0, 1, 2]), "error", 0)
    assert (events, first, peak) == (0, -1, 120)
    assert late.reshape(-1).tolist() == early.reshape(-1).tolist() == [2, 120]


def test_wrap_forgets_an_excursion_and_saturation_does_not():
    wrapped, events, _, _ = accumulate_stepwise(*signed_case([0, 1, 2, 3]), "wrap", 0)
    assert wrapped.reshape(-1).tolist() == [2, 120] and events == 2  # out at 180, and back in from -76 - 60
    clamped, events, _, _ = accumulate_stepwise(*signed_case([0, 1, 2, 3]), "saturate", 0)
    assert clamped.reshape(-1).tolist() == [2, 67] and events == 1


def test_products_shift_towards_minus_infinity():
    x, w = np.array([3, -3], np.int16).reshape(1, 2, 1, 1), np.ones((1, 2, 1, 1), np.int16)
    acc = accumulate_stepwise(x, w, None, *GEOMETRY, np.arange(2), 16, "error", 1)[0]
    assert acc.item() == 1 - 2


def test_a_bias_that_does_not_fit_is_an_event():
    x, w = np.zeros((3, 1, 1, 1), np.int16), np.ones((1, 1, 1, 1), np.int16)
    for overflow, value in (("wrap", -128), ("saturate", 127)):
        acc, events, first, peak = accumulate_stepwise(x, w, np.array([128]), *GEOMETRY, np.array([0]), 8, overflow, 0)
        assert acc.reshape(-1).tolist() == [value] * 3
        assert (events, first, peak) == (3, 0, 128)


@pytest.mark.parametrize("overflow", ["error", "wrap", "saturate"])
def test_a_sum_at_the_limit_is_no_event_and_one_beyond_is(overflow):
    x = np.array([127, 128, -128, -129], np.int16).reshape(4, 1, 1, 1)
    for image, expected in enumerate((0, 1, 0, 1)):
        one = np.ones((1, 1, 1, 1), np.int16)
        _, events, first, _ = accumulate_stepwise(
            x[image : image + 1], one, None, *GEOMETRY, np.array([0]), 8, overflow, 0
        )
        assert (events, first) == (expected, expected - 1)


def test_calls_in_parts_of_the_filters_change_nothing(monkeypatch):
    rng = np.random.default_rng(2)
    x, w = rng.integers(-99, 99, (2, 4, 6, 5)).astype(np.int16), rng.integers(-99, 99, (6, 2, 3, 3)).astype(np.int16)
    arguments = x, w, None, (1, 1), (1, 1, 1, 1), (1, 1), 2, rng.permutation(18), 16, "saturate", 0
    whole = accumulate_stepwise(*arguments)
    monkeypatch.setattr(stepwise, "CALL_PRODUCTS", 1)
    parts = accumulate_stepwise(*arguments)
    np.testing.assert_array_equal(parts[0], whole[0])
    assert parts[1:] == whole[1:] and whole[1] > 0


@settings(max_examples=50)
@given(st.integers(0, 2**15), st.integers(0, 2**32), st.integers(20, 40))
def test_possible_overflow_is_the_bound_in_exact_integers(x_abs_max, seed, acc_bits):
    rng = np.random.default_rng(seed)
    w = rng.integers(-(2**15), 2**15, (4, 3, 2, 2)).astype(np.int16)
    w.reshape(-1)[0] = -(2**15)
    bias = rng.integers(-(2**30), 2**30, 4)
    bounds = [abs(int(b)) + x_abs_max * sum(abs(int(v)) for v in filters.reshape(-1)) for b, filters in zip(bias, w)]
    assert overflow_possible(x_abs_max, w, bias, acc_bits) == (max(bounds) > 2 ** (acc_bits - 1) - 1)


def test_the_bound_is_reached_exactly():
    w = np.array([[1, -1]], np.int16)
    assert not overflow_possible(63, w, np.array([-1]), 8)
    assert overflow_possible(63, w, np.array([-2]), 8)
    assert not overflow_possible(63, w, None, 8)


def test_bad_arguments_are_refused():
    x, w = np.zeros((1, 2, 1, 1), np.int16), np.zeros((1, 2, 1, 1), np.int16)
    for order, acc_bits, shift, rule in (([0, 0], 8, 0, "permutation"), ([0, 1], 63, 0, "acc_bits"), ([0, 1], 8, -1, "product_shift")):  # fmt: skip  # noqa: E501
        with pytest.raises(ValueError, match=rule):
            accumulate_stepwise(x, w, None, *GEOMETRY, np.array(order), acc_bits, "wrap", shift)
