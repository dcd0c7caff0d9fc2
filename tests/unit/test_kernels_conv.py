"""Exact convolution and linear layers against their twins, bit for bit."""

from __future__ import annotations

import kernel_twins as twin
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from threadpoolctl import threadpool_limits

from archsim.kernels import conv

INT16 = np.iinfo(np.int16)


def linear_accumulate(x, w, bias):
    return conv.linear_fixed(x, w, bias, None, None, None, 32)[0]


def codes(rng, shape, bits=16):
    """Uniform codes over the whole range, the extremes forced in: half of them negative."""
    values = rng.integers(-(1 << (bits - 1)), 1 << (bits - 1), shape)
    values.reshape(-1)[:: max(1, values.size // 3)] = -(1 << (bits - 1))
    return values.astype(np.int8 if bits <= 8 else np.int16 if bits <= 16 else np.int32)


@st.composite
def convolutions(draw):
    """Any legal geometry with ragged sizes, as (x shape, w shape, stride, pad, dilation, groups)."""
    small = st.integers(1, 3)
    groups, channels, filters = draw(small), draw(small), draw(small)
    R, S = draw(st.integers(1, 12)), draw(st.integers(1, 5))
    stride = (draw(st.integers(1, 4)), draw(st.integers(1, 4)))
    dilation = (draw(st.integers(1, 2)), draw(st.integers(1, 2)))
    pad = tuple(draw(st.integers(0, 3)) for _ in range(4))
    H = draw(st.integers(dilation[0] * (R - 1) + 1, 26))
    W = draw(st.integers(dilation[1] * (S - 1) + 1, 19))
    x_shape = (draw(small), groups * channels, H, W)
    return x_shape, (groups * filters, channels, R, S), stride, pad, dilation, groups


@settings(max_examples=60)
@given(convolutions(), st.integers(0, 2**32), st.sampled_from([8, 16, 24]), st.sampled_from([1, 5000, 4 << 20]))
def test_accumulators_equal_the_twin_whatever_the_block(case, seed, bits, block_bytes):
    x_shape, w_shape, *geometry = case
    rng = np.random.default_rng(seed)
    x, w = codes(rng, x_shape, bits), codes(rng, w_shape, bits)
    bias = rng.integers(-(2**45), 2**45, w_shape[0])
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(conv, "BLOCK_BYTES", block_bytes)
        acc = conv.conv_accumulate(x, w, bias, *geometry)
    assert acc.dtype == np.int64
    np.testing.assert_array_equal(acc, twin.convolve(x, w, bias, *geometry))


@settings(max_examples=40)
@given(convolutions(), st.integers(0, 2**32), st.integers(-6, 40), st.sampled_from([4, 8, 16, 20, 32]))
def test_requantised_codes_and_saturated_words_equal_the_twin(case, seed, shift, bits):
    x_shape, w_shape, *geometry = case
    rng = np.random.default_rng(seed)
    x, w, bias = codes(rng, x_shape), codes(rng, w_shape), rng.integers(-(2**33), 2**33, w_shape[0])
    low, high = (None, 0, -(2**28))[seed % 3], (None, 2**31, 2**29)[seed // 3 % 3]
    y, saturated = conv.conv_fixed(x, w, bias, *geometry, low, high, shift, bits)
    expected, words = twin.requantise(twin.convolve(x, w, bias, *geometry), low, high, shift, bits)
    assert y.dtype == expected.dtype
    np.testing.assert_array_equal(y, expected)
    assert saturated == words


HAND_PICKED = [
    pytest.param((2, 8, 14, 14), (6, 8, 3, 3), (1, 1), (1, 1, 1, 1), (1, 1), 1, id="same-3x3"),
    pytest.param((3, 7, 9, 9), (5, 7, 1, 1), (1, 1), (0, 0, 0, 0), (1, 1), 1, id="1x1"),
    pytest.param((2, 7, 9, 10), (5, 7, 1, 1), (2, 2), (0, 0, 0, 0), (1, 1), 1, id="1x1-stride-2"),
    pytest.param((2, 3, 31, 29), (4, 3, 11, 11), (4, 4), (2, 2, 2, 2), (1, 1), 1, id="11x11-stride-4"),
    pytest.param((1, 3, 27, 26), (4, 3, 12, 5), (3, 1), (0, 2, 1, 3), (1, 1), 1, id="12x5-ragged"),
    pytest.param((2, 6, 13, 11), (6, 1, 3, 3), (1, 1), (1, 1, 1, 1), (1, 1), 6, id="depthwise"),
    pytest.param((2, 4, 13, 11), (8, 1, 3, 3), (2, 2), (0, 1, 1, 0), (1, 1), 4, id="depthwise-multiplier-2"),
    pytest.param((2, 8, 10, 10), (12, 2, 3, 3), (1, 1), (2, 2, 2, 2), (2, 2), 4, id="groups-dilated"),
    pytest.param((1, 5, 6, 7), (3, 5, 6, 7), (1, 1), (0, 0, 0, 0), (1, 1), 1, id="one-window"),
    pytest.param((1, 1, 4, 4), (2, 1, 1, 1), (1, 1), (0, 0, 0, 0), (1, 1), 1, id="K-1"),
    pytest.param((1, 2, 2, 3), (2, 2, 3, 3), (1, 1), (2, 3, 2, 1), (1, 1), 1, id="pad-wider-than-map"),
    pytest.param((1, 2, 1, 1), (2, 2, 5, 5), (1, 1), (2, 2, 2, 2), (1, 1), 1, id="map-of-one"),
]


@pytest.mark.parametrize(("x_shape", "w_shape", "stride", "pad", "dilation", "groups"), HAND_PICKED)
@pytest.mark.parametrize("bits", [4, 16, 26])
def test_every_exact_path_equals_the_twin(x_shape, w_shape, stride, pad, dilation, groups, bits):
    rng = np.random.default_rng(7)
    x, w = codes(rng, x_shape, bits), codes(rng, w_shape, bits)
    bias = rng.integers(-(2**40), 2**40, w_shape[0])
    acc = conv.conv_accumulate(x, w, bias, stride, pad, dilation, groups)
    np.testing.assert_array_equal(acc, twin.convolve(x, w, bias, stride, pad, dilation, groups))


def test_the_type_follows_the_real_maxima_at_their_limits():
    none = np.zeros(1, np.int64)
    ones = np.ones((1, 4), np.int32)
    assert conv.exact_dtype(np.array([2**22]), ones, none) is np.float32
    assert conv.exact_dtype(np.array([-(2**22) - 1]), ones, none) is np.float64
    assert conv.exact_dtype(np.array([2**30, -(2**51)]), ones, none) is np.float64
    assert conv.exact_dtype(np.array([2**51 + 1]), ones, none) is np.int64


@pytest.mark.parametrize(("K", "code"), [(1024, 127), (4096, 32767), (8, 2**29 - 1)], ids=["f32", "f64", "int64"])
def test_sums_next_to_the_limit_of_each_type_keep_their_last_bit(K, code):
    x = np.full((1, K, 1, 3), code, np.int32)
    x[0, 0, 0, 1] -= 1
    w = np.full((2, K, 1, 1), -code, np.int32)
    acc = conv.conv_accumulate(x, w, None, (1, 1), (0, 0, 0, 0), (1, 1), 1)
    exact = -K * code * code
    assert acc[0, 0, 0].tolist() == [exact, exact + code, exact]


def test_extreme_codes_saturate_on_both_sides():
    x = np.full((1, 64, 5, 5), INT16.min, np.int16)
    w = np.stack([np.full((64, 3, 3), edge, np.int16) for edge in (INT16.min, INT16.max)])
    y, saturated = conv.conv_fixed(x, w, None, (1, 1), (1, 1, 1, 1), (1, 1), 1, None, None, 15, 16)
    assert (y[0, 0] == INT16.max).all() and (y[0, 1] == INT16.min).all()
    assert saturated == y.size


def test_ties_round_half_up_on_both_signs():
    x = np.array([-3, -2, -1, 1, 2, 3], np.int16).reshape(1, 1, 1, 6)
    one = np.ones((1, 1, 1, 1), np.int16)
    y, saturated = conv.conv_fixed(x, one, None, (1, 1), (0, 0, 0, 0), (1, 1), 1, None, None, 1, 16)
    assert y.reshape(-1).tolist() == [-1, -1, 0, 1, 1, 2]
    assert saturated == 0


def test_a_bias_beyond_the_float_range_stays_exact():
    x = np.array([[1], [-1], [0]], np.int16)
    w = np.array([[1]], np.int16)
    bias = np.array([2**61 + 1])
    assert linear_accumulate(x, w, bias).reshape(-1).tolist() == [2**61 + 2, 2**61, 2**61 + 1]


@pytest.mark.parametrize("shift", [62, 63, 64, 200, -62, -63, -200])
def test_any_shift_is_exact(shift):
    bias = np.array([2**62 - 1, 2**62, -(2**62) - 1, 2**63 - 1, -(2**63), 1, -1, 0])
    x, w = np.zeros((1, 1, 1, 1), np.int16), np.zeros((8, 1, 1, 1), np.int16)
    bias = np.clip(bias, -(2**63) + 1, None)
    y, saturated = conv.conv_fixed(x, w, bias, (1, 1), (0, 0, 0, 0), (1, 1), 1, None, None, shift, 16)
    expected, words = twin.requantise(bias, None, None, shift, 16)
    assert y.reshape(-1).tolist() == expected.tolist()
    assert saturated == words


def test_clipped_accumulators_without_requantisation():
    rng = np.random.default_rng(3)
    x, w = codes(rng, (2, 3, 6, 6)), codes(rng, (4, 3, 3, 3))
    geometry = (1, 1), (1, 1, 1, 1), (1, 1), 1
    y, saturated = conv.conv_fixed(x, w, None, *geometry, 0, 10**9, None, 16)
    np.testing.assert_array_equal(y, np.clip(twin.convolve(x, w, None, *geometry), 0, 10**9))
    assert y.dtype == np.int64 and saturated == 0
    assert (y == 0).any() and (y == 10**9).any()


@settings(max_examples=30)
@given(st.integers(1, 40), st.integers(1, 70), st.integers(1, 30), st.integers(0, 2**32), st.sampled_from([1, 4 << 20]))
def test_linear_layers_equal_the_twin(images, channels, filters, seed, block_bytes):
    rng = np.random.default_rng(seed)
    x, w = codes(rng, (images, channels)), codes(rng, (filters, channels))
    bias = rng.integers(-(2**40), 2**40, filters)
    acc = x.astype(np.int64) @ w.T.astype(np.int64) + bias
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(conv, "LINEAR_BYTES", block_bytes)
        np.testing.assert_array_equal(linear_accumulate(x, w, bias), acc)
        y, saturated = conv.linear_fixed(x, w, bias, 0, None, 17, 16)
    expected, words = twin.requantise(acc, 0, None, 17, 16)
    np.testing.assert_array_equal(y, expected)
    assert saturated == words


def test_views_and_read_only_inputs_give_the_same_and_are_not_changed():
    rng = np.random.default_rng(5)
    x, w = codes(rng, (4, 6, 12, 10)), codes(rng, (4, 3, 3, 3))
    x.flags.writeable = w.flags.writeable = False
    geometry = (1, 1), (1, 0, 1, 0), (1, 1), 1
    view, filters = x[::2, ::2, :, ::-1], w[::-1]
    expected = twin.convolve(view, filters, None, *geometry)
    np.testing.assert_array_equal(conv.conv_accumulate(view, filters, None, *geometry), expected)


def test_integers_do_not_depend_on_the_number_of_blas_threads():
    rng = np.random.default_rng(9)
    x, w = codes(rng, (3, 32, 20, 20)), codes(rng, (48, 32, 3, 3))
    results = []
    for threads in (1, 2, 3):
        with threadpool_limits(threads):
            results.append(conv.conv_accumulate(x, w, None, (1, 1), (1, 1, 1, 1), (1, 1), 1))
    for other in results[1:]:
        np.testing.assert_array_equal(results[0], other)


@settings(max_examples=40)
@given(convolutions(), st.integers(0, 2**32))
def test_float_convolution_is_close_to_float64(case, seed):
    x_shape, w_shape, *geometry = case
    rng = np.random.default_rng(seed)
    x, w = rng.standard_normal(x_shape, np.float32), rng.standard_normal(w_shape, np.float32)
    bias = rng.standard_normal(w_shape[0], np.float32)
    y = conv.conv_float(x, w, bias, *geometry)
    assert y.dtype == np.float32
    exact = twin.convolve(x, w, bias, *geometry, dtype=np.float64)
    scale = twin.convolve(abs(x), abs(w), abs(bias), *geometry, dtype=np.float64)
    assert (np.abs(y - exact) <= 1e-5 * scale).all()


@pytest.mark.parametrize(("C", "M", "H"), [(9, 7, 13), (64, 33, 7), (130, 5, 3), (300, 64, 1)])
def test_float_results_of_an_image_do_not_depend_on_its_batch(C, M, H):
    rng = np.random.default_rng(11)
    x, w = rng.standard_normal((5, C, H, H), np.float32), rng.standard_normal((M, C, 3, 3), np.float32)
    geometry = (1, 1), (1, 1, 1, 1), (1, 1), 1
    one_by_one = [conv.conv_float(x[n : n + 1], w, None, *geometry) for n in range(5)]
    np.testing.assert_array_equal(conv.conv_float(x, w, None, *geometry), np.concatenate(one_by_one))


def test_float_features_of_an_image_do_not_depend_on_its_batch():
    rng = np.random.default_rng(13)
    features, weights = rng.standard_normal((37, 301), np.float32), rng.standard_normal((45, 301), np.float32)
    rows = [conv.linear_float(features[n : n + 1], weights, None) for n in range(37)]
    np.testing.assert_array_equal(conv.linear_float(features, weights, None), np.concatenate(rows))


def test_linear_float_is_close_to_float64():
    rng = np.random.default_rng(12)
    x, w, bias = (rng.standard_normal(shape, np.float32) for shape in ((19, 500), (33, 500), (33,)))
    y = conv.linear_float(x, w, bias)
    scale = abs(x).astype(float) @ abs(w).T.astype(float)
    assert (np.abs(y - (x.astype(float) @ w.T.astype(float) + bias)) <= 1e-5 * scale).all()


def test_what_cannot_be_exact_or_does_not_fit_is_refused():
    wide = np.full((1, 3), -(2**31), np.int32)
    with pytest.raises(OverflowError, match="64 bits"):
        linear_accumulate(wide, wide, None)
    x, w = np.zeros((1, 4, 5, 5), np.int16), np.zeros((2, 4, 3, 3), np.int16)
    with pytest.raises(ValueError, match="groups"):
        conv.conv_accumulate(x, w, None, (1, 1), (0, 0, 0, 0), (1, 1), 2)
    with pytest.raises(ValueError, match="fit into the padded map"):
        conv.conv_accumulate(x, w, None, (1, 1), (0, 0, 0, 0), (3, 3), 1)
    with pytest.raises(ValueError, match="bits must be"):
        conv.conv_fixed(x, w, None, (1, 1), (0, 0, 0, 0), (1, 1), 1, None, None, 0, 33)
