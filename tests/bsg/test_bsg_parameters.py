"""Parameter counts of the thesis, exact, from layer lists."""

from __future__ import annotations

from collections.abc import Callable

import pytest

from archsim.accelerators.bsg.parameters import ParameterCounts, count_parameters
from archsim.workload.layers import Conv, Layer, Linear
from archsim.workload.networks import load_network

S16, S12, S1 = (16, 16, 3, 3), (12, 12, 3, 3), (16, 16, 1, 1)


def shipped(name: str, slice_shape: tuple[int, int, int, int], generated: Callable[[Conv], bool]) -> ParameterCounts:
    return count_parameters(load_network(name).layers, slice_shape, generated)


def conv(name: str, C: int, M: int, R: int) -> Conv:
    return Conv(name=name, inputs=("x",), output=name, C=C, M=M, H=32, W=32, R=R, S=R, pad=(R // 2,) * 4)


def is_3x3(layer: Conv) -> bool:
    return layer.R == 3 and layer.name != "stem"


RESNET56 = {part: shipped("resnet56_cifar", part, lambda layer: layer.name != "stem") for part in (S16, S12)}


def test_resnet56_csg() -> None:
    """Table 5.1; the pre-trained generator is not counted."""
    wide, narrow = RESNET56[S16], RESNET56[S12]
    assert (wide.original, wide.slices, narrow.slices, wide.other) == (853_018, 368, 861, 5_146)
    assert wide.trained(128, 2304) == 347_162
    assert narrow.trained(72, 1296) == 160_450
    assert wide.trained(128) == 52_250


@pytest.mark.parametrize(
    ("n_c", "train", "words", "ratio"),
    [
        (256, 99_354, 11_050, 77.196),
        (512, 193_562, 16_954, 50.314),
        (1024, 381_978, 28_762, 29.658),
        (2048, 758_810, 52_378, 16.286),
    ],
)
def test_resnet56_bsg(n_c: int, train: int, words: int, ratio: float) -> None:
    """Table 5.5, in thousands of parameters and of 16-bit words."""
    counts = RESNET56[S16]
    assert counts.trained(n_c) == train
    assert counts.inference_words(n_c) == words
    assert round(counts.original / words, 3) == ratio


def test_mobilenet_v2() -> None:
    """Tables 5.1 and 5.7; columns of 5.7 are those of twice the printed n_c."""
    counts = shipped("mobilenet_v2_cifar", S1, lambda layer: layer.name.endswith("_expand"))
    assert (counts.original, counts.replaced, counts.slices) == (2_296_922, 752_896, 2_950)
    assert counts.trained(16, 256) == 1_595_322
    printed = {64: (1.73, 1.56, 1.48), 128: (1.92, 1.57, 1.46), 256: (2.30, 1.59, 1.44)}
    for n_c, (train, words, ratio) in printed.items():
        assert round(counts.trained(n_c) / 1e6, 2) == train
        assert round(counts.inference_words(n_c) / 1e6, 2) == words
        assert abs(counts.original / counts.inference_words(n_c) - ratio) < 0.006
    assert counts.inference_words(32) < 1_552_000  # the printed 1.56 M are not those of the printed 32


def densenet(growth: int, layers_per_block: int = 6) -> ParameterCounts:
    """DenseNet-BC: bottlenecks, compression 0.5, three blocks; normalisations stand in front of convolutions."""
    channels, norms = 2 * growth, 0
    layers: list[Layer] = [conv("stem", 3, channels, 3)]
    for block in range(3):
        for _ in range(layers_per_block):
            layers += [conv("bottleneck", channels, 4 * growth, 1), conv("grow", 4 * growth, growth, 3)]
            norms += 2 * channels + 2 * 4 * growth
            channels += growth
        if block < 2:
            layers.append(conv("transition", channels, channels // 2, 1))
            norms += 2 * channels
            channels //= 2
    norms += 2 * channels
    layers.append(Linear(name="fc", inputs=("x",), output="y", C=channels, M=10))
    counts = count_parameters(layers, S12, lambda layer: layer.name == "grow", affine=False)
    return counts._replace(other=counts.other + norms)


def test_densenet() -> None:
    for growth, printed in {48: (2_733_130, 1_416_394, 1_323_082), 36: (1_542_682, 842_842, 749_530)}.items():
        counts = densenet(growth)
        assert (counts.original, counts.trained(72, 1296), counts.trained(72)) == printed


def resnet101() -> list[Layer]:
    layers: list[Layer] = [conv("stem", 3, 64, 7)]
    channels = 64
    for width, blocks in ((64, 3), (128, 4), (256, 23), (512, 3)):
        for block in range(blocks):
            layers += [conv("a", channels, width, 1), conv("b", width, width, 3), conv("c", width, 4 * width, 1)]
            if not block:
                layers.append(conv("shortcut", channels, 4 * width, 1))
            channels = 4 * width
    return [*layers, Linear(name="fc", inputs=("x",), output="y", C=2048, M=1000)]


def test_resnet50_and_101() -> None:
    small, large = shipped("resnet50", S16, is_3x3), count_parameters(resnet101(), S16, is_3x3)
    assert (small.original, small.trained(128, 2304)) == (25_557_032, 15_163_432)
    assert (large.original, large.trained(128, 2304)) == (44_549_160, 24_685_608)
    norms = sum(2 * layer.M for layer in resnet101() if isinstance(layer, Conv))
    assert large.original + norms == 44_654_504  # as printed: with the running statistics


def test_deeplab_differences() -> None:
    """Table 5.3: the backbone, and a second generator for three convolutions of the spatial pyramid."""
    small, large = shipped("resnet50", S16, is_3x3), count_parameters(resnet101(), S16, is_3x3)
    pyramid = count_parameters([conv("atrous", 2048, 256, 3)] * 3, S16, is_3x3)
    saved = [counts.original - counts.trained(128, 2304) for counts in (small, large, pyramid)]
    assert saved == [40_352_181 - 29_958_581, 59_344_309 - 39_480_757, 29_958_581 - 16_884_149]


def test_shufflenet() -> None:
    """The last 1x1 convolution; the original count is taken as printed."""
    counts = count_parameters([conv("last", 192, 1024, 1)], S1, lambda layer: True, affine=False)
    assert 352_042 - counts.original + counts.trained(16, 256) == 171_818
