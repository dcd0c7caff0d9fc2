"""Train BSG ResNet-20s on CIFAR-10: the weights of 18 convolutions come from binary code vectors and a base vector.

ResNet-20 of He et al. (CVPR 2016, section 4.2): 3x3 convolutions of 16, 32 and 64 filters, three blocks each, shortcuts
without parameters. Slices of 16x16x3x3, 116 of them, stand for 267,264 weights; the first convolution and the last
layer keep theirs. Training images are shifted by up to 4 pixels and mirrored. `bsg_training.py` tells how.

Run it with: pip install 'archsim[train]', data of CIFAR-10 in $ARCHSIM_DATA (10,000 training images), and
  python workloads/training/train_bsg_resnet.py export --n-c 512 --epochs 60
  python workloads/training/train_bsg_resnet.py sweep --n-c 64 256 --generator rotate feedback --seed 0 --epochs 15
"""

from __future__ import annotations

import numpy as np
import torch
from bsg_training import Images, Job, OnnxGraph, convolution, main
from torch import nn

from archsim.workload.datasets import load_data

SLICE = (16, 16, 3, 3)
FILES = {"train": ("cifar10_train_a5000.npz", "cifar10_train_b5000.npz"), "test": ("cifar10_test_dev5000.npz",)}
WIDTHS, BLOCKS, SHIFT = (16, 32, 64), 3, 4


class Block(nn.Module):
    """Two convolutions and what passes by them; the first block of a stage halves the map and widens it with zeros."""

    def __init__(self, channels: int, filters: int, rows: torch.Tensor | None) -> None:
        super().__init__()
        self.stride, self.wider = (1, 0) if channels == filters else (2, filters - channels)
        self.conv1 = convolution((filters, channels, 3, 3), rows, SLICE, self.stride, 1)
        self.bn1 = nn.BatchNorm2d(filters)
        self.conv2 = convolution((filters, filters, 3, 3), rows, SLICE, 1, 1)
        self.bn2 = nn.BatchNorm2d(filters)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        """Return the ofmap of the block."""
        y = self.bn2(self.conv2(torch.relu(self.bn1(self.conv1(x)))))
        if self.wider:
            x = nn.functional.pad(x[:, :, ::2, ::2], (0, 0, 0, 0, self.wider // 2, self.wider // 2))
        return torch.relu(x + y)


class BsgResnet(nn.Module):
    """(N, 3, 32, 32) raw pixels -> (N, 10) logits."""

    def __init__(self, pixels: torch.Tensor, rows: torch.Tensor | None) -> None:
        super().__init__()
        values = pixels.double()
        self.mean, self.deviation = (
            one.float().view(3, 1, 1) for one in (values.mean((0, 2, 3)), values.std((0, 2, 3)))
        )
        self.stem, self.stem_bn = nn.Conv2d(3, WIDTHS[0], 3, padding=1, bias=False), nn.BatchNorm2d(WIDTHS[0])
        channels = WIDTHS[0]
        for name, filters in blocks():
            setattr(self, name, Block(channels, filters, rows))
            channels = filters
        self.fc = nn.Linear(channels, 10)

    def forward(self, pixels: torch.Tensor) -> torch.Tensor:
        """Return the logits."""
        x = torch.relu(self.stem_bn(self.stem((pixels - self.mean) / self.deviation)))
        for name, _ in blocks():
            x = getattr(self, name)(x)
        return self.fc(x.mean((2, 3)))


def blocks() -> list[tuple[str, int]]:
    """Return name and filters of every block."""
    return [(f"s{stage}b{index}", width) for stage, width in enumerate(WIDTHS, 1) for index in range(BLOCKS)]


def data(split: str) -> Images:
    """Return pixels and labels of a split of CIFAR-10."""
    found = [load_data(file=file, need_labels=True) for file in FILES[split]]
    images = np.concatenate([part.images for part in found]).transpose(0, 3, 1, 2)
    labels = np.concatenate([part.labels for part in found]).astype(np.int64)
    return torch.from_numpy(images.copy()), torch.from_numpy(labels)


def vary(pixels: torch.Tensor, random: torch.Generator) -> torch.Tensor:
    """Return the images shifted by -4 .. 4 pixels, black coming in, and every second one mirrored."""
    count, _, height, width = pixels.shape
    padded = nn.functional.pad(pixels, (SHIFT,) * 4)
    top, left = (torch.randint(0, 2 * SHIFT + 1, (count, 1), generator=random) for _ in range(2))
    mirrored = torch.randint(0, 2, (count, 1), generator=random)
    column = torch.arange(width)
    column = torch.where(mirrored == 1, width - 1 - column, column) + left
    row = torch.arange(height) + top
    return padded[torch.arange(count)[:, None, None], :, row[:, :, None], column[:, None, :]].permute(0, 3, 1, 2)


def graph(model: BsgResnet, to: OnnxGraph) -> None:
    """Write the layers."""
    x = to.input_norm(model.mean.flatten().tolist(), (model.deviation**2).flatten().tolist())
    x = to.norm("stem_bn", to.conv("stem", x, model.stem), model.stem_bn, model.stem)
    x = to.add("Relu", "stem_relu", [x])
    for name, _ in blocks():
        x = _block(name, getattr(model, name), x, to)
    x = to.add("Flatten", "flatten", [to.add("GlobalAveragePool", "gap", [x])], axis=1)
    to.linear("fc", "logits", x, model.fc)


def _block(name: str, block: Block, x: str, to: OnnxGraph) -> str:
    y = to.norm(f"{name}.bn1", to.conv(f"{name}.conv1", x, block.conv1), block.bn1, block.conv1)
    y = to.add("Relu", f"{name}.relu1", [y])
    y = to.norm(f"{name}.bn2", to.conv(f"{name}.conv2", y, block.conv2), block.bn2, block.conv2)
    if block.wider:
        channels = block.conv2.shape[0] if hasattr(block.conv2, "shape") else block.conv2.out_channels
        x = _subsample(f"{name}.shortcut", x, channels - block.wider, block.wider, to)
    return to.add("Relu", f"{name}.relu2", [to.add("Add", f"{name}.add", [y, x])])


def _subsample(name: str, x: str, channels: int, wider: int, to: OnnxGraph) -> str:
    """Every second pixel, channels of zeros before and behind, as a 1x1 convolution of zeros and ones: wiring."""
    weight = np.zeros((channels + wider, channels, 1, 1), np.float32)
    weight[wider // 2 + np.arange(channels), np.arange(channels)] = 1
    inputs = [x, *to.keep(name, weight=weight)]
    return to.add("Conv", name, inputs, kernel_shape=[1, 1], pads=[0] * 4, strides=[2, 2])


JOB = Job("bsg_resnet20", SLICE, data, FILES["test"][0], BsgResnet, graph, batch=100, rate=3e-2, vary=vary)

if __name__ == "__main__":
    main(JOB, str(__doc__), epochs=60)
