"""Price tables in the format of other tools."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import yaml

from archsim.energy.prices import Price, PriceTable

ERT_VERSION = 0.3


def ert_text(*tables: PriceTable) -> str:
    """Return an energy reference table in Accelergy's YAML: one table per component, energies in pJ per action.

    Source: format of the `ERT.yaml` files Accelergy 0.3 writes.
    """
    components: dict[str, list[dict[str, Any]]] = {}
    for table in tables:
        for action, price in sorted(table.prices.items()):
            component, _, name = action.partition(".")
            components.setdefault(component, []).append(_entry(name, price))
    rows = [{"name": component, "actions": entries} for component, entries in sorted(components.items())]
    text = yaml.safe_dump({"ERT": {"version": ERT_VERSION, "tables": rows}}, sort_keys=False)
    return "".join([*(f"# {table.name}: {' '.join(table.source.split())}\n" for table in tables), text])


def _entry(name: str, price: Price) -> dict[str, Any]:
    """Return one action as Accelergy writes an action without arguments."""
    return {"name": name, "arguments": None, "energy": price.energy_pJ}


def ert_of_record(record: Mapping[str, Mapping[str, Any]]) -> str:
    """Return `ert_text` of price tables kept as plain data (`provenance.prices` of a result)."""
    tables = []
    for table in record.values():
        prices = {action: Price(**price) for action, price in table["prices"].items()}
        tables.append(PriceTable(**{**table, "prices": prices}))
    return ert_text(*tables)
