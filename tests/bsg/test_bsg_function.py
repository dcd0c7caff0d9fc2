"""What the array computes: stated order of additions, code vectors against the network's weights, memory errors."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest

from archsim.accelerators.bsg.codes import load_codes
from archsim.accelerators.bsg.function import BsgStored, Generated, array_sums, compute
from archsim.accelerators.bsg.generator import bits_of, xorshift_words
from archsim.approx import LayerSetting
from archsim.errors import MappingError, WorkloadError
from archsim.workload.formats import Bfloat16, Scale
from archsim.workload.layers import Conv
from tests.bsg.bsg_layers import conv, machine, trained, write_codes

BF16 = Bfloat16()
LAYER = conv("conv2", N=1, C=19, M=21, H=9, W=7, stride=(2, 1), pad=(1, 0, 2, 1))
SLICE = (16, 8, 2, 3)


@pytest.fixture
def codes(tmp_path: Path) -> Path:
    path = tmp_path / "net.codes.npz"
    write_codes(path, [LAYER], 128, SLICE)
    return path


def test_feedback_makes_other_weights_of_the_same_codes(tmp_path: Path) -> None:
    """A slice of 768 weights from 128 bits: 128 different registers, or 768."""
    made = {}
    for generator in ("rotate", "feedback"):
        path = tmp_path / f"{generator}.npz"
        write_codes(path, [LAYER], 128, SLICE, {"generator": np.array(generator)})
        made[generator] = stored(path, generator=generator).extra.operands
        assert len(load_codes(path).layers["conv2"]) == 12
    filters = {name: [tuple(row.reshape(-1)[:12]) for row in one] for name, one in made.items()}
    assert len(set(filters["rotate"][:16])) < len(set(filters["feedback"][:16])) == 16
    assert (made["rotate"] != made["feedback"]).mean() > 0.5


def stored(codes: Path, **changes: Any) -> BsgStored:
    one = machine(folder=codes.parent, n_c=128, slice_shape=SLICE, codes=codes.name, **changes)
    made = one.prepare(LAYER, trained(LAYER, codes)[0], LayerSetting())
    assert isinstance(made, BsgStored)
    return made


def image(layer: Conv, count: int = 2) -> np.ndarray:
    rng = np.random.default_rng(8)
    x = np.abs(rng.normal(size=(count, layer.C, layer.H, layer.W))) * (
        rng.random((count, layer.C, layer.H, layer.W)) < 0.6
    )
    return BF16.encode(x, Scale())


def slow_sums(layer: Conv, x: np.ndarray, w: np.ndarray, slice_shape: tuple[int, ...]) -> np.ndarray:
    """The stated order in plain loops, float32, one rounding per addition."""
    top, left, bottom, right = layer.pad
    padded = np.pad(x, ((0, 0), (0, 0), (top, bottom), (left, right)))
    out = np.zeros((len(x), layer.M, layer.P, layer.Q), np.float32)
    per_group = layer.C // layer.groups
    for n, m, p, q in np.ndindex(*out.shape):
        total, group = np.float32(0), m // (layer.M // layer.groups)
        for ki in range(0, per_group, slice_shape[1]):
            for hi in range(0, layer.R, slice_shape[2]):
                for wi in range(0, layer.S, slice_shape[3]):
                    for r in range(hi, min(hi + slice_shape[2], layer.R)):
                        for s in range(wi, min(wi + slice_shape[3], layer.S)):
                            for c in range(ki, min(ki + slice_shape[1], per_group)):
                                taken = padded[
                                    n, group * per_group + c, p * layer.stride[0] + r, q * layer.stride[1] + s
                                ]
                                total = np.float32(total + w[m, c, r, s] * taken)
        out[n, m, p, q] = total
    return out


@pytest.mark.parametrize("layer", [LAYER, conv("grouped", C=6, M=4, H=5, W=6, groups=2)], ids=lambda layer: layer.name)
def test_sums_in_the_stated_order(layer: Conv) -> None:
    rng = np.random.default_rng(1)
    weights = rng.integers(-90, 90, (layer.M, layer.C // layer.groups, 3, 3)).astype(np.float32)
    x = image(layer, 1)
    sums = array_sums(layer, x, weights, SLICE)
    np.testing.assert_array_equal(sums, slow_sums(layer, x, weights, SLICE))
    other = array_sums(layer, x, weights, (16, 1, 3, 3))
    assert (other != sums).any(), "the order makes a difference on these data"
    np.testing.assert_allclose(other, sums, rtol=1e-4, atol=1e-3)


def test_scale_bias_activation_and_rounding(codes: Path) -> None:
    made, (params, weights) = stored(codes), trained(LAYER, codes)
    x, source = image(LAYER), params.source
    assert source is not None and source.channel_scale is not None and params.bias is not None
    sums = array_sums(LAYER, x, weights.astype(np.float32), SLICE)
    scale = BF16.encode(source.channel_scale, Scale())
    expected = np.maximum(sums * scale[:, None, None] + params.bias[:, None, None], 0)
    y = compute(LAYER, x, made)
    np.testing.assert_array_equal(y, BF16.encode(expected, Scale()))
    assert 0.1 < (y > 0).mean() < 0.9
    folded = np.abs(y - np.maximum(array_sums(LAYER, x, source.weights, SLICE) + source.bias[:, None, None], 0))  # type: ignore[index]
    assert folded.max() <= 0.02 * y.max(), "close to the folded network, which rounds its weights elsewhere"


def test_operands_are_rounded_to_bfloat16(tmp_path: Path) -> None:
    """Exact up to 256, and for even weights up to 512; beyond, the operand is the nearest bfloat16."""
    layer, path = conv("wide", C=2, M=2, H=3, W=3), tmp_path / "wide.codes.npz"
    base = xorshift_words(0x2545F491, 128)
    write_codes(path, [layer], 2048, (16, 16, 3, 3), {"codes/wide": base[None]})
    one = machine(folder=tmp_path, n_c=2048, codes=path.name)
    made = one.prepare(layer, trained(layer, path)[0], LayerSetting())
    assert isinstance(made.extra, Generated)
    weights = load_codes(path).weights("wide", (2, 2, 3, 3))
    assert weights.flat[0] == 2048
    np.testing.assert_array_equal(made.extra.operands, BF16.encode(weights, Scale()))
    small = np.abs(weights) <= 256
    np.testing.assert_array_equal(made.extra.operands[small], weights[small])


def test_a_network_with_other_weights_is_refused(codes: Path) -> None:
    params, _ = trained(LAYER, codes)
    assert params.source is not None and params.source.unfolded is not None
    params.source.unfolded[3, 2, 1, 0] += 2
    one = machine(folder=codes.parent, n_c=128, slice_shape=SLICE, codes=codes.name)
    with pytest.raises(MappingError, match=r"'conv2': 1 of 3591 weights differ .* weight 534 is"):
        one.prepare(LAYER, params, LayerSetting())


@pytest.mark.parametrize(
    ("changes", "told"),
    [({"n_c": 256}, "n_c is 128, the configuration's is 256"), ({"generator": "feedback"}, "generator is rotate")],
)
def test_a_configuration_for_other_codes_is_refused(codes: Path, changes: dict[str, Any], told: str) -> None:
    one = machine(folder=codes.parent, **{"n_c": 128, "slice_shape": SLICE, "codes": codes.name, **changes})
    with pytest.raises(MappingError, match=told):
        one.prepare(LAYER, trained(LAYER, codes)[0], LayerSetting())


DAMAGE: dict[str, tuple[dict[str, Any], str]] = {
    "shape": ({"slice_shape": np.array([16, 8, 3])}, "slice_shape must be 4 sizes"),
    "generator": ({"generator": np.array("shift")}, "generator must be rotate or feedback, got 'shift'"),
    "dtype": ({"base": np.zeros(8, np.int64)}, "base must hold uint16 words of 128 bits"),
    "length": ({"codes/conv2": np.zeros((18, 4), np.uint16)}, "codes/conv2|conv2 must hold uint16 words of 128 bits"),
}


@pytest.mark.parametrize("damage", DAMAGE)
def test_damaged_codes_are_named(damage: str, tmp_path: Path) -> None:
    changes, told = DAMAGE[damage]
    write_codes(tmp_path / "bad.npz", [LAYER], 128, SLICE, changes)
    with pytest.raises(WorkloadError, match=rf"bad\.npz: .*({told})"):
        load_codes(tmp_path / "bad.npz")


def test_files_that_are_no_codes(tmp_path: Path) -> None:
    (tmp_path / "text.npz").write_text("no archive")
    with pytest.raises(WorkloadError, match=r"text\.npz: not a readable"):
        load_codes(tmp_path / "text.npz")
    np.savez(tmp_path / "other.npz", images=np.zeros(3))
    with pytest.raises(WorkloadError, match="has no array 'base'"):
        load_codes(tmp_path / "other.npz")


def test_wrong_number_of_code_vectors(codes: Path) -> None:
    write_codes(codes, [LAYER], 128, SLICE, {"codes/conv2": np.zeros((5, 8), np.uint16)})
    one = machine(folder=codes.parent, n_c=128, slice_shape=SLICE, codes=codes.name)
    params, _ = trained_like(codes)
    with pytest.raises(MappingError, match="has 12 slices, its code vectors are 5"):
        one.prepare(LAYER, params, LayerSetting())


def trained_like(codes: Path) -> Any:
    good = codes.with_name("good.npz")
    write_codes(good, [LAYER], 128, SLICE)
    return trained(LAYER, good)


def test_memory_errors_hit_code_vectors(codes: Path) -> None:
    """One flipped bit of a code vector changes every weight of its slice by 2, and no other."""
    made = stored(codes)

    def flipped(words: np.ndarray) -> np.ndarray:
        assert words.dtype == np.uint16 and words.shape == (12, 8)
        wrong = words.copy()
        wrong[1, 0] ^= 1
        return wrong

    seen = made.perturbed(flipped)
    assert isinstance(seen, BsgStored) and isinstance(seen.extra, Generated) and isinstance(made.extra, Generated)
    change = seen.extra.operands - made.extra.operands
    assert set(np.unique(np.abs(change[:16, :8, 2:]))) == {2.0}  # slice 1: the third kernel row of the first channels
    change[:16, :8, 2:] = 0
    assert not change.any()
    assert bits_of(seen.extra.words[1]).sum() != bits_of(made.extra.words[1]).sum()
    assert (compute(LAYER, image(LAYER), seen) != compute(LAYER, image(LAYER), made)).any()
