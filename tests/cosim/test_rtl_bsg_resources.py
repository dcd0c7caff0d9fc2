"""What BSG's blocks are made of, as the inventory counts it, against what `resources.py` takes them to cost."""

from __future__ import annotations

import pytest

from archsim.accelerators.bsg.resources import GENERATOR_FFS, GENERATOR_FFS_PER_BIT, GENERATOR_LUTS_PER_BIT, MAC_FFS
from archsim.cosim.inventory import Inventory, inventory
from archsim.cosim.verilog import read_module, source_of

pytestmark = pytest.mark.cosim

COUNTER_BITS = 32


def generator(n_c: int, feedback: int = 0) -> Inventory:
    return inventory(read_module(source_of("bsg_gen")), {"N": n_c, "LOGN": n_c.bit_length() - 1, "FEEDBACK": feedback})


def array(**parameters: int) -> Inventory:
    given = {"M": 16, "N": 8, "WW": 8, "WX": 8, "ACC": 24, "DEPTH": 144, "ROUNDS": 16}
    return inventory(read_module(source_of("bsg_mac_array")), given | parameters)


@pytest.mark.parametrize("n_c", [64, 128, 256, 512, 1024, 2048])
def test_the_generator_has_a_register_for_every_bit_and_sum(n_c: int) -> None:
    found, levels = generator(n_c), n_c.bit_length() - 1
    assert found.multiplier_count == 0 and not found.memories
    assert found.xor_bits == n_c and generator(n_c, 1).xor_bits == n_c + 3
    tree = {level + 1: n_c >> level for level in range(1, levels + 1)}
    rest = {bits: count - tree.get(bits, 0) for bits, count in found.adders.items()}
    assert min(rest.values()) >= 0 and sum(rest.values()) == 5  # subtraction, weights left, three of counters
    sums = sum((level + 1) * count for level, count in enumerate(n_c >> level for level in range(levels + 1)))
    control = 16 + (levels + 2) + 2 * COUNTER_BITS  # weights left, a valid bit per stage, counters
    assert found.register_bits == 2 * n_c + sums + (levels + 2) + control
    modelled = GENERATOR_FFS + n_c * GENERATOR_FFS_PER_BIT
    assert abs(modelled / found.register_bits - 1) < 0.01
    in_tree = sum(bits * count for bits, count in tree.items())
    assert 0.8 < (found.xor_bits + in_tree) / (n_c * GENERATOR_LUTS_PER_BIT) < 1  # a LUT for a bit of a sum or XOR


@pytest.mark.parametrize(("rows", "columns"), [(16, 8), (8, 8), (3, 5), (1, 1)])
def test_the_array_has_a_multiplier_an_adder_and_a_sum_for_each_mac(rows: int, columns: int) -> None:
    found, macs = array(M=rows, N=columns, WW=10, ACC=40), rows * columns
    assert found.multipliers == {(10, 8): macs} and found.adders[40] == macs
    assert found.xor_bits == 0
    assert found.memories["words"] == (rows * 2 * 144, 10) and found.memories["kept"] == (16, macs * 40)


def test_registers_of_the_array_are_those_of_its_macs() -> None:
    """A sum for each MAC; a weight and a bit for each row; a bit for each column."""
    small, tall, wide = array(M=8), array(M=9), array(M=8, N=9)
    assert tall.register_bits - small.register_bits == 8 * 24 + 8 + 1
    assert wide.register_bits - small.register_bits == 8 * 24 + 1
    each = (array(M=15).register_bits - small.register_bits) / (7 * 8)  # as many bits count the rows, less one
    assert 24 < each < 26 < MAC_FFS
