"""The page of results stands where the runs put it, and a small part of it is worked out again."""

from __future__ import annotations

import re

import pytest

from archsim.assets import data_folder
from tests.accept.bloom_page import BLOOM

PAGE = BLOOM.path.read_text(encoding="utf-8")
ROWS = {"hits": 11, "exact": 5, "lenet": 9, "representatives": 3, "kernels": 15}


@pytest.mark.parametrize("name", BLOOM.tables)
def test_page_shows_every_table(name: str) -> None:
    head, rule, *rows = BLOOM.shown(name).splitlines()
    assert set(rule) <= set("| -") and len(rows) == ROWS[name]
    assert all(row.count("|") == head.count("|") for row in rows)


def test_page_names_studies_that_are_there() -> None:
    from archsim.assets import find

    for name in re.findall(r"\b(bloom-[a-z]+(?:-study)?\.yaml)", PAGE):
        assert find(name).is_file()


@pytest.mark.skipif(data_folder() is None, reason="no external data: set ARCHSIM_DATA")
def test_exact_patterns_of_the_page() -> None:
    assert BLOOM.table("exact") == BLOOM.shown("exact")
