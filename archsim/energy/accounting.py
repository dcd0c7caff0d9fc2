"""Energy of a run: action counts times prices, nothing else."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

from archsim.counts import Action
from archsim.energy.prices import Price, PriceTable
from archsim.errors import PricingError, did_you_mean


def account(counts: Mapping[Action, int], prices: PriceTable | Sequence[PriceTable]) -> dict[Action, float]:
    """Return the energy in pJ of every counted action, sorted by action.

    Raises: PricingError for actions without a price or priced by two tables; never 0 pJ for want of a price.
    """
    tables = [prices] if isinstance(prices, PriceTable) else list(prices)
    known = _joined(tables)
    unpriced = sorted(action for action in counts if action not in known)
    if unpriced:
        names = ", ".join(repr(table.name) for table in tables)
        raise PricingError(f"no price for {', '.join(unpriced)} in {names}{did_you_mean(unpriced[0], known)}")
    return {action: counts[action] * known[action].energy_pJ for action in sorted(counts)}


def _joined(tables: Sequence[PriceTable]) -> dict[Action, Price]:
    """Return the prices of all tables; an action must be priced once."""
    known: dict[Action, Price] = {}
    for table in tables:
        twice = sorted(known.keys() & table.prices.keys())
        if twice:
            raise PricingError(f"{', '.join(twice)} priced twice, the second time in {table.name!r}")
        known.update(table.prices)
    return known
