"""What everything else stands on: installation, numbers, lower bounds, speed, refusals, reproducibility, checks."""

from __future__ import annotations

import filecmp
import os
import signal
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager
from pathlib import Path

import numpy as np
import pytest
from threadpoolctl import threadpool_limits

import archsim
from archsim.assets import data_folder, find
from benchmarks import bench_kernels, bench_studies
from tests.bad_inputs import CASES, complaint, in_its_own_process, prepare
from tests.lower_bounds import complaints, layers_of, shipped_networks, tightest

pytestmark = [pytest.mark.acceptance, pytest.mark.timeout(1800)]

ROOT = Path(__file__).resolve().parents[2]
BENCH = {bench.study: bench for bench in bench_studies.BENCHES}
Accept = Callable[[str, bool], None]


def needs_data() -> Path:
    """The folder of external data; the line is not run without it."""
    folder = data_folder()
    if folder is None:
        pytest.skip("no external data: set ARCHSIM_DATA")
    return folder


# A1: from nothing ----------------------------------------------------------------------------------------------------
OF_THIS_RUN = ("PYTEST_ADDOPTS", "NUMBA_CACHE_DIR", "MAKEFLAGS", "MAKELEVEL", "VIRTUAL_ENV", "PYTHONPATH")
"""Variables a user who has just cloned the project does not have."""


@contextmanager
def clone() -> Iterator[Path]:
    """Yield a fresh clone of the last commit, removed afterwards."""
    with tempfile.TemporaryDirectory() as folder:
        subprocess.run(["git", "clone", "--quiet", str(ROOT), f"{folder}/archsim"], check=True)
        yield Path(folder) / "archsim"


def make(target: str, folder: Path) -> tuple[float, subprocess.CompletedProcess[str]]:
    """Run `make target` there; return the wall time and what it printed."""
    environment = {name: value for name, value in os.environ.items() if name not in OF_THIS_RUN}
    environment["ARCHSIM_DATA"] = str(needs_data())
    started = time.perf_counter()
    done = subprocess.run(["make", target], cwd=folder, env=environment, capture_output=True, text=True, check=False)
    return time.perf_counter() - started, done


def last(text: str, lines: int = 1) -> str:
    return "\n".join(text.strip().splitlines()[-lines:])


@pytest.mark.line("A1", "`make demo` in a fresh clone ends with the table", bound="exit 0, < 180 s with installation")
def test_demo(accept: Accept) -> None:
    with clone() as folder:
        wall_s, done = make("demo", folder)
        written = (folder / "runs" / "quickstart" / "result.json").is_file()
    end = done.stdout.strip().splitlines()
    table = any(line.startswith("total ") for line in end) and any(line.startswith("accuracy") for line in end)
    ok = not done.returncode and written and table and end[-1].startswith("results")
    accept(
        f"{wall_s:.0f} s" if ok else f"exit {done.returncode}: {last(done.stderr or done.stdout)}", ok and wall_s < 180
    )


@pytest.mark.line("A1b", "`make test` in a fresh clone", bound="exit 0, <= 900 s with installation")
def test_make_test(accept: Accept) -> None:
    with clone() as folder:
        wall_s, done = make("test", folder)
    figure = f"exit {done.returncode}, {wall_s:.0f} s: {last(done.stdout).strip('= ')}"
    accept(figure, done.returncode == 0 and " passed" in figure and wall_s <= 900)


# A2: fp32 ------------------------------------------------------------------------------------------------------------
def against_onnxruntime(network: str, data: str, accept: Accept, images: int = 200) -> None:
    """Compare the fp32 logits of whole networks image by image."""
    import onnxruntime

    from archsim.workload.datasets import load_data
    from archsim.workload.graph import walk
    from archsim.workload.networks import load_network
    from archsim.workload.reference import float_compute, input_tensor

    needs_data()
    net, pixels = load_network(network), load_data(file=data, images=images).images
    session = onnxruntime.InferenceSession(str(find(network)))
    name, compute = session.get_inputs()[0].name, float_compute(net)
    worst, same = 0.0, 0
    for block in np.split(pixels, range(20, images, 20)):
        x = np.moveaxis(block if block.ndim == 4 else block[..., None], -1, 1).astype(np.float32)
        expected = session.run(None, {name: x})[0]
        logits = walk(net, input_tensor(net, block), compute)
        worst = max(worst, float((np.abs(logits - expected).max(axis=1) / np.abs(expected).max(axis=1)).max()))
        same += int((logits.argmax(axis=1) == expected.argmax(axis=1)).sum())
    accept(f"{worst:.1e}, {same} of {images} equal", worst <= 1e-3 and same >= 0.999 * images)


@pytest.mark.line("A2-lenet5", "fp32 logits as onnxruntime, LeNet-5", bound="error <= 1e-3, argmax 99.9 %")
def test_lenet5(accept: Accept) -> None:
    against_onnxruntime("lenet5_mnist.onnx", "mnist_test_0000_4999.npz", accept)


@pytest.mark.line("A2-resnet20", "fp32 logits as onnxruntime, ResNet-20", bound="error <= 1e-3, argmax 99.9 %")
def test_resnet20(accept: Accept) -> None:
    against_onnxruntime("resnet20_cifar10.onnx", "cifar10_test_dev5000.npz", accept)


@pytest.mark.line("A2-resnet56", "fp32 logits as onnxruntime, ResNet-56", bound="error <= 1e-3, argmax 99.9 %")
def test_resnet56(accept: Accept) -> None:
    against_onnxruntime("resnet56_cifar10.onnx", "cifar10_test_dev5000.npz", accept)


@pytest.mark.line("A2-squeezenet", "fp32 logits as onnxruntime, SqueezeNet", bound="error <= 1e-3, argmax 99.9 %")
def test_squeezenet(accept: Accept) -> None:
    against_onnxruntime("squeezenet1_0_dc.onnx", "imagenet_sample_dev400.npz", accept)


# A3: 16-bit fixed point ----------------------------------------------------------------------------------------------
def keeps_accuracy(study: str, images: int, points: float, accept: Accept) -> None:
    """Run a shipped study on its machine; its top-1 may differ from fp32 by `points`."""
    needs_data()
    accuracy = archsim.simulate(archsim.load_study(study, [f"workload.data.images={images}"])).accuracy
    assert accuracy is not None and accuracy.images == images
    loss = 100 * (accuracy.top1_fp32 - accuracy.top1)
    figure = f"{100 * accuracy.top1:.2f} %, fp32 {100 * accuracy.top1_fp32:.2f} % ({loss:+.2f} points lost)"
    accept(figure, abs(loss) <= points + 1e-9)


@pytest.mark.line("A3-resnet20", "16-bit top-1, ResNet-20 on Eyeriss, 1000 images", bound="within 0.3 points of fp32")
def test_fixed16_resnet20(accept: Accept) -> None:
    keeps_accuracy("eyeriss-resnet20.yaml", 1000, 0.3, accept)


@pytest.mark.line("A3-squeezenet", "16-bit top-1, SqueezeNet on Eyeriss, 100 images", bound="within 1 point of fp32")
def test_fixed16_squeezenet(accept: Accept) -> None:
    keeps_accuracy("eyeriss-squeezenet.yaml", 100, 1.0, accept)


# A5: lower bounds ----------------------------------------------------------------------------------------------------
@pytest.mark.line("A5", "no layer of any shipped network beats PEs, buses or link", bound="no layer below any floor")
def test_lower_bounds(accept: Accept) -> None:
    runs = [(name, 1) for name in shipped_networks()] + [("alexnet.yaml", 4), ("vgg16.yaml", 3)]
    layers = [layer for name, batch in runs for layer in layers_of(name, batch)]
    wrong = [text for layer in layers for text in complaints(*layer)]
    near = ", ".join(f"{name} {ratio:.2f}" for name, ratio in tightest(layers).items())
    accept(
        "; ".join(wrong[:3]) or f"{len(layers)} layers, nearest cycles/floor: {near}", not wrong and len(layers) > 300
    )


# A6: speed -----------------------------------------------------------------------------------------------------------
RUNS = 3
"""Runs of which the best counts; one more before them compiles."""


@pytest.mark.line("A6-conv", "exact int16 convolution on one core, 3x3, C >= 64", bound=">= 15 GMAC/s each")
def test_convolution_speed(accept: Accept) -> None:
    shapes = [shape for shape in bench_kernels.SHAPES if shape.targeted]
    with threadpool_limits(1):
        speeds = [convolution_GMAC_per_s(shape) for shape in shapes]
        products = [product_GMAC_per_s(shape) for shape in shapes]
    names = [f"{shape.N}x{shape.C}x{shape.H}" for shape in shapes]
    figure = ", ".join(f"{name} {fast:.1f} (BLAS {bare:.0f})" for name, fast, bare in zip(names, speeds, products))
    accept(figure, min(speeds) >= bench_kernels.TARGET_GMAC_PER_S)


def convolution_GMAC_per_s(shape: bench_kernels.Shape, attempts: int = 10) -> float:
    """Return the best speed of several attempts, up to the target: what other processes take comes and goes."""
    best = 0.0
    for _ in range(attempts):
        best = max(best, bench_kernels.measure(shape, 16))
        if best >= bench_kernels.TARGET_GMAC_PER_S:
            break
    return best


def product_GMAC_per_s(shape: bench_kernels.Shape) -> float:
    """Return the speed of the float64 products of the layer alone: what the machine could do at this moment."""
    _, w = bench_kernels.tensors(shape, 16)
    windows = shape.N * (shape.H // shape.stride) ** 2
    return windows * w.size / bench_kernels.bare_product_seconds(shape, windows, w) / 1e9


@pytest.mark.line("A6-alexnet", "AlexNet, batch 4, all layers, mappings searched, warm", bound="<= 2 CPU s")
def test_alexnet_speed(accept: Accept) -> None:
    warm_s = min(bench_studies.warm_search().cpu_s for _ in range(RUNS))
    whole = fastest(BENCH["eyeriss-alexnet.yaml"])
    bars = " and ".join(f"{cpu_s:g}" for cpu_s, _ in bench_studies.PUBLISHED_CPU_S.values())
    figure = f"{warm_s:.2f} CPU s; whole process {whole.cpu_s:.2f} (other tools {bars})"
    accept(figure, warm_s <= bench_studies.WARM_BAR_CPU_S)


def fastest(bench: bench_studies.Bench, runs: int = RUNS) -> bench_studies.Spent:
    """Return the best of `runs` processes, after one that compiles."""
    if bench.images:
        needs_data()
    with tempfile.TemporaryDirectory() as folder:
        spent = [bench_studies.run_study(bench, Path(folder)) for _ in range(1 + runs)][1:]
    return min(spent, key=lambda one: one.cpu_s)


def within_bar(spent: bench_studies.Spent, bar_s: float, accept: Accept) -> None:
    """CPU seconds of all threads, which other processes on the machine hardly change; wall seconds are told."""
    accept(f"{spent.cpu_s:.2f} CPU s, {spent.wall_s:.2f} s wall", spent.cpu_s <= bar_s)


@pytest.mark.line("A6-vgg16", "VGG-16, batch 3, shape-only, whole process", bound="<= 5 CPU s")
def test_vgg16_speed(accept: Accept) -> None:
    within_bar(fastest(BENCH["eyeriss-vgg16.yaml"]), 5, accept)


@pytest.mark.line("A6-resnet20", "ResNet-20 on 1000 images, whole process", bound="<= 60 CPU s")
def test_resnet20_speed(accept: Accept) -> None:
    within_bar(fastest(BENCH["eyeriss-resnet20.yaml"], runs=1), 60, accept)


@pytest.mark.line("A6-squeezenet", "SqueezeNet, one image, whole process", bound="<= 4 CPU s")
def test_squeezenet_speed(accept: Accept) -> None:
    within_bar(fastest(BENCH["eyeriss-squeezenet.yaml"]), 4, accept)


@pytest.mark.line("A6-list", "`archsim list`", bound="<= 1 CPU s")
def test_list_speed(accept: Accept) -> None:
    spent = min((bench_studies.spend("-m", "archsim", "list") for _ in range(1 + RUNS)), key=lambda one: one.cpu_s)
    within_bar(spent, bench_studies.LIST_BAR_CPU_S, accept)


@pytest.mark.line("A6-memory", "peak memory of the shape-only studies", bound="< 500 MB")
def test_peak_memory(accept: Accept) -> None:
    peaks_MB = {bench.name: fastest(bench, runs=1).peak_MB for bench in BENCH.values() if not bench.images}
    accept(", ".join(f"{name} {peak:.0f} MB" for name, peak in peaks_MB.items()), max(peaks_MB.values()) < 500)


# A7: refusals and Ctrl-C ---------------------------------------------------------------------------------------------
@pytest.mark.line("A7", "bad inputs: one line that names the rule, exit code 2, nothing written", bound="all")
def test_bad_inputs(accept: Accept, tmp_path: Path) -> None:
    prepare(tmp_path)
    wrong = list(filter(None, (complaint(case, tmp_path, in_its_own_process) for case in CASES)))
    accept("; ".join(wrong) or f"{len(CASES)} of {len(CASES)}", not wrong and len(CASES) >= 20)


@pytest.mark.line("A7-interrupt", "Ctrl-C at any moment of a run on real images", bound="<= 1 s, nothing written")
def test_interrupt(accept: Accept, tmp_path: Path) -> None:
    needs_data()
    moments_s = (0.5, 1.0, 1.5, 2.0, 3.0, 4.0, 6.0, 8.0)
    ends = [interrupted(tmp_path, after_s) for after_s in moments_s]
    wrong = [f"after {moment:g} s: {end}" for moment, (_, end) in zip(moments_s, ends) if end]
    slowest_s = max(seconds for seconds, _ in ends)
    accept("; ".join(wrong) or f"{slowest_s:.2f} s at most, {len(ends)} moments", not wrong and slowest_s <= 1)


def interrupted(folder: Path, after_s: float) -> tuple[float, str]:
    """Press Ctrl-C after `after_s`; return the seconds it took to leave, and what is wrong."""
    command = [sys.executable, "-m", "archsim", "run", "eyeriss-squeezenet.yaml", "--set", "workload.data.images=384"]
    process = subprocess.Popen(command, cwd=folder, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True)
    time.sleep(after_s)
    early = process.poll() is not None
    started = time.perf_counter()
    process.send_signal(signal.SIGINT)
    said = "".join(process.communicate(timeout=60))
    seconds = time.perf_counter() - started
    left = [path.name for path in folder.iterdir()]
    if early or process.returncode != 130 or "Traceback" in said or left:
        return seconds, f"ended before: {early}, exit code {process.returncode}, left {left}: {last(said)}"
    return seconds, ""


# A8: reproducibility -------------------------------------------------------------------------------------------------
def same_bytes(study: str, overrides: Iterable[str], accept: Accept, folder: Path) -> None:
    """Run a study in four processes, on one and on two threads, and compare the files."""
    sets = [argument for override in overrides for argument in ("--set", override)]
    threads = ("2", "2", "1", "1")
    files = [folder / f"run{number}" / "result.json" for number in range(len(threads))]
    for file, count in zip(files, threads):
        bench_studies.spend(
            "-m", "archsim", "run", study, *sets, "--quiet", "--threads", count, "--out", str(file.parent)
        )
    different = [str(index) for index, file in enumerate(files) if not filecmp.cmp(files[0], file, shallow=False)]
    figure = f"{len(files)} files of {files[0].stat().st_size} bytes"
    accept(f"runs {', '.join(different)} differ from the first" if different else f"{figure} equal", not different)


@pytest.mark.line("A8-quickstart", "result.json in two processes each on 1 and 2 threads", bound="equal, byte for byte")
def test_same_quickstart(accept: Accept, tmp_path: Path) -> None:
    same_bytes("quickstart.yaml", (), accept, tmp_path)


@pytest.mark.line("A8-resnet20", "the same, ResNet-20 on 50 images", bound="equal, byte for byte")
def test_same_resnet20(accept: Accept, tmp_path: Path) -> None:
    needs_data()
    same_bytes("eyeriss-resnet20.yaml", ("workload.data.images=50", "workload.timed_images=50"), accept, tmp_path)


# A9: the project's own checks ----------------------------------------------------------------------------------------
def check(*arguments: str) -> tuple[float, subprocess.CompletedProcess[str]]:
    """Run a tool on this checkout; return the wall time and what it printed."""
    environment = {name: value for name, value in os.environ.items() if name != "PYTEST_ADDOPTS"}
    started = time.perf_counter()
    done = subprocess.run(
        [sys.executable, "-m", *arguments], cwd=ROOT, env=environment, capture_output=True, text=True, check=False
    )
    return time.perf_counter() - started, done


@pytest.mark.line("A9-lint", "ruff check, ruff format, mypy --strict", bound="no complaint")
def test_lint(accept: Accept) -> None:
    tools = (("ruff", "check", "."), ("ruff", "format", "--check", "."), ("mypy",))
    ends = [(" ".join(tool), check(*tool)[1]) for tool in tools]
    wrong = [f"{name}: {' '.join((done.stdout + done.stderr).split()[:20])}" for name, done in ends if done.returncode]
    accept("; ".join(wrong) or last(ends[-1][1].stdout), not wrong)


@pytest.mark.line("A9-contract", "architecture and contract tests", bound="pass, <= 60 s")
def test_contract(accept: Accept) -> None:
    wall_s, done = check("pytest", "-q", "-p", "no:cacheprovider", "tests/test_architecture.py", "tests/contract")
    accept(last(done.stdout), done.returncode == 0 and wall_s <= 60)


@pytest.mark.line("A9-unit", "unit tests", bound="pass, < 90 s")
def test_unit(accept: Accept) -> None:
    wall_s, done = check("pytest", "-q", "-p", "no:cacheprovider", "tests/unit")
    accept(f"{last(done.stdout)}; {wall_s:.0f} s", done.returncode == 0 and wall_s < 90)
