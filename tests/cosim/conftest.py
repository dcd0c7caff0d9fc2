"""Compiled benches stay inside the work tree."""

from __future__ import annotations

import os

from tests.conftest import ROOT

os.environ.setdefault("ARCHSIM_COSIM_CACHE", str(ROOT / ".cache" / "cosim"))
