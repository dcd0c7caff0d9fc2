"""Write the small PyTorch networks of this folder with both of its exporters; run by hand, never by the tests.

Weights are seeded and drawn at random, batch statistics included; the images axis is symbolic unless the name says
`fixed`. Made with torch 2.13.0, onnxscript, onnx 1.23 and onnxruntime 1.31:

    python tests/data/exports/make_exports.py
"""

from __future__ import annotations

import warnings
from pathlib import Path

import numpy as np
import onnx
import torch
from onnxruntime import quantization
from torch import nn

HERE = Path(__file__).parent
NAMES = {"input_names": ["image"], "output_names": ["scores"]}


class ResidualView(nn.Module):
    """Two residual blocks, one that halves the map, and the flattening by `view` most tutorials use."""

    def __init__(self) -> None:
        super().__init__()
        self.stem = nn.Sequential(nn.Conv2d(3, 6, 3, padding=1, bias=False), nn.BatchNorm2d(6), nn.ReLU())
        self.first = nn.Sequential(
            nn.Conv2d(6, 6, 3, padding=1, bias=False), nn.BatchNorm2d(6), nn.ReLU(),
            nn.Conv2d(6, 6, 3, padding=1, bias=False), nn.BatchNorm2d(6),
        )  # fmt: skip
        self.second = nn.Sequential(nn.Conv2d(6, 8, 3, 2, 1), nn.BatchNorm2d(8))
        self.shortcut = nn.Sequential(nn.Conv2d(6, 8, 1, 2, bias=False), nn.BatchNorm2d(8))
        self.classes = nn.Linear(8 * 2 * 2, 5)

    def forward(self, x):
        x = self.stem(x)
        x = torch.relu(x + self.first(x))
        x = torch.relu(self.second(x) + self.shortcut(x))
        x = nn.functional.avg_pool2d(x, 2)
        return self.classes(x.view(x.size(0), -1))


class MobileMean(nn.Module):
    """Depthwise and pointwise convolutions with ReLU6, an inverted residual, `mean([2, 3])` at the end."""

    def __init__(self) -> None:
        super().__init__()
        self.stem = self.block(3, 4, 3, stride=2)
        self.expand = self.block(4, 8, 1)
        self.depth = self.block(8, 8, 3, groups=8)
        self.project = nn.Sequential(nn.Conv2d(8, 4, 1, bias=False), nn.BatchNorm2d(4))
        self.classes = nn.Sequential(nn.Dropout(0.2), nn.Linear(4, 5))

    @staticmethod
    def block(C, M, kernel, stride=1, groups=1):
        conv = nn.Conv2d(C, M, kernel, stride, kernel // 2, groups=groups, bias=False)
        return nn.Sequential(conv, nn.BatchNorm2d(M), nn.ReLU6())

    def forward(self, x):
        x = self.stem(x)
        x = x + self.project(self.depth(self.expand(x)))
        return self.classes(x.mean([2, 3]))


class InceptionLrn(nn.Module):
    """Concatenated branches, pooling in ceil mode, dropout, response normalisation, `view(-1, features)`."""

    def __init__(self) -> None:
        super().__init__()
        self.stem = nn.Conv2d(3, 6, 3, padding=1)
        self.norm = nn.LocalResponseNorm(3, alpha=0.7, beta=0.75, k=1.5)
        self.one = nn.Conv2d(6, 4, 1)
        self.three = nn.Sequential(nn.Conv2d(6, 3, 1), nn.ReLU(), nn.Conv2d(3, 5, 3, padding=1))
        self.pooled = nn.Sequential(nn.MaxPool2d(3, 1, 1), nn.Conv2d(6, 2, 1))
        self.down = nn.MaxPool2d(3, 2, ceil_mode=True)
        self.drop = nn.Dropout(0.4)
        self.classes = nn.Linear(11 * 4 * 4, 5)

    def forward(self, x):
        x = self.norm(torch.relu(self.stem(x)))
        x = torch.relu(torch.cat([self.one(x), self.three(x), self.pooled(x)], 1))
        x = self.drop(self.down(x))
        x = x.view(-1, x.size(1) * x.size(2) * x.size(3))
        return torch.softmax(self.classes(x), dim=1)


class NormalisedInput(nn.Module):
    """The input normalised with buffers, uneven padding by `F.pad`, a learned scale after a convolution."""

    def __init__(self) -> None:
        super().__init__()
        self.register_buffer("mean", torch.tensor([0.485, 0.456, 0.406]).view(1, 3, 1, 1))
        self.register_buffer("std", torch.tensor([0.229, 0.224, 0.225]).view(1, 3, 1, 1))
        self.conv = nn.Conv2d(3, 6, 3)
        self.scale = nn.Parameter(torch.tensor([0.5, -2.0, 1.5, -0.25, 1.0, 3.0]).view(6, 1, 1))
        self.shift = nn.Parameter(torch.linspace(-1, 1, 6).view(6, 1, 1))
        self.down = nn.Conv2d(6, 4, 3, stride=2)
        self.classes = nn.Linear(4, 5)

    def forward(self, x):
        x = (x / 255 - self.mean) / self.std
        x = torch.relu(self.conv(x) * self.scale + self.shift)
        x = torch.relu(self.down(nn.functional.pad(x, (0, 1, 1, 0))))
        x = nn.functional.adaptive_max_pool2d(x, 1)
        return self.classes(torch.flatten(x, 1))


def randomise(net: nn.Module, seed: int) -> nn.Module:
    """Give batch statistics and scales values of both signs, so that folding them matters."""
    draw = torch.Generator().manual_seed(seed)
    for module in net.modules():
        if isinstance(module, nn.BatchNorm2d):
            size = module.weight.shape
            module.weight.data = (torch.rand(size, generator=draw) + 0.5) * torch.sign(
                torch.randn(size, generator=draw)
            )
            module.bias.data = torch.randn(size, generator=draw) / 2
            module.running_mean = torch.randn(size, generator=draw) / 4
            module.running_var = torch.rand(size, generator=draw) + 0.5
    return net.eval()


def torchscript(net: nn.Module, name: str, size: int, *, fixed: bool = False, opset: int = 17, **options) -> None:
    """Export with the TorchScript exporter."""
    axes = None if fixed else {"image": {0: "N"}, "scores": {0: "N"}}
    sample = (torch.rand(1 if fixed else 2, 3, size, size),)
    torch.onnx.export(net, sample, path(name), dynamo=False, dynamic_axes=axes, opset_version=opset, **NAMES, **options)
    strip(name)


def dynamo(net: nn.Module, name: str, size: int, *, fixed: bool = False, **options) -> None:
    """Export with the dynamo exporter."""
    axes = None if fixed else ({0: torch.export.Dim("N", min=1, max=4096)},)
    sample = (torch.rand(1 if fixed else 2, 3, size, size),)
    torch.onnx.export(
        net,
        sample,
        path(name),
        dynamo=True,
        external_data=False,
        dynamic_shapes=axes,
        verbose=False,
        **NAMES,
        **options,
    )
    strip(name)


class Calibration(quantization.CalibrationDataReader):
    """Eight random images, one at a time."""

    def __init__(self, size: int) -> None:
        self.images = iter(np.random.default_rng(0).random((8, 1, 3, size, size), np.float32))

    def get_next(self):
        image = next(self.images, None)
        return None if image is None else {"image": image}


def quantised(source: str, name: str, size: int, form) -> None:
    """Quantise an exported network with onnxruntime."""
    quantization.quantize_static(path(source), path(name), Calibration(size), quant_format=form)
    strip(name)


def path(name: str) -> Path:
    """Return the file of a network."""
    return HERE / f"{name}.onnx"


def strip(name: str) -> None:
    """Take out what the exporters note about the source code: it makes two thirds of a small file."""
    model = onnx.load(path(name))
    del model.metadata_props[:]
    del model.graph.metadata_props[:]
    for item in (*model.graph.node, *model.graph.value_info, *model.graph.input, *model.graph.output):
        del item.metadata_props[:]
        item.ClearField("doc_string")
    for tensor in model.graph.initializer:
        tensor.ClearField("doc_string")
    onnx.save(model, path(name))


def main() -> None:
    """Write all files."""
    warnings.simplefilter("ignore")
    torch.manual_seed(0)
    residual = randomise(ResidualView(), 0)
    mobile = randomise(MobileMean(), 1)
    inception = randomise(InceptionLrn(), 2)
    normalised = randomise(NormalisedInput(), 3)
    nets = {
        "residual_view": residual,
        "mobile_mean": mobile,
        "inception_lrn": inception,
        "normalised_input": normalised,
    }
    for name, net in nets.items():
        size = 9 if net is normalised else 8
        torchscript(net, f"{name}_torchscript", size)
        dynamo(net, f"{name}_dynamo", size)
    torchscript(residual, "residual_view_fixed", 8, fixed=True, opset=11)
    dynamo(inception, "inception_lrn_dynamo_fixed", 8, fixed=True)
    dynamo(mobile, "mobile_mean_dynamo_raw", 8, optimize=False)
    torchscript(inception, "inception_lrn_raw", 8, opset=13, do_constant_folding=False)
    for net, name in ((residual, "residual_view"), (mobile, "mobile_mean")):
        mode = torch.onnx.TrainingMode.TRAINING
        torchscript(net, f"{name}_training", 8, training=mode, do_constant_folding=False)
    quantised("mobile_mean_torchscript", "quantised_qdq", 8, quantization.QuantFormat.QDQ)
    quantised("mobile_mean_torchscript", "quantised_operators", 8, quantization.QuantFormat.QOperator)


if __name__ == "__main__":
    main()
