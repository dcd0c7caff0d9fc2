"""BSG at full size: the lines T1 to T15 of its specification, speed, the page of figures."""

from __future__ import annotations

import time
from collections.abc import Callable
from itertools import islice
from pathlib import Path

import pytest

import archsim
from archsim.accelerators.bsg.rtl import BSG_GEN
from archsim.accelerators.bsg.rtl_cases import random_cases
from archsim.accelerators.bsg.rtl_model import parameters_of
from archsim.cosim.campaign import Bench
from archsim.cosim.simulator import available_simulators, choose_simulator
from tests.accept.bsg_page import BSG, TABLES
from tests.accept.test_snapea import needs_data, run_tests
from tests.bsg.bsg_layers import machine
from tests.bsg.test_bsg_trained import accuracy_of, gaps, sweep

pytestmark = [pytest.mark.acceptance, pytest.mark.timeout(3600)]
Accept = Callable[[str, bool], None]
GENERATOR, TIMING = "tests/bsg/test_bsg_generator.py", "tests/bsg/test_bsg_timing.py"
SIZES = (64, 128, 256, 512, 1024, 2048)


@pytest.mark.line("B-T1", "weights of the printed vectors, NumPy = Numba, all n_c, both generators", bound="equal")
def test_vectors(accept: Accept) -> None:
    accept(*run_tests(GENERATOR, "-k", "vectors or numpy or lengths or shape or ragged"))


@pytest.mark.line("B-T1-rtl", "weights of the RTL over two wraps, n_c 64 to 2048, both generators", bound="equal")
def test_rtl_weights(accept: Accept, tmp_path: Path) -> None:
    if not available_simulators():
        pytest.skip("no simulator")
    weights, wrong = 0, ""
    for n_c in SIZES:
        for generator in ("rotate", "feedback"):
            config = machine(n_c=n_c, generator=generator).config
            bench = Bench(BSG_GEN, choose_simulator(), tmp_path / f"{generator}-{n_c}")
            cases = list(islice(random_cases(config, 2026), 4 if n_c <= 512 else 2))
            verdict = bench.check(f"{generator}-{n_c}", parameters_of(config), cases).verdict
            weights += verdict.results
            wrong = wrong or (f"; FAIL n_c {n_c} {generator}: {verdict.difference}" if verdict.difference else "")
    accept(f"{weights} weights, every output in every cycle{wrong}", not wrong)


@pytest.mark.line("B-T2-T3", "what a rotation cannot change (1000 draws), equation 5.5 = -(5.6)", bound="equal")
def test_invariants(accept: Accept) -> None:
    accept(*run_tests(GENERATOR, "-k", "rotation_cannot or equation"))


@pytest.mark.line("B-T4", "RTL: first weight, one per cycle, 2304 weights; waiting weights; mutants", bound="equal")
def test_rtl(accept: Accept) -> None:
    accept(*run_tests("tests/cosim/test_rtl_bsg_gen.py"))


@pytest.mark.line("B-mac-array", "RTL of MAC array and slice buffers: sums, cycles of the law, mutants", bound="equal")
def test_mac_array(accept: Accept) -> None:
    accept(*run_tests("tests/cosim/test_rtl_bsg_mac_array.py", "tests/cosim/test_rtl_bsg_resources.py"))


@pytest.mark.line("B-T5", "parameter counts of Tables 5.1, 5.2, 5.3, 5.5, 5.7", bound="exact")
def test_parameters(accept: Accept) -> None:
    accept(*run_tests("tests/bsg/test_bsg_parameters.py"))


@pytest.mark.line("B-T6", "ResNet-56 cycles, overlapped, one after another, loaded", bound="equal")
def test_totals(accept: Accept) -> None:
    accept(*run_tests(TIMING, "-k", "totals"))


@pytest.mark.line("B-T7-T8", "ResNet-56 DRAM savings; 1 / saving linear in n_c", bound="0.01 and 2.5 %; 1e-5")
def test_savings(accept: Accept) -> None:
    accept(*run_tests(TIMING, "-k", "savings"))


@pytest.mark.line("B-T9", "ResNet-56 latency, clock from Original", bound="1 % at 256, 512; between bounds above")
def test_latency(accept: Accept) -> None:
    accept(*run_tests(TIMING, "-k", "latencies"))


@pytest.mark.line("B-T10", "power of the 8 printed rows", bound="2.65 %")
def test_power(accept: Accept) -> None:
    accept(*run_tests("tests/bsg/test_bsg_energy.py"))


@pytest.mark.line("B-T11", "MobileNetV2 DRAM ratios", bound="1.4472, 1.4370, 1.4169")
def test_mobilenet(accept: Accept) -> None:
    accept(*run_tests(TIMING, "-k", "mobilenet"))


@pytest.mark.line("B-T12", "BSG LeNet-5 on MNIST", bound="97 % (12 epochs), 96 % (2), n_c 16: circulant 5 below full")
def test_trained(accept: Accept) -> None:
    name = "bsg_lenet_rotate_512"
    best = 100 * accuracy_of(name)
    short, lost = min(sweep()[512, "rotate"].values()), gaps(16, "full", "rotate")
    told = ", ".join(f"{gap:.1f}" for gap in lost)
    accept(
        f"{best:.2f} % ({name}), 2 epochs {short:.2f} % at least, full - circulant at n_c 16: {told} points",
        best >= 97 and short >= 96 and min(lost) >= 5,
    )


@pytest.mark.line("B-resnet", "BSG ResNet-20 on CIFAR-10, 10,000 training images", bound="75 %; bfloat16 1 point")
def test_resnet(accept: Accept) -> None:
    needs_data()
    name = "bsg_resnet20_rotate_512"
    found = archsim.simulate(archsim.load_study("bsg-resnet20.yaml"))
    assert found.accuracy is not None
    trained, mine, fp32 = (100 * one for one in (accuracy_of(name), found.accuracy.top1, found.accuracy.top1_fp32))
    accept(
        f"{trained:.2f} % of 5000 images in training; machine {mine:.1f} %, fp32 {fp32:.1f} % of 1000",
        trained >= 75 and abs(mine - fp32) <= 1,
    )


@pytest.mark.line("B-T13", "exported networks: weights bit-equal, classes of 1000 images", bound="equal")
def test_exported(accept: Accept) -> None:
    needs_data()
    accept(*run_tests("tests/bsg/test_bsg_trained.py"))


@pytest.mark.line("B-T14-T15", "events = closed form = plain loops, 40 layer lists; ledger of words", bound="equal")
def test_events(accept: Accept) -> None:
    accept(*run_tests(TIMING, "-k", "closed_form or ledger"))


@pytest.mark.line("B-speed", "ResNet-56 and MobileNetV2: cycles, traffic, energy, both designs", bound="5 s each")
def test_speed(accept: Accept) -> None:
    seconds = {}
    for name in ("bsg-resnet56", "bsg-mobilenetv2"):
        started = time.perf_counter()
        archsim.simulate(archsim.load_study(f"{name}.yaml"))
        seconds[name] = time.perf_counter() - started
    told = ", ".join(f"{name} {taken:.1f} s" for name, taken in seconds.items())
    accept(told, max(seconds.values()) <= 5)


@pytest.mark.line("B-page", "docs/bsg.md", bound="equal to runs")
def test_page(accept: Accept) -> None:
    needs_data()
    accept(*BSG.differing(tuple(TABLES)))
