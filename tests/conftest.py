"""What every test needs: a compile cache inside the work tree and reproducible properties."""

from __future__ import annotations

import os
from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent
os.environ.setdefault("NUMBA_CACHE_DIR", str(ROOT / ".cache" / "numba"))  # before anything imports numba

from hypothesis import settings  # noqa: E402

settings.register_profile("archsim", deadline=None)  # the first call of a kernel compiles it
settings.register_profile("ci", deadline=None, derandomize=True)
settings.load_profile("ci" if os.environ.get("CI") else "archsim")
