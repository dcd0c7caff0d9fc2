"""Layers, machines and plans the Eyeriss tests share: AlexNet as the chip ran it, and random legal plans."""

import json
from dataclasses import replace
from functools import cache
from math import inf
from pathlib import Path

import numpy as np

from archsim.accelerators.base import Placement, Stored, accelerator_class
from archsim.accelerators.clockwork import simulate_batch
from archsim.accelerators.eyeriss.mapping import plan_frame
from archsim.accelerators.eyeriss.plan import plan_rules
from archsim.memory.base import memory_class
from archsim.workload.formats import Fixed, Scale
from archsim.workload.layers import Conv
from archsim.workload.params import LayerParams

PATH = Path(__file__).resolve().parents[1] / "reference" / "eyeriss_alexnet.json"
REFERENCE = json.loads(PATH.read_text(encoding="utf-8"))
CONVS = ("conv1", "conv2", "conv3", "conv4", "conv5")
PLANS = ("alexnet-conv1", "alexnet-conv2", "alexnet-conv3-alt", "alexnet-conv4", "alexnet-conv5")
CHIP = {row["layer"].lower(): row for row in REFERENCE["alexnet_measured"]["rows"]}
ZEROS = {
    row["layer"].split()[0].lower(): (row["ifmap_zero_fraction"], row["ofmap_zero_fraction"])
    for row in REFERENCE["derived"]["rlc_feasibility"]["rows"]
}


def conv(name, size, channels, filters, kernel, batch=1, **fields):
    fields = {"S": kernel, "W": size} | fields
    return Conv(name=name, inputs=("x",), output="y", N=batch, C=channels, M=filters, H=size, R=kernel, **fields)


PAD1, PAD2 = (1, 1, 1, 1), (2, 2, 2, 2)
ALEXNET = {
    "conv1": conv("conv1", 227, 3, 96, 11, 4, stride=(4, 4)),
    "conv2": conv("conv2", 27, 96, 256, 5, 4, pad=PAD2, groups=2),
    "conv3": conv("conv3", 13, 256, 384, 3, 4, pad=PAD1),
    "conv4": conv("conv4", 13, 384, 384, 3, 4, pad=PAD1, groups=2),
    "conv5": conv("conv5", 13, 384, 256, 3, 4, pad=PAD1, groups=2),
}


def machine(preset="chip-jssc17", **changes):
    eyeriss = accelerator_class("eyeriss")
    return eyeriss(eyeriss.Config(**{**eyeriss.presets[preset], **changes}))


def link(gigabytes_per_s=0.48, latency_ns=0.0):
    kind = memory_class("link")
    fields = {"bandwidth_GB_per_s": gigabytes_per_s, "latency_ns": latency_ns}
    return kind(kind.Config(**{**kind.presets["eyeriss-jssc17"], **fields}))


INFINITE = link(inf)


def stored(reads_network_input=False):
    return Stored(LayerParams(Fixed(16), Scale(), Scale(), None, reads_network_input=reads_network_input))


def mapped(eyeriss, layer, chip=(), reads_network_input=False):
    return eyeriss.map(layer, stored(reads_network_input), Placement(frozenset(chip)))


def alexnet_plan(name, plan=None, **changes):
    """Return the chip with the layer's printed mapping, and that mapping."""
    eyeriss = machine(plans={name: plan or PLANS[CONVS.index(name)]}, **changes)
    return eyeriss, mapped(eyeriss, ALEXNET[name], reads_network_input=name == "conv1")


@cache
def alexnet_run(name, plan=None, infinite=False, **changes):
    """Return the machine and the simulated batch of one layer, counted from the chip's zero fractions."""
    eyeriss, its_plan = alexnet_plan(name, plan, **changes)
    activity = eyeriss.expect(ALEXNET[name], its_plan, ZEROS[name]).batches[0]
    return eyeriss, simulate_batch(eyeriss, INFINITE if infinite else link(), ALEXNET[name], its_plan, activity)


LAYERS = (
    conv("plain", 9, 5, 7, 3, 2, pad=PAD1),
    conv("strided", 23, 3, 10, 5, 3, stride=(2, 2), pad=(0, 1, 2, 0), W=17),
    conv("grouped", 14, 12, 18, 3, 4, pad=PAD1, groups=3),
    conv("pointwise", 31, 20, 33, 1, 2, W=19),
    conv("tall", 26, 2, 6, 11, 1, S=3, stride=(4, 1)),
    conv("dilated", 19, 6, 8, 3, 2, dilation=(2, 2)),
    conv("wide map", 40, 4, 6, 3, 2, pad=PAD1, W=12),
    conv("one window", 6, 40, 50, 6, 6),
)
"""Small and ragged: groups, strides, uneven pads, a strip wider than the array, more filters than a call may hold."""


def random_plan(config, layer, rng, chip=()):
    """Return a random legal plan: fields are drawn one by one and drawn again until no rule is broken."""
    frame = plan_frame(config, layer, Placement(frozenset(chip)), True)
    filters = -(-layer.M // layer.groups // frame.filter_calls)
    for _ in range(5000):
        e = int(rng.integers(1, layer.P + 1))
        q, r, p, t = (int(rng.integers(1, top + 1)) for top in (4, 3, 6, 3))
        blocks = -(-filters // (p * t))
        m = min(int(rng.integers(1, blocks + 1)) * p * t, filters)
        n = int(rng.choice([n for n in range(1, layer.N + 1) if layer.N % n == 0]))
        plan = replace(
            frame, strip_rows=e, resident_filters=m, pass_ifmaps=n, interleaved_filters=p, interleaved_channels=q,
            channel_sets=r, filter_sets=t,
        )  # fmt: skip
        if all(rule.holds for rule in plan_rules(config, layer, plan)):
            return plan
    raise AssertionError(f"no legal plan found for {layer.name}")


def random_cases(count, seed, **changes):
    """Yield (machine, layer, plan): random layers, plans and call limits."""
    rng = np.random.default_rng(seed)
    for index in range(count):
        limits = {
            "max_filters_per_call": int(rng.choice([7, 16, 1024])),
            "max_channels_per_call": int(rng.choice([4, 1024])),
        }
        eyeriss = machine(**{**limits, **changes})
        layer = LAYERS[index % len(LAYERS)]
        yield eyeriss, layer, random_plan(eyeriss.config, layer, rng)
