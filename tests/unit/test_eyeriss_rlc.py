"""E11: run-length compression of feature maps."""

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp

from archsim.accelerators.base import Placement, Stored
from archsim.accelerators.eyeriss.activity import execute_layer
from archsim.accelerators.eyeriss.config import PRESETS, EyerissConfig
from archsim.accelerators.eyeriss.kernel import count_rlc_pairs
from archsim.accelerators.eyeriss.mapping import map_layer
from archsim.accelerators.eyeriss.rlc import (
    decode,
    encode,
    entropy_bits_per_code,
    pairs_per_code,
    pairs_to_words,
    word_count,
)
from archsim.assets import data_folder
from archsim.workload.calibrate import calibrate, tensor_scales
from archsim.workload.encode import encode_params
from archsim.workload.formats import Fixed
from archsim.workload.graph import walk
from archsim.workload.layers import Conv, Linear
from archsim.workload.networks import load_network
from archsim.workload.params import Tensor
from archsim.workload.reference import host_compute, input_tensor, output_scale

FIXED16 = Fixed(16)

codes = st.integers(-32768, 32767)
runs = st.lists(st.tuples(st.integers(0, 130), codes), max_size=12).map(
    lambda pairs: np.array([c for zeros, level in pairs for c in [0] * zeros + [level]], np.int16)
)
"""Long and short runs of zeros with levels between them: around 31, 32, 63, 64, and at the end."""


def slow_pairs(words):
    """Write pairs one code at a time."""
    pairs, run = [], 0
    for word in words:
        if word == 0 and run < 31:
            run += 1
            continue
        pairs.append((run, int(word)))
        run = 0
    return [*pairs, (run - 1, 0)] if run else pairs


def slow_encode(words):
    pairs = slow_pairs(words)
    out = []
    for first in range(0, len(pairs), 3):
        value = 0
        for slot, (run, level) in enumerate(pairs[first : first + 3]):
            value |= (run | (level & 0xFFFF) << 5) << 21 * slot
        out.append(value)
    if out:
        out[-1] |= 1 << 63
    return out


@settings(deadline=None)  # the first call compiles the kernel
@given(runs)
def test_encoding_equals_the_slow_twin_and_decodes_to_the_same_codes(words):
    stream = encode(words)
    assert stream.dtype == np.uint64
    assert stream.tolist() == slow_encode(words.tolist())
    assert np.array_equal(decode(stream, words.size), words)
    assert word_count(words) == stream.size


@settings(deadline=None)  # the first call compiles the kernel
@given(
    hnp.arrays(np.int16, hnp.array_shapes(min_dims=3, max_dims=4, max_side=6), elements=st.sampled_from([0, 0, 1, -7]))
)
def test_maps_are_read_in_c_order(words):
    assert np.array_equal(decode(encode(words), words.size), words.reshape(-1))
    assert word_count(words) == encode(words).size == encode(words.reshape(-1)).size


@pytest.mark.parametrize(
    ("words", "pairs"),
    [
        ([5], [(0, 5)]),
        ([0] * 31 + [5], [(31, 5)]),
        ([0] * 32 + [5], [(31, 0), (0, 5)]),
        ([0] * 33, [(31, 0), (0, 0)]),
        ([-1, 0, 0, 7, 0], [(0, -1), (2, 7), (0, 0)]),
        ([0] * 64 + [-32768], [(31, 0), (31, 0), (0, -32768)]),
    ],
)
def test_runs_at_their_limit(words, pairs):
    assert slow_pairs(words) == pairs
    (word,) = encode(np.array(words)).tolist()
    assert [(word >> 21 * i & 31, word >> 21 * i + 5 & 0xFFFF) for i in range(len(pairs))] == [
        (run, level & 0xFFFF) for run, level in pairs
    ]
    assert word >> 63 == 1


def test_nothing_is_coded_as_nothing():
    empty = np.zeros(0, np.int16)
    assert encode(empty).size == word_count(empty) == decode(encode(empty), 0).size == 0


def test_a_broken_stream_is_refused():
    stream = encode(np.arange(1, 10))
    with pytest.raises(ValueError, match="last flag"):
        decode(stream[:-1], 6)
    with pytest.raises(ValueError, match="must hold 10 codes, got 9"):
        decode(stream, 10)


@pytest.mark.parametrize("zero_fraction", [0.0, 0.1, 0.25, 0.5, 0.725, 0.8])
def test_independent_zeros_have_the_published_size(zero_fraction):
    words = sparse((600_000,), zero_fraction, seed=3)
    ratio = word_count(words) * 64 / (16 * words.size)
    assert ratio == pytest.approx((1 - zero_fraction) * 4 / 3, rel=0.01)
    assert ratio == pytest.approx(pairs_per_code(zero_fraction) * 4 / 3, rel=0.01)
    assert (ratio > 1) == (zero_fraction < 0.25) or zero_fraction == 0.25


@pytest.mark.parametrize("zero_fraction", [0.9, 0.97, 0.995, 1.0])
def test_the_expectation_stays_right_where_long_runs_are_cut(zero_fraction):
    words = sparse((1_000_000,), zero_fraction, seed=5)
    assert word_count(words) * 3 / words.size == pytest.approx(pairs_per_code(zero_fraction), rel=0.01)


@pytest.mark.parametrize(("zero_fraction", "overhead"), [(0.387, 0.21), (0.725, 0.12), (0.793, 0.096)])
def test_overhead_over_the_entropy_of_independent_zeros(zero_fraction, overhead):
    bits = 64 / 3 * pairs_per_code(zero_fraction)
    assert bits / entropy_bits_per_code(np.array(zero_fraction)) - 1 == pytest.approx(overhead, abs=0.005)


@settings(deadline=None)  # the first call compiles the kernel
@given(st.integers(0, 2**32), st.sampled_from([(0, 0, 0, 0), (1, 1, 1, 1), (0, 3, 2, 1), (2, 0, 0, 17)]))
def test_tiles_are_counted_as_if_cut_out_of_the_padded_map_and_encoded(seed, pad):
    draw = np.random.default_rng(seed)
    batches, images, channels, rows, columns = draw.integers(1, 5, 5)
    x = sparse((batches * images, channels, rows, columns), 0.7, seed)
    top, left, bottom, right = pad
    padded = np.pad(x, ((0, 0), (0, 0), (top, bottom), (left, right)))
    limits = (images, channels, rows + top + bottom)
    tiles = np.array([[v for size in limits for v in draw_range(draw, size)] for _ in range(4)])
    pairs, nonzeros = np.zeros((2, batches, 4), np.int64)
    count_rlc_pairs(x, pad, tiles, pairs, nonzeros)
    for b in range(batches):
        for t, (n0, n1, c0, c1, h0, h1) in enumerate(tiles):
            tile = padded[b * images : (b + 1) * images][n0:n1, c0:c1, h0:h1]
            assert pairs[b, t] == len(slow_pairs(tile.reshape(-1).tolist()))
            assert nonzeros[b, t] == np.count_nonzero(tile)
            assert pairs_to_words(pairs)[b, t] == encode(tile).size


def draw_range(draw, size):
    first = int(draw.integers(0, size))
    return first, int(draw.integers(first + 1, size + 1))


def sparse(shape, zero_fraction, seed):
    draw = np.random.default_rng(seed)
    levels = draw.integers(1, 32768, shape) * draw.choice([-1, 1], shape)
    return np.where(draw.random(shape) < zero_fraction, 0, levels).astype(np.int16)


def test_real_feature_maps_survive_and_their_overhead_is_reported(resnet20_batches):
    overheads = []
    for _, batch, ifmap in resnet20_batches:
        assert np.array_equal(decode(encode(ifmap), ifmap.size), ifmap.reshape(-1))
        metrics = dict(batch.metrics)
        for name in ("ifmap", "ofmap"):
            if f"rlc_{name}_bits_per_word" in metrics:
                bits, least = (metrics[f"rlc_{name}_{kind}bits_per_word"] for kind in ("", "entropy_"))
                overheads.append(bits / least - 1)
    assert min(overheads) > 0.10
    assert max(overheads) < 0.65
    assert 0.15 < np.median(overheads) < 0.35


def test_only_the_network_input_stays_uncompressed(resnet20_batches):
    coded = ["rlc_ifmap_bits_per_word" in dict(batch.metrics) for _, batch, _ in resnet20_batches]
    assert coded == [False] + [True] * (len(coded) - 1)


@pytest.fixture(scope="module")
def resnet20_batches():
    """Return (layer, what the data did, ifmap codes) of every layer of ResNet-20 for one real image."""
    folder = data_folder()
    if folder is None:
        pytest.skip("real feature maps need the data folder: set ARCHSIM_DATA")
    images = np.load(folder / "cifar10_test_dev5000.npz")["images"][:9]
    network = load_network("resnet20_cifar10.onnx")
    ranges = calibrate(network, input_tensor(network, images[1:]))
    scales = tensor_scales(network, ranges, FIXED16)
    config, found = EyerissConfig(**PRESETS["chip-jssc17"]), []

    def compute(layer, inputs):
        if not isinstance(layer, Conv | Linear):
            return host_compute(layer, inputs, network, scales)
        stored = Stored(encode_params(network, layer, scales, FIXED16))
        plan = map_layer(config, layer, stored, Placement())
        activity = execute_layer(layer, plan, inputs[0].codes, stored, config)
        found.append((layer, activity.batches[0], inputs[0].codes))
        return Tensor(activity.y, FIXED16, output_scale(stored.params))

    first = input_tensor(network, images[:1])
    scale = scales[network.input]
    walk(network, Tensor(FIXED16.encode(first, scale), FIXED16, scale), compute)
    return found
