"""Train the shipped `digits_cnn.onnx`: a small CNN on scikit-learn's digits (8x8 pixels, raw values 0..16).

Three 3x3 convolutions with batch normalisation and ReLU, two max pools, one linear layer. It is trained on the train
split only (1198 images, shifted by up to one pixel), and the last epoch is taken, whatever the test accuracy was.
Run it with: pip install 'archsim[train]' && python workloads/training/train_digits.py
"""

from __future__ import annotations

import argparse
import hashlib
from pathlib import Path

import numpy as np
import onnx
import torch
from onnx import TensorProto, helper, numpy_helper
from torch import nn

from archsim.workload.datasets import load_data

SEED = 0
EPOCHS = 60
BATCH = 32
CHANNELS = (16, 32, 32)
CLASSES = 10
FEATURES = CHANNELS[-1] * 2 * 2


class DigitsCnn(nn.Module):
    """(N, 1, 8, 8) raw pixels -> (N, 10) logits."""

    def __init__(self, mean: float, variance: float) -> None:
        super().__init__()
        self.mean, self.deviation = mean, variance**0.5
        self.conv1, self.bn1 = nn.Conv2d(1, CHANNELS[0], 3, padding=1, bias=False), nn.BatchNorm2d(CHANNELS[0])
        self.conv2, self.bn2 = nn.Conv2d(*CHANNELS[:2], 3, padding=1, bias=False), nn.BatchNorm2d(CHANNELS[1])
        self.conv3, self.bn3 = nn.Conv2d(*CHANNELS[1:], 3, padding=1, bias=False), nn.BatchNorm2d(CHANNELS[2])
        self.fc = nn.Linear(FEATURES, CLASSES)

    def forward(self, pixels: torch.Tensor) -> torch.Tensor:
        """Return the logits."""
        x = (pixels - self.mean) / self.deviation
        x = torch.relu(self.bn1(self.conv1(x)))
        x = nn.functional.max_pool2d(torch.relu(self.bn2(self.conv2(x))), 2)
        x = nn.functional.max_pool2d(torch.relu(self.bn3(self.conv3(x))), 2)
        return self.fc(x.flatten(1))


def shifted(pixels: torch.Tensor, generator: torch.Generator) -> torch.Tensor:
    """Return the images moved by -1, 0 or 1 pixels in both directions, zeros coming in."""
    padded = nn.functional.pad(pixels, (1, 1, 1, 1))
    moves = torch.randint(0, 3, (len(pixels), 2), generator=generator).tolist()
    return torch.stack([one[:, dy : dy + 8, dx : dx + 8] for one, (dy, dx) in zip(padded, moves)])


def train(model: DigitsCnn, pixels: torch.Tensor, labels: torch.Tensor) -> list[float]:
    """Train in place with AdamW under a cosine schedule; returns the mean loss of every epoch."""
    generator = torch.Generator().manual_seed(SEED)
    optimiser = torch.optim.AdamW(model.parameters(), lr=3e-3, weight_decay=1e-2)
    schedule = torch.optim.lr_scheduler.CosineAnnealingLR(optimiser, EPOCHS)
    losses = []
    model.train()
    for _ in range(EPOCHS):
        total = 0.0
        for chosen in torch.randperm(len(pixels), generator=generator).split(BATCH):
            loss = nn.functional.cross_entropy(model(shifted(pixels[chosen], generator)), labels[chosen])
            optimiser.zero_grad()
            loss.backward()
            optimiser.step()
            total += loss.item() * len(chosen)
        schedule.step()
        losses.append(total / len(pixels))
    return losses


def accuracy(model: DigitsCnn, pixels: torch.Tensor, labels: torch.Tensor) -> float:
    """Return the share of right answers."""
    model.eval()
    with torch.no_grad():
        return float((model(pixels).argmax(1) == labels).float().mean())


def to_onnx(model: DigitsCnn) -> onnx.ModelProto:
    """Return the network as ONNX opset 13 with the names conv1, bn1, relu1, ..., fc and separate batch norms."""
    nodes, constants = [], {}

    def add(op: str, name: str, inputs: list[str], **attributes: object) -> str:
        nodes.append(helper.make_node(op, inputs, [name], name=name, **attributes))
        return name

    def keep(prefix: str, **arrays: np.ndarray) -> list[str]:
        constants.update({f"{prefix}.{key}": np.asarray(array, np.float32) for key, array in arrays.items()})
        return [f"{prefix}.{key}" for key in arrays]

    norm = keep("input_norm", scale=[1.0], shift=[0.0], mean=[model.mean], variance=[model.deviation**2])
    x = add("BatchNormalization", "input_norm", ["image", *norm], epsilon=0.0)
    for index in (1, 2, 3):
        conv, bn = getattr(model, f"conv{index}"), getattr(model, f"bn{index}")
        weights = keep(f"conv{index}", weight=conv.weight.detach().numpy())
        x = add("Conv", f"conv{index}", [x, *weights], kernel_shape=[3, 3], pads=[1, 1, 1, 1], strides=[1, 1])
        statistics = {"scale": bn.weight, "shift": bn.bias, "mean": bn.running_mean, "variance": bn.running_var}
        terms = keep(f"bn{index}", **{key: one.detach().numpy() for key, one in statistics.items()})
        x = add("BatchNormalization", f"bn{index}", [x, *terms], epsilon=bn.eps)
        x = add("Relu", f"relu{index}", [x])
        if index > 1:
            x = add("MaxPool", f"pool{index}", [x], kernel_shape=[2, 2], strides=[2, 2])
    x = add("Flatten", "flatten", [x], axis=1)
    fc = keep("fc", weight=model.fc.weight.detach().numpy(), bias=model.fc.bias.detach().numpy())
    nodes.append(helper.make_node("Gemm", [x, *fc], ["logits"], name="fc", transB=1))
    graph = helper.make_graph(
        nodes,
        "digits_cnn",
        [helper.make_tensor_value_info("image", TensorProto.FLOAT, ["N", 1, 8, 8])],
        [helper.make_tensor_value_info("logits", TensorProto.FLOAT, ["N", CLASSES])],
        [numpy_helper.from_array(array, name) for name, array in constants.items()],
    )
    made = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 13)], producer_name="archsim", ir_version=8)
    onnx.checker.check_model(made, full_check=True)
    return made


def write_log(path: Path, losses: list[float], shares: dict[str, tuple[int, float]], digest: str) -> None:
    """Write what was done and what came out, one `key: value` per line."""
    lines = [
        f"torch: {torch.__version__}",
        f"seed: {SEED}",
        f"epochs: {EPOCHS}",
        f"optimiser: AdamW lr 0.003 weight_decay 0.01, cosine schedule, batch {BATCH}, shifts of -1..1 pixels",
        *(f"loss of epoch {index + 1}: {loss:.6f}" for index, loss in enumerate(losses)),
        *(f"accuracy on {split} ({images} images): {share:.6f}" for split, (images, share) in shares.items()),
        f"sha256: {digest}",
    ]
    path.write_text("\n".join(lines) + "\n", encoding="utf-8")


def main() -> None:
    """Train, export, and write the log beside the network."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--out", type=Path, default=Path(__file__).resolve().parent.parent / "trained")
    folder = parser.parse_args().out
    torch.manual_seed(SEED)
    torch.set_num_threads(1)
    torch.use_deterministic_algorithms(True)
    data = {}
    for split in ("train", "test"):
        digits = load_data("digits", split=split)
        pixels = torch.from_numpy(digits.images[:, None].astype(np.float32))
        data[split] = (pixels, torch.from_numpy(digits.labels))
    pixels = data["train"][0]
    model = DigitsCnn(float(pixels.mean()), float(pixels.var(correction=0)))
    losses = train(model, *data["train"])
    content = to_onnx(model.eval()).SerializeToString(deterministic=True)
    folder.mkdir(parents=True, exist_ok=True)
    (folder / "digits_cnn.onnx").write_bytes(content)
    shares = {split: (len(labels), accuracy(model, images, labels)) for split, (images, labels) in data.items()}
    write_log(folder / "digits_cnn.log", losses, shares, hashlib.sha256(content).hexdigest())
    print(*(f"{split}: {share:.2%} of {images}" for split, (images, share) in shares.items()), sep="\n")


if __name__ == "__main__":
    main()
