"""Addition, requantisation and the float64 functions against definitions written out."""

from __future__ import annotations

import math

import kernel_twins as twin
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from archsim.kernels import elementwise as kernels


def codes(rng, shape):
    values = rng.integers(-(2**15), 2**15, shape).astype(np.int16)
    values.reshape(-1)[::4] = -(2**15)
    return values


@settings(max_examples=60)
@given(
    st.integers(0, 2**32),
    st.integers(0, 12),
    st.integers(0, 12),
    st.sampled_from([(None, None), (0, None), (-50, 2**20)]),
    st.integers(-4, 14),
    st.sampled_from([8, 16, 32]),
)
def test_addition_equals_the_twin(seed, shift_a, shift_b, bounds, shift, bits):
    rng = np.random.default_rng(seed)
    a, b = codes(rng, (2, 3, 5, 7)), codes(rng, (2, 3, 5, 7))[:, :, ::-1]
    y, saturated = kernels.add_fixed(a, b, shift_a, shift_b, *bounds, shift, bits)
    total = (a.astype(np.int64) << shift_a) + (b.astype(np.int64) << shift_b)
    expected, words = twin.requantise(total, *bounds, shift, bits)
    assert y.dtype == expected.dtype
    np.testing.assert_array_equal(y, expected)
    assert saturated == words


def test_addition_saturates_and_does_not_depend_on_the_chunk(monkeypatch):
    a = np.full((3, 50), 32767, np.int16)
    a[1] = -32768
    whole, saturated = kernels.add_fixed(a, a, 0, 0, None, None, 0, 16)
    assert saturated == 150 and whole[1].max() == -32768 and whole[0].min() == 32767
    monkeypatch.setattr(kernels, "CHUNK", 7)
    parts, counted = kernels.add_fixed(a, a, 0, 0, None, None, 0, 16)
    assert counted == 150
    np.testing.assert_array_equal(parts, whole)


def test_addition_refuses_what_is_not_exact():
    a = np.ones((2, 2), np.int16)
    with pytest.raises(ValueError, match="one shape"):
        kernels.add_fixed(a, a[:1], 0, 0, None, None, 0, 16)
    with pytest.raises(ValueError, match=">= 0"):
        kernels.add_fixed(a, a, -1, 0, None, None, 0, 16)
    with pytest.raises(OverflowError, match="64 bits"):
        kernels.add_fixed(a, a, 62, 62, None, None, 0, 16)


@settings(max_examples=60)
@given(
    st.lists(st.integers(-(2**63), 2**63 - 1) | st.integers(-70000, 70000), min_size=1, max_size=30),
    st.integers(-70, 70),
    st.integers(2, 32),
)
def test_requantisation_is_exact_over_all_of_int64(words, shift, bits):
    acc = np.array(words, np.int64)
    y, saturated = kernels.requantise(acc, shift, bits)
    expected, clipped = twin.requantise(acc, None, None, shift, bits)
    assert y.tolist() == expected.tolist() and y.dtype == expected.dtype
    assert saturated == clipped


def test_requantisation_keeps_the_shape_and_takes_views():
    acc = np.arange(-60, 60, dtype=np.int32).reshape(4, 5, 6)
    y, _ = kernels.requantise(acc[:, ::2, ::-1], 2, 16)
    np.testing.assert_array_equal(y, np.floor(acc[:, ::2, ::-1] / 4 + 0.5))


@pytest.mark.parametrize("size", [1, 2, 3, 5, 8])
def test_lrn_is_the_onnx_formula(size):
    x = np.random.default_rng(size).standard_normal((2, 6, 3, 2))
    y = kernels.lrn(x, size, 0.3, 0.75, 1.5)
    for n, c, h, w in np.ndindex(x.shape):
        first, last = max(0, c - math.floor((size - 1) / 2)), min(5, c + math.ceil((size - 1) / 2))
        squares = sum(x[n, i, h, w] ** 2 for i in range(first, last + 1))
        assert y[n, c, h, w] == pytest.approx(x[n, c, h, w] / (1.5 + 0.3 / size * squares) ** 0.75, rel=1e-13)


def test_softmax_of_large_values_is_a_distribution():
    x = np.array([[1000.0, 1001.0, -1000.0], [0.0, 0.0, 0.0]])
    y = kernels.softmax(x)
    assert y.dtype == np.float64
    np.testing.assert_allclose(y.sum(axis=1), 1.0, rtol=1e-15)
    np.testing.assert_allclose(y[0], [1 / (1 + math.e), math.e / (1 + math.e), 0.0], rtol=1e-14)
    maps = np.random.default_rng(1).standard_normal((2, 4, 3, 3))
    np.testing.assert_allclose(kernels.softmax(maps), np.exp(maps) / np.exp(maps).sum(1, keepdims=True), rtol=1e-13)


def test_sigmoid_and_tanh_reach_their_limits_without_warnings():
    x = np.array([-1000.0, -2.0, 0.0, 2.0, 1000.0])
    np.testing.assert_allclose(
        kernels.sigmoid(x), [0.0, 1 / (1 + math.exp(2)), 0.5, 1 / (1 + math.exp(-2)), 1.0], rtol=1e-15
    )
    np.testing.assert_allclose(kernels.tanh(x), [-1.0, math.tanh(-2), 0.0, math.tanh(2), 1.0], rtol=1e-15)
