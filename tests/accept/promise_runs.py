"""PROMISE on real networks: every layer alone at every swing, whole networks, and how many layers bear it.

Results are kept for the sources of the package, so that pages and lines share them.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from functools import cache, partial
from pathlib import Path
from typing import Any

from archsim.accelerators.promise.swing import LEVELS
from archsim.accelerators.trail import Trail
from archsim.approx import LayerSetting, Setting
from archsim.config import study_from_text
from archsim.session import Session, Visit, pasts_of
from archsim.threads import limited_threads, map_blocks
from archsim.workload.bench import Workbench, label_ranks
from archsim.workload.graph import walk
from archsim.workload.layers import Conv, Layer
from archsim.workload.params import Tensor
from tests.accept.harness import source_key
from tests.accept.tuned import ROOT, sources_of

ANALOG, DIGITAL = "analog", "digital"
MAX_LOSS_POINTS = 3.0
SEARCHED_NETS = ("lenet", "resnet20")
"""Networks the choice of layers was run for."""
THRESHOLDS = (0.0, 0.25, 0.5, 1.0, 1.5, 2.0, 3.0)
"""Points a layer may lose alone."""


@dataclass(frozen=True)
class Net:
    """A network, `images` for sweeps, as many behind them for settings that were found; levels tried."""

    title: str
    file: str
    data: str
    calibration: str
    images: int
    levels: tuple[int, ...] = tuple(range(len(LEVELS)))


NETS = {
    "lenet": Net("LeNet-5", "lenet5_mnist.onnx", "mnist_test_0000_4999.npz", "mnist_train_60000.npz", 1000),
    "resnet20": Net("ResNet-20", "resnet20_cifar10.onnx", "cifar10_test_dev5000.npz", "cifar10_train_a5000.npz", 200),
    "squeezenet": Net(
        "SqueezeNet",
        "squeezenet1_0_dc.onnx",
        "imagenet_sample_dev400.npz",
        "imagenet_sample_dev400.npz",
        40,
        (0, 1, 4, 7),
    ),
}
CALIBRATION = {"lenet": (64, 0), "resnet20": (64, 0), "squeezenet": (32, 360)}


def study_text(name: str, first: int = 0, analog: str = "residency: cold") -> str:
    """Return a study of both machines; which layer runs where is the caller's matter."""
    net, (images, at) = NETS[name], CALIBRATION[name]
    return f"""\
schema: 1
name: promise-{name}-runs
workload:
  network: {net.file}
  data: {{file: {net.data}, images: {net.images}, first: {first}}}
  calibration: {{file: {net.calibration}, images: {images}, first: {at}}}
  timed_images: 1
platform:
  accelerators:
    {ANALOG}: {{kind: promise, preset: hpvm, {analog}}}
    {DIGITAL}: {{kind: eyeriss, preset: thesis-256pe}}
  memory: {{kind: link, preset: promise-golden}}
  assign: {{default: {DIGITAL}}}
"""


@cache
def bench_of(name: str, first: int = 0) -> Workbench:
    """Return the network with its images, loaded once."""
    study = study_from_text(study_text(name, first))
    return Workbench(study.workload, study.folder)


@contextmanager
def session_of(
    name: str, mapped: Sequence[str] | None, first: int = 0, analog: str = "residency: cold"
) -> Iterator[Session]:
    """Give a session in which the layers of `mapped` run on PROMISE; None: all of them."""
    study = study_from_text(study_text(name, first, analog))
    assign = {"default": ANALOG} if mapped is None else {**dict.fromkeys(mapped, ANALOG), "default": DIGITAL}
    with limited_threads():
        yield Session(bench_of(name, first), study, assign)


def kept(what: str, make: Callable[[], Any]) -> Any:
    """Return a result kept for these sources, or make it."""
    sources = sources_of(study_from_text(study_text("lenet")), Path(__file__))
    home = ROOT / ".cache" / "accept" / f"promise-{source_key(ROOT, sources)}"
    path = home / f"{what}.json"
    if not path.exists():
        home.mkdir(parents=True, exist_ok=True)
        draft = path.with_suffix(".part")
        draft.write_text(json.dumps(make(), indent=1), encoding="utf-8")
        draft.rename(path)
    return json.loads(path.read_text(encoding="utf-8"))


class Platform:
    """Both machines with all layers on each; a trial takes every layer from one of them.

    Tensors of Eyeriss alone are kept, so that a trial begins at its first layer on PROMISE.
    """

    def __init__(self, name: str, first: int = 0, analog: str = "residency: cold") -> None:
        with session_of(name, (), first) as self.digital, session_of(name, None, first, analog) as self.analog:
            self.bench = bench_of(name, first)
        self.order = {layer.name: i for i, layer in enumerate(self.bench.network.layers)}
        assert self.bench.data is not None
        step, images = min(self.bench.block_images, 32), len(self.bench.data.images)
        self.blocks = [(at, min(at + step, images)) for at in range(0, images, step)]
        self.tensors: dict[int, dict[str, Tensor]] = {at: {} for at, _ in self.blocks}

    def top1(self, levels: Mapping[str, int]) -> float:
        """Top-1 in percent with the layers of `levels` on PROMISE."""
        with limited_threads():
            right = map_blocks(partial(self._right, levels), self.blocks)
        return 100 * sum(right) / self.blocks[-1][1]

    def _right(self, levels: Mapping[str, int], block: tuple[int, int]) -> int:
        """Return how many images of a block are classified rightly."""
        data = self.bench.data
        assert data is not None and data.labels is not None
        pixels, known = data.images[slice(*block)], self.tensors[block[0]]
        start = min((self.order[name] for name in levels), default=len(self.order))
        setting = {name: at(level) for name, level in levels.items()}
        visit = Visit(setting, pasts_of(self.bench.network, setting), *block, 0, lambda: None, None, Trail())

        def compute(layer: Layer, inputs: tuple[Tensor, ...]) -> Tensor:
            if self.order[layer.name] < start and layer.output in known:
                return known[layer.output]
            y = (self.analog if layer.name in levels else self.digital)._compute(visit, layer, inputs)
            if not levels:
                known[layer.output] = y
            return y

        opens = self.analog if start == 0 else self.digital
        logits = walk(self.bench.network, opens._input(pixels), compute).values()
        return int((label_ranks(logits, data.labels[slice(*block)]) == 0).sum())


@cache
def platform_of(name: str, first: int = 0) -> Platform:
    """Return the platform with the tensors of Eyeriss alone."""
    platform = Platform(name, first)
    platform.top1({})
    return platform


def at(level: int) -> LayerSetting:
    return LayerSetting({"swing": level})


def layers_of(name: str) -> list[Any]:
    """Return the layers with multiplications."""
    return [layer for layer in bench_of(name).network.layers if layer.macs_dense]


def digital(name: str, first: int = 0) -> float:
    """Top-1 of Eyeriss alone, 16 bit."""
    return float(kept(f"digital-{name}-{first}", lambda: platform_of(name, first).top1({})))


def whole(name: str, noise_at: str = "input") -> list[float]:
    """Top-1 with all layers on PROMISE: without noise, then all at the levels of the network."""

    def make() -> list[float]:
        platform, names = Platform(name, analog=f"noise_at: {noise_at}"), [layer.name for layer in layers_of(name)]
        return [platform.top1(dict.fromkeys(names, level)) for level in NETS[name].levels]

    return list(kept(f"whole-{name}-{noise_at}", make))


def alone(name: str) -> Mapping[str, list[float]]:
    """Top-1 with one layer on PROMISE and all others on Eyeriss, by layer and level of `Net.levels`."""

    def make() -> dict[str, list[float]]:
        platform = platform_of(name)
        return {one.name: [platform.top1({one.name: level}) for level in NETS[name].levels] for one in layers_of(name)}

    return dict(kept(f"alone-{name}", make))


def mapped(name: str) -> dict[str, Any]:
    """Layers that PROMISE can take within MAX_LOSS_POINTS together, each at the lowest swing it bears.

    A layer bears a swing if it alone loses at most so many points there (THRESHOLDS); of those that lose least as many
    are taken as stay within the bound together. `levels` by layer; `loss` on the images of the search, `unseen` on as
    many others; both against Eyeriss alone.
    """
    return dict(kept(f"mapped-{name}", partial(_search, name)))


def _search(name: str) -> dict[str, Any]:
    """Take, over all thresholds, the most layers that bear it together; of equally many those of the lowest swings."""
    found = [_together(name, bearable) for bearable in THRESHOLDS]
    levels, loss = max(found, key=lambda one: (len(one[0]), sum(one[0].values())))
    unseen = Platform(name, NETS[name].images)
    return {"levels": levels, "loss": loss, "unseen": unseen.top1({}) - unseen.top1(levels)}


def _together(name: str, bearable: float) -> tuple[dict[str, int], float]:
    """Return the layers that bear a swing alone, those that lose least first, as many as stay within the bound."""
    platform, base = platform_of(name), digital(name)
    swings = {layer: level for layer in alone(name) if (level := _lowest_swing(name, layer, bearable))}
    ranked = sorted(swings, key=lambda layer: base - alone(name)[layer][NETS[name].levels.index(swings[layer])])
    fits, fails, loss = 0, len(ranked) + 1, 0.0
    while fails - fits > 1:
        count = len(ranked) if fails > len(ranked) else (fits + fails) // 2
        lost = base - platform.top1({layer: swings[layer] for layer in ranked[:count]})
        if lost <= MAX_LOSS_POINTS:
            fits, loss = count, lost
        else:
            fails = count
    return {layer: swings[layer] for layer in ranked[:fits]}, loss


def _lowest_swing(name: str, layer: str, bearable: float) -> int:
    """Return the highest level at which the layer alone loses at most so many points; 0: it stays on Eyeriss."""
    scores = zip(NETS[name].levels, alone(name)[layer])
    return max((level for level, top1 in scores if level and digital(name) - top1 <= bearable + 1e-9), default=0)


def convolutions(name: str) -> list[str]:
    return [layer.name for layer in layers_of(name) if isinstance(layer, Conv)]


def costs(name: str, mapped_layers: Sequence[str] | None, setting: Setting, analog: str) -> Any:
    """Return (totals, layers) of one image."""
    with session_of(name, mapped_layers, analog=analog) as session:
        return session.cost(setting, 1)
