"""Golden runs: the shipped studies give the figures that were committed with them."""

from __future__ import annotations

import json

import pytest

from tests.golden.regenerate import STUDIES, figures, golden_file

THROUGH_BLAS = {"quickstart", "snapea-digits-study"}
"""Studies whose images pass through fp32 calibration; a different BLAS may move a range across a power of two."""


@pytest.mark.parametrize("name", STUDIES)
def test_shipped_study(name: str) -> None:
    expected, got = json.loads(golden_file(name).read_text()), figures(name)
    assert list(got["layers"]) == list(expected["layers"])
    tolerance = 1e-3 if name in THROUGH_BLAS else 0.0
    assert got["cycles"] == pytest.approx(expected["cycles"], rel=tolerance)
    assert got["energy_pJ"] == pytest.approx(expected["energy_pJ"], rel=max(tolerance, 1e-12))
    for layer, figure in expected["layers"].items():
        assert got["layers"][layer]["counts"] == pytest.approx(figure["counts"], rel=tolerance), layer
        assert got["layers"][layer]["cycles"] == pytest.approx(figure["cycles"], rel=tolerance), layer
