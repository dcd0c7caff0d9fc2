"""What an access to the 20 kB I/O RAM costs: the thesis does not say, so there are three readings."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import replace
from math import log2

from archsim.accelerators.snapea.config import SnapeaConfig
from archsim.counts import Action
from archsim.energy import Price, PriceTable

SMALL_BYTES, LARGE_BYTES = 512, 1280 * 1024
"""Sizes of what the thesis prices as register file (the weight buffer) and as global buffer (that of its Eyeriss)."""
ALIASES: Mapping[str, Mapping[str, str]] = {
    "register_file": {"io_ram_read": "register_file_ifmap", "io_ram_write": "register_file_ifmap"},
    "global_buffer": {"io_ram_read": "global_buffer_read", "io_ram_write": "global_buffer_write"},
}
IO_RAM = ("input_ram.read", "input_ram.read_word", "input_ram.write", "output_ram.write")
ROW_OF_WORDS = "input_ram.read"
Load = Callable[[Mapping[str, str]], PriceTable]


def read_prices(config: SnapeaConfig, load: Load, reading: str) -> PriceTable:
    """Return the prices of all actions under one reading of the I/O RAM's price; `load` takes aliases of classes."""
    if reading == "by_size":
        cheap, dear = (load(ALIASES[name]) for name in ("register_file", "global_buffer"))
        table = _between(cheap, dear, size_share(config.io_ram_bytes))
    else:
        table = load(ALIASES[reading])
    return _with(table, {ROW_OF_WORDS: _row(table.prices[ROW_OF_WORDS], config.lanes)})


def size_share(n_bytes: int) -> float:
    """Return where a memory lies between small and large on a logarithmic scale, 0..1."""
    return min(1.0, max(0.0, log2(n_bytes / SMALL_BYTES) / log2(LARGE_BYTES / SMALL_BYTES)))


def _between(cheap: PriceTable, dear: PriceTable, share: float) -> PriceTable:
    """Return the table with the I/O RAM priced between both."""
    return _with(cheap, {action: _mixed(cheap.prices[action], dear.prices[action], share) for action in IO_RAM})


def _mixed(cheap: Price, dear: Price, share: float) -> Price:
    """Return a price a share of the way from one to the other."""
    return replace(
        cheap,
        energy_pJ=cheap.energy_pJ + share * (dear.energy_pJ - cheap.energy_pJ),
        price_class="io_ram by size",
        unit=f"{cheap.energy_pJ:g} pJ + {share:.4f} x ({dear.energy_pJ:g} - {cheap.energy_pJ:g}) pJ",
        source=f"assumed: between {cheap.price_class} and {dear.price_class} by the logarithm of the size",
        assumed=True,
    )


def _row(price: Price, lanes: int) -> Price:
    """Return the price of a row of words, one for each lane."""
    return replace(price, energy_pJ=price.energy_pJ * lanes, unit=f"({price.unit}) x {lanes} lanes")


def _with(table: PriceTable, prices: Mapping[Action, Price]) -> PriceTable:
    return replace(table, prices={**table.prices, **prices})
