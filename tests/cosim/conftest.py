"""Compiled benches stay inside the work tree; without a simulator tests are skipped, but never where they count."""

from __future__ import annotations

import os

import pytest

from tests.conftest import ROOT

os.environ.setdefault("ARCHSIM_COSIM_CACHE", str(ROOT / ".cache" / "cosim"))


@pytest.fixture(autouse=True, scope="session")
def simulator() -> str:
    """The simulator of this machine."""
    from archsim.cosim.simulator import available_simulators

    found = available_simulators()
    if not found and os.environ.get("CI"):
        pytest.fail("no Verilog simulator: run `make simulator`")
    if not found:
        pytest.skip("no Verilog simulator: run `make simulator`")
    return found[0]
