"""The compile cache: where it is, and that a changed kernel source gets a new one."""

from __future__ import annotations

import os
import re
import subprocess
import sys
from pathlib import Path

from archsim.kernels._jit import cache_folder, kernel_hash, njit, siblings_hash

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


CALLER = """
from archsim.kernels._jit import njit
from kernel_inner import inner

@njit
def outer(x):
    return inner(x) + 1
"""


def test_a_kernel_is_compiled_anew_when_one_beside_it_changes(tmp_path):
    """Through the cache a process finds on disc: the caller's own file stays as it is."""
    (tmp_path / "kernel.py").write_text(CALLER)
    answers = []
    for factor in (2, 2, 3):
        inner = (
            f"from archsim.kernels._jit import njit\n@njit(inline='always')\ndef inner(x):\n    return {factor} * x\n"
        )
        (tmp_path / "kernel_inner.py").write_text(inner)
        search = os.pathsep.join([str(tmp_path), *filter(None, sys.path)])
        env = os.environ | {"NUMBA_CACHE_DIR": str(tmp_path / "cache"), "PYTHONPATH": search}
        probe = "import kernel as k; print(k.outer(10), sum(k.outer.stats.cache_hits.values()))"
        found = subprocess.run([sys.executable, "-c", probe], env=env, capture_output=True, text=True, check=True)
        answers.append(found.stdout.split())
    assert answers == [["21", "0"], ["21", "1"], ["31", "0"]]


def test_only_one_of_several_kernel_files_has_its_siblings_hashed(tmp_path):
    (tmp_path / "kernel.py").touch()
    assert siblings_hash(tmp_path / "kernel.py") == ""
    siblings_hash.cache_clear()
    (tmp_path / "kernel_more.py").touch()
    assert siblings_hash(tmp_path / "kernel.py") == siblings_hash(tmp_path / "kernel_more.py") != ""
    assert siblings_hash(tmp_path / "steps.py") == ""


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
