"""Prices of the actions: the vector's size and technology choose its class."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import replace

from archsim.accelerators.bloom.config import BloomConfig
from archsim.accelerators.bloom.floats import OPERANDS
from archsim.energy import Price, PriceTable

CLASSES = {"resistive": "rebf", "cmos": "cmos"}


def read_prices(config: BloomConfig, load: Callable[[Mapping[str, str]], PriceTable]) -> PriceTable:
    """Return the prices in force. Raises: PricingError for a vector size without a price."""
    sizes = {kind: config.filters_of(kind, 1).m for kind in OPERANDS}
    if config.vector_energy_pJ is None:
        return load({f"{kind}_vector": f"{CLASSES[config.vector_technology]}_{m}" for kind, m in sizes.items()})
    table = load({f"{kind}_vector": f"{CLASSES[config.vector_technology]}_64" for kind in sizes})
    given = {action: _given(price, config.vector_energy_pJ) for action, price in table.prices.items()
             if action.split(".")[1].startswith("vector_")}  # fmt: skip
    return replace(table, prices={**table.prices, **given})


def _given(price: Price, energy_pJ: float) -> Price:
    """Return the price of a vector access as the study gives it."""
    return replace(
        price,
        energy_pJ=energy_pJ,
        price_class="vector_energy_pJ",
        unit=f"{energy_pJ:g} pJ per action",
        source="given in the study",
        assumed=True,
        calibrated="",
    )
