"""Train BSG LeNet-5s on MNIST: the weights of conv2 and conv3 come from binary code vectors and a base vector.

LeNet-5 with batch normalisation: 5x5 convolutions 1 -> 6 -> 16 -> 120, two max pools, 120 -> 84 -> 10. Slices of
8x8x5x5, 32 of them, stand for 50,400 weights. Code vectors are float parameters in -1 .. 1 whose sign is used forward;
the gradient passes straight through. `rotate` is the generator of the thesis, `feedback` ours; `full` is a random
matrix that no hardware here makes. The last epoch is taken, whatever the test accuracy was.

Run it with: pip install 'archsim[train]', data of MNIST in $ARCHSIM_DATA, and
  python workloads/training/train_bsg_lenet.py export --n-c 512 --epochs 12
  python workloads/training/train_bsg_lenet.py sweep --n-c 16 64 256 --generator rotate full --seed 0 1 2 --epochs 2
"""

from __future__ import annotations

import argparse
import hashlib
import time
from itertools import product
from math import prod
from pathlib import Path

import numpy as np
import onnx
import torch
from onnx import TensorProto, helper, numpy_helper
from torch import nn

from archsim.accelerators.bsg.generator import (
    CODE_WORD_BITS,
    layer_weights,
    registers,
    slice_grid,
    words_of,
    xorshift_words,
)
from archsim.workload.datasets import load_data

TRAINED = Path(__file__).resolve().parent.parent / "trained"
SLICE = (8, 8, 5, 5)
GENERATED = {"conv2": (16, 6, 5, 5), "conv3": (120, 16, 5, 5)}
BASE_SEED = 0x2545F491
BATCH = 250
RATE = 3e-3
SWEEP = TRAINED / "bsg_lenet_sweep.csv"


def matrix(n_c: int, generator: str, seed: int) -> np.ndarray:
    """Return the fixed matrix of +1 and -1, float32 (weights of a slice, n_c)."""
    weights = prod(SLICE)
    if generator == "full":
        bits = np.random.default_rng(seed).integers(0, 2, (weights, n_c))
    else:
        bits = registers(xorshift_words(BASE_SEED, n_c // CODE_WORD_BITS), weights, generator)
    return bits.astype(np.float32) * 2 - 1


class Generated(nn.Module):
    """A convolution without padding whose weights come from code vectors."""

    def __init__(self, shape: tuple[int, int, int, int], rows: torch.Tensor) -> None:
        super().__init__()
        self.shape, self.grid = shape, slice_grid(shape, SLICE)
        self.register_buffer("rows", rows)
        self.codes = nn.Parameter(torch.rand(prod(self.grid), rows.shape[1]) - 0.5)
        self.scale = (rows.shape[1] * prod(shape[1:])) ** -0.5

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        """Return the convolution with generated weights, scaled by 1 / sqrt(n_c * fan-in)."""
        signs = torch.where(self.codes >= 0, 1.0, -1.0)
        through = self.codes + (signs - self.codes).detach()
        blocks = (through @ self.rows.T).view(*self.grid, *SLICE).permute(0, 4, 1, 5, 2, 6, 3, 7)
        whole = blocks.reshape([n * part for n, part in zip(self.grid, SLICE)])
        filters, channels, rows, columns = self.shape
        return nn.functional.conv2d(x, whole[:filters, :channels, :rows, :columns] * self.scale)


class BsgLenet(nn.Module):
    """(N, 1, 28, 28) raw pixels -> (N, 10) logits."""

    def __init__(self, mean: float, deviation: float, rows: torch.Tensor | None) -> None:
        super().__init__()
        self.mean, self.deviation = mean, deviation
        self.conv1 = nn.Conv2d(1, 6, 5, padding=2, bias=False)
        for name, shape in GENERATED.items():
            plain = nn.Conv2d(shape[1], shape[0], 5, bias=False)
            setattr(self, name, plain if rows is None else Generated(shape, rows))
        self.bn1, self.bn2, self.bn3 = (nn.BatchNorm2d(channels) for channels in (6, 16, 120))
        self.fc1, self.fc2 = nn.Linear(120, 84), nn.Linear(84, 10)

    def forward(self, pixels: torch.Tensor) -> torch.Tensor:
        """Return the logits."""
        x = (pixels - self.mean) / self.deviation
        x = nn.functional.max_pool2d(torch.relu(self.bn1(self.conv1(x))), 2)
        x = nn.functional.max_pool2d(torch.relu(self.bn2(self.conv2(x))), 2)
        x = torch.relu(self.bn3(self.conv3(x)))
        return self.fc2(torch.relu(self.fc1(x.flatten(1))))


def train(model: BsgLenet, pixels: torch.Tensor, labels: torch.Tensor, epochs: int, seed: int) -> list[float]:
    """Train in place with AdamW under a one-cycle schedule; return the mean loss of every epoch."""
    generator = torch.Generator().manual_seed(seed)
    optimiser = torch.optim.AdamW(model.parameters(), lr=RATE, weight_decay=0.0)
    steps = epochs * -(-len(pixels) // BATCH)
    schedule = torch.optim.lr_scheduler.OneCycleLR(optimiser, RATE, total_steps=steps)
    codes = [module.codes for module in model.modules() if isinstance(module, Generated)]
    losses = []
    model.train()
    for _ in range(epochs):
        total = 0.0
        for chosen in torch.randperm(len(pixels), generator=generator).split(BATCH):
            loss = nn.functional.cross_entropy(model(pixels[chosen].float()), labels[chosen])
            optimiser.zero_grad()
            loss.backward()
            optimiser.step()
            schedule.step()
            for one in codes:
                one.data.clamp_(-1, 1)
            total += loss.item() * len(chosen)
        losses.append(total / len(pixels))
    return losses


def logits_of(model: BsgLenet, pixels: torch.Tensor) -> torch.Tensor:
    """Return the logits of all images."""
    model.eval()
    with torch.no_grad():
        return torch.cat([model(block.float()) for block in pixels.split(500)])


def data(split: str) -> tuple[torch.Tensor, torch.Tensor]:
    """Return pixels uint8 (N, 1, 28, 28) and labels int64 of a split of MNIST."""
    file = {"train": "mnist_train_60000.npz", "test": "mnist_test_0000_4999.npz"}[split]
    found = load_data(file=file, need_labels=True)
    return torch.from_numpy(found.images[:, None].copy()), torch.from_numpy(found.labels.astype(np.int64))


def trained(n_c: int, generator: str, epochs: int, seed: int, pixels: torch.Tensor, labels: torch.Tensor) -> tuple:
    """Return a trained model and its losses; generator 'fp32' trains plain weights."""
    torch.manual_seed(seed)
    rows = None if generator == "fp32" else torch.from_numpy(matrix(n_c, generator, seed))
    model = BsgLenet(float(pixels.float().mean()), float(pixels.float().std()), rows)
    return model, train(model, pixels, labels, epochs, seed)


def code_words(model: BsgLenet) -> dict[str, np.ndarray]:
    """Return the code vectors of every generated layer, uint16 (slices, n_c / 16)."""
    return {name: words_of(getattr(model, name).codes.detach().numpy() >= 0) for name in GENERATED}


def save_codes(path: Path, model: BsgLenet, n_c: int, generator: str) -> dict[str, np.ndarray]:
    """Write base and code vectors; return the integer weights they make."""
    base, codes = xorshift_words(BASE_SEED, n_c // CODE_WORD_BITS), code_words(model)
    named = {f"codes/{name}": words for name, words in codes.items()}
    shape = np.array(SLICE, np.int64)
    np.savez(path, base=base, slice_shape=shape, n_c=np.int64(n_c), generator=np.array(generator), **named)
    return {
        name: layer_weights(base, words, GENERATED[name], SLICE, generator)  # type: ignore[arg-type]
        for name, words in codes.items()
    }


def to_onnx(model: BsgLenet, weights: dict[str, np.ndarray], name: str) -> onnx.ModelProto:
    """Return the network as ONNX opset 13; generated layers carry integer weights, the scale is in the batch norm."""
    nodes, constants = [], {}

    def add(op: str, node: str, inputs: list[str], **attributes: object) -> str:
        nodes.append(helper.make_node(op, inputs, [node], name=node, **attributes))
        return node

    def keep(prefix: str, **arrays: object) -> list[str]:
        constants.update({f"{prefix}.{key}": np.asarray(array, np.float32) for key, array in arrays.items()})
        return [f"{prefix}.{key}" for key in arrays]

    def norm(index: int) -> list[str]:
        bn, conv = getattr(model, f"bn{index}"), getattr(model, f"conv{index}")
        unit = 1 / conv.scale if isinstance(conv, Generated) else 1.0
        mean, variance = (one.detach().double().numpy() for one in (bn.running_mean, bn.running_var))
        scale, shift = bn.weight.detach().numpy(), bn.bias.detach().numpy()
        return keep(f"bn{index}", scale=scale, shift=shift, mean=mean * unit, variance=(variance + bn.eps) * unit**2)

    given = keep("input_norm", scale=[1.0], shift=[0.0], mean=[model.mean], variance=[model.deviation**2])
    x = add("BatchNormalization", "input_norm", ["image", *given], epsilon=0.0)
    for index in (1, 2, 3):
        conv = f"conv{index}"
        values = weights.get(conv)
        values = model.conv1.weight.detach().numpy() if values is None else values
        pad = 2 if index == 1 else 0
        x = add("Conv", conv, [x, *keep(conv, weight=values)], kernel_shape=[5, 5], pads=[pad] * 4, strides=[1, 1])
        x = add("BatchNormalization", f"bn{index}", [x, *norm(index)], epsilon=0.0)
        x = add("Relu", f"relu{index}", [x])
        if index < 3:
            x = add("MaxPool", f"pool{index}", [x], kernel_shape=[2, 2], strides=[2, 2])
    x = add("Flatten", "flatten", [x], axis=1)
    for fc, output in (("fc1", "fc1"), ("fc2", "logits")):
        layer = getattr(model, fc)
        terms = keep(fc, weight=layer.weight.detach().numpy(), bias=layer.bias.detach().numpy())
        nodes.append(helper.make_node("Gemm", [x, *terms], [output], name=fc, transB=1))
        x = add("Relu", "relu4", [fc]) if fc == "fc1" else output
    graph = helper.make_graph(
        nodes,
        name,
        [helper.make_tensor_value_info("image", TensorProto.FLOAT, ["N", 1, 28, 28])],
        [helper.make_tensor_value_info("logits", TensorProto.FLOAT, ["N", 10])],
        [numpy_helper.from_array(array, key) for key, array in constants.items()],
    )
    made = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 13)], producer_name="archsim", ir_version=8)
    onnx.checker.check_model(made, full_check=True)
    return made


def export(n_c: int, generator: str, epochs: int, seed: int) -> None:
    """Train one network; write ONNX, code vectors, the class of 1000 test images, and the log."""
    (pixels, labels), (images, truth), started = data("train"), data("test"), time.process_time()
    model, losses = trained(n_c, generator, epochs, seed, pixels, labels)
    seconds = time.process_time() - started
    name = f"bsg_lenet_{generator}_{n_c}"
    weights = save_codes(TRAINED / f"{name}.codes.npz", model, n_c, generator)
    content = to_onnx(model, weights, name).SerializeToString(deterministic=True)
    (TRAINED / f"{name}.onnx").write_bytes(content)
    classes = logits_of(model, images).argmax(1)
    share = float((classes == truth).double().mean())
    lines = [
        f"torch: {torch.__version__}",
        f"seed: {seed}",
        f"n_c: {n_c}",
        f"generator: {generator}",
        f"epochs: {epochs}",
        f"optimiser: AdamW lr {RATE}, no weight decay, one-cycle schedule, batch {BATCH}, 1 thread",
        *(f"loss of epoch {index + 1}: {loss:.6f}" for index, loss in enumerate(losses)),
        f"accuracy on mnist_test_0000_4999 ({len(truth)} images): {share:.6f}",
        f"training: {seconds:.0f} CPU seconds",
        f"classes of the first 1000 images: {''.join(map(str, classes[:1000].tolist()))}",
        f"sha256: {hashlib.sha256(content).hexdigest()}",
    ]
    (TRAINED / f"{name}.log").write_text("\n".join(lines) + "\n", encoding="utf-8")
    print(f"{name}: {share:.2%} of {len(truth)} images, {seconds:.0f} CPU seconds", flush=True)


def sweep(sizes: list[int], generators: list[str], seeds: list[int], epochs: int) -> None:
    """Train every size and generator with every seed; add one line each to the table, skipping those it has."""
    (pixels, labels), (images, truth) = data("train"), data("test")
    known = SWEEP.read_text().splitlines() if SWEEP.exists() else ["n_c,generator,seed,epochs,images,right"]
    for seed, generator, n_c in product(seeds, generators, sizes):
        if any(line.startswith(f"{n_c},{generator},{seed},{epochs},") for line in known):
            continue
        model, _ = trained(n_c, generator, epochs, seed, pixels, labels)
        right = int((logits_of(model, images).argmax(1) == truth).sum())
        known.append(f"{n_c},{generator},{seed},{epochs},{len(truth)},{right}")
        SWEEP.write_text("\n".join(known) + "\n", encoding="utf-8")
        print(known[-1], flush=True)


def main() -> None:
    """Read the command line and train."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("task", choices=("export", "sweep"))
    parser.add_argument("--n-c", type=int, nargs="+", default=[512])
    parser.add_argument("--generator", nargs="+", default=["rotate"], choices=("rotate", "feedback", "full", "fp32"))
    parser.add_argument("--epochs", type=int, default=12)
    parser.add_argument("--seed", type=int, nargs="+", default=[0])
    given = parser.parse_args()
    torch.set_num_threads(1)
    torch.use_deterministic_algorithms(True)
    if given.task == "sweep":
        sweep(given.n_c, given.generator, given.seed, given.epochs)
        return
    for n_c, generator, seed in product(given.n_c, given.generator, given.seed):
        export(n_c, generator, given.epochs, seed)


if __name__ == "__main__":
    main()
