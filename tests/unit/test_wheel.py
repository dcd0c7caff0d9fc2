"""The wheel holds what archsim needs away from the checkout, nothing else, and works from there."""

from __future__ import annotations

import os
import subprocess
import sys
import zipfile
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[2]
ASSETS = "archsim/_assets"
ASSET_FOLDERS = ("configs", "rtl", "workloads/image", "workloads/networks", "workloads/trained")
SEEN_FROM_OUTSIDE = """
import sys
sys.path.insert(0, sys.argv[1])
sys.argv = ["archsim", "run", "quickstart.yaml", "--resolved"]
from archsim import assets, cli
assert assets.shipped_root().as_posix().endswith("archsim/_assets"), assets.shipped_root()
assert assets.find("digits_cnn.onnx").is_file() and assets.find("alexnet.yaml").is_file()
cli.main()
"""


@pytest.fixture(scope="module")
def wheel(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The wheel of this checkout, built without a network."""
    folder = tmp_path_factory.mktemp("wheel")
    command = [sys.executable, "-m", "hatchling", "build", "-t", "wheel", "-d", str(folder)]
    done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, timeout=120)
    assert done.returncode == 0, done.stderr
    (built,) = folder.glob("*.whl")
    return built


def files(folder: Path) -> set[Path]:
    """All files below a folder but for caches and what editors hide."""
    found = (path.relative_to(ROOT) for path in folder.rglob("*") if path.is_file())
    return {path for path in found if "__pycache__" not in path.parts and not path.name.startswith(".")}


def test_wheel_holds_package_and_assets_only(wheel: Path) -> None:
    names = {name for name in zipfile.ZipFile(wheel).namelist() if not Path(name).name.startswith(".")}
    shipped = {name for name in names if ".dist-info/" not in name}
    package = {path.as_posix() for path in files(ROOT / "archsim") if ASSETS not in path.as_posix()}
    assets = {f"{ASSETS}/{path.as_posix()}" for folder in ASSET_FOLDERS for path in files(ROOT / folder)}
    assert {f"{ASSETS}/configs/quickstart.yaml", f"{ASSETS}/workloads/trained/digits_cnn.onnx"} <= assets
    assert "archsim/energy/tables/nnd-chip.yaml" in package
    assert shipped == package | assets


def test_unpacked_wheel_finds_its_studies(wheel: Path, tmp_path: Path) -> None:
    zipfile.ZipFile(wheel).extractall(tmp_path / "site")
    (tmp_path / "empty").mkdir()
    command = [sys.executable, "-c", SEEN_FROM_OUTSIDE, str(tmp_path / "site")]
    environment = {name: value for name, value in os.environ.items() if name != "PYTHONPATH"}
    done = subprocess.run(
        command, cwd=tmp_path / "empty", env=environment, capture_output=True, text=True, timeout=120, check=False
    )
    assert done.returncode == 0, done.stderr
    assert "network: digits_cnn.onnx" in done.stdout and "pe_rows: 12" in done.stdout
    assert not list((tmp_path / "empty").iterdir())
