"""Speed of whole studies: CPU and wall seconds of the process a user starts, compiled kernels cached, against bars.

A bar is in CPU seconds of all threads, start of the interpreter included: on an idle machine more than the wall time,
and hardly moved by what else runs. `cycles/s` is simulated cycles per CPU second; `x matmul` is the best CPU time in
units of a fixed float64 product on one thread, measured in the same run. Exit code 1 if a bar is missed.
"""

from __future__ import annotations

import json
import subprocess
import sys
import tempfile
import time
from dataclasses import dataclass
from pathlib import Path
from statistics import median

import numpy as np
from threadpoolctl import threadpool_limits

from archsim.assets import data_folder

RUNS = 3
LAUNCHER = """
import json, os, sys, time
start = time.perf_counter()
child = os.posix_spawn(sys.executable, [sys.executable, *sys.argv[1:]], os.environ)
status, usage = os.wait4(child, 0)[1:]
wall_s = time.perf_counter() - start
print(json.dumps([usage.ru_utime + usage.ru_stime, wall_s, usage.ru_maxrss]))
sys.exit(os.waitstatus_to_exitcode(status))
"""
"""A small process between this one and the measured one, which would inherit this one's peak memory otherwise."""

WARM = """
import sys, time
import archsim
from archsim.accelerators.eyeriss.search import best_mapping

def forget():
    for name, module in list(sys.modules.items()):
        if name.startswith("archsim"):
            for value in list(vars(module).values()):
                getattr(value, "cache_clear", lambda: None)()

searched = archsim.load_study("eyeriss-alexnet.yaml", ["platform.accelerators.npu.plans={}"])
archsim.simulate(searched)
assert best_mapping.cache_info().currsize
forget()
assert not best_mapping.cache_info().currsize
start = time.process_time()
archsim.simulate(searched)
print(time.process_time() - start)
"""
"""AlexNet with its mappings searched, all functions compiled and every remembered plan forgotten; CPU seconds."""


@dataclass(frozen=True)
class Spent:
    """What one process cost; `printed` is its standard output."""

    cpu_s: float
    wall_s: float
    peak_MB: float
    printed: str


@dataclass(frozen=True)
class Bench:
    """A shipped study with overrides, the CPU seconds it may take, and whether it needs external data."""

    name: str
    study: str
    bar_cpu_s: float
    overrides: tuple[str, ...] = ()
    images: bool = False


BENCHES = (
    Bench("AlexNet, batch 4, searched", "eyeriss-alexnet.yaml", 4.0, ("platform.accelerators.npu.plans={}",)),
    Bench("VGG-16, batch 3, searched", "eyeriss-vgg16.yaml", 5.0),
    Bench("ResNet-20, 1000 images", "eyeriss-resnet20.yaml", 60.0, images=True),
    Bench(
        "SqueezeNet 1.0, 1 image",
        "eyeriss-squeezenet.yaml",
        4.0,
        ("workload.data.images=1", "workload.timed_images=1"),
        images=True,
    ),
)
WARM_BAR_CPU_S, LIST_BAR_CPU_S = 2.0, 1.0
PUBLISHED_CPU_S = {
    "nn_dataflow, AlexNet, batch 4, 12 x 14": (
        33.0,
        "stanford-mast/nn_dataflow @198a527, 19 layers with FC and pooling",
    ),
    "Timeloop mapper, AlexNet CONV1-5": (72.5, "NVlabs/timeloop @4cf6d4c, random_pruned, victory condition 500"),
}
"""CPU seconds of the whole process of published tools on the same job, and what was run."""


def spend(*arguments: str, cwd: Path | None = None) -> Spent:
    """Run Python with `arguments` in its own process. Raises: RuntimeError with its last words if it fails."""
    done = subprocess.run([sys.executable, "-c", LAUNCHER, *arguments], cwd=cwd, capture_output=True, text=True)
    if done.returncode:
        raise RuntimeError(done.stderr.strip().rpartition("\n")[-1])
    printed, _, measured = done.stdout.strip().rpartition("\n")
    cpu_s, wall_s, peak = json.loads(measured)
    return Spent(cpu_s, wall_s, peak / 1e6 if sys.platform == "darwin" else peak * 1024 / 1e6, printed)


def run_study(bench: Bench, folder: Path) -> Spent:
    """Run the study as a user does; its results go to `folder`/result."""
    sets = [argument for override in bench.overrides for argument in ("--set", override)]
    return spend("-m", "archsim", "run", bench.study, *sets, "--quiet", "--out", str(folder / "result"))


def simulated_cycles(folder: Path) -> int:
    """Return the cycles of all machines of the study run last in `folder`."""
    result = json.loads((folder / "result" / "result.json").read_text(encoding="utf-8"))
    return sum(machine["cycles"] for machine in result["totals"]["by_accelerator"].values())


def matmul_s() -> float:
    """Return the least wall time of ten float64 products of 1024 x 1024 on one thread, out of RUNS."""
    a, out = np.ones((1024, 1024)), np.empty((1024, 1024))
    times = []
    with threadpool_limits(1):
        for _ in range(RUNS):
            start = time.perf_counter()
            for _ in range(10):
                np.matmul(a, a, out=out)
            times.append(time.perf_counter() - start)
    return min(times)


def row(name: str, runs: list[Spent], bar_cpu_s: float, reference_s: float, cycles: int | None = None) -> bool:
    """Print one line; return whether the bar is met by the best run."""
    cpu, wall = [run.cpu_s for run in runs], [run.wall_s for run in runs]
    rate = "-" if cycles is None else f"{cycles / min(cpu):.3g}"
    mark = "+" if min(cpu) <= bar_cpu_s else "<"
    print(
        f"{name:<30} {min(cpu):7.2f} {median(cpu):7.2f} {min(wall):7.2f} {median(wall):7.2f} {bar_cpu_s:6.1f}{mark}"
        f" {max(run.peak_MB for run in runs):7.0f} {rate:>8} {min(cpu) / reference_s:8.1f}",
        flush=True,
    )
    return min(cpu) <= bar_cpu_s


def warm_search() -> Spent:
    """Return the cost of a searched AlexNet inside a process that has done it before."""
    spent = spend("-c", WARM)
    cpu_s = float(spent.printed)
    return Spent(cpu_s, cpu_s, spent.peak_MB, "")


def measure(bench: Bench, reference_s: float) -> bool:
    """Run a study RUNS times after one run that compiles; print its line; return whether its bar is met."""
    if bench.images and data_folder() is None:
        print(f"{bench.name:<30} skipped: no external data, set ARCHSIM_DATA")
        return True
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        run_study(bench, folder)
        runs = [run_study(bench, folder) for _ in range(RUNS)]
        return row(bench.name, runs, bench.bar_cpu_s, reference_s, simulated_cycles(folder))


def main() -> int:
    """Measure everything; return 1 if a bar is missed."""
    reference_s = matmul_s()
    speed = 10 * 2 * 1024**3 / reference_s / 1e9
    print(f"matmul: ten float64 products of 1024 x 1024 on one thread, {reference_s:.3f} s, {speed:.1f} GFLOP/s")
    heads = (f"{head:>7}" for head in ("CPU s", "median", "wall s", "median", "bar", "  MB", "cycles/s", "x matmul"))
    print(f"{'study':<30} " + " ".join(heads))
    met = [measure(bench, reference_s) for bench in BENCHES]
    met.append(row("AlexNet again, plans forgotten", [warm_search() for _ in range(RUNS)], WARM_BAR_CPU_S, reference_s))
    met.append(row("archsim list", [spend("-m", "archsim", "list") for _ in range(RUNS)], LIST_BAR_CPU_S, reference_s))
    for name, (cpu_s, source) in PUBLISHED_CPU_S.items():
        print(f"published: {name} {cpu_s:.1f} CPU s ({source})")
    print("all bars met" if all(met) else f"{met.count(False)} bars missed")
    return 0 if all(met) else 1


if __name__ == "__main__":
    sys.exit(main())
