"""Whole networks: fp32 against onnxruntime, fixed point against fp32, and independence of blocks and threads."""

from __future__ import annotations

import hashlib
import re
from functools import cache

import numpy as np
import pytest
from small_nets import branching_network, images
from threadpoolctl import threadpool_limits

from archsim import assets
from archsim.errors import WorkloadError
from archsim.workload.calibrate import calibrate, tensor_scales
from archsim.workload.datasets import load_data
from archsim.workload.formats import AffineInt8, Bfloat16, Fixed
from archsim.workload.graph import FloatParams, Network, walk
from archsim.workload.networks import load_network
from archsim.workload.params import Tensor
from archsim.workload.reference import dense_compute, float_compute, input_tensor

FIXED16 = Fixed(16)


@pytest.fixture(autouse=True)
def one_blas_thread():
    """Small products gain nothing from threads, and lose much where other processes are busy."""
    with threadpool_limits(1):
        yield


needs_data = pytest.mark.skipif(assets.data_folder() is None, reason="no external data: set ARCHSIM_DATA")


def float_logits(network, pixels):
    return walk(network, input_tensor(network, pixels), float_compute(network))


def dense_logits(network, pixels, calibration, number_format, block=64):
    """Return the output tensor's codes and real values, block by block."""
    scales = tensor_scales(network, calibrate(network, calibration), number_format)
    compute = dense_compute(network, scales, number_format)
    outputs = []
    for first in range(0, len(pixels), block):
        values = input_tensor(network, pixels[first : first + block])
        scale = scales[network.input]
        outputs.append(walk(network, Tensor(number_format.encode(values, scale), number_format, scale), compute))
    return tuple(np.concatenate(parts) for parts in ([o.codes for o in outputs], [o.values() for o in outputs]))


def onnxruntime_logits(path, pixels):
    import onnxruntime

    session = onnxruntime.InferenceSession(str(path))
    x = pixels[:, None] if pixels.ndim == 3 else np.moveaxis(pixels, -1, 1)
    return session.run(None, {session.get_inputs()[0].name: x.astype(np.float32)})[0]


def relative_error(logits, expected):
    return (np.abs(logits - expected).max(axis=1) / np.abs(expected).max(axis=1)).max()


def top1(logits, labels):
    return (logits.reshape(len(logits), -1).argmax(axis=1) == labels).mean()


@needs_data
@pytest.mark.parametrize(
    ("file", "data", "count"),
    [
        ("lenet5_mnist.onnx", "mnist_test_0000_4999.npz", 200),
        ("resnet20_cifar10.onnx", "cifar10_test_dev5000.npz", 50),
        ("resnet56_cifar10.onnx", "cifar10_test_dev5000.npz", 8),
        ("squeezenet1_0_dc.onnx", "imagenet_sample_dev400.npz", 2),
    ],
)
def test_fp32_logits_are_those_of_onnxruntime(file, data, count):
    network, pixels = load_network(file), load_data(file=data, images=count).images
    assert relative_error(float_logits(network, pixels), onnxruntime_logits(assets.find(file), pixels)) <= 1e-5


@cache
def resnet20():
    return load_network("resnet20_cifar10.onnx"), load_data(file="cifar10_test_dev5000.npz", images=200)


@needs_data
def test_fixed16_keeps_the_accuracy_of_resnet20():
    network, data = resnet20()
    calibration = load_data(file="cifar10_train_a5000.npz", images=32).images
    logits = float_logits(network, data.images)
    codes, values = dense_logits(network, data.images, calibration, FIXED16)
    assert codes.dtype == np.int64
    assert top1(logits, data.labels) > 0.85
    assert abs(top1(values, data.labels) - top1(logits, data.labels)) <= 0.005
    assert 0 < np.median(np.abs(values - logits).max(axis=1) / np.abs(logits).max(axis=1)) < 5e-3


@needs_data
def test_fixed_point_depends_neither_on_blocks_nor_on_threads():
    network, data = resnet20()
    calibration, pixels = data.images[:8], data.images[:9]
    with threadpool_limits(1):
        expected, _ = dense_logits(network, pixels, calibration, FIXED16)
    for block, threads in ((4, 2), (1, 1)):
        with threadpool_limits(threads):
            np.testing.assert_array_equal(dense_logits(network, pixels, calibration, FIXED16, block)[0], expected)


@pytest.mark.parametrize("number_format", [FIXED16, Fixed(8), AffineInt8()])
def test_a_branching_network_depends_on_neither_either(number_format):
    network, pixels = branching_network(), images(13)
    expected = dense_logits(network, pixels, images(8), number_format)
    for block in (1, 4):
        with threadpool_limits(2):
            blocked = dense_logits(network, pixels, images(8), number_format, block)
        np.testing.assert_array_equal(blocked[0], expected[0])


@pytest.mark.parametrize(
    ("number_format", "bound"), [(FIXED16, 1e-3), (Fixed(8), 0.2), (AffineInt8(), 0.2), (Bfloat16(), 0.05)]
)
def test_every_format_approaches_fp32_by_its_own_step(number_format, bound):
    network, pixels = branching_network(), images(40)
    exact = float_logits(network, pixels)
    error = np.abs(dense_logits(network, pixels, pixels, number_format)[1] - exact).max() / np.abs(exact).max()
    assert bound / 1000 < error < bound


# the shipped digits network ------------------------------------------------------------------------------------------
def test_the_digits_network_is_the_one_that_was_trained():
    path = assets.find("digits_cnn.onnx")
    log = path.with_suffix(".log").read_text(encoding="utf-8")
    assert re.search(r"^sha256: (\w+)$", log, re.M).group(1) == hashlib.sha256(path.read_bytes()).hexdigest()
    assert path.stat().st_size < 500_000


def test_the_digits_network_classifies_its_test_split():
    network, data = load_network("digits_cnn.onnx"), load_data("digits", need_labels=True)
    assert len(data.images) == 599
    reference = onnxruntime_logits(assets.find("digits_cnn.onnx"), data.images)
    logits = float_logits(network, data.images)
    assert top1(reference, data.labels) >= 0.98
    assert relative_error(logits, reference) <= 1e-5
    log = assets.find("digits_cnn.log").read_text(encoding="utf-8")
    noted = float(re.search(r"^accuracy on test \(599 images\): (\S+)$", log, re.M).group(1))
    assert top1(logits, data.labels) == pytest.approx(noted, abs=1e-6)
    calibration = load_data("digits", split="train", images=32).images
    _, values = dense_logits(network, data.images, calibration, FIXED16)
    assert abs(top1(values, data.labels) - noted) <= 0.005
    assert top1(values, data.labels) >= 0.98


# input images --------------------------------------------------------------------------------------------------------
def network_of(shape, norm=None):
    return Network("net", (), "x", "x", {"x": shape}, input_norm=norm)


def test_images_of_any_layout_become_channels_first_raw_pixels():
    pixels = np.random.default_rng(0).integers(0, 256, (4, 5, 7, 3), np.uint8)
    x = input_tensor(network_of((3, 5, 7)), pixels)
    assert x.dtype == np.float32
    assert x.flags.c_contiguous
    np.testing.assert_array_equal(x, pixels.transpose(0, 3, 1, 2))
    np.testing.assert_array_equal(input_tensor(network_of((3, 5, 7)), pixels.transpose(0, 3, 1, 2)), x)
    grey = pixels[..., 0]
    np.testing.assert_array_equal(input_tensor(network_of((1, 5, 7)), grey), grey[:, None])
    np.testing.assert_array_equal(input_tensor(network_of((1, 5, 7)), grey[..., None]), grey[:, None])


def test_the_input_norm_is_applied_in_fp32():
    pixels = np.random.default_rng(0).integers(0, 256, (4, 5, 7, 3), np.uint8)
    scale, shift = np.array([0.01, 0.02, 0.5], np.float32), np.array([-1, 0, 3], np.float32)
    x = input_tensor(network_of((3, 5, 7), FloatParams(scale, shift)), pixels)
    assert x.dtype == np.float32
    np.testing.assert_allclose(x, pixels.transpose(0, 3, 1, 2) * scale[:, None, None] + shift[:, None, None], rtol=1e-6)


@pytest.mark.parametrize(
    ("shape", "wanted", "named"),
    [
        (
            (2, 227, 227, 3),
            (3, 224, 224),
            r"\(227, 227, 3\) do not fit net: it takes \(3, 224, 224\) or \(224, 224, 3\)",
        ),
        ((2, 28, 28), (3, 28, 28), r"\(28, 28\) .* \(3, 28, 28\)"),
        ((2, 8, 8), (64,), r"\(8, 8\) .* \(64,\)"),
    ],
)
def test_images_that_do_not_fit_are_refused_with_both_shapes(shape, wanted, named):
    with pytest.raises(WorkloadError, match=named):
        input_tensor(network_of(wanted), np.zeros(shape, np.uint8))
