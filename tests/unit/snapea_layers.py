"""Exact mode beside the dense layer, on every layer of a network whose windows may stop."""

from __future__ import annotations

import numpy as np

from archsim.accelerators.seat import Seat
from archsim.accelerators.snapea.config import SnapeaConfig
from archsim.accelerators.snapea.function import compute_dense, termination
from archsim.config import Study
from archsim.session import Session
from archsim.threads import limited_threads
from archsim.workload.bench import Workbench
from archsim.workload.params import Array


def eligible_layers(study: Study, images: int) -> dict[str, tuple[int, int, int]]:
    """Values, values that differ from the dense layer, windows stopped, of every layer whose windows may stop."""

    def look(seat: Seat, x: Array) -> tuple[int, int, int] | None:
        assert isinstance(seat.machine.config, SnapeaConfig)
        if termination(seat.machine.config, seat.layer, seat.stored.params).startswith("off"):
            return None
        done, dense = seat.execute(x, 0), compute_dense(seat.layer, x, seat.stored.params)[0]
        assert done.y is not None
        stopped = sum(int(dict(batch.metrics)["sign_stopped_windows"]) for batch in done.batches)  # type: ignore[arg-type]
        return dense.size, int(np.count_nonzero(done.y != dense)), stopped

    with limited_threads(None):
        session = Session(Workbench(study.workload, study.folder), study, study.assign)
        seen = session.watch({}, images, look)
    return {name: tuple(np.sum(parts, axis=0).tolist()) for name, parts in seen.items() if parts[0] is not None}
