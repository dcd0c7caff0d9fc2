"""Number formats: scales from ranges, rounding, saturation, and the way back."""

from __future__ import annotations

import math

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from archsim.workload.formats import AffineInt8, Bfloat16, Fixed, Scale
from archsim.workload.params import Tensor

PEAKS = st.floats(1e-20, 1e20)
BITS = st.sampled_from([2, 4, 8, 12, 16, 24, 32])


@given(peak=PEAKS, bits=BITS, negative=st.booleans())
def test_fixed_scale_is_the_finest_that_holds_the_peak(peak, bits, negative):
    low, high = (-peak, peak / 3) if negative else (-peak / 3, peak)
    f = Fixed(bits).scale_of(low, high).fraction_bits
    assert math.ldexp(peak, f) <= 2 ** (bits - 1)
    assert math.ldexp(peak, f + 1) > 2 ** (bits - 1)


@pytest.mark.parametrize("bits", [8, 16])
def test_an_all_zero_tensor_gets_the_most_fraction_bits(bits):
    assert Fixed(bits).scale_of(0.0, 0.0) == Scale(fraction_bits=bits - 1)


@pytest.mark.parametrize("exponent", [-3, 0, 5])
def test_a_power_of_two_saturates_by_one_code_and_its_negative_does_not(exponent):
    fixed, peak = Fixed(8), 2.0**exponent
    scale = fixed.scale_of(-peak, peak)
    assert scale.fraction_bits == 7 - exponent
    assert fixed.encode([peak, -peak, peak * 127 / 128], scale).tolist() == [127, -128, 127]


def test_fixed_rounds_half_up_on_both_sides_of_zero():
    values = np.array([0.5, 1.5, 2.5, -0.5, -1.5, -2.5, 0.49999, -0.50001])
    assert Fixed(8).encode(values, Scale()).tolist() == [1, 2, 3, 0, -1, -2, 0, -1]


@given(st.lists(st.floats(-100, 100, width=32), min_size=1, max_size=30), BITS)
def test_fixed_codes_are_within_half_a_step_or_saturated(values, bits):
    fixed = Fixed(bits)
    scale = fixed.scale_of(min(values), max(values))
    codes = fixed.encode(values, scale)
    step = math.ldexp(1.0, -scale.fraction_bits)
    error = np.abs(fixed.decode(codes, scale) - values)
    at_the_end = codes == fixed.code_max
    assert (error[~at_the_end] <= step / 2).all()
    assert (error[at_the_end] <= step).all()
    np.testing.assert_array_equal(fixed.encode(fixed.decode(codes, scale), scale), codes)


@pytest.mark.parametrize(("bits", "dtype"), [(2, np.int16), (16, np.int16), (17, np.int32), (32, np.int32)])
def test_fixed_codes_have_the_smallest_storage_type(bits, dtype):
    codes = Fixed(bits).encode([1e30, -1e30], Scale())
    assert codes.dtype == dtype
    assert codes.tolist() == [2 ** (bits - 1) - 1, -(2 ** (bits - 1))]


def test_bfloat16_rounds_as_an_independent_implementation():
    import ml_dtypes

    rng = np.random.default_rng(0)
    patterns = rng.integers(0, 1 << 32, 200_000, dtype=np.uint64).astype(np.uint32)
    ties = (np.arange(0, 1 << 16, 7, dtype=np.uint32) << np.uint32(16)) | np.uint32(0x8000)
    values = np.concatenate([patterns, ties, ties + 1, ties - 1]).view(np.float32)
    finite = values[np.isfinite(values)]
    with np.errstate(over="ignore"):
        expected = finite.astype(ml_dtypes.bfloat16).astype(np.float32)
    encoded = Bfloat16().encode(finite, Scale())
    np.testing.assert_array_equal(encoded.view(np.uint32), expected.view(np.uint32))
    assert not (encoded.view(np.uint32) & 0xFFFF).any()


def test_bfloat16_keeps_what_is_not_a_number_and_infinities():
    encoded = Bfloat16().encode(np.array([np.nan, np.inf, -np.inf, -0.0], np.float32), Scale())
    assert np.isnan(encoded[0])
    assert encoded[1:].tolist() == [np.inf, -np.inf, 0.0]
    assert np.signbit(encoded[3])


def test_affine_has_257_levels_and_clips_outside():
    affine = AffineInt8()
    scale = affine.scale_of(-1.0, 4.12)
    codes = affine.encode([-1.0, 4.12, -7.0, 9.0, 0.0, 0.019], scale)
    assert codes.tolist() == [0, 256, 0, 256, 50, 50]
    assert affine.decode(codes, scale)[1] == pytest.approx(4.12)


@given(st.lists(st.floats(-50, 50, width=32), min_size=2, max_size=30))
def test_affine_rounds_down_by_less_than_a_step_and_keeps_codes(values):
    affine = AffineInt8()
    scale = affine.scale_of(min(values), max(values))
    codes = affine.encode(values, scale)
    lost = values - affine.decode(codes, scale)
    assert (lost < scale.step).all()
    assert (lost > -scale.step * 1e-5).all()
    np.testing.assert_array_equal(affine.encode(affine.decode(codes, scale), scale), codes)


def test_affine_range_without_extent_keeps_the_constant():
    affine = AffineInt8()
    scale = affine.scale_of(2.5, 2.5)
    assert affine.decode(affine.encode([2.5], scale), scale).tolist() == [2.5]


def test_a_tensor_in_the_wanted_format_is_not_touched():
    fixed = Fixed(16)
    tensor = Tensor(np.array([1, -2], np.int16), fixed, Scale(fraction_bits=3))
    assert tensor.to(Fixed(16), Scale(fraction_bits=3)) is tensor
    finer = tensor.to(fixed, Scale(fraction_bits=5))
    assert finer.codes.tolist() == [4, -8]
    assert tensor.to(Bfloat16(), Scale()).codes.tolist() == [0.125, -0.25]
