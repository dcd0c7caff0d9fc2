"""Energy: counts x prices, every price with its source."""

from archsim.energy.accounting import account
from archsim.energy.pricefile import available_tables
from archsim.energy.prices import Price, PriceTable, load_prices
from archsim.energy.scaling import scaled

__all__ = ["Price", "PriceTable", "account", "available_tables", "load_prices", "scaled"]
