"""Train BSG LeNet-5s on MNIST: the weights of conv2 and conv3 come from binary code vectors and a base vector.

LeNet-5 with batch normalisation: 5x5 convolutions 1 -> 6 -> 16 -> 120, two max pools, 120 -> 84 -> 10. Slices of
8x8x5x5, 32 of them, stand for 50,400 weights. `bsg_training.py` tells how.

Run it with: pip install 'archsim[train]', data of MNIST in $ARCHSIM_DATA, and
  python workloads/training/train_bsg_lenet.py export --n-c 512 --epochs 12
  python workloads/training/train_bsg_lenet.py sweep --n-c 16 64 256 --generator rotate full --seed 0 1 2 --epochs 2
"""

from __future__ import annotations

import numpy as np
import torch
from bsg_training import Images, Job, OnnxGraph, convolution, main
from torch import nn

from archsim.workload.datasets import load_data

SLICE = (8, 8, 5, 5)
GENERATED = {"conv2": (16, 6, 5, 5), "conv3": (120, 16, 5, 5)}
FILES = {"train": "mnist_train_60000.npz", "test": "mnist_test_0000_4999.npz"}


class BsgLenet(nn.Module):
    """(N, 1, 28, 28) raw pixels -> (N, 10) logits."""

    def __init__(self, pixels: torch.Tensor, rows: torch.Tensor | None) -> None:
        super().__init__()
        self.mean, self.deviation = float(pixels.float().mean()), float(pixels.float().std())
        self.conv1 = nn.Conv2d(1, 6, 5, padding=2, bias=False)
        for name, shape in GENERATED.items():
            setattr(self, name, convolution(shape, rows, SLICE))
        self.bn1, self.bn2, self.bn3 = (nn.BatchNorm2d(channels) for channels in (6, 16, 120))
        self.fc1, self.fc2 = nn.Linear(120, 84), nn.Linear(84, 10)

    def forward(self, pixels: torch.Tensor) -> torch.Tensor:
        """Return the logits."""
        x = (pixels - self.mean) / self.deviation
        x = nn.functional.max_pool2d(torch.relu(self.bn1(self.conv1(x))), 2)
        x = nn.functional.max_pool2d(torch.relu(self.bn2(self.conv2(x))), 2)
        x = torch.relu(self.bn3(self.conv3(x)))
        return self.fc2(torch.relu(self.fc1(x.flatten(1))))


def data(split: str) -> Images:
    """Return pixels and labels of a split of MNIST."""
    found = load_data(file=FILES[split], need_labels=True)
    return torch.from_numpy(found.images[:, None].copy()), torch.from_numpy(found.labels.astype(np.int64))


def graph(model: BsgLenet, to: OnnxGraph) -> None:
    """Write the layers."""
    x = to.input_norm([model.mean], [model.deviation**2])
    for index in (1, 2, 3):
        conv = getattr(model, f"conv{index}")
        x = to.conv(f"conv{index}", x, conv)
        x = to.norm(f"bn{index}", x, getattr(model, f"bn{index}"), conv)
        x = to.add("Relu", f"relu{index}", [x])
        if index < 3:
            x = to.add("MaxPool", f"pool{index}", [x], kernel_shape=[2, 2], strides=[2, 2])
    x = to.add("Flatten", "flatten", [x], axis=1)
    x = to.linear("fc1", "fc1", x, model.fc1)
    to.linear("fc2", "logits", to.add("Relu", "relu4", [x]), model.fc2)


JOB = Job("bsg_lenet", SLICE, data, FILES["test"], BsgLenet, graph, batch=250, rate=3e-3)

if __name__ == "__main__":
    main(JOB, str(__doc__), epochs=12)
