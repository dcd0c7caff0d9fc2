"""Write the golden figures of the shipped studies: `python -m tests.golden.regenerate`, then look at the diff."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import archsim

HERE = Path(__file__).parent
STUDIES = {
    "quickstart": ["workload.data.images=20", "workload.timed_images=4"],
    "eyeriss-alexnet": [],
    "eyeriss-vgg16": [],
    "snapea-digits-study": [
        "workload.data.images=20",
        "workload.timed_images=4",
        "platform.accelerators.npu.mode=exact",
    ],
}


def figures(name: str) -> dict[str, Any]:
    """Return the integers and energies of one shipped study, by layer."""
    result = archsim.simulate(archsim.load_study(f"{name}.yaml", STUDIES[name]))
    layers = {
        layer.name: {
            "cycles": layer.cycles,
            "macs_done": layer.macs_done,
            "counts": dict(layer.counts),
            "energy_pJ": layer.energy_total_pJ,
        }
        for layer in result.layers
    }
    return {"layers": layers, "energy_pJ": result.totals.energy_pJ, "cycles": result.totals.cycles}


def golden_file(name: str) -> Path:
    return HERE / f"{name}.json"


if __name__ == "__main__":
    for study in STUDIES:
        golden_file(study).write_text(json.dumps(figures(study), indent=1) + "\n")
