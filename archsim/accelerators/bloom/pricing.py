"""Prices of the actions: the vector's size and technology choose its class."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import replace

from archsim.accelerators.bloom.config import BloomConfig
from archsim.accelerators.bloom.floats import OPERANDS
from archsim.energy import Price, PriceTable
from archsim.errors import PricingError

CLASSES = {"resistive": "rebf", "cmos": "cmos"}


PRICED_BITS = 64
"""A vector size that `energy.yaml` prices."""


def read_prices(config: BloomConfig, load: Callable[[Mapping[str, str]], PriceTable]) -> PriceTable:
    """Return the prices in force; `vector_energy_pJ` stands for vectors whose size has no class in the table.

    Raises: PricingError for a vector size without a price.
    """
    technology, energy_pJ = CLASSES[config.vector_technology], config.vector_energy_pJ
    classes = {f"{kind}_vector": f"{technology}_{config.filters_of(kind, 1).m}" for kind in OPERANDS}
    if energy_pJ is None:
        return load(classes)
    stand_in = f"{technology}_{PRICED_BITS}"
    missing = {name for name, one in classes.items() if not _has(load, dict.fromkeys(classes, stand_in), name, one)}
    table = load({name: stand_in if name in missing else one for name, one in classes.items()})
    given = {action: _given(price, energy_pJ) for action, price in table.prices.items()
             if action.replace(".", "_").rpartition("_")[0] in missing}  # fmt: skip
    return replace(table, prices={**table.prices, **given})


def _has(load: Callable[[Mapping[str, str]], PriceTable], others: Mapping[str, str], name: str, wanted: str) -> bool:
    """Return whether the table has the class wanted for one of the vectors."""
    try:
        load({**others, name: wanted})
    except PricingError:
        return False
    return True


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
