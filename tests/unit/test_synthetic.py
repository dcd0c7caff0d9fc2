"""Random streams and the synthetic tensors made of them."""

from __future__ import annotations

import subprocess
import sys

import numpy as np
import pytest

from archsim.errors import WorkloadError
from archsim.workload.encode import synthetic_params
from archsim.workload.formats import AffineInt8, Fixed
from archsim.workload.layers import Add, Conv, Linear, OpStream
from archsim.workload.random import rng_for
from archsim.workload.synthetic import synthetic_codes, synthetic_ifmap, synthetic_weights

CONV = Conv(name="conv1", inputs=("x",), output="y", N=3, C=8, M=32, H=13, W=11, R=3, S=3, groups=2)
FC = Linear(name="fc", inputs=("x",), output="y", C=500, M=40)


def test_every_part_of_the_key_gives_another_stream():
    keys = [(0, "a", "l", "u", 0), (1, "a", "l", "u", 0), (0, "b", "l", "u", 0), (0, "a", "m", "u", 0)]
    keys += [(0, "a", "l", "v", 0), (0, "a", "l", "u", 1), (0, "al", "", "u", 0), (0, "a', 'l", "u", "", 0)]
    firsts = {tuple(rng_for(*key).integers(0, 1 << 62, 4).tolist()) for key in keys}
    assert len(firsts) == len(keys)
    assert tuple(rng_for(*keys[0]).integers(0, 1 << 62, 4).tolist()) in firsts


def test_a_stream_is_the_same_in_another_process():
    code = (
        "from archsim.workload.random import rng_for as r; print(r(5, 'snapea', 'conv1', 'noise', 7).integers(1 << 40))"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert int(done.stdout) == rng_for(5, "snapea", "conv1", "noise", 7).integers(1 << 40)


@pytest.mark.parametrize("fraction", [0.0, 0.387, 1.0])
@pytest.mark.parametrize("number_format", [Fixed(16), Fixed(8), AffineInt8()])
def test_the_zero_share_is_exact_in_every_image_and_survives_encoding(fraction, number_format):
    x = synthetic_ifmap(CONV, fraction, 3, seed=1)
    assert x.shape == (3, 8, 13, 11)
    assert (x >= 0).all()
    assert ((x == 0).sum(axis=(1, 2, 3)) == round(fraction * 8 * 13 * 11)).all()
    codes = synthetic_codes(CONV, synthetic_params(CONV, number_format, 1), fraction, 1)
    np.testing.assert_array_equal(codes == 0, x == 0)


def test_an_image_does_not_depend_on_how_many_there_are():
    many = synthetic_ifmap(CONV, 0.5, 4, seed=1)
    np.testing.assert_array_equal(synthetic_ifmap(CONV, 0.5, 2, seed=1), many[:2])
    assert (many[0] != many[1]).any()
    assert (synthetic_ifmap(CONV, 0.5, 1, seed=2) != many[:1]).any()


def test_weights_have_both_signs_and_keep_the_scale_of_the_sums():
    for layer, fan_in in ((CONV, 4 * 9), (FC, 500)):
        w = synthetic_weights(layer, seed=4)
        assert w.shape[0] == layer.M
        assert w[0].size == fan_in
        assert abs((w < 0).mean() - 0.5) < 0.03
        assert w.var() == pytest.approx(2 / fan_in, rel=0.06)
        np.testing.assert_array_equal(synthetic_weights(layer, seed=4), w)


def test_shapes_of_other_layers():
    stream = OpStream(name="s", inputs=("x",), output="y", H=6, W=5, steps=())
    assert synthetic_ifmap(stream, 0.1, 2, 0).shape == (2, 1, 6, 5)
    assert synthetic_ifmap(FC, 0.1, 2, 0).shape == (2, 500)
    add = Add(name="sum", inputs=("x", "z"), output="y")
    with pytest.raises(WorkloadError, match="'sum': Add has no synthetic ifmap"):
        synthetic_ifmap(add, 0.1, 2, 0)
    with pytest.raises(WorkloadError, match="'sum': Add has no weights"):
        synthetic_weights(add, 0)
    with pytest.raises(WorkloadError, match=r"0 \.\. 1; got 1\.5"):
        synthetic_ifmap(FC, 1.5, 2, 0)
