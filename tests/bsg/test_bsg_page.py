"""The page shows every table; those that need neither images nor minutes are what runs say now."""

from __future__ import annotations

import pytest

from tests.accept.bsg_page import BSG, TABLES


@pytest.mark.parametrize("name", TABLES)
def test_page_shows_every_table(name: str) -> None:
    head, *rows = BSG.shown(name).splitlines()
    assert head == "| " + " | ".join(TABLES[name][0]) + " |"
    assert len(rows) > 2 and all(row.count("|") == head.count("|") for row in rows)


def test_tables_are_what_runs_say() -> None:
    told, equal = BSG.differing(("dram", "latency", "parameters", "mobilenet", "generators", "accuracy"))
    assert equal, told
