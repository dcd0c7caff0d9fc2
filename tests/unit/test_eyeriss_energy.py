"""E9, E15, E17: power of the chip with one fitted constant, relative costs of ISCA 2016, the thesis baseline."""

from functools import cache

import pytest
from eyeriss_cases import ALEXNET, CHIP, CONVS, INFINITE, REFERENCE, alexnet_run, conv, link, machine, mapped

from archsim.accelerators.clockwork import simulate_batch
from archsim.energy import account, available_tables
from archsim.units import energy_pJ_to_power_mW
from archsim.workload.layers import Linear
from tests.unit.test_energy import SPECIAL

"""Tables without the classes of an accelerator."""


@cache
def processing(name):
    """Return on-chip energy in pJ and latency in us while the chip processes: with an infinitely fast link."""
    eyeriss, run = alexnet_run(name, infinite=True)
    return sum(account(run.counts, eyeriss.prices).values()), run.cycles / eyeriss.config.clock_MHz


def power_mW(names):
    energy, latency = (sum(values) for values in zip(*(processing(name) for name in names)))
    return energy_pJ_to_power_mW(energy, latency)


def test_the_constant_is_the_fit_it_says_it_is():
    constant = machine().config.clock_and_leakage_mW  # a whole number of mW
    assert power_mW(CONVS) == pytest.approx(CHIP["total"]["power_mW"], abs=0.5)
    price = machine().prices.prices["array.active_cycle"]
    assert price.energy_pJ == pytest.approx((30 + constant) * 1000 / 200)
    assert "278 mW" in price.calibrated
    assert machine("thesis-256pe").config.clock_and_leakage_mW == machine("npu-1ghz").config.clock_and_leakage_mW == 0


def test_power_of_each_layer():
    model = {name: power_mW([name]) for name in CONVS}
    for name in CONVS:
        assert model[name] == pytest.approx(CHIP[name]["power_mW"], rel=0.20)
    assert max(model, key=model.get) == "conv1"
    assert max(model["conv4"], model["conv5"]) <= 0.9 * model["conv1"]


def test_without_the_constant_the_table_explains_two_thirds():
    ratios = [(power_mW([name]) - 88) / CHIP[name]["power_mW"] for name in CONVS]
    assert 0.6 < min(ratios) < max(ratios) < 0.8


@pytest.mark.parametrize("table", [name for name, _ in available_tables() if name not in SPECIAL])
def test_every_machine_table_prices_every_action(table):
    eyeriss = machine(prices=table)
    assert set(eyeriss.prices.prices) == eyeriss.actions


@pytest.mark.parametrize(("table", "saved"), [("nnd-chip", 0.5), ("isca16", 0.4), ("thesis-t33", 0.4)])
def test_a_gated_cycle_costs_40_to_50_percent_less(table, saved):
    prices = {action: price.energy_pJ for action, price in machine(prices=table).prices.prices.items()}
    always = prices["spad.ifmap_read"] + prices["spad.psum_read"] + prices["spad.psum_write"]
    ungated = prices["pe.mac"] + prices["spad.filter_read"] + always
    gated = prices["pe.mac_gated"] + always
    assert 1 - gated / ungated == pytest.approx(saved)


def test_more_zeros_cost_less_energy_and_equal_cycles():
    layer, eyeriss = ALEXNET["conv4"], machine()
    plan = mapped(eyeriss, layer)
    spent = []
    for zeros in (0.0, 0.4, 0.9):
        activity = eyeriss.expect(layer, plan, (zeros, 0.5)).batches[0]
        run = simulate_batch(eyeriss, INFINITE, layer, plan, activity)
        spent.append((sum(account(run.counts, eyeriss.prices).values()), run.cycles))
    assert spent[0][0] > spent[1][0] > spent[2][0]
    assert len({cycles for _, cycles in spent}) == 1


# E15 ------------------------------------------------------------------------------------------------------------------
ISCA = REFERENCE["nn_dataflow_isca16"]
FC = {
    "fc1": Linear(name="fc1", inputs=("x",), output="y", N=16, C=9216, M=4096, map_shape=(256, 6, 6)),
    "fc2": Linear(name="fc2", inputs=("x",), output="y", N=16, C=4096, M=4096),
    "fc3": Linear(name="fc3", inputs=("x",), output="y", N=16, C=4096, M=1000),
}
ALEXNET_16 = {
    "conv1": conv("conv1", 227, 3, 96, 11, 16, stride=(4, 4)),
    "conv2": conv("conv2", 27, 96, 256, 5, 16, pad=(2,) * 4, groups=2),
    "conv3": conv("conv3", 13, 256, 384, 3, 16, pad=(1,) * 4),
    "conv4": conv("conv4", 13, 384, 384, 3, 16, pad=(1,) * 4, groups=2),
    "conv5": conv("conv5", 13, 384, 256, 3, 16, pad=(1,) * 4, groups=2),
}


@pytest.mark.parametrize("name", ISCA["ref"])
def test_mac_and_register_file_columns_of_isca_2016(name):
    eyeriss = machine(
        pe_rows=16, pe_columns=16, global_buffer_banks=30, prices="isca16", clock_and_leakage_mW=0.0
    )  # fmt: skip
    layer = (ALEXNET_16 | FC)[name]
    plan = mapped(eyeriss, layer)
    activity = eyeriss.expect(layer, plan, (0.0, 0.0)).batches[0]
    counts = simulate_batch(eyeriss, link(), layer, plan, activity).counts
    # The reference gates nothing: padding taps, gated here, are multiplied and read their filter word there.
    gated = counts.pop("pe.mac_gated", 0)
    for action in ("pe.mac", "spad.filter_read"):
        counts.add(action, gated)
    energy = account(counts, eyeriss.prices)
    accesses = ("spad.ifmap_read", "spad.filter_read", "spad.psum_read", "spad.psum_write")
    alu, _, register_file = ISCA["ref"][name]
    assert energy["pe.mac"] / 1e9 == pytest.approx(alu, abs=0.1)
    assert sum(energy[action] for action in accesses) / 1e9 == pytest.approx(register_file, abs=0.1)


# E17 ------------------------------------------------------------------------------------------------------------------
THESIS = REFERENCE["baseline_256"]


def test_the_thesis_baseline_is_table_3_2():
    config = machine("thesis-256pe").config
    assert config.pes == THESIS["pes"] == 256
    assert machine("thesis-256pe").peak_macs_per_cycle * config.clock_MHz / 1000 == THESIS["peak_GMACS"] == 128
    buffer_bytes = config.global_buffer_banks * config.global_buffer_bank_bytes + config.filter_buffer_bytes
    assert buffer_bytes == THESIS["global_buffer_MB"] * 1024 * 1024
    assert 2 * config.spad_filter_words == THESIS["weight_spad_bytes"]
    assert 2 * config.spad_ifmap_words == THESIS["input_register_bytes"]
    assert 2 * config.spad_psum_words == THESIS["psum_register_bytes"]
    area = THESIS["area_mm2"]
    assert (config.pe_area_mm2, config.global_buffer_area_mm2) == (area["all_256_pes"], area["global_buffer"])
    assert config.area_mm2 == pytest.approx(area["total"], abs=0.05)
    assert config.technology_nm == THESIS["technology_nm"]


def test_the_thesis_baseline_is_priced_by_table_3_3():
    prices = {action: price.energy_pJ for action, price in machine("thesis-256pe").prices.prices.items()}
    assert prices["pe.mac"] == pytest.approx(16 * 0.20)  # without the predictive activation unit: 1.0 relative
    assert prices["spad.filter_read"] == pytest.approx(3.2)
    assert prices["noc.psum_hop"] == pytest.approx(6.4)
    assert prices["global_buffer.psum_read"] == pytest.approx(19.2)


def test_the_chip_has_no_stated_area_but_its_peak():
    chip = machine()
    assert chip.config.area_mm2 is None
    assert chip.peak_macs_per_cycle * chip.config.clock_MHz / 1000 == REFERENCE["chip"]["peak_GMACS_at_200MHz"]


@pytest.mark.parametrize("preset", ["chip-jssc17", "thesis-256pe", "npu-1ghz"])
def test_presets_name_source_and_assumptions(preset):
    config = machine(preset).config
    assert len(config.source) > 40
    assert config.assumed
    mapped(machine(preset), ALEXNET["conv5"])
