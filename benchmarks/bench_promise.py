"""Speed of PROMISE: the sweep of a whole network, every layer alone at every swing, in wall and CPU seconds.

Every evaluation sends all images through all layers, noise included; nothing is kept from one to the next but the
calibration. Exit code 1 if the sweep takes longer than its bar on the cores there are.
"""

from __future__ import annotations

import sys
import time
from typing import NamedTuple

from archsim.accelerators.promise.swing import LEVELS
from archsim.approx import LayerSetting
from archsim.assets import data_folder
from archsim.config import load_study
from archsim.session import Session
from archsim.threads import available_cores, limited_threads
from archsim.workload.bench import Workbench

BAR_WALL_S = 300.0
STUDY, IMAGES = "promise-resnet20.yaml", 200


class Sweep(NamedTuple):
    """Top-1 without noise and of every layer alone, P7 to P1; seconds; MACs of all evaluations."""

    noiseless: float
    top1: dict[str, list[float]]
    wall_s: float
    cpu_s: float
    macs: int


def sweep(study_name: str = STUDY, images: int = IMAGES) -> Sweep:
    """Evaluate every layer of a network alone at every swing; calibration and loading are part of the time."""
    study = load_study(study_name, [f"workload.data.images={images}"])
    wall, cpu = time.perf_counter(), time.process_time()
    with limited_threads():
        bench = Workbench(study.workload, study.folder)
        session = Session(bench, study, study.assign)

        def top1(setting: dict[str, LayerSetting]) -> float:
            accuracy = session.quality(setting)
            assert accuracy is not None
            return accuracy.top1

        names = [layer.name for layer in bench.network.layers if layer.macs_dense]
        noiseless, levels = top1({}), range(1, len(LEVELS))
        found = {name: [top1({name: LayerSetting({"swing": level})}) for level in levels] for name in names}
    macs = (1 + len(names) * len(levels)) * images * bench.network.macs_dense
    return Sweep(noiseless, found, time.perf_counter() - wall, time.process_time() - cpu, macs)


def main() -> int:
    """Run the sweep; return 1 if it misses its bar."""
    if data_folder() is None:
        print("skipped: no external data, set ARCHSIM_DATA")
        return 0
    sweep(images=4)  # compiles
    found = sweep()
    print(f"{STUDY}, {IMAGES} images, top-1 without noise {100 * found.noiseless:.1f} %, alone from P7 to P1:")
    for name, row in found.top1.items():
        print(f"{name:<14} " + " ".join(f"{100 * one:5.1f}" for one in row))
    rate = found.macs / found.cpu_s / 1e9
    met = found.wall_s <= BAR_WALL_S
    print(f"{found.wall_s:.0f} s wall on {available_cores()} cores, {found.cpu_s:.0f} CPU s, {rate:.1f} GMAC per CPU s")
    print(f"bar {BAR_WALL_S:.0f} s wall on two cores: {'met' if met else 'missed'}")
    return 0 if met else 1


if __name__ == "__main__":
    sys.exit(main())
