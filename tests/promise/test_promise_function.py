"""What the data do in PROMISE: the digital reference, statistics of the noise, draws that depend on nothing else."""

from __future__ import annotations

from dataclasses import replace
from functools import partial
from itertools import pairwise
from typing import Any

import numpy as np
import pytest

from archsim.accelerators.promise.function import analog_sums, execute_layer, integer_sums, noisy_steps
from archsim.accelerators.promise.mapping import map_layer, product_of
from archsim.accelerators.promise.schedule import PromisePlan
from archsim.accelerators.promise.swing import NOISELESS, SWINGS, Swing
from archsim.kernels.conv import conv_accumulate
from archsim.workload.formats import AffineInt8, Scale
from archsim.workload.layers import Activation, Conv, Linear
from archsim.workload.params import Array, LayerParams
from archsim.workload.random import rng_for
from archsim.workload.reference import reference
from tests.promise.promise_cases import config, machine

INT8 = AffineInt8()
DRAWS = partial(rng_for, 3, "npu", "layer")
P7 = SWINGS[-1]


def conv(**bounds: Any) -> Conv:
    return Conv(**{"name": "layer", "inputs": ("x",), "output": "y", "R": 1, "S": 1, **bounds})


def plan_of(layer: Conv | Linear, **changes: Any) -> PromisePlan:
    one = config(**changes)
    return map_layer(one, layer, machine(**changes).place([layer])[layer.name])


def parameters(layer: Conv | Linear, x: Array, seed: int = 0) -> LayerParams:
    """Sign-balanced weights; the scale of the ofmap clips a little."""
    rng = np.random.default_rng(seed)
    shape = (layer.M, layer.C // layer.groups, layer.R, layer.S) if isinstance(layer, Conv) else (layer.M, layer.C)
    w, bias = rng.normal(size=shape), rng.normal(size=layer.M)
    x_scale, w_scale = INT8.scale_of(float(x.min()), float(x.max())), INT8.scale_of(float(w.min()), float(w.max()))
    raw = LayerParams(INT8, x_scale, w_scale, None, INT8.encode(w, w_scale), bias)
    y = reference(layer, INT8.encode(x, x_scale), raw).y
    return replace(raw, y_scale=INT8.scale_of(0.8 * float(y.min()), 0.8 * float(y.max())))


def dot_layer(C: int = 64, side: int = 330) -> tuple[Conv, Array, LayerParams, Array]:
    """A 1x1 convolution whose every pixel is the same dot product: side^2 draws of one error; w*x of its taps."""
    rng = np.random.default_rng(1)
    layer = conv(C=C, M=1, H=side, W=side)
    x, w = rng.normal(size=C), rng.normal(size=(1, C, 1, 1))
    x_scale, w_scale = INT8.scale_of(float(x.min()), float(x.max())), INT8.scale_of(float(w.min()), float(w.max()))
    codes, weights = INT8.encode(x, x_scale), INT8.encode(w, w_scale)
    params = LayerParams(INT8, x_scale, w_scale, None, weights)
    terms = INT8.decode(codes, x_scale) * INT8.decode(weights, w_scale)[0, :, 0, 0]
    return layer, np.broadcast_to(codes[None, :, None, None], (1, C, side, side)), params, terms


# T7a, T7b -------------------------------------------------------------------------------------------------------------
@pytest.mark.parametrize("swing", SWINGS, ids=lambda swing: swing.name)
def test_noise_on_an_input_has_the_deviation_of_its_swing(swing: Swing) -> None:
    x = np.random.default_rng(0).integers(40, 257, (1, 1_000_000)).astype(np.uint16)
    error = noisy_steps(x, 0.0, swing.sigma, DRAWS)[0] / (1024.0 * x[0]) - 1
    assert error.std() == pytest.approx(swing.sigma, rel=0.01)
    assert abs(error.mean()) < 4 * swing.sigma / 1e3
    assert abs(float((((error - error.mean()) / error.std()) ** 4).mean()) - 3) < 0.03  # normal, not just as wide


# T7c, T7d -------------------------------------------------------------------------------------------------------------
@pytest.mark.parametrize("swing", SWINGS, ids=lambda swing: swing.name)
def test_noise_on_the_input_averages_over_a_dot_product(swing: Swing) -> None:
    layer, x, params, terms = dot_layer()
    sums = analog_sums(config(noise_at="input"), layer, plan_of(layer), x, params, swing, DRAWS)
    error = sums.reshape(-1) - terms.sum()
    assert error.size >= 100_000
    assert error.std() == pytest.approx(swing.sigma * np.sqrt((terms**2).sum()), rel=0.02)
    assert abs(error.mean()) < 4 * error.std() / np.sqrt(error.size)


@pytest.mark.parametrize("swing", SWINGS, ids=lambda swing: swing.name)
def test_noise_on_the_output_does_not_average(swing: Swing) -> None:
    layer, x, params, terms = dot_layer()
    sums = analog_sums(config(noise_at="output"), layer, plan_of(layer), x, params, swing, DRAWS)
    error = sums.reshape(-1) - terms.sum()
    assert error.std() == pytest.approx(swing.sigma * abs(terms.sum()), rel=0.02)


def test_the_two_places_differ_by_the_root_of_the_sum_for_equal_terms() -> None:
    layer = conv(C=256, M=1, H=120, W=120)
    params = LayerParams(INT8, Scale(step=1 / 256), Scale(step=1 / 256), None, np.full((1, 256, 1, 1), 100, np.uint16))
    x = np.full((1, 256, 120, 120), 200, np.uint16)
    spread = {
        where: analog_sums(config(noise_at=where), layer, plan_of(layer), x, params, P7, DRAWS).std()
        for where in ("input", "output")
    }
    assert spread["output"] / spread["input"] == pytest.approx(16, rel=0.02)


# T7e ------------------------------------------------------------------------------------------------------------------
@pytest.mark.parametrize("where", ["input", "output"])
def test_error_falls_with_every_step_of_the_swing(where: str) -> None:
    layer = conv(N=2, C=8, M=6, H=12, W=11, R=3, S=3, pad=(1, 1, 1, 1), activation=Activation("relu"))
    rng = np.random.default_rng(5)
    x = np.abs(rng.normal(size=(4, 8, 12, 11)))
    params = parameters(layer, x)
    codes, plan = INT8.encode(x, params.x_scale), plan_of(layer)
    ys = [
        execute_layer(config(noise_at=where), layer, plan, codes, params, one, DRAWS).y for one in (NOISELESS, *SWINGS)
    ]
    exact, *noisy = [np.asarray(y, np.float64) for y in ys]
    errors = [np.sqrt(((y - exact) ** 2).mean()) for y in noisy]
    assert all(worse > better > 0 for worse, better in pairwise(errors))


# T7f ------------------------------------------------------------------------------------------------------------------
@pytest.mark.parametrize("where", ["input", "output"])
def test_draws_depend_on_layer_and_image_only(where: str) -> None:
    """All images at once, in other batches, alone, backwards: the same bits; another seed or layer: others."""
    rng = np.random.default_rng(6)
    layer, x = conv(C=3, M=4, H=6, W=5, R=3, S=3), np.abs(rng.normal(size=(6, 3, 6, 5)))
    params = parameters(layer, x)
    codes = INT8.encode(x, params.x_scale)

    def run(images: list[int], batch: int = 1, seed: int = 3, name: str = "layer") -> Array:
        one = replace(layer, N=batch)

        def draws(use: str, image: int) -> np.random.Generator:
            return rng_for(seed, "npu", name, use, images[image])

        y = execute_layer(config(noise_at=where), one, plan_of(one), codes[images], params, P7, draws).y
        assert y is not None
        return y

    whole = run([*range(6)])
    np.testing.assert_array_equal(whole, np.concatenate([run([i]) for i in range(6)]))
    np.testing.assert_array_equal(whole, np.concatenate([run([0, 1, 2], batch=3), run([3, 4, 5], batch=3)]))
    np.testing.assert_array_equal(whole[::-1], run([5, 4, 3, 2, 1, 0]))
    assert (whole != run([*range(6)], seed=4)).any() and (whole != run([*range(6)], name="other")).any()


# T10 ------------------------------------------------------------------------------------------------------------------
@pytest.mark.parametrize("k", [32769, 65537])
def test_split_sums_equal_unsplit_ones(k: int) -> None:
    rng = np.random.default_rng(k)
    layer = Linear(name="layer", inputs=("x",), output="y", N=2, C=k, M=3)
    x = rng.normal(size=(2, k))
    params, plan = parameters(layer, x), plan_of(layer)
    codes = INT8.encode(x, params.x_scale)
    assert len(plan.chunks) == -(-k // 32768) and params.weights is not None
    maps, weights = codes[:, :, None, None].astype(np.int16), params.weights[:, :, None, None].astype(np.int16)
    unsplit = conv_accumulate(maps, weights, None, (1, 1), (0, 0, 0, 0), (1, 1), 1)
    np.testing.assert_array_equal(integer_sums(layer, plan, maps, weights), unsplit)
    done = execute_layer(config(), layer, plan, codes, params, NOISELESS, DRAWS)
    np.testing.assert_array_equal(done.y, reference(layer, codes, params).y)


def test_a_convolution_may_be_split_inside_a_channel() -> None:
    layer = conv(C=20, M=5, H=6, W=7, R=3, S=3, pad=(1, 0, 0, 1), groups=1)
    x = np.random.default_rng(2).normal(size=(3, 20, 6, 7))
    params = parameters(layer, x)
    codes = INT8.encode(x, params.x_scale)
    plan = plan_of(layer, banks=1)
    assert [chunk.k for chunk in plan.chunks] == [128, 52]
    done = execute_layer(config(banks=1), layer, plan, codes, params, NOISELESS, DRAWS)
    np.testing.assert_array_equal(done.y, reference(layer, codes, params).y)


# T14 ------------------------------------------------------------------------------------------------------------------
@pytest.mark.parametrize(
    ("C", "M", "H", "sign"), [(4, 3, 10, -1), (9, 5, 7, 0), (16, 40, 5, 1), (4, 40, 5, 0)],
    ids=["k<m", "k=m", "k>m", "k=m, not swapped"],
)  # fmt: skip
def test_a_convolution_is_its_product(C: int, M: int, H: int, sign: int) -> None:
    """Output, plan and counts of the Linear (N*P*Q, C*R*S, M) of its windows; the released model mixes up k and m."""
    layer = conv(C=C, M=M, H=H, W=H, R=2, S=2)
    product, _ = product_of(layer)
    assert np.sign(product.k - product.m) == sign
    x = np.random.default_rng(0).normal(size=(1, C, layer.H, layer.W))
    params = parameters(layer, x)
    codes = INT8.encode(x, params.x_scale)
    windows = np.lib.stride_tricks.sliding_window_view(codes[0], (2, 2), axis=(1, 2))
    rows = windows.transpose(1, 2, 0, 3, 4).reshape(product.m, product.k)
    flat = Linear(name="layer", inputs=("x",), output="y", N=product.m, C=product.k, M=M)
    assert params.weights is not None
    params_flat = replace(params, weights=params.weights.reshape(M, -1))
    one, other = plan_of(layer), plan_of(flat)
    assert replace(one, batch=0, windows=None) == replace(other, batch=0, windows=None)  # only addresses differ
    y = execute_layer(config(), layer, one, codes, params, NOISELESS, DRAWS)
    z = execute_layer(config(), flat, other, rows, params_flat, NOISELESS, DRAWS)
    assert y.y is not None and z.y is not None and y.batches == z.batches
    np.testing.assert_array_equal(y.y[0].reshape(M, -1).T, z.y)


# ranges ---------------------------------------------------------------------------------------------------------------
def test_a_constant_input_stays_what_it_is() -> None:
    """An empty range has no step to divide by."""
    layer = conv(C=2, M=3, H=4, W=4)
    x = np.full((1, 2, 4, 4), 2.5)
    params = parameters(layer, x)
    codes = INT8.encode(x, params.x_scale)
    assert not codes.any() and (INT8.decode(codes, params.x_scale) == 2.5).all()
    noisy = execute_layer(config(), layer, plan_of(layer), codes, params, P7, DRAWS).y
    np.testing.assert_array_equal(
        execute_layer(config(), layer, plan_of(layer), codes, params, NOISELESS, DRAWS).y,
        reference(layer, codes, params).y,
    )
    assert noisy is not None and np.isfinite(noisy).all()


def test_ranges_far_from_zero_do_not_overflow() -> None:
    x = np.array([[0, 128, 256]], np.uint16)
    noisy = noisy_steps(x, 3.0e7, 0.0784, DRAWS)
    assert noisy.dtype == np.int64
    assert noisy[0] / 1024 == pytest.approx(x[0] + 3.0e7, rel=0.5)
