"""The acceptance harness: records, resumes, notices changed sources, hides nothing."""

from __future__ import annotations

import os
import re
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[2]
CONFTEST = (ROOT / "tests" / "accept" / "conftest.py").read_text(encoding="utf-8")
LINES = """
import pathlib
import pytest

pytestmark = pytest.mark.acceptance

def ran(name):
    with open(pathlib.Path(__file__).parents[2] / "ran.txt", "a") as log:
        log.write(name + "\\n")

@pytest.mark.line("X1", "meets its | bound", bound="<= 5 %")
def test_x1(accept):
    ran("x1")
    accept("3 %", 3 <= 5)

@pytest.mark.line("X2", "misses its bound", bound="<= 5 %")
def test_x2(accept):
    ran("x2")
    accept("7 %", 7 <= 5)

@pytest.mark.line("X3", "breaks", bound="any")
def test_x3(accept):
    ran("x3")
    raise RuntimeError(f"no such thing: {pathlib.Path(__file__)}")

@pytest.mark.line("X4", "lacks its data", bound="any")
def test_x4(accept):
    ran("x4")
    pytest.skip("no data folder")
"""


@pytest.fixture
def project(tmp_path: Path) -> Path:
    """A project with four lines and one source file."""
    accept = tmp_path / "tests" / "accept"
    accept.mkdir(parents=True)
    (accept / "conftest.py").write_text(CONFTEST)
    (accept / "test_lines.py").write_text(LINES)
    (tmp_path / "archsim").mkdir()
    (tmp_path / "archsim" / "model.py").write_text("a = 1")
    (tmp_path / "pytest.ini").write_text("[pytest]\nmarkers =\n line\n acceptance\n")
    return tmp_path


def run(project: Path, *arguments: str) -> tuple[int, list[str], dict[str, list[str]]]:
    """Run pytest; return its exit code, which lines did work, and the table by line."""
    log = project / "ran.txt"
    log.write_text("")
    command = [sys.executable, "-m", "pytest", "-q", "-p", "no:cacheprovider", "--rootdir", str(project), *arguments]
    environment = {**os.environ, "PYTHONPATH": str(ROOT), "PYTEST_DISABLE_PLUGIN_AUTOLOAD": "1"}
    done = subprocess.run(command, cwd=project, env=environment, capture_output=True, text=True, timeout=60)
    page = project / "docs" / "acceptance.md"
    rows = [re.split(r"(?<!\\) \| ", row) for row in (page.read_text().splitlines() if page.exists() else [])]
    return done.returncode, log.read_text().split(), {row[0][2:]: row for row in rows if row[0].startswith("| X")}


def test_every_outcome_is_shown(project: Path) -> None:
    code, ran, table = run(project)
    assert code == 1 and ran == ["x1", "x2", "x3", "x4"]
    assert [(row[3], row[4]) for row in table.values()] == [
        ("3 %", "ok"),
        ("7 %", "**failing**"),
        ("RuntimeError: no such thing: tests/accept/test_lines.py", "not run"),
        ("Skipped: no data folder", "not run"),
    ]
    assert table["X1"][1:3] == ["meets its \\| bound", "<= 5 %"] and "test_lines.py::test_x1" in table["X1"][-1]
    assert "4 lines: 1 ok, 1 **failing**, 2 not run." in (project / "docs" / "acceptance.md").read_text()


def test_finished_lines_are_replayed_and_still_fail(project: Path) -> None:
    _, _, first = run(project)
    code, ran, again = run(project)
    assert code == 1 and ran == ["x3", "x4"] and again == first
    assert run(project, "-k", "x1")[0] == 0
    assert run(project, "-k", "x2")[0] == 1


def test_changed_sources_run_everything_again(project: Path) -> None:
    run(project)
    (project / "archsim" / "model.py").write_text("a = 2")
    assert run(project)[1] == ["x1", "x2", "x3", "x4"]
    (project / "archsim" / "README.md").write_text("words")
    assert run(project)[1] == ["x3", "x4"]


def test_what_was_met_on_other_sources_says_so(project: Path) -> None:
    run(project)
    (project / "archsim" / "model.py").write_text("a = 2")
    _, ran, table = run(project, "-k", "x2")
    assert ran == ["x2"] and (table["X1"][4], table["X2"][4]) == ("ok, earlier sources", "**failing**")
    page = (project / "docs" / "acceptance.md").read_text()
    assert "4 lines: 0 ok, 1 ok, earlier sources, 1 **failing**, 2 not run." in page


def test_changed_test_runs_again(project: Path) -> None:
    run(project)
    (project / "tests" / "accept" / "test_lines.py").write_text(LINES.replace("7 <= 5", "5 <= 5"))
    code, ran, table = run(project, "-k", "x1 or x2")
    assert code == 0 and ran == ["x1", "x2"] and table["X2"][4] == "ok"


def test_line_never_run_is_in_the_table(project: Path) -> None:
    _, ran, table = run(project, "-k", "x1")
    assert ran == ["x1"] and table["X2"][3:5] == ["", "not run"]


def test_no_line_selected_writes_nothing(project: Path) -> None:
    run(project, "-m", "not acceptance")
    assert not (project / "docs").exists()
