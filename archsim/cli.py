"""Simulate networks on approximate accelerators: cycles, latency, energy and accuracy in one run."""

from __future__ import annotations

import json
import os
import sys
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, TypeVar

import typer

from archsim.errors import ArchsimError, AssetError, CosimError

if TYPE_CHECKING:
    from archsim.threads import Progress

T = TypeVar("T")
app = typer.Typer(no_args_is_help=True, add_completion=False, pretty_exceptions_enable=False, help=__doc__)
data_app = typer.Typer(invoke_without_command=True, help="List data sets and networks found, or fetch a data set.")
app.add_typer(data_app, name="data")
EXIT_DIFFERENT, EXIT_ERROR, EXIT_INTERRUPTED = 1, 2, 130
JsonOption = Annotated[bool, typer.Option("--json", help="print JSON for machines")]


def main() -> None:
    """Run the command line; a user's mistake is one line on stderr and exit code 2."""
    try:
        app()
    except (ArchsimError, OSError) as error:
        print(f"archsim: {error}", file=sys.stderr)
        sys.exit(EXIT_ERROR)
    except SystemExit as leave:
        if leave.code == EXIT_INTERRUPTED:
            print("archsim: interrupted", file=sys.stderr)
        raise


@app.command()
def run(
    study: Annotated[str, typer.Argument(help="study file (.yaml), or the name of a shipped one")],
    out: Annotated[Path | None, typer.Option(help="result folder", show_default="runs/<study name>")] = None,
    set_: Annotated[list[str] | None, typer.Option("--set", help="override a field: workload.batch=4")] = None,
    resolved: Annotated[bool, typer.Option("--resolved", help="print every value in force and stop")] = False,
    as_json: JsonOption = False,
    quiet: Annotated[bool, typer.Option("--quiet", help="no progress, no table")] = False,
    threads: Annotated[int | None, typer.Option(min=1, help="threads", show_default="cores available")] = None,
    trace: Annotated[bool, typer.Option("--trace", help="also write trace.json of the first batch (Perfetto)")] = False,
    emit_trace: Annotated[
        Path | None, typer.Option(help="also write the DRAM requests of the first batch (.ldst: Ramulator 2)")
    ] = None,
) -> None:
    """Simulate a study and write its result folder."""
    from archsim.config import load_study
    from archsim.memory.base import RequestLog
    from archsim.report.folder import check_writable, result_json, write_run
    from archsim.sim import Timeline

    loaded = load_study(study, set_ or ())
    if resolved:
        _print_resolved(loaded.to_dict(), as_json)
        return
    folder = out or Path("runs") / loaded.name
    check_writable(folder)
    started = time.perf_counter()
    timeline = Timeline(clock_MHz=1.0) if trace else None
    requests = RequestLog() if emit_trace else None
    if emit_trace is not None:
        loaded.check_addressed("--emit-trace")
        if emit_trace.is_dir() or not emit_trace.absolute().parent.is_dir():
            raise AssetError(f"{emit_trace}: --emit-trace needs the name of a file in a folder that is there")

    def work() -> Any:
        from archsim.run import simulate

        with _progress(loaded.name, show=not (quiet or as_json)) as progress:
            return simulate(loaded, threads=threads, progress=progress, timeline=timeline, requests=requests)

    result = _interruptible(work)
    log = _log(loaded.name, time.perf_counter() - started, threads)
    write_run(result, folder, log, timeline)
    if requests is not None and emit_trace is not None:
        loaded.memory.build().write_requests(requests, emit_trace)
    if as_json:
        sys.stdout.write(result_json(result))
    elif not quiet:
        from archsim.report.table import run_report

        _console().print(run_report(result.to_dict()))
        _console().print(f"results    {folder}", highlight=False)


@app.command()
def tune(
    task: Annotated[str, typer.Argument(help="tune file (.yaml), or the name of a shipped one")],
    out: Annotated[Path | None, typer.Option(help="result folder", show_default="runs/<name of the file>")] = None,
    set_: Annotated[
        list[str] | None, typer.Option("--set", help="override a field of the study, or tune.optimise.images=200")
    ] = None,
    as_json: JsonOption = False,
    quiet: Annotated[bool, typer.Option("--quiet", help="no progress, no table")] = False,
    threads: Annotated[int | None, typer.Option(min=1, help="threads", show_default="cores available")] = None,
) -> None:
    """Search levels that save most within a loss of accuracy; write one study per bound.

    What is measured is stored at once: a run that was stopped goes on where it was.
    """
    from archsim.report.folder import TUNING, check_writable, write_folder
    from archsim.tuner.spec import load_tune

    request = load_tune(task, set_ or ())
    folder = out or Path("runs") / request.name
    check_writable(folder, TUNING)
    started = time.perf_counter()

    def work() -> Any:
        from archsim.tuner.tuning import tune

        with _progress(request.name, show=not (quiet or as_json)) as progress:
            return tune(request, folder, threads=threads, progress=progress)

    found = _interruptible(work, "finished trials are kept, the same command goes on")
    check_writable(folder, TUNING)  # hours have passed
    write_folder(found.files, folder, _log(request.name, time.perf_counter() - started, threads))
    if as_json:
        print(json.dumps(found.curve, indent=1))
    elif not quiet:
        from archsim.report.tune_table import tune_report

        _console().print(tune_report(found.curve))
        _console().print(f"results    {folder}", highlight=False)


@app.command()
def compare(
    runs: Annotated[list[Path], typer.Argument(help="result folders; the first is the baseline of the ratios")],
    as_json: JsonOption = False,
) -> None:
    """Show runs side by side."""
    from archsim.report.table import compare_report, compare_rows

    results = {str(folder): _read_result(folder) for folder in runs}
    if as_json:
        print(json.dumps(compare_rows(results), indent=1))
    else:
        _console().print(compare_report(results))


@app.command("list")
def list_(as_json: JsonOption = False) -> None:
    """Show accelerators, memories, price tables, networks and studies that are known."""
    from archsim.report.catalogue import catalogue, catalogue_tables

    known = catalogue()
    if as_json:
        print(json.dumps(known, indent=1))
    else:
        _console().print(catalogue_tables(known))


@app.command()
def cosim(
    block: Annotated[str | None, typer.Argument(help="RTL block, as snapea_pe", show_default="show all blocks")] = None,
    study: Annotated[str | None, typer.Option(help="cut tiles from the layers of this study, with its images")] = None,
    layer: Annotated[
        list[str] | None, typer.Option(help="layer to cut from", show_default="all that can be shown")
    ] = None,
    tiles: Annotated[int, typer.Option(min=1, help="tiles of every layer")] = 20,
    cases: Annotated[int, typer.Option(min=1, help="random cases, without a study")] = 200,
    seed: Annotated[int, typer.Option(min=0)] = 0,
    set_: Annotated[
        list[str] | None, typer.Option("--set", help="field of the machine (lanes=8), or of the study")
    ] = None,
    simulator: Annotated[
        str | None, typer.Option(help="icarus or verilator", show_default="the first one found")
    ] = None,
    waves: Annotated[bool, typer.Option("--waves", help="record waves of everything")] = False,
    out: Annotated[Path | None, typer.Option(help="folder for waves", show_default="runs/cosim-<block>")] = None,
    inventory: Annotated[
        bool, typer.Option("--inventory", help="operators and registers of the RTL, nothing runs")
    ] = False,
    as_json: JsonOption = False,
) -> None:
    """Run an RTL block beside its model; exit code 1 at the first difference."""
    from archsim.report.cosim_table import blocks_table, inventory_table, verdict_table

    if block is None and (study or layer or set_ or waves):
        raise CosimError("name the block to run, as in: archsim cosim snapea_pe --study ...")
    if block is None or inventory:
        from archsim.cosim.campaign import block_rows, inventory_rows

        rows, show = (inventory_rows(block), inventory_table) if inventory else (block_rows(), blocks_table)
        print(json.dumps(rows, indent=1)) if as_json else _console().print(show(rows))
        return
    from archsim.cosim.campaign import Request, campaign

    folder = out or Path("runs") / f"cosim-{block}"
    request = Request(block, study, tuple(layer or ()), tiles, cases, seed, tuple(set_ or ()), simulator, folder, waves)

    def work() -> list[dict[str, Any]]:
        with _progress(f"cosim {block}", show=not as_json) as progress:
            return campaign(request, progress)

    found = _interruptible(work)
    print(json.dumps(found, indent=1)) if as_json else _console().print(verdict_table(found))
    if any(row["difference"] for row in found):
        sys.exit(EXIT_DIFFERENT)


@app.command()
def dram(
    trace: Annotated[Path, typer.Argument(help="requests: lines of Ramulator 2 (LD/ST, R/W) or DRAMsim3")],
    preset: Annotated[str, typer.Option(help="DRAM preset, as DDR4-2400-8Gb-x8")] = "DDR3-1600-2Gb-x16",
    set_: Annotated[list[str] | None, typer.Option("--set", help="field of the memory: row_policy=closed")] = None,
    gap: Annotated[int, typer.Option(min=0, max=1_000_000, help="bus cycles between requests that name no cycle")] = 0,
    level: Annotated[int, typer.Option(min=0, help="row of the profile all data lie at: --set profile=...")] = 0,
    as_json: JsonOption = False,
) -> None:
    """Play a trace of requests: cycles, row hits, latency of reads, power, energy."""
    from archsim.platform import load_memory
    from archsim.report.dram_table import played_report

    memory = load_memory("dram", preset, set_ or ())

    def work() -> Any:
        with _progress(trace.name, show=not as_json) as progress:
            return memory.build().play_trace(trace, gap, progress, level)

    told = {"trace": str(trace), "memory": memory.to_dict(), "gap_cycles": gap, "level": level, **_interruptible(work)}
    print(json.dumps(told, indent=1)) if as_json else _console().print(played_report(told))


@app.command()
def schema() -> None:
    """Print the JSON Schema of study files, for editors."""
    from archsim.report.schema import study_schema

    print(json.dumps(study_schema(), indent=1))


@data_app.callback()
def data(context: typer.Context, as_json: JsonOption = False) -> None:
    """List data sets and networks and where they were found."""
    if context.invoked_subcommand:
        return
    from archsim.report.catalogue import data_rows, data_table

    rows = data_rows()
    if as_json:
        print(json.dumps(rows, indent=1))
    else:
        _console().print(data_table(rows))


@data_app.command()
def fetch(name: Annotated[str, typer.Argument(help="mnist or cifar10")]) -> None:
    """Download a data set, check its checksum, and store it as .npz in the user's data folder."""
    from archsim.workload.datasets import fetch as fetch_data

    path = _interruptible(lambda: fetch_data(name))
    print(f"{name}: {path}")


def _console() -> Any:
    """Return a console of at most 100 columns."""
    from rich.console import Console

    from archsim.report.table import WIDTH

    console = Console()
    return Console(width=min(console.width, WIDTH)) if console.is_terminal else Console(width=WIDTH)


def _print_resolved(data: dict[str, Any], as_json: bool) -> None:
    """Print the resolved study as YAML or JSON."""
    import yaml

    print(json.dumps(data, indent=1) if as_json else yaml.safe_dump(data, sort_keys=False, width=120), end="")


def _read_result(folder: Path) -> dict[str, Any]:
    """Read `result.json` of a result folder (or the file itself). Raises: AssetError."""
    from archsim.report.table import compare_rows

    path = folder / "result.json" if folder.is_dir() else folder
    try:
        data: dict[str, Any] = json.loads(path.read_text(encoding="utf-8"))
        if data["schema"] != 1:
            raise AssetError(f"{path}: result schema must be 1, got {data['schema']!r}")
        compare_rows({str(folder): data})  # a file without the figures of a row is none of ours
    except OSError as error:
        raise AssetError(f"{path}: not a result of archsim run: {error.strerror}") from error
    except (ValueError, KeyError, TypeError, ZeroDivisionError) as error:
        raise AssetError(f"{path}: not a result of archsim run") from error
    return data


def _log(name: str, wall_s: float, threads: int | None) -> list[str]:
    """Return the lines of run.log: what may differ between two equal runs."""
    import platform

    from archsim import __version__
    from archsim.threads import available_cores

    return [
        f"study {name}",
        f"archsim {__version__}, Python {platform.python_version()}, {platform.system()} {platform.machine()}",
        f"finished {time.strftime('%Y-%m-%d %H:%M:%S %z')}",
        f"wall time {wall_s:.2f} s, {threads or available_cores()} threads",
    ]


@contextmanager
def _progress(name: str, *, show: bool) -> Iterator[Progress | None]:
    """Yield a progress callback with a bar and ETA; none if this is not a terminal or output is for machines."""
    if not show or not sys.stderr.isatty():
        yield None
        return
    from rich.console import Console
    from rich.progress import BarColumn, Progress, TextColumn, TimeElapsedColumn, TimeRemainingColumn

    columns = (
        TextColumn("{task.description}"),
        BarColumn(),
        TimeElapsedColumn(),
        TextColumn("left"),
        TimeRemainingColumn(),
    )
    from archsim.kernels._jit import compiled_before

    with Progress(*columns, console=Console(stderr=True), transient=True) as bars:
        if not compiled_before():
            bars.console.print("compiling kernels (once)", highlight=False)
        tasks: dict[str, Any] = {}

        def advance(text: str, done: int, total: int) -> None:
            if text not in tasks:
                tasks[text] = bars.add_task(f"{name}: {text}")
            bars.update(tasks[text], completed=done, total=total)

        yield advance


def _interruptible(work: Callable[[], T], kept: str = "nothing was written") -> T:
    """Run `work` in a thread so that Ctrl-C is answered at once, even inside a compiled kernel.

    Results are written when `work` has returned, so leaving in the middle leaves nothing half-done; `kept` says what
    stays.
    """
    outcome: list[T] = []
    failure: list[BaseException] = []

    def target() -> None:
        try:
            outcome.append(work())
        except BaseException as error:
            failure.append(error)

    thread = threading.Thread(target=target, daemon=True)
    thread.start()
    try:
        while thread.is_alive():
            thread.join(0.1)
    except KeyboardInterrupt:
        show_cursor = "\x1b[?25h" if sys.stderr.isatty() else ""
        sys.stderr.write(f"{show_cursor}\narchsim: interrupted; {kept}\n")
        sys.stderr.flush()
        os._exit(EXIT_INTERRUPTED)
    if failure:
        raise failure[0]
    return outcome[0]


if __name__ == "__main__":
    main()
