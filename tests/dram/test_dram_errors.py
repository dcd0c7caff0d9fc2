"""Flips of an approximate DRAM: as many as stated, where the model puts them, and the same whoever asks how."""

from __future__ import annotations

import hashlib
import json
import os
import random
import subprocess
import sys
import time
from concurrent.futures import ThreadPoolExecutor
from itertools import pairwise
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from pydantic import ValidationError

from archsim.errors import StudyError
from archsim.memory.dram.errors import Array, ErrorModel, perturb
from archsim.memory.dram.kernel_errors import BLOCK
from archsim.workload.formats import AffineInt8, Bfloat16, Fixed
from tests.dram.flips import KEY, MODELS, A, codes_of, deviation, flipped, measured, slowly, stored, tensor
from tests.dram.traces import config

BER = 0.01


def read(words: Array, name: str = "uniform", ber: float = BER, key: Any = KEY, address: int = 0, **more: Any) -> Array:
    return perturb(words, ber, MODELS[name], key, address, A, **more)


# As many as stated ---------------------------------------------------------------------------------------------------
@pytest.mark.parametrize("name", MODELS)
def test_flips_are_as_many_as_stated_and_lie_where_the_model_puts_them(name: str) -> None:
    """D11 with 10 million bits; the acceptance line takes 100 million."""
    figures = list(measured(name, 10_000_000, BER))
    assert len(figures) >= 2
    assert all(figure.sigmas < 4 for figure in figures), figures


@pytest.mark.parametrize("ber", [1e-6, 1e-4, 0.1, 0.5, 0.99])
def test_any_rate_is_met(ber: float) -> None:
    words = tensor(10_000_000)
    n = words.size * 16
    assert abs(flipped(words, read(words, ber=ber)).sum() - n * ber) < 4 * (n * ber * (1 - ber)) ** 0.5 + 1


@pytest.mark.parametrize("name", ["uniform", "uniform, weak cells", "retention", "value_uniform"])
def test_flips_favour_no_place(name: str) -> None:
    words = tensor(10_000_000)
    places = np.flatnonzero(flipped(words, read(words, name)))
    n = words.size * 16
    assert len(places) > 50_000
    if name != "value_uniform":  # flips of a value come together; its own counts follow below
        assert abs(deviation(np.bincount(places * 64 // n, minlength=64))) < 4  # over the tensor
        assert abs(deviation(np.bincount(places % BLOCK // 256, minlength=BLOCK // 256))) < 4  # within a block
        assert abs(deviation(np.bincount(places // 16 % 128, minlength=128))) < 4
    assert abs(deviation(np.bincount(places % 16, minlength=16))) < 4
    words_hit = np.unique(places // 16)
    for period in (3, 64, 1000):
        assert abs(deviation(np.bincount(words_hit % period, minlength=period))) < 4


def test_neighbours_flip_apart() -> None:
    """Gaps between flips are geometric: as many neighbours, second neighbours, ... as chance gives."""
    flips = flipped(words := tensor(10_000_000), read(words, ber=0.05))
    for distance in (1, 2, 3, 16, 64, BLOCK - 1, BLOCK):
        both = int((flips[:-distance] & flips[distance:]).sum())
        expected = (len(flips) - distance) * 0.05**2
        assert abs(both - expected) < 4 * expected**0.5, distance


# The same whoever asks how -------------------------------------------------------------------------------------------
CASES = st.tuples(
    st.sampled_from(sorted(MODELS)),
    st.sampled_from([("i1", 8), ("i2", 16), ("i2", 12), ("i2", 5), ("i4", 20), ("i4", 32), ("u2", 16), ("f4", 32),
                     ("f4", 16), ("u1", 8), ("i8", 64), ("f2", 16)]),
    st.integers(1, 9000),
    st.sampled_from([1e-3, 0.02, 0.05, 1.0]),
    st.integers(0, A.capacity_bytes - 1),
    st.integers(0, 2**32),
)  # fmt: skip


@settings(max_examples=60, deadline=None)
@given(CASES)
def test_kernels_do_what_the_rules_say(case: tuple[Any, ...]) -> None:
    """Word for word the plain Python of tests/dram/flips.py, in whole tensors and in parts of them."""
    name, (dtype, bits), n, ber, address, seed = case
    model = MODELS[name].model_copy(update={"device_seed": seed % 3})
    ber = min(ber, model.weak_share / 2)
    raw = np.random.default_rng(seed).integers(0, 256, n * np.dtype(dtype).itemsize, dtype=np.uint8).view(dtype)
    words = narrowed(raw, bits)
    key = (seed, "ifmap", "a/b", 3)
    seen = perturb(words, ber, model, key, address, A, bits=bits)
    assert codes_of(seen, bits) == slowly(codes_of(words, bits), bits, ber, model, key, address)
    assert narrowed(seen, bits).tobytes() == seen.tobytes()  # still as the format holds its codes
    cut = seed % n
    parts = [perturb(words[part], ber, model, key, address, A, bits=bits, first=part.start or 0)
             for part in (slice(cut, None), slice(cut))]  # fmt: skip
    assert seen.tobytes() == parts[1].tobytes() + parts[0].tobytes()


def narrowed(raw: Array, bits: int) -> Array:
    """Words whose carriers hold no more than their stored bits, signs extended."""
    spare = raw.dtype.itemsize * 8 - bits
    if raw.dtype.kind == "f":
        whole = raw.view(f"u{raw.dtype.itemsize}")
        return (whole >> spare << spare).astype(whole.dtype).view(raw.dtype)
    kept: Array = (raw << spare >> spare).astype(raw.dtype)
    return kept


@pytest.mark.parametrize("name", MODELS)
def test_order_parts_and_threads_do_not_matter(name: str) -> None:
    """A tensor read in parts of any size, backwards, in threads, among other reads, has the same flips."""
    words, address = tensor(3_000_000), 5 * A.row_bytes
    whole = read(words, name, address=address)
    assert (whole != words).any()
    choose = random.Random(1)
    cuts = [0, *sorted(choose.sample(range(1, len(words)), 40)), len(words)]
    parts = list(pairwise(cuts))

    def one(part: tuple[int, int]) -> Array:
        return read(words[slice(*part)], name, address=address, first=part[0])

    backwards = [one(part) for part in parts[::-1]]
    with ThreadPoolExecutor(4) as pool:
        threads = list(pool.map(one, parts))
    assert np.array_equal(np.concatenate(backwards[::-1]), whole) and np.array_equal(np.concatenate(threads), whole)
    assert np.array_equal(read(words.reshape(-1, 64, 8), name, address=address).reshape(-1), whole)
    assert np.array_equal(read(words, name, address=address), whole)


@pytest.mark.parametrize("name", MODELS)
def test_images_of_a_batch_do_not_know_each_other(name: str) -> None:
    """Each image is drawn with its own key: blocks of images of any size give the same."""
    images = tensor(1_000_000)[:50_000].reshape(10, -1)
    alone = [read(image, name, key=(7, "ifmap", "conv1", i)) for i, image in enumerate(images)]
    assert len({image.tobytes() for image in (a ^ b for a, b in zip(alone, images))}) == 10
    order = random.Random(2).sample(range(10), 10)
    again = {i: read(images[i].copy(), name, key=(7, "ifmap", "conv1", i)) for i in order}
    assert all(np.array_equal(again[i], alone[i]) for i in range(10))


DIGESTS = """
import hashlib, json
from tests.dram.test_dram_errors import digests
print(json.dumps(digests()))
"""


def digests() -> dict[str, str]:
    words = tensor(1_000_000)
    return {name: hashlib.sha256(read(words, name, address=12_345).tobytes()).hexdigest() for name in MODELS}


def test_another_process_sees_the_same() -> None:
    environment = {**os.environ, "PYTHONHASHSEED": "99", "NUMBA_NUM_THREADS": "1", "PYTHONPATH": os.getcwd()}
    done = subprocess.run([sys.executable, "-c", DIGESTS], capture_output=True, text=True, env=environment, check=True)
    assert json.loads(done.stdout) == digests()
    assert len(set(digests().values())) == len(MODELS)


@pytest.mark.parametrize("change", [(8, "weights", "conv1", 0), (7, "ifmap", "conv1", 0), (7, "weights", "conv2", 0),
                                    (7, "weights", "conv1", 1)])  # fmt: skip
def test_every_part_of_the_key_counts(change: tuple[Any, ...]) -> None:
    words, ber = tensor(4_000_000), 0.05
    one, other = (flipped(words, read(words, ber=ber, key=key)) for key in (KEY, change))
    both = int((one & other).sum())
    assert abs(both - len(one) * ber**2) < 4 * (len(one) * ber**2) ** 0.5
    np.testing.assert_array_equal(read(words, key=tuple(map(_numpy, change))), read(words, key=change))


def _numpy(part: Any) -> Any:
    return np.int64(part) if isinstance(part, int) else np.str_(part)


# Weak cells ----------------------------------------------------------------------------------------------------------
WEAK = [name for name in MODELS if MODELS[name].weak_share < 1]


@pytest.mark.parametrize("name", WEAK)
def test_weak_cells_belong_to_the_device(name: str) -> None:
    """They are where they are whatever is read, when and at which level; another device has others."""
    model = MODELS[name].model_copy(update={"kind": MODELS[name].kind.replace("data_dependent", "uniform")})
    model = model.model_copy(update={"one_share": 0.5})
    words, P = tensor(4_000_000), model.weak_share
    weak = flipped(words, perturb(words, P, model, KEY, 0, A))
    other_read = flipped(~words, perturb(~words, P, model, (1, "other", "x", 5), 0, A))
    assert np.array_equal(weak, other_read)
    apart = A.row_bytes * 3 + 64  # another tensor, which lies over the same cells, further on
    later = flipped(words, perturb(words, P, model, KEY, apart, A))
    assert np.array_equal(later[: -apart * 8], weak[apart * 8 :])
    assert np.array_equal(weak, flipped(words, perturb(words, P, model, KEY, A.capacity_bytes, A)))
    for ber in (P / 100, P / 3):
        flips = flipped(words, perturb(words, ber, model, KEY, 0, A))
        assert flips.any() and not (flips & ~weak).any()
    more = model.model_copy(update={"weak_share": 2 * P})
    assert not (weak & ~flipped(words, perturb(words, 2 * P, more, KEY, 0, A))).any()
    device = model.model_copy(update={"device_seed": 1})
    assert not np.array_equal(weak, flipped(words, perturb(words, P, device, KEY, 0, A)))


@pytest.mark.parametrize("name", ["A", "C"])
def test_a_column_or_row_is_weak_in_one_bank_only(name: str) -> None:
    """Rows lie bank after bank; a weak column of one says nothing of the same column of another."""
    geometry = config(name)
    words = np.zeros(64 * geometry.row_bytes, np.uint8)
    model = ErrorModel(kind="bitline", weak_share=0.5)
    rows = stored(perturb(words, 0.5, model, KEY, 0, geometry)).reshape(64, -1)
    same = np.array([[np.array_equal(a, b) for a in rows] for b in rows])
    banks = np.arange(64) % geometry.banks
    assert np.array_equal(same, banks[:, None] == banks)


# What is stored ------------------------------------------------------------------------------------------------------
@pytest.mark.parametrize("name", MODELS)
def test_no_errors_cost_nothing(name: str) -> None:
    words = tensor(100_000)
    assert read(words, name, 0.0) is words
    assert read(words[:0], name).size == 0


@pytest.mark.parametrize("dtype", ["i1", "i2", "i4", "i8", "u1", "u2", "f4"])
def test_rate_one_complements_every_bit(dtype: str) -> None:
    words = np.random.default_rng(0).integers(0, 256, 80_000, dtype=np.uint8).view(dtype)
    for kind in ("uniform", "bitline", "wordline", "retention", "data_dependent"):
        seen = perturb(words, 1.0, ErrorModel(kind=kind), KEY, 0, A)
        assert np.array_equal(~words.view(np.uint8), seen.view(np.uint8))


@pytest.mark.parametrize("name", MODELS)
def test_what_is_read_stays_as_it_was(name: str) -> None:
    words = tensor(1_000_000)
    kept = words.copy()
    words.flags.writeable = False
    seen = read(words, name)
    assert np.array_equal(words, kept) and not np.shares_memory(seen, words) and seen.flags.writeable
    strided = words.reshape(-1, 2)[:, 1]
    assert np.array_equal(read(strided, name), read(strided.copy(), name))


@pytest.mark.parametrize("bits", [4, 8, 12, 16, 24])
def test_fixed_point_codes_stay_codes(bits: int) -> None:
    number = Fixed(bits)
    codes = np.random.default_rng(1).integers(-number.code_max - 1, number.code_max + 1, 200_000).astype(number.dtype)
    seen = read(codes, ber=0.05, bits=bits)
    assert seen.dtype == codes.dtype and seen.min() >= -number.code_max - 1 and seen.max() <= number.code_max
    flips = np.array([((seen ^ codes) >> bit & 1).sum() for bit in range(bits)])
    assert np.all(np.abs(flips - 10_000) < 4 * 9_500**0.5)
    assert np.array_equal(read(codes, ber=1.0, bits=bits), ~codes)


def test_codes_of_int8_affine_are_stored_in_eight_bits() -> None:
    """Code 256, the 257th level, is stored as 255 once it is touched; untouched it stays."""
    codes = np.tile(np.arange(AffineInt8.code_max + 1, dtype=np.uint16), 500)
    assert np.array_equal(read(codes, ber=1.0, bits=8), 255 - np.minimum(codes, 255))
    seen = read(codes, bits=8)
    assert seen.max() == 256 and 0.05 < (seen != codes).mean() < 0.1
    assert (seen[(codes == 256) & (seen != 256)] < 256).all()


def test_bfloat16_lies_in_the_upper_half_of_a_float() -> None:
    values = Bfloat16().encode(np.random.default_rng(3).standard_normal(200_000), Bfloat16().scale_of(0, 1))
    seen = read(values, ber=0.01, bits=16)
    differ = seen.view(np.uint32) ^ values.view(np.uint32)
    assert (
        not (differ & 0xFFFF).any() and abs(deviation(np.array([(differ >> b & 1).sum() for b in range(16, 32)]))) < 4
    )


def test_implausible_floats_become_zero_if_asked_to() -> None:
    values = np.random.default_rng(4).standard_normal(100_000).astype(np.float32)
    bare, mended = (perturb(values, 0.01, ErrorModel(plausible_max=limit), KEY, 0, A) for limit in (None, 10.0))
    with np.errstate(invalid="ignore"):  # among them are signalling NaN
        wild = ~(np.abs(bare) <= 10)
    assert wild.sum() > 500 and not mended[wild].any() and np.array_equal(mended[~wild], bare[~wild])


# Bad input, speed ----------------------------------------------------------------------------------------------------
@pytest.mark.parametrize(
    ("fields", "said"),
    [
        ({"kind": "unifrom"}, "'uniform', 'bitline'"),
        ({"weak_share": 0.0}, "greater than 0"),
        ({"weak_share": 1.5}, "less than or equal to 1"),
        ({"weak_shares": 0.5}, "Extra inputs"),
        ({"one_share": 0.9}, "one_share is for data_dependent, not uniform; got 0.9"),
        ({"kind": "value_uniform", "weak_share": 0.5}, "weak_share must be 1, got 0.5"),
        ({"device_seed": -1}, "greater than or equal to 0"),
        ({"device_seed": True}, "valid integer"),
    ],
)
def test_bad_models_are_refused(fields: dict[str, Any], said: str) -> None:
    with pytest.raises(ValidationError, match=said):
        ErrorModel(**fields)


@pytest.mark.parametrize(
    ("fields", "ber", "said"),
    [
        ({}, 1.5, "ber: must be from 0 to 1, got 1.5"),
        ({}, -0.1, "ber: must be from 0 to 1, got -0.1"),
        ({}, float("nan"), "ber: must be from 0 to 1, got nan"),
        ({"weak_share": 0.1}, 0.2, r"ber: must be at most 0\.1 with weak_share 0\.1 .*, got 0\.2"),
        ({"kind": "data_dependent", "one_share": 0.8}, 0.7, r"ber: must be at most 0\.625 .*one_share 0\.8 .*got 0\.7"),
    ],
)
def test_rates_out_of_reach_are_refused(fields: dict[str, Any], ber: float, said: str) -> None:
    with pytest.raises(StudyError, match=said):
        perturb(tensor(1), ber, ErrorModel(**fields), KEY, 0, A)


@pytest.mark.parametrize(("dtype", "bits"), [("i2", 17), ("i2", 0), ("c8", None), ("?", None), ("g", None)])
def test_carriers_that_cannot_hold_the_bits_are_refused(dtype: str, bits: int | None) -> None:
    with pytest.raises(ValueError, match=f"a word of {bits or ''}"):
        read(np.zeros(4, dtype), bits=bits)


def test_cost_follows_the_flips() -> None:
    """10 M words at a BER of 1e-3: below 100 ms; at 1e-6 little more than the copy."""
    words = np.zeros(10_000_000, np.int16)
    read(words, ber=1e-6)

    def cpu_s(ber: float) -> float:
        started = time.process_time()
        read(words, ber=ber)
        return time.process_time() - started

    assert min(cpu_s(1e-3) for _ in range(3)) < 0.1
    assert min(cpu_s(1e-6) for _ in range(3)) < 0.05
