"""Energy: counts x prices, every price with its source."""

from archsim.energy.accounting import account
from archsim.energy.prices import Price, PriceTable, load_prices

__all__ = ["Price", "PriceTable", "account", "load_prices"]
