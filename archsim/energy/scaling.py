"""Technology scaling of a price table, only when asked for."""

from __future__ import annotations

from dataclasses import replace

from archsim.energy.prices import Price, PriceTable
from archsim.errors import PricingError


def scaled(table: PriceTable, technology_nm: int) -> PriceTable:
    """Return the table with every price times technology_nm / its own node: linear, voltage not considered.

    The result says so in `scaled_from_nm`, in its source and in every price. Energy per operation falls with
    capacitance, roughly in proportion to feature size at constant voltage; nothing finer is claimed.
    Raises: PricingError for a table or price whose node is not stated.
    """
    if technology_nm <= 0:
        raise PricingError(f"technology_nm must be above 0, got {technology_nm}")
    unstated = sorted(
        action for action, price in table.prices.items() if price.technology_nm is None and price.energy_pJ
    )
    if table.technology_nm is None or unstated:
        what = f": {', '.join(unstated)}" if unstated else ""
        raise PricingError(f"table {table.name!r} cannot be scaled: its technology is not stated{what}")
    return replace(
        table,
        prices={action: _scaled(price, technology_nm) for action, price in table.prices.items()},
        technology_nm=technology_nm,
        source=f"{table.source}; scaled linearly from {table.technology_nm} nm to {technology_nm} nm",
        scaled_from_nm=table.technology_nm,
    )


def _scaled(price: Price, technology_nm: int) -> Price:
    """Return one price at another node."""
    own_nm = price.technology_nm or technology_nm
    note = f"scaled linearly from {own_nm} nm to {technology_nm} nm"
    return replace(
        price,
        energy_pJ=price.energy_pJ * technology_nm / own_nm,
        unit=f"{price.unit} x {technology_nm}/{own_nm} nm",
        technology_nm=technology_nm,
        source=f"{price.source}; {note}",
    )
