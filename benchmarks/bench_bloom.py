"""Speed of the Bloom-filter machine: operations per second of one thread, LeNet-5 and a photograph against bars.

`exact` adds the same products in the same order with the filters off. Exit code 1 if a bar is missed.
"""

from __future__ import annotations

import sys
import time

import numpy as np
from threadpoolctl import threadpool_limits

from archsim.accelerators.bloom.products import run_products
from archsim.assets import data_folder
from archsim.config import load_study
from archsim.session import Session
from archsim.workload.bench import Workbench

LENET_BAR_S, PHOTOGRAPH_BAR_S = 60.0, 2.0
IMAGES = 200


def session_of(name: str, *sets: str) -> Session:
    study = load_study(name, sets)
    return Session(Workbench(study.workload, study.folder), study, study.assign)


def kernels(session: Session) -> None:
    """Operations per second of conv2 of LeNet-5, filters off and on."""
    layer = next(one for one in session.network.layers if one.name == "conv2")
    seat = session.seating.seat(layer, session.study.setting["conv2"])
    inputs = session.bench.calibration_inputs(["conv2"])["conv2"][:IMAGES]
    from archsim.accelerators.bloom.stream import stream_of

    weights = seat.stored.params.weights
    assert weights is not None
    stream, w = stream_of(layer), weights.reshape(len(weights), -1)
    for what, bank in (("exact", None), ("filters", seat.stored.extra.banks["mul"])):
        best = min(timed(lambda bank=bank: run_products(stream, flat(inputs), w, np.zeros(len(w), np.float32), bank))  # type: ignore[misc]
                   for _ in range(3))  # fmt: skip
        print(f"conv2, {what:<8} {IMAGES * stream.operations / best / 1e6:8.0f} M operations/s of one thread")


def flat(x: np.ndarray) -> np.ndarray:
    return x.reshape(len(x), -1)


def timed(work: object) -> float:
    started = time.perf_counter()
    work()  # type: ignore[operator]
    return time.perf_counter() - started


def main() -> int:
    if data_folder() is None:
        print("no external data: set ARCHSIM_DATA")
        return 0
    with threadpool_limits(1):
        kernels(session_of("bloom-lenet.yaml"))
    whole = session_of("bloom-lenet.yaml")
    lenet_s = timed(lambda: whole.quality(whole.study.setting))
    print(f"LeNet-5, 1000 images, profile and design included: {lenet_s:.1f} s (bar {LENET_BAR_S:g})")
    from tests.accept.bloom_page import photograph_seconds

    photograph_s = photograph_seconds()
    print(f"photograph through Sobel: {photograph_s:.2f} s (bar {PHOTOGRAPH_BAR_S:g})")
    return int(lenet_s > LENET_BAR_S or photograph_s > PHOTOGRAPH_BAR_S)


if __name__ == "__main__":
    sys.exit(main())
