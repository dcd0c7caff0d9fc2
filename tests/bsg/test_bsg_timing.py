"""Cycles and DRAM words: totals of the specification, events against the closed form, the one-hot ledger."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest

import archsim
from archsim.accelerators.bsg import Bsg
from archsim.accelerators.bsg.plan import BsgPlan, group_borders, part
from archsim.accelerators.bsg.timing import visit_cycles
from archsim.accelerators.clockwork import Timed, simulate_batch
from archsim.approx import LayerSetting
from archsim.memory.base import memory_class
from archsim.result import LayerResult, RunResult
from archsim.sim import Timeline
from archsim.units import BITS_PER_BYTE
from archsim.workload.layers import Conv, Linear
from archsim.workload.networks import load_network
from tests.bsg.bsg_layers import conv, machine, random_layers, shape_only

NPU = "platform.accelerators.npu"
RESNET56 = {256: 2_735_088, 512: 2_751_816, 1024: 2_784_288, 2048: 2_848_248}
SEQUENTIAL = {256: 3_276_528, 512: 3_293_256, 1024: 3_325_728, 2048: 3_389_688}
BASELINE_CYCLES, BASELINE_WORDS = 3_250_944, 2_328_602


def simulated(config: str, **fields: Any) -> RunResult:
    return archsim.simulate(
        archsim.load_study(f"{config}.yaml", [f"{NPU}.{key}={value}" for key, value in fields.items()])
    )


def conv_cycles(layers: tuple[LayerResult, ...]) -> int:
    return sum(layer.cycles for layer in layers if layer.name != "fc")


def words(layers: tuple[LayerResult, ...]) -> int:
    return sum(layer.metrics.get(f"dram_words_{way}", 0) for layer in layers for way in ("read", "written"))


@pytest.mark.parametrize("n_c", RESNET56)
def test_resnet56_totals(n_c: int) -> None:
    """The base vector's n_c / 16 cycles come on top of the specification's totals."""
    found, base = simulated("bsg-resnet56", n_c=n_c), n_c // 16
    assert found.compare_to is not None
    assert conv_cycles(found.compare_to.layers) == BASELINE_CYCLES
    assert conv_cycles(found.layers) == RESNET56[n_c] + base
    sequential = simulated("bsg-resnet56", n_c=n_c, overlap=False)
    assert conv_cycles(sequential.layers) == SEQUENTIAL[n_c] + base
    convs = [layer for layer in found.layers if layer.name.startswith("s") and layer.macs_dense]
    assert sum(layer.macs_dense for layer in convs) == 125_485_056
    compute = {layer.name: layer.metrics["compute_cycles"] for layer in convs}
    assert sum(compute.values()) == 980_352
    visits = sum(layer.metrics["mapping"]["slices"] * layer.metrics["mapping"]["partitions"] for layer in convs[1:])
    assert visits == 984
    loaded = [layer for layer in found.compare_to.layers if layer.name in compute]
    moved = sum(layer.counts["slice_buffer.write"] for layer in loaded)
    assert moved == 2_270_592 and moved + 980_352 == BASELINE_CYCLES


@pytest.mark.parametrize(
    ("n_c", "saving", "printed"), [(256, 34.56, 35.38), (512, 31.78, 32.48), (1024, 27.37, 27.9), (2048, 21.42, 21.77)]
)
def test_dram_savings_of_resnet56(n_c: int, saving: float, printed: float) -> None:
    found = simulated("bsg-resnet56", n_c=n_c)
    assert found.compare_to is not None
    assert words(found.compare_to.layers) == BASELINE_WORDS
    assert words(found.layers) == 369 * n_c // 16 + 5_146 + 56_320
    ratio = BASELINE_WORDS / words(found.layers)
    assert abs(ratio - saving) <= 0.01 and abs(ratio / printed - 1) < 0.025
    told = [layer.metrics["mapping"] for layer in found.layers if layer.macs_dense and layer.name != "fc"]
    groups = {one["partitions"] for one in told}
    assert groups == {8, 4, 2}


def test_printed_savings_are_linear_in_n_c() -> None:
    """So is the model's 1 / saving by construction; the published ones are too, to 1e-5."""
    sizes, printed = np.array([256, 512, 1024, 2048]), np.array([35.38, 32.48, 27.9, 21.77])
    fit = np.polynomial.Polynomial.fit(sizes, 1 / printed, 1)
    assert np.abs(fit(sizes) - 1 / printed).max() < 1e-5
    ours = np.array([(369 * n_c / 16 + 61_466) / BASELINE_WORDS for n_c in sizes])
    assert np.abs(np.polynomial.Polynomial.fit(sizes, ours, 1)(sizes) - ours).max() < 1e-12


def test_latencies_of_resnet56() -> None:
    """The clock follows from column Original alone."""
    clock_MHz = BASELINE_CYCLES / 28_800
    assert machine().config.clock_MHz == pytest.approx(clock_MHz, rel=1e-12)
    printed = {256: 24.25, 512: 24.54, 1024: 27.09, 2048: 29.2}
    overlapped, sequential = ({n_c: one[n_c] / clock_MHz / 1000 for n_c in one} for one in (RESNET56, SEQUENTIAL))
    for n_c in (256, 512):
        assert abs(overlapped[n_c] / printed[n_c] - 1) < 0.01
    for n_c in (1024, 2048):
        assert overlapped[n_c] < printed[n_c] < sequential[n_c]


@pytest.mark.parametrize(
    ("n_c", "ratio", "printed"), [(64, 1.4472, 1.4424), (128, 1.4370, 1.4387), (256, 1.4169, 1.4313)]
)
def test_dram_ratios_of_mobilenet_v2(n_c: int, ratio: float, printed: float) -> None:
    found = simulated("bsg-mobilenetv2", n_c=n_c)
    assert found.compare_to is not None
    assert words(found.layers) == 2951 * n_c // 16 + (2_296_922 - 752_896) + 101_376
    got = words(found.compare_to.layers) / words(found.layers)
    assert round(got, 4) == ratio and abs(got / printed - 1) < 0.0105


def test_groups_begin_where_the_map_is_small() -> None:
    """ResNet: at the layers of stride 2; MobileNet: before the expansion in front of them."""
    found = {}
    for name in ("resnet56_cifar", "mobilenet_v2_cifar"):
        convs = [layer for layer in load_network(name).layers if isinstance(layer, Conv)]
        found[name] = [convs[index].name for index in group_borders(convs)]
    assert found["resnet56_cifar"] == ["stem", "s2b0_conv1", "s3b0_conv1"]
    assert found["mobilenet_v2_cifar"] == ["conv1", "block4_expand", "block7_expand", "block14_expand"]


def timed(
    one: Bsg, layer: Conv | Linear, plan: BsgPlan, bandwidth_GB_per_s: float = float("inf"), trace: bool = False
) -> Timed:
    link = memory_class("link")
    memory = link(
        link.Config(bandwidth_GB_per_s=bandwidth_GB_per_s, latency_ns=0, energy_pJ_per_bit=1, price_source="-")
    )
    (batch,) = one.expect(layer, plan, (0.0, 0.0)).batches
    return simulate_batch(one, memory, layer, plan, batch, Timeline(100.0, 0.0) if trace else None)


def planned(one: Bsg, layers: list[Conv]) -> list[tuple[Conv, BsgPlan]]:
    placed = one.place(layers)
    plans = []
    for index, layer in enumerate(layers):
        stored = one.prepare(layer, shape_only(layer, first=index == 0), LayerSetting())
        plan = one.map(layer, stored, placed[layer.name])
        assert isinstance(plan, BsgPlan)
        plans.append((layer, plan))
    return plans


@pytest.mark.parametrize("overlap", [True, False])
@pytest.mark.parametrize("seed", range(20))
def test_events_equal_the_closed_form(seed: int, overlap: bool) -> None:
    """Ragged slices, batches, groups; small partitions, so that layers are visited often."""
    one = machine(overlap=overlap, partition_words=700, slice_shape=(8, 5, 3, 3), n_c=64)
    total = 0
    for layer, plan in planned(one, random_layers(seed)):
        closed = one.closed_form_cycles(layer, plan, one.expect(layer, plan, (0, 0)).batches[0])
        found = timed(one, layer, plan)
        assert found.cycles == closed == slow_cycles(one, layer, plan)
        total += plan.slices * plan.visits
    assert total > 20


def slow_cycles(one: Bsg, layer: Conv, plan: BsgPlan) -> int:
    """The specification, slice by slice in plain loops: start of computing = both its slice and the array are ready."""
    config, cycles = one.config, plan.base_words
    for visit in range(plan.visits):
        positions = part(layer.P * layer.Q, plan.partitions, visit % plan.partitions)
        now = made = 0
        pending: list[int] = []
        for fi in range(0, layer.M, 8):
            for ki in range(0, layer.C // layer.groups, 5):
                for hi in range(0, layer.R, 3):
                    for wi in range(0, layer.S, 3):
                        filters = min(8, layer.M - fi)
                        taps = min(5, layer.C // layer.groups - ki) * min(3, layer.R - hi) * min(3, layer.S - wi)
                        compute = -(-filters // config.array_rows) * -(-positions // config.array_columns) * taps
                        if plan.code_words and config.overlap:
                            begin = pending[-2] if len(pending) > 1 else 0  # a buffer is free, the generator too
                            made = max(made, begin) + config.generation_cycles
                            now = max(made, now) + compute
                            pending.append(now)
                        else:
                            now += (config.generation_cycles if plan.code_words else filters * taps) + compute
        cycles += now
    return cycles


@pytest.mark.parametrize("preset", ["zynq7020", "zynq7020-baseline"])
@pytest.mark.parametrize("seed", range(5))
def test_steps_taken_once_and_multiplied_equal_all_steps(seed: int, preset: str) -> None:
    """A trace makes every slice of every partition run; odd bandwidths leave fractions of a cycle at every transfer."""
    for overlap in (True, False):
        one = machine(preset, overlap=overlap, partition_words=300, slice_shape=(8, 5, 3, 3), n_c=64)
        for layer, plan in planned(one, random_layers(seed)):
            once, all_steps = (timed(one, layer, plan, 0.137, trace) for trace in (False, True))
            assert (once.cycles, once.counts, once.memory_counts) == (
                all_steps.cycles,
                all_steps.counts,
                all_steps.memory_counts,
            )
            assert once.cycles > one.closed_form_cycles(layer, plan, one.expect(layer, plan, (0, 0)).batches[0])


def test_overlap_never_takes_longer_and_baseline_reloads() -> None:
    layers = random_layers(5)
    fast, slow, base = (
        planned(machine(preset, **changes), layers)
        for preset, changes in (("zynq7020", {}), ("zynq7020", {"overlap": False}), ("zynq7020-baseline", {}))
    )
    for (_, a), (_, b), (_, c) in zip(fast, slow, base):
        config = machine().config
        assert visit_cycles(config, a, 64) <= visit_cycles(machine(overlap=False).config, b, 64)
        assert c.code_words == 0 and (c.read_words == c.affine_words + c.weights * (c.visits if c.reloaded else 1))
    assert not base[0][1].reloaded and all(plan.reloaded for _, plan in base[1:])
    assert fast[0][1].code_words == 0 and all(plan.code_words == 16 for _, plan in fast[1:])


@pytest.mark.parametrize("seed", range(6))
@pytest.mark.parametrize("preset", ["zynq7020", "zynq7020-baseline"])
def test_one_hot_ledger(seed: int, preset: str) -> None:
    """Words of the port = code vectors or weights, affine words, base, and the maps between groups; nothing else."""
    one = machine(preset, partition_words=500, slice_shape=(8, 8, 3, 3), n_c=128)
    layers = random_layers(seed)
    borders = [*group_borders(layers), len(layers)]
    expected = moved = 0
    for index, (layer, plan) in enumerate(planned(one, layers)):
        shape = (layer.M, layer.C // layer.groups, layer.R, layer.S)
        slices = int(np.prod([-(-size // step) for size, step in zip(shape, (8, 8, 3, 3))]))
        generated = preset == "zynq7020" and index > 0
        again = layer.N * plan.partitions if index else 1
        expected += slices * 8 if generated else layer.weight_count * again
        expected += 2 * layer.M + (8 if preset == "zynq7020" and not index else 0)
        expected += layer.N * layer.C * layer.H * layer.W if index in borders else 0
        expected += layer.N * layer.M * layer.P * layer.Q if index + 1 in borders else 0
        moved += sum(timed(one, layer, plan, 0.3).memory_counts.values()) // (2 * BITS_PER_BYTE)
    assert moved == expected


def test_a_slow_memory_stalls_and_says_so() -> None:
    one = machine("zynq7020-baseline")
    layer, plan = planned(one, [conv("first", C=3, M=16, H=8, W=8), conv("second", C=16, M=32, H=8, W=8)])[1]
    slow, fast = timed(one, layer, plan, 0.01), timed(one, layer, plan)
    assert slow.cycles > 2 * fast.cycles and slow.timing.bound == "dram" and fast.timing.bound == "slices"
    assert slow.timing.metrics["memory_stall_cycles"] == slow.cycles - fast.cycles
