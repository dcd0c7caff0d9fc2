"""The page of real networks: its tables stand where the runs put them, and a small network says what it said."""

from __future__ import annotations

import pytest

from archsim.assets import data_folder
from tests.accept import snapea_page
from tests.accept.snapea_page import SNAPEA


@pytest.mark.parametrize("name", SNAPEA.tables)
def test_page_shows_every_table(name: str) -> None:
    head, *rows = SNAPEA.shown(name).splitlines()
    assert head == "| " + " | ".join(SNAPEA.tables[name][0]) + " |"
    assert len(rows) > 2 and all(row.count("|") == head.count("|") for row in rows)


@pytest.mark.skipif(data_folder() is None, reason="no external data: set ARCHSIM_DATA")
def test_lenet_of_the_page() -> None:
    result = snapea_page.run(*snapea_page.LENET)
    row = "| " + " | ".join(snapea_page.exact_row("LeNet-5", result)) + " |"
    assert row in SNAPEA.shown("exact").splitlines()
