"""The compile cache: where it is, and that a changed kernel source gets a new one."""

from __future__ import annotations

import os
import re
import subprocess
import sys
from pathlib import Path

from archsim.kernels._jit import cache_folder, kernel_hash, njit

PROBE = "import archsim.kernels._jit, os, numba; print(os.environ['NUMBA_CACHE_DIR'], numba.config.CACHE_DIR, sep='|')"


def cache_of_a_new_process(**environment: str) -> list[str]:
    env = {key: value for key, value in os.environ.items() if key != "NUMBA_CACHE_DIR"} | environment
    probe = subprocess.run([sys.executable, "-c", PROBE], env=env, capture_output=True, text=True, check=True)
    return probe.stdout.strip().split("|")


def test_numba_starts_with_the_users_cache_folder(tmp_path):
    named, used = cache_of_a_new_process(XDG_CACHE_HOME=str(tmp_path))
    assert named == used
    assert re.fullmatch("[0-9a-f]{12}", Path(named).name)
    assert Path(named).parent.name == cache_folder().parent.name  # the version of the package


def test_a_folder_named_by_the_user_is_kept(tmp_path):
    assert cache_of_a_new_process(NUMBA_CACHE_DIR=str(tmp_path)) == [str(tmp_path)] * 2


def test_the_hash_follows_every_kernel_source_and_nothing_else(tmp_path):
    hashes = {kernel_hash(tmp_path)}
    for name in ("kernels/conv.py", "memory/dram/kernel_timing.py", "accelerators/x/mapping.py"):
        path = tmp_path / name
        path.parent.mkdir(parents=True)
        path.write_text("a = 1\n")
        hashes.add(kernel_hash(tmp_path))
        path.write_text("a = 2\n")
        hashes.add(kernel_hash(tmp_path))
    assert len(hashes) == 7
    (tmp_path / "config.py").write_text("a = 1\n")
    assert kernel_hash(tmp_path) in hashes


def test_without_a_folder_to_write_kernels_are_compiled_and_nothing_is_kept():
    uncached = (
        "from archsim.kernels._jit import CACHED; import archsim.kernels.conv as c, numba.core.dispatcher as d;"
        "print(CACHED, {type(k._cache).__name__ for k in vars(c).values() if isinstance(k, d.Dispatcher)})"
    )
    env = os.environ | {"NUMBA_CACHE_DIR": os.path.join(os.devnull, "none")}
    probe = subprocess.run([sys.executable, "-c", uncached], env=env, capture_output=True, text=True, check=True)
    assert probe.stdout.strip() == "False {'NullCache'}"


def test_both_forms_of_the_decorator_compile():
    @njit
    def double(value: int) -> int:
        return 2 * value

    @njit(inline="always")
    def triple(value: int) -> int:
        return 3 * value

    assert (double(4), triple(4)) == (8, 12)
    assert double.signatures and triple.signatures  # type: ignore[attr-defined]
