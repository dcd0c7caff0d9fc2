"""Small networks made by hand, with seeded weights of both signs, for tests of the reference and of calibration."""

from __future__ import annotations

import numpy as np

from archsim.workload.graph import FloatParams, Network
from archsim.workload.layers import Activation, Add, Concat, Conv, Linear, Pool, Reshape

RELU = Activation("relu")


def params(rng, *shape, bias=True):
    weights = rng.normal(0, np.sqrt(2 / np.prod(shape[1:])), shape).astype(np.float32)
    return FloatParams(weights, rng.normal(0, 0.2, shape[0]).astype(np.float32) if bias else None)


def branching_network(seed=0):
    """conv a -> max pool; conv b (stride 2) beside it; both concatenated, added to conv c, averaged, linear."""
    rng = np.random.default_rng(seed)
    same, half = (1, 1, 1, 1), (0, 0, 1, 1)
    layers = (
        Conv(name="a", inputs=("image",), output="a", C=2, M=3, H=9, W=8, R=3, S=3, pad=same, activation=RELU),
        Pool(name="p", inputs=("a",), output="p", kind="max", R=2, S=2, stride=(2, 2)),
        Conv(name="b", inputs=("image",), output="b", C=2, M=4, H=9, W=8, R=3, S=3, stride=(2, 2), pad=half),
        Concat(name="join", inputs=("p", "b"), output="join"),
        Conv(name="c", inputs=("join",), output="c", C=7, M=7, H=4, W=4, R=1, S=1, activation=Activation("clip", 0, 1)),
        Add(name="sum", inputs=("join", "c"), output="sum", activation=RELU),
        Pool(name="mean", inputs=("sum",), output="mean", kind="average", R=4, S=4, stride=(4, 4)),
        Reshape(name="flat", inputs=("mean",), output="flat", shape=(7,)),
        Linear(name="fc", inputs=("flat",), output="logits", C=7, M=5, map_shape=(7, 1, 1)),
    )
    shapes = {"image": (2, 9, 8), "a": (3, 9, 8), "p": (3, 4, 4), "b": (4, 4, 4), "join": (7, 4, 4), "c": (7, 4, 4)}
    shapes |= {"sum": (7, 4, 4), "mean": (7, 1, 1), "flat": (7,), "logits": (5,)}
    weights = {
        "a": params(rng, 3, 2, 3, 3),
        "b": params(rng, 4, 2, 3, 3, bias=False),
        "c": params(rng, 7, 7, 1, 1),
        "fc": params(rng, 5, 7),
    }
    return Network("branching", layers, "image", "logits", shapes, weights, frozenset({"a", "p", "c", "sum"}))


def images(count, seed=1):
    return np.random.default_rng(seed).normal(0, 1, (count, 2, 9, 8)).astype(np.float32)
