"""PROMISE on real networks: every layer alone at every swing, whole networks, and how many layers bear it.

Results are kept for the sources of the package, so that pages and lines share them.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from functools import cache
from typing import Any

from archsim.accelerators.promise.swing import LEVELS
from archsim.approx import LayerSetting, Setting
from archsim.config import study_from_text
from archsim.session import Session
from archsim.threads import limited_threads
from archsim.workload.bench import Workbench
from archsim.workload.layers import Conv
from tests.accept.harness import source_key
from tests.accept.tuned import ROOT, SOURCES

ANALOG, DIGITAL = "analog", "digital"
MAX_LOSS_POINTS = 3.0


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
    home = ROOT / ".cache" / "accept" / f"promise-{source_key(ROOT, SOURCES)}"
    path = home / f"{what}.json"
    if not path.exists():
        home.mkdir(parents=True, exist_ok=True)
        draft = path.with_suffix(".part")
        draft.write_text(json.dumps(make(), indent=1), encoding="utf-8")
        draft.rename(path)
    return json.loads(path.read_text(encoding="utf-8"))


def points(session: Session, setting: Setting) -> float:
    """Return the top-1 accuracy in percent."""
    accuracy = session.quality(setting)
    assert accuracy is not None
    return 100 * accuracy.top1


def at(level: int) -> LayerSetting:
    return LayerSetting({"swing": level})


def layers_of(name: str) -> list[Any]:
    """Return the layers with multiplications."""
    return [layer for layer in bench_of(name).network.layers if layer.macs_dense]


def digital(name: str, first: int = 0) -> float:
    """Top-1 of Eyeriss alone, 16 bit."""

    def make() -> float:
        with session_of(name, (), first) as session:
            return points(session, {})

    return float(kept(f"digital-{name}-{first}", make))


def whole(name: str, noise_at: str = "input") -> list[float]:
    """Top-1 with all layers on PROMISE: without noise, then all at P7 to P1."""

    def make() -> list[float]:
        with session_of(name, None, analog=f"noise_at: {noise_at}") as session:
            return [
                points(session, {layer.name: at(level) for layer in layers_of(name)}) for level in range(len(LEVELS))
            ]

    return list(kept(f"whole-{name}-{noise_at}", make))


def alone(name: str) -> Mapping[str, list[float]]:
    """Top-1 with one layer on PROMISE and all others on Eyeriss, by layer and level of `Net.levels`."""

    def make() -> dict[str, list[float]]:
        found = {}
        for layer in layers_of(name):
            with session_of(name, [layer.name]) as session:
                found[layer.name] = [points(session, {layer.name: at(level)}) for level in NETS[name].levels]
        return found

    return dict(kept(f"alone-{name}", make))


def mapped(name: str) -> dict[str, Any]:
    """Layers that PROMISE can take within MAX_LOSS_POINTS, and how low their swings may go: greedy, safest layer first.

    `levels` by layer; `loss` on the images of the search, `unseen` on as many others; both against Eyeriss alone.
    """

    def make() -> dict[str, Any]:
        levels: dict[str, int] = {}
        scores, base = alone(name), digital(name)
        steps = [level for level in NETS[name].levels if level]
        order = sorted(scores, key=lambda layer: -scores[layer][1])

        def loss(trial: Mapping[str, int], first: int = 0) -> float:
            reference = digital(name, first)
            with session_of(name, list(trial), first) as session:
                return reference - points(session, {layer: at(level) for layer, level in trial.items()})

        for layer in order:
            if base - scores[layer][1] <= MAX_LOSS_POINTS and loss({**levels, layer: steps[0]}) <= MAX_LOSS_POINTS:
                levels[layer] = steps[0]
        open_layers = list(levels)
        for _ in steps[1:]:
            for layer in list(open_layers):
                higher = steps[steps.index(levels[layer]) + 1]
                if loss({**levels, layer: higher}) <= MAX_LOSS_POINTS:
                    levels[layer] = higher
                else:
                    open_layers.remove(layer)
        unseen = loss(levels, NETS[name].images) if levels else 0.0
        return {"levels": levels, "loss": loss(levels) if levels else 0.0, "unseen": unseen}

    return dict(kept(f"mapped-{name}", make))


def convolutions(name: str) -> list[str]:
    return [layer.name for layer in layers_of(name) if isinstance(layer, Conv)]


def costs(name: str, mapped_layers: Sequence[str] | None, setting: Setting, analog: str) -> Any:
    """Return (totals, layers) of one image."""
    with session_of(name, mapped_layers, analog=analog) as session:
        return session.cost(setting, 1)
