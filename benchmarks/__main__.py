"""Run every benchmark in its own process: `python -m benchmarks [name ...]`; exit code 1 if any missed its bar."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

HERE = Path(__file__).resolve().parent


def names() -> list[str]:
    """Return the benchmarks of this folder: `bench_kernels.py` is `kernels`."""
    return sorted(path.stem.removeprefix("bench_") for path in HERE.glob("bench_*.py"))


def run(chosen: list[str]) -> int:
    """Run the benchmarks one after another, never in parallel, and say which missed its bar."""
    unknown = sorted(set(chosen) - set(names()))
    if unknown:
        print(f"unknown benchmark {', '.join(unknown)} (allowed: {', '.join(names())})", file=sys.stderr)
        return 2
    missed = []
    for name in chosen or names():
        print(f"== {name}", flush=True)
        if subprocess.run([sys.executable, "-m", f"benchmarks.bench_{name}"], cwd=HERE.parent).returncode:
            missed.append(name)
    print(f"missed: {', '.join(missed)}" if missed else "all benchmarks met their bars")
    return 1 if missed else 0


if __name__ == "__main__":
    sys.exit(run(sys.argv[1:]))
