"""What training a network with generated weights takes, whatever the network: layer, loop, ONNX file, log, commands.

Code vectors are float parameters in -1 .. 1 whose sign is used forward; the gradient passes straight through. `rotate`
is the generator of the thesis, `feedback` ours; `full` is a random matrix that no hardware here makes; `fp32` trains
plain weights. The last epoch is taken, whatever the test accuracy was. Used by `train_bsg_lenet.py` and
`train_bsg_resnet.py`.
"""

from __future__ import annotations

import argparse
import hashlib
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass
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
    Shape,
    layer_weights,
    registers,
    slice_grid,
    words_of,
    xorshift_words,
)

TRAINED = Path(__file__).resolve().parent.parent / "trained"
BASE_SEED = 0x2545F491
GENERATORS = ("rotate", "feedback", "full", "fp32")
Images = tuple[torch.Tensor, torch.Tensor]
"""Pixels uint8 (N, C, H, W) and labels int64 (N,)."""


def unchanged(pixels: torch.Tensor, random: torch.Generator) -> torch.Tensor:
    """Return the images as they are."""
    return pixels


@dataclass(frozen=True)
class Job:
    """A network to train: its data, its layers, how its graph is written."""

    name: str
    slice_shape: Shape
    data: Callable[[str], Images]
    test_file: str
    network: Callable[[torch.Tensor, torch.Tensor | None], nn.Module]
    """Makes the network from the training pixels and the rows of the generator (weights of a slice, n_c), or plain."""
    graph: Callable[[nn.Module, OnnxGraph], None]
    batch: int
    rate: float
    vary: Callable[[torch.Tensor, torch.Generator], torch.Tensor] = unchanged


class Generated(nn.Module):
    """A convolution whose weights come from code vectors."""

    def __init__(self, shape: Shape, slice_shape: Shape, rows: torch.Tensor, stride: int = 1, padding: int = 0) -> None:
        super().__init__()
        self.shape, self.slice_shape, self.grid = shape, slice_shape, slice_grid(shape, slice_shape)
        self.stride, self.padding = (stride, stride), (padding, padding)
        self.register_buffer("rows", rows)
        self.codes = nn.Parameter(torch.rand(prod(self.grid), rows.shape[1]) - 0.5)
        self.scale = (rows.shape[1] * prod(shape[1:])) ** -0.5

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        """Return the convolution with generated weights, scaled by 1 / sqrt(n_c * fan-in)."""
        signs = torch.where(self.codes >= 0, 1.0, -1.0)
        through = self.codes + (signs - self.codes).detach()
        blocks = (through @ self.rows.T).view(*self.grid, *self.slice_shape).permute(0, 4, 1, 5, 2, 6, 3, 7)
        whole = blocks.reshape([n * part for n, part in zip(self.grid, self.slice_shape)])
        filters, channels, rows, columns = self.shape
        weights = whole[:filters, :channels, :rows, :columns] * self.scale
        return nn.functional.conv2d(x, weights, stride=self.stride, padding=self.padding)


def convolution(
    shape: Shape, rows: torch.Tensor | None, slice_shape: Shape, stride: int = 1, pad: int = 0
) -> nn.Module:
    """Return a convolution (M, C, R, S), generated if there are rows of a generator.

    Plain weights are drawn in any case: the sequence of random numbers of the committed logs counts on it.
    """
    plain = nn.Conv2d(shape[1], shape[0], shape[2:], stride=stride, padding=pad, bias=False)
    return plain if rows is None else Generated(shape, slice_shape, rows, stride, pad)


class OnnxGraph:
    """Nodes and constants of a network in ONNX opset 13; generated layers carry integer weights, their scale is in the
    batch normalisation behind them.
    """

    def __init__(self, weights: Mapping[str, np.ndarray]) -> None:
        self.weights = weights
        self.nodes: list[onnx.NodeProto] = []
        self.constants: dict[str, np.ndarray] = {}

    def add(self, op: str, node: str, inputs: list[str], **attributes: object) -> str:
        """Add a node whose output carries its name; return that name."""
        return self.emit(op, node, node, inputs, **attributes)

    def emit(self, op: str, node: str, output: str, inputs: list[str], **attributes: object) -> str:
        """Add a node; return its output."""
        self.nodes.append(helper.make_node(op, inputs, [output], name=node, **attributes))
        return output

    def keep(self, prefix: str, **arrays: object) -> list[str]:
        """Keep float32 constants; return their names."""
        self.constants.update({f"{prefix}.{key}": np.asarray(array, np.float32) for key, array in arrays.items()})
        return [f"{prefix}.{key}" for key in arrays]

    def input_norm(self, mean: list[float], variance: list[float]) -> str:
        """Normalise raw pixels."""
        flat = [1.0] * len(mean), [0.0] * len(mean)
        given = self.keep("input_norm", scale=flat[0], shift=flat[1], mean=mean, variance=variance)
        return self.add("BatchNormalization", "input_norm", ["image", *given], epsilon=0.0)

    def conv(self, name: str, x: str, conv: nn.Module) -> str:
        """Add a convolution with its integer weights, or those torch has."""
        weights = self.weights.get(name)
        weights = conv.weight.detach().numpy() if weights is None else weights
        shape = {"kernel_shape": list(weights.shape[2:]), "pads": list(conv.padding) * 2, "strides": list(conv.stride)}
        return self.add("Conv", name, [x, *self.keep(name, weight=weights)], **shape)

    def norm(self, name: str, x: str, bn: nn.BatchNorm2d, conv: nn.Module) -> str:
        """Add a batch normalisation behind `conv`, in units of its integer weights."""
        unit = 1 / conv.scale if isinstance(conv, Generated) else 1.0
        mean, variance = (one.detach().double().numpy() for one in (bn.running_mean, bn.running_var))
        scale, shift = bn.weight.detach().numpy(), bn.bias.detach().numpy()
        variance = (variance + bn.eps) * unit**2
        kept = self.keep(name, scale=scale, shift=shift, mean=mean * unit, variance=variance)
        return self.add("BatchNormalization", name, [x, *kept], epsilon=0.0)

    def linear(self, name: str, output: str, x: str, layer: nn.Linear) -> str:
        """Add a fully connected layer."""
        terms = self.keep(name, weight=layer.weight.detach().numpy(), bias=layer.bias.detach().numpy())
        return self.emit("Gemm", name, output, [x, *terms], transB=1)

    def model(self, name: str, image: tuple[int, ...], classes: int) -> onnx.ModelProto:
        """Return the checked network."""
        graph = helper.make_graph(
            self.nodes,
            name,
            [helper.make_tensor_value_info("image", TensorProto.FLOAT, ["N", *image])],
            [helper.make_tensor_value_info("logits", TensorProto.FLOAT, ["N", classes])],
            [numpy_helper.from_array(array, key) for key, array in self.constants.items()],
        )
        opsets = [helper.make_opsetid("", 13)]
        made = helper.make_model(graph, opset_imports=opsets, producer_name="archsim", ir_version=8)
        onnx.checker.check_model(made, full_check=True)
        return made


def matrix(slice_shape: Shape, n_c: int, generator: str, seed: int) -> np.ndarray:
    """Return the fixed matrix of +1 and -1, float32 (weights of a slice, n_c)."""
    weights = prod(slice_shape)
    if generator == "full":
        bits = np.random.default_rng(seed).integers(0, 2, (weights, n_c))
    else:
        bits = registers(xorshift_words(BASE_SEED, n_c // CODE_WORD_BITS), weights, generator)
    return bits.astype(np.float32) * 2 - 1


def generated(model: nn.Module) -> dict[str, Generated]:
    """Return the layers with code vectors by name."""
    return {name: one for name, one in model.named_modules() if isinstance(one, Generated)}


def train(job: Job, model: nn.Module, images: Images, epochs: int, seed: int) -> list[float]:
    """Train in place with AdamW under a one-cycle schedule; return the mean loss of every epoch."""
    random = torch.Generator().manual_seed(seed)
    optimiser = torch.optim.AdamW(model.parameters(), lr=job.rate, weight_decay=0.0)
    pixels, labels = images
    steps = epochs * -(-len(pixels) // job.batch)
    schedule = torch.optim.lr_scheduler.OneCycleLR(optimiser, job.rate, total_steps=steps)
    codes = [one.codes for one in generated(model).values()]
    losses = []
    model.train()
    for _ in range(epochs):
        total = 0.0
        for chosen in torch.randperm(len(pixels), generator=random).split(job.batch):
            batch = job.vary(pixels[chosen], random).float()
            loss = nn.functional.cross_entropy(model(batch), labels[chosen])
            optimiser.zero_grad()
            loss.backward()
            optimiser.step()
            schedule.step()
            for one in codes:
                one.data.clamp_(-1, 1)
            total += loss.item() * len(chosen)
        losses.append(total / len(pixels))
    return losses


def trained(
    job: Job, n_c: int, generator: str, epochs: int, seed: int, images: Images
) -> tuple[nn.Module, list[float]]:
    """Return a trained network and its losses."""
    torch.manual_seed(seed)
    rows = None if generator == "fp32" else torch.from_numpy(matrix(job.slice_shape, n_c, generator, seed))
    model = job.network(images[0], rows)
    return model, train(job, model, images, epochs, seed)


def classes_of(model: nn.Module, pixels: torch.Tensor) -> torch.Tensor:
    """Return the class of every image."""
    model.eval()
    with torch.no_grad():
        return torch.cat([model(block.float()).argmax(1) for block in pixels.split(500)])


def save_codes(path: Path, job: Job, model: nn.Module, n_c: int, generator: str) -> dict[str, np.ndarray]:
    """Write base and code vectors; return the integer weights they make."""
    base = xorshift_words(BASE_SEED, n_c // CODE_WORD_BITS)
    layers = generated(model)
    codes = {name: words_of(one.codes.detach().numpy() >= 0) for name, one in layers.items()}
    named = {f"codes/{name}": words for name, words in codes.items()}
    shape = np.array(job.slice_shape, np.int64)
    np.savez(path, base=base, slice_shape=shape, n_c=np.int64(n_c), generator=np.array(generator), **named)
    return {
        name: layer_weights(base, words, layers[name].shape, job.slice_shape, generator)  # type: ignore[arg-type]
        for name, words in codes.items()
    }


def export(job: Job, n_c: int, generator: str, epochs: int, seed: int) -> None:
    """Train one network; write ONNX, code vectors, the class of 1000 test images, and the log."""
    images, (pixels, truth), started = job.data("train"), job.data("test"), time.process_time()
    model, losses = trained(job, n_c, generator, epochs, seed, images)
    seconds = time.process_time() - started
    name = f"{job.name}_{generator}_{n_c}"
    graph = OnnxGraph(save_codes(TRAINED / f"{name}.codes.npz", job, model, n_c, generator))
    job.graph(model, graph)
    made = graph.model(name, tuple(pixels.shape[1:]), 10)
    content = made.SerializeToString(deterministic=True)
    (TRAINED / f"{name}.onnx").write_bytes(content)
    classes = classes_of(model, pixels)
    share = float((classes == truth).double().mean())
    lines = [
        f"torch: {torch.__version__}",
        f"seed: {seed}",
        f"n_c: {n_c}",
        f"generator: {generator}",
        f"epochs: {epochs}",
        f"optimiser: AdamW lr {job.rate}, no weight decay, one-cycle schedule, batch {job.batch}, 1 thread",
        *(f"loss of epoch {index + 1}: {loss:.6f}" for index, loss in enumerate(losses)),
        f"accuracy on {Path(job.test_file).stem} ({len(truth)} images): {share:.6f}",
        f"training: {seconds:.0f} CPU seconds",
        f"classes of the first 1000 images: {''.join(map(str, classes[:1000].tolist()))}",
        f"sha256: {hashlib.sha256(content).hexdigest()}",
    ]
    (TRAINED / f"{name}.log").write_text("\n".join(lines) + "\n", encoding="utf-8")
    print(f"{name}: {share:.2%} of {len(truth)} images, {seconds:.0f} CPU seconds", flush=True)


def sweep(job: Job, sizes: list[int], generators: list[str], seeds: list[int], epochs: int) -> None:
    """Train every size and generator with every seed; add one line each to the table, skipping those it has."""
    images, (pixels, truth) = job.data("train"), job.data("test")
    table = TRAINED / f"{job.name}_sweep.csv"
    known = table.read_text().splitlines() if table.exists() else ["n_c,generator,seed,epochs,images,right"]
    for seed, generator, n_c in product(seeds, generators, sizes):
        if any(line.startswith(f"{n_c},{generator},{seed},{epochs},") for line in known):
            continue
        model, _ = trained(job, n_c, generator, epochs, seed, images)
        right = int((classes_of(model, pixels) == truth).sum())
        known.append(f"{n_c},{generator},{seed},{epochs},{len(truth)},{right}")
        table.write_text("\n".join(known) + "\n", encoding="utf-8")
        print(known[-1], flush=True)


def main(job: Job, about: str, epochs: int) -> None:
    """Read the command line and train."""
    parser = argparse.ArgumentParser(description=about, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("task", choices=("export", "sweep"))
    parser.add_argument("--n-c", type=int, nargs="+", default=[512])
    parser.add_argument("--generator", nargs="+", default=["rotate"], choices=GENERATORS)
    parser.add_argument("--epochs", type=int, default=epochs)
    parser.add_argument("--seed", type=int, nargs="+", default=[0])
    given = parser.parse_args()
    torch.set_num_threads(1)
    torch.use_deterministic_algorithms(True)
    if given.task == "sweep":
        sweep(job, given.n_c, given.generator, given.seed, given.epochs)
        return
    if set(given.generator) - {"rotate", "feedback"}:
        parser.error("only rotate and feedback have hardware to export to")
    for n_c, generator, seed in product(given.n_c, given.generator, given.seed):
        export(job, n_c, generator, given.epochs, seed)
