"""Calibration ranges, scales with their ties, and parameters as codes."""

from __future__ import annotations

import random
from dataclasses import replace

import numpy as np
import pytest
from small_nets import branching_network, images

from archsim.errors import AccumulatorOverflowError, WorkloadError
from archsim.workload import calibrate as calibration
from archsim.workload.calibrate import calibrate, tensor_scales, tied_tensors
from archsim.workload.encode import encode_params, synthetic_params
from archsim.workload.formats import AffineInt8, Bfloat16, Fixed, Float32, Scale
from archsim.workload.graph import FloatParams, Network, walk
from archsim.workload.layers import Concat, Layer, Pad, Pool, Wiring
from archsim.workload.reference import float_compute, input_tensor
from archsim.workload.synthetic import synthetic_weights

FIXED16 = Fixed(16)


def test_ranges_are_those_of_every_tensor_of_the_fp32_walk():
    network, pixels = branching_network(), images(11)
    seen = {network.input: pixels}
    compute = float_compute(network)

    def note(layer, inputs):
        seen[layer.output] = compute(layer, inputs)
        return seen[layer.output]

    walk(network, input_tensor(network, pixels), note)
    ranges = calibrate(network, pixels)
    assert ranges.keys() == network.shapes.keys()
    assert ranges["b"][0] < 0 < ranges["b"][1]
    assert ranges["a"][0] == 0
    for tensor, (low, high) in ranges.items():
        assert (low, high) == (seen[tensor].min(), seen[tensor].max())


@pytest.mark.parametrize("block", [1, 3, 100])
def test_ranges_do_not_depend_on_the_block_size(monkeypatch, block):
    expected = calibrate(branching_network(), images(11))
    monkeypatch.setattr(calibration, "BLOCK_IMAGES", block)
    assert calibrate(branching_network(), images(11)) == expected


def test_calibration_runs_on_one_blas_thread(monkeypatch):
    from threadpoolctl import threadpool_info, threadpool_limits

    threads = []

    def watched(network):
        compute = float_compute(network)
        return lambda layer, inputs: (
            threads.extend(pool["num_threads"] for pool in threadpool_info() if pool["user_api"] == "blas")
            or compute(layer, inputs)
        )

    monkeypatch.setattr(calibration, "float_compute", watched)
    with threadpool_limits(2):
        calibrate(branching_network(), images(2))
    assert threads
    assert set(threads) == {1}


def test_what_cannot_be_calibrated_says_why():
    network = branching_network()
    with pytest.raises(WorkloadError, match="at least 1 image"):
        calibrate(network, images(0))
    with pytest.raises(WorkloadError, match="'a' has no weights: branching is shape-only"):
        calibrate(replace(network, params={}), images(1))
    broken = {**network.params, "c": FloatParams(np.full((7, 7, 1, 1), np.nan, np.float32))}
    with pytest.raises(WorkloadError, match="tensor 'c' leaves fp32"):
        calibrate(replace(network, params=broken), images(1))


def tie_network():
    """Two chains of ties that meet in two concatenations; `mean` and `scaled` are not tied."""
    node = {"R": 2, "S": 2, "stride": (1, 1)}
    layers: tuple[Layer, ...] = (
        Pool(name="max1", inputs=("x",), output="m", kind="max", **node),
        Pad(name="pad", inputs=("m",), output="padded", pad=(0, 0, 1, 1)),
        Wiring(name="wire", inputs=("y",), output="wired", source=(1, -1), stride=(2, 2)),
        Concat(name="cat1", inputs=("padded", "wired"), output="c1"),
        Pool(name="mean", inputs=("z",), output="mean", kind="average", **node),
        Concat(name="cat2", inputs=("c1", "mean"), output="c2"),
    )
    tensors = ("x", "m", "padded", "y", "wired", "c1", "z", "mean", "c2")
    return Network("ties", layers, "x", "c2", dict.fromkeys(tensors, (2, 4, 4)))


TIED = {"x", "m", "padded", "y", "wired", "c1", "mean", "c2"}


def peaks(coarsest):
    """Return ranges of growing peaks, the largest at `coarsest`."""
    names = sorted({*TIED, "z"} - {coarsest})
    return {name: (-(2.0 ** -(3 + i)) * 0.9, 0.0) for i, name in enumerate(names)} | {coarsest: (0.0, 30.0)}


@pytest.mark.parametrize("coarsest", sorted(TIED))
def test_one_wide_tensor_coarsens_everything_its_codes_can_reach(coarsest):
    ranges = peaks(coarsest)
    scales = tensor_scales(tie_network(), ranges, FIXED16)
    assert {scales[name].fraction_bits for name in TIED} == {15 - 5}
    assert scales["z"] == FIXED16.scale_of(*ranges["z"])


def test_ties_do_not_depend_on_the_order_of_layers_or_tensors():
    network, ranges = tie_network(), peaks("wired")
    expected = tensor_scales(network, ranges, FIXED16)
    for seed in range(20):
        shuffled = random.Random(seed)
        layers = tuple(shuffled.sample(network.layers, len(network.layers)))
        shapes = dict(shuffled.sample(list(network.shapes.items()), len(network.shapes)))
        assert tensor_scales(replace(network, layers=layers, shapes=shapes), ranges, FIXED16) == expected
    assert tied_tensors(network) == [frozenset(TIED)]


@pytest.mark.parametrize("number_format", [AffineInt8(), Bfloat16(), Float32()])
def test_other_formats_tie_nothing(number_format):
    ranges = peaks("wired")
    scales = tensor_scales(tie_network(), ranges, number_format)
    assert scales == {name: number_format.scale_of(*ranges[name]) for name in ranges}


def scales_of(network, number_format):
    return tensor_scales(network, calibrate(network, images(8)), number_format)


def test_fixed_parameters_follow_the_rules():
    network = branching_network()
    scales = scales_of(network, FIXED16)
    a, b, c, fc = (encode_params(network, network.layers[i], scales, FIXED16) for i in (0, 2, 4, 8))
    assert a.w_scale == FIXED16.scale_of(0.0, float(np.abs(network.params["a"].weights).max()))
    np.testing.assert_array_equal(a.weights, FIXED16.encode(network.params["a"].weights, a.w_scale))
    exact = network.params["a"].bias.astype(np.float64) * 2.0 ** (a.x_scale.fraction_bits + a.w_scale.fraction_bits)
    assert a.bias.dtype == np.int64
    assert np.abs(a.bias - exact).max() <= 0.5
    assert b.bias is None
    assert (a.reads_network_input, b.reads_network_input, c.reads_network_input) == (True, True, False)
    assert (a.x_non_negative, c.x_non_negative) == (False, False)
    assert a.y_scale == scales["a"] == scales["p"] == scales["join"]
    assert fc.y_scale is None
    assert fc.source is network.params["fc"]


def test_bias_codes_are_rounded_half_to_even():
    network = branching_network()
    layer, scales = network.layers[8], scales_of(network, FIXED16)
    fine = encode_params(network, layer, scales, FIXED16)
    step = 2.0 ** -(fine.x_scale.fraction_bits + fine.w_scale.fraction_bits)
    bias = np.array([0.5, 1.5, 2.5, -0.5, -1.5], np.float32) * np.float32(step)
    ties = replace(network, params={**network.params, "fc": FloatParams(network.params["fc"].weights, bias)})
    assert encode_params(ties, layer, scales, FIXED16).bias.tolist() == [0, 2, 2, 0, -2]


def test_a_bias_beyond_64_bits_names_the_layer():
    network = branching_network()
    tiny = FloatParams(np.full((5, 7), 1e-30, np.float32), np.ones(5, np.float32))
    network = replace(network, params={**network.params, "fc": tiny})
    with pytest.raises(AccumulatorOverflowError, match=r"'fc': a bias of 1\.0 with \d+ fraction bits"):
        encode_params(network, network.layers[8], scales_of(network, FIXED16), FIXED16)


def test_other_formats_encode_the_bias_as_they_encode_weights():
    network = branching_network()
    bias = network.params["a"].bias
    affine, bfloat = (
        encode_params(network, network.layers[0], scales_of(network, f), f) for f in (AffineInt8(), Bfloat16())
    )
    step = (bias.max() - bias.min()) / 256
    assert affine.bias.dtype == np.float64
    assert 0 < np.abs(affine.bias - bias).max() <= step * 1.0001
    assert affine.weights.dtype == np.uint16
    assert affine.weights.min() == 0
    assert affine.weights.max() == 256
    np.testing.assert_array_equal(bfloat.bias, Bfloat16().encode(bias, Scale()))


@pytest.mark.parametrize("number_format", [FIXED16, AffineInt8(), Bfloat16()])
def test_a_network_without_weights_gets_scales_and_on_request_weights(number_format):
    network = replace(branching_network(), params={})
    bare = encode_params(network, network.layers[4], {}, number_format)
    assert bare.weights is None
    assert bare.bias is None
    assert bare.x_scale == number_format.scale_of(-4.0, 4.0)
    made = synthetic_params(network.layers[4], number_format, seed=3)
    expected = synthetic_weights(network.layers[4], 3)
    np.testing.assert_allclose(number_format.decode(made.weights, made.w_scale), expected, atol=0.02)
    assert made.x_non_negative
    assert made.y_scale == number_format.scale_of(0.0, 4.0)
